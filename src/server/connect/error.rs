//! Why there is no connection: a sentence for a person, and a word for a label.

use std::io;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::violation::Violation;
use crate::config::dsn::password::PasswordError;
use crate::server::tls::TlsError;

/// Why there is no connection. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server's name leads nowhere.
    #[error("the host name {host:?} cannot be looked up: {reason}; check the name, and DNS")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: io::Error,
    },
    /// Nobody listens there, or the way there is barred.
    #[error(
        "no server can be reached at {address}: {reason}; check that it runs, listens there, and \
         that host and port are right"
    )]
    Unreachable {
        /// What was tried.
        address: String,
        /// What the operating system says.
        reason: io::Error,
    },
    /// It takes too long.
    #[error(
        "the server at {address} did not answer within {} s (connect_timeout); it hangs or is \
         overloaded, or a firewall swallows the packets",
        .limit.as_secs()
    )]
    Timeout {
        /// The server.
        address: String,
        /// The time it had.
        limit: Duration,
    },
    /// The password cannot be read.
    #[error(transparent)]
    PasswordFile(#[from] PasswordError),
    /// Certificates or keys cannot be read.
    #[error(transparent)]
    TlsFiles(#[from] TlsError),
    /// The two ends do not agree on encryption.
    #[error("no TLS with the server at {address}: {reason}{}", tls_advice(.reason))]
    Tls {
        /// The server.
        address: String,
        /// What does not fit.
        reason: String,
    },
    /// The server asks for a password.
    #[error(
        "the server at {} asks for the password of role {:?}, and there is none; give password_file \
         (DATA_SOURCE_PASS_FILE), password, or a line in the passfile, which only its owner may \
         be able to read",
        .0.address, .0.user
    )]
    NoPassword(Login),
    /// The login fails at our end.
    #[error("the login as role {:?} at the server at {} fails: {reason}", .login.user, .login.address)]
    Authentication {
        /// Who and where.
        login: Login,
        /// What does not fit.
        reason: String,
    },
    /// The server refuses.
    #[error("{}", refusal(.login, .code, .message))]
    Server {
        /// Who and where.
        login: Login,
        /// The SQLSTATE.
        code: SqlState,
        /// The server's words.
        message: String,
    },
    /// The connection breaks before there is a session.
    #[error(
        "the server at {address} broke the connection off before a session began: {reason}; its \
         log may say why, and whether it is a PostgreSQL server at all"
    )]
    Closed {
        /// The server.
        address: String,
        /// What was seen.
        reason: String,
    },
    /// What the server sends is not taken.
    #[error(
        "the connection to the server at {address} was ended: {violation}; check that it is a \
         PostgreSQL server"
    )]
    Protocol {
        /// The server.
        address: String,
        /// What it did.
        violation: Violation,
    },
    /// The program ends.
    #[error("the program ended before there was a connection")]
    Interrupted,
}

/// Who wanted to log in, and where.
#[derive(Clone, Debug)]
pub struct Login {
    /// The server.
    pub address: String,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
}

/// Why there is no connection, in one word for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reason {
    Refused,
    Dns,
    Timeout,
    Authentication,
    StartingUp,
    ShuttingDown,
    TooManyConnections,
    Tls,
    DatabaseMissing,
    NoConnectPrivilege,
    PasswordFile,
    Protocol,
    Other,
}

impl Reason {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Dns => "dns",
            Self::Timeout => "timeout",
            Self::Authentication => "authentication",
            Self::StartingUp => "starting_up",
            Self::ShuttingDown => "shutting_down",
            Self::TooManyConnections => "too_many_connections",
            Self::Tls => "tls",
            Self::DatabaseMissing => "database_missing",
            Self::NoConnectPrivilege => "no_connect_privilege",
            Self::PasswordFile => "password_file",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }
}

impl ConnectError {
    /// The error in one word.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Dns { .. } => Reason::Dns,
            Self::Unreachable { reason, .. } => match reason.kind() {
                // A connection that nobody has taken is reset when its listener ends.
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NotFound => Reason::Refused,
                _ => Reason::Other,
            },
            Self::Timeout { .. } => Reason::Timeout,
            Self::PasswordFile(_) => Reason::PasswordFile,
            Self::TlsFiles(_) | Self::Tls { .. } => Reason::Tls,
            Self::NoPassword(_) | Self::Authentication { .. } => Reason::Authentication,
            Self::Server { code, message, .. } => of_refusal(code, message),
            Self::Closed { .. } => Reason::Refused,
            Self::Protocol {
                violation: Violation::Words(_),
                ..
            } => Reason::Refused,
            Self::Protocol { .. } => Reason::Protocol,
            Self::Interrupted => Reason::Other,
        }
    }

    /// Whether the same login may succeed with encryption in place of none, or without it.
    pub(super) fn may_be_for_encryption(&self) -> bool {
        matches!(self, Self::Tls { .. }) || self.is_by_rule()
    }

    /// Whether `pg_hba.conf` forbids it.
    pub(super) fn is_by_rule(&self) -> bool {
        matches!(self, Self::Server { code, .. }
            if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    }
}

fn of_refusal(code: &SqlState, message: &str) -> Reason {
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Reason::Authentication
        }
        SqlState::INVALID_CATALOG_NAME => Reason::DatabaseMissing,
        SqlState::INSUFFICIENT_PRIVILEGE => Reason::NoConnectPrivilege,
        SqlState::TOO_MANY_CONNECTIONS => Reason::TooManyConnections,
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Reason::ShuttingDown,
        SqlState::CANNOT_CONNECT_NOW if message.contains("shutting down") => Reason::ShuttingDown,
        SqlState::CANNOT_CONNECT_NOW => Reason::StartingUp,
        SqlState::PROTOCOL_VIOLATION => of_pgbouncer(message),
        _ => Reason::Other,
    }
}

/// PgBouncer gives one SQLSTATE to its own refusals and to those that it passes on.
fn of_pgbouncer(message: &str) -> Reason {
    let says = |words| message.contains(words);
    if says("authentication failed") || says("no such user") {
        Reason::Authentication
    } else if says("no such database") || (says("database") && says("does not exist")) {
        Reason::DatabaseMissing
    } else if says("no more connections") || says("too many") {
        Reason::TooManyConnections
    } else if says("permission denied for database") {
        Reason::NoConnectPrivilege
    } else if says("starting up") {
        Reason::StartingUp
    } else if says("shutting down") {
        Reason::ShuttingDown
    } else {
        Reason::Other
    }
}

fn refusal(login: &Login, code: &SqlState, message: &str) -> String {
    let Login {
        address,
        user,
        database,
    } = login;
    match of_refusal(code, message) {
        Reason::Authentication if *code != SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            format!(
                "the server at {address} refused the password of role {user:?}; check that the role \
             exists there and that the password is the current one"
            )
        }
        Reason::Authentication => format!(
            "the server at {address} does not let role {user:?} log in to database {database:?}: \
             {message}; {}",
            login_advice(user, message)
        ),
        Reason::DatabaseMissing => format!(
            "the server at {address} has no database {database:?}; check dbname, which is the \
             role's name where it is not given"
        ),
        Reason::NoConnectPrivilege => format!(
            "role {user:?} may not connect to database {database:?} on the server at {address}: \
             {message}; give it the privilege: GRANT CONNECT ON DATABASE {database:?} TO {user:?}"
        ),
        Reason::TooManyConnections => format!(
            "the server at {address} has no connection left for role {user:?}: {message}; raise \
             the limit (of the server, the database or the role), or find who holds them all"
        ),
        Reason::StartingUp | Reason::ShuttingDown => {
            format!("the server at {address} takes no connections at this moment: {message}")
        }
        _ if message.contains("startup parameter: options") => format!(
            "PgBouncer at {address} takes no settings for a session; leave options out of the \
             connection string, or list it in PgBouncer's ignore_startup_parameters"
        ),
        _ => format!(
            "the server at {address} refused a session of role {user:?} in database {database:?}: \
             {message} (SQLSTATE {})",
            code.code()
        ),
    }
}

/// What to do where `pg_hba.conf`, or the role itself, bars the login.
fn login_advice(user: &str, message: &str) -> String {
    if message.starts_with("Peer authentication failed") {
        "by a socket only the operating system's user of the same name may come in (peer in \
         pg_hba.conf): run the exporter as that user, or connect by TCP with a password, as in \
         host=127.0.0.1"
            .to_owned()
    } else if message.ends_with("does not exist") {
        format!(
            "create it with what `matrix-postgres-exporter grants --role {user}` prints, or \
             correct user"
        )
    } else if message.ends_with("is not permitted to log in") {
        format!("allow it: ALTER ROLE {user:?} LOGIN")
    } else {
        "check pg_hba.conf on the server, sslmode, and that the role may log in".to_owned()
    }
}

fn tls_advice(reason: &str) -> &'static str {
    if reason.contains("does not support TLS") {
        "; switch ssl on there, or ask for less with sslmode"
    } else if reason.contains("UnknownIssuer") || reason.contains("BadSignature") {
        "; name the certificate of the server's own authority in sslrootcert"
    } else if reason.contains("not valid for name") {
        "; connect by a name in the certificate (hostaddr can hold the address), or ask for less \
         with sslmode=verify-ca"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_reason() {
        for (code, message, reason) in [
            (
                "28P01",
                "password authentication failed for user \"u\"",
                "authentication",
            ),
            (
                "28000",
                "no pg_hba.conf entry for host \"10.0.0.1\"",
                "authentication",
            ),
            ("3D000", "database \"d\" does not exist", "database_missing"),
            (
                "42501",
                "permission denied for database \"d\"",
                "no_connect_privilege",
            ),
            (
                "53300",
                "sorry, too many clients already",
                "too_many_connections",
            ),
            (
                "57P01",
                "terminating connection due to administrator command",
                "shutting_down",
            ),
            (
                "57P03",
                "the database system is shutting down",
                "shutting_down",
            ),
            ("57P03", "the database system is starting up", "starting_up"),
            (
                "57P03",
                "the database system is in recovery mode",
                "starting_up",
            ),
            ("08P01", "SASL authentication failed", "authentication"),
            ("08P01", "no such user: u", "authentication"),
            ("08P01", "no such database: d", "database_missing"),
            (
                "08P01",
                "no more connections allowed (max_client_conn)",
                "too_many_connections",
            ),
            (
                "08P01",
                "sorry, too many clients already",
                "too_many_connections",
            ),
            ("08P01", "the database system is starting up", "starting_up"),
            (
                "08P01",
                "server login has been failing, try again later",
                "other",
            ),
            ("XX000", "role \"u\" does not exist", "other"),
        ] {
            let found = of_refusal(&SqlState::from_code(code), message);
            assert_eq!(found.as_str(), reason, "{code} {message}");
        }
    }
}
