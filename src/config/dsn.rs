//! Connection strings as libpq takes them: one server, one role, and how to reach it.
//!
//! - [`parse`]: a string in either form, taken apart into keys and values
//! - [`keys`]: what each key means, and which environment variable stands in for it
//! - `auth`: the ways of the login that are allowed
//! - [`password`]: where the password comes from, read anew at every connect
//!
//! ```
//! # use matrix_postgres_exporter::config::Dsn;
//! let dsn = Dsn::parse("postgres://exporter@db.example/matrix?sslmode=verify-full")?
//!     .with_defaults(&|variable| std::env::var(variable).ok())?;
//! assert_eq!(dsn.address(), "db.example:5432");
//! # Ok::<(), matrix_postgres_exporter::config::dsn::DsnError>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

mod auth;
mod keys;
mod parse;
pub mod password;

pub use auth::{AuthMethod, RequireAuth};

use keys::{KEYS, Refusal};
use password::Password;

/// Where a server's socket lies when nobody says: Debian's place, then PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// A parsed connection string. Neither `Debug` nor `Display` shows a secret.
#[derive(Clone)]
pub struct Dsn {
    /// The keys that have a value; the others take defaults.
    given: BTreeSet<&'static str>,
    user: String,
    database: String,
    password: Option<Password>,
    passfile: Option<PathBuf>,
    fallback_application_name: Option<String>,
    /// The name or place to connect to.
    pub(crate) host: Host,
    /// The address to connect to in place of the host's.
    pub(crate) hostaddr: Option<IpAddr>,
    /// The port, which is also part of a socket's name.
    pub(crate) port: u16,
    /// The longest that a connect may take in all.
    pub(crate) connect_timeout: Duration,
    /// What the server shows of us.
    pub(crate) application_name: String,
    /// Settings for the session, sent when it starts. PgBouncer refuses them.
    pub(crate) options: Option<String>,
    /// Encryption.
    pub(crate) tls: Tls,
    /// Whether the login is tied to the TLS connection.
    pub(crate) channel_binding: ChannelBinding,
    /// What the server may ask for at the login, where that was said.
    pub(crate) require_auth: Option<RequireAuth>,
    /// How a dead connection is noticed.
    pub(crate) keepalives: Keepalives,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// In the first of the usual socket directories that has a socket.
    Local,
    /// At a name or an address.
    Name(String),
    /// In this directory.
    Socket(PathBuf),
}

/// Encryption, and who is trusted.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    pub(crate) roots: Roots,
    /// The client certificate and its key.
    pub(crate) certificate: Option<File>,
    pub(crate) key: Option<File>,
    /// Whether the server is told the name it is asked by.
    pub(crate) sni: bool,
    pub(crate) oldest: TlsVersion,
    pub(crate) newest: TlsVersion,
}

/// How much encryption is asked for, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The authorities that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nobody said; and there is no home directory to look in.
    None,
    /// Those of the operating system.
    System,
    File(File),
}

/// A file of certificates or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// It is the default in the home directory, and counts only where it is.
    pub(crate) optional: bool,
}

/// The TLS versions that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

/// Whether SCRAM is tied to the TLS connection that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// How a dead connection is noticed. `None` leaves a value to the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keepalives {
    pub(crate) on: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) probes: Option<u32>,
    /// How long sent data may stay unacknowledged.
    pub(crate) user_timeout: Option<Duration>,
}

impl Dsn {
    /// Takes a connection string apart, a URI or `key=value` words. An empty one is a valid one.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let mut dsn = Self {
            given: BTreeSet::new(),
            user: String::new(),
            database: String::new(),
            password: None,
            passfile: None,
            fallback_application_name: None,
            host: Host::Local,
            hostaddr: None,
            port: 5432,
            connect_timeout: Duration::from_secs(3),
            application_name: env!("CARGO_PKG_NAME").to_owned(),
            options: None,
            tls: Tls {
                mode: SslMode::Prefer,
                roots: Roots::None,
                certificate: None,
                key: None,
                sni: true,
                oldest: TlsVersion::V1_2,
                newest: TlsVersion::V1_3,
            },
            channel_binding: ChannelBinding::Prefer,
            require_auth: None,
            keepalives: Keepalives {
                on: true,
                idle: Some(Duration::from_secs(5)),
                interval: Some(Duration::from_secs(3)),
                probes: Some(3),
                user_timeout: Some(Duration::from_secs(15)),
            },
        };
        for (key, value) in parse::pairs(text)? {
            dsn.set(key, key.name, &value)?;
        }
        Ok(dsn)
    }

    /// Fills what the string left open from libpq's environment variables, the home directory and
    /// libpq's defaults, then checks that the whole makes sense. `env` looks a variable up.
    pub fn with_defaults(mut self, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, DsnError> {
        for key in KEYS {
            if let Some(variable) = key.variable
                && !self.given.contains(key.name)
                && let Some(value) = env(variable)
            {
                self.set(key, variable, &value)?;
            }
        }
        if self.user.is_empty() {
            self.user = ["USER", "LOGNAME"]
                .into_iter()
                .filter_map(env)
                .find(|name| !name.is_empty())
                .ok_or(DsnError::NoUser)?;
        }
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
        }
        if !self.given.contains("application_name")
            && let Some(name) = self.fallback_application_name.take()
        {
            self.application_name = name;
        }
        if let Some(home) = env("HOME").filter(|home| !home.is_empty()) {
            self.look_at_home(Path::new(&home));
        }
        self.check_tls()?;
        Ok(self)
    }

    /// Replaces the role.
    pub fn set_user(&mut self, user: &str) {
        self.user = user.to_owned();
        self.given.insert("user");
    }

    /// Replaces the password; a password file is forgotten.
    pub fn set_password(&mut self, password: SecretString) {
        self.password = Some(Password::Given(password));
        self.given.insert("password");
    }

    /// Takes the password from this file, read anew at every connect.
    pub fn set_password_file(&mut self, path: &Path) {
        self.password = Some(Password::File(path.to_owned()));
        self.given.insert("password");
    }

    /// Where the server is: `host:port`, or `directory:port` of a socket.
    pub fn address(&self) -> String {
        match (&self.host, self.hostaddr) {
            (Host::Name(name), _) if name.contains(':') => format!("[{name}]:{}", self.port),
            (Host::Name(name), _) => format!("{name}:{}", self.port),
            (_, Some(address)) => SocketAddr::new(address, self.port).to_string(),
            (Host::Local | Host::Socket(_), None) => {
                format!("{}:{}", self.socket_directory().display(), self.port)
            }
        }
    }

    /// The role; empty until [`Dsn::with_defaults`] where the string names none.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database; empty until [`Dsn::with_defaults`] where the string names none.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The path of the server's socket, unless it is reached over TCP.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        match (&self.host, self.hostaddr) {
            (Host::Name(_), _) | (_, Some(_)) => None,
            _ => Some(self.socket_directory().join(self.socket_name())),
        }
    }

    fn socket_name(&self) -> String {
        format!(".s.PGSQL.{}", self.port)
    }

    fn socket_directory(&self) -> &Path {
        if let Host::Socket(directory) = &self.host {
            return directory;
        }
        SOCKET_DIRECTORIES
            .into_iter()
            .map(Path::new)
            .find(|directory| directory.join(self.socket_name()).exists())
            .unwrap_or(Path::new(SOCKET_DIRECTORIES[0]))
    }

    fn set(&mut self, key: &keys::Key, named: &'static str, value: &str) -> Result<(), DsnError> {
        if value.is_empty() {
            return Ok(());
        }
        (key.set)(self, value).map_err(|refusal| match refusal {
            Refusal::Expected(expected) => DsnError::Value { named, expected },
            Refusal::Unsupported(why) => DsnError::Unsupported { named, why },
        })?;
        self.given.insert(key.name);
        Ok(())
    }

    fn look_at_home(&mut self, home: &Path) {
        let optional = |name: &str| File {
            path: home.join(name),
            optional: true,
        };
        self.passfile.get_or_insert_with(|| home.join(".pgpass"));
        if self.tls.roots == Roots::None {
            self.tls.roots = Roots::File(optional(".postgresql/root.crt"));
        }
        self.tls
            .certificate
            .get_or_insert_with(|| optional(".postgresql/postgresql.crt"));
        self.tls
            .key
            .get_or_insert_with(|| optional(".postgresql/postgresql.key"));
    }

    fn check_tls(&mut self) -> Result<(), DsnError> {
        if self.tls.roots == Roots::System {
            if !self.given.contains("sslmode") {
                self.tls.mode = SslMode::VerifyFull;
            } else if self.tls.mode < SslMode::VerifyFull {
                return Err(DsnError::Together(
                    "sslrootcert=system needs sslmode=verify-full: anyone can have a certificate \
                     from an authority that the system trusts",
                ));
            }
        }
        if self.tls.mode == SslMode::VerifyFull
            && self.hostaddr.is_some()
            && !matches!(self.host, Host::Name(_))
        {
            return Err(DsnError::Together(
                "sslmode=verify-full needs host beside hostaddr: the name is compared with the \
                 server's certificate",
            ));
        }
        if self.tls.oldest > self.tls.newest {
            return Err(DsnError::Together(
                "ssl_min_protocol_version must not be newer than ssl_max_protocol_version",
            ));
        }
        Ok(())
    }
}

/// The string in `key=value` form, less what could be secret.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "address={} dbname={} user={} sslmode={}",
            self.address(),
            self.database,
            self.user,
            self.tls.mode.name()
        )
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

impl SslMode {
    /// Its name as libpq writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// What is wrong with a connection string. No message holds a part of it that could be secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DsnError {
    /// A URI of something else.
    #[error("a connection URI begins with postgres:// or postgresql://")]
    Scheme,
    /// Characters that end the part before the host when they are not escaped.
    #[error(
        "the user or password before the host holds {}; or leave the password out and name a \
         file that holds it in password_file (DATA_SOURCE_PASS_FILE)",
        escapes(.0)
    )]
    Unescaped(Vec<char>),
    /// A percent sign that escapes nothing.
    #[error(
        "a \"%\" is not followed by the two hexadecimal digits of an escaped character; write \
         \"%\" itself as %25, in a password too"
    )]
    Percent,
    /// A space in a URI.
    #[error("a connection URI holds no spaces; write a space as %20")]
    Space,
    /// An escape that makes no text.
    #[error("an escaped character is no text: escapes are of UTF-8, and %00 is not allowed")]
    NotText,
    /// An address in brackets that is none.
    #[error("a host in brackets is an IPv6 address, as in postgres://[::1]:5432/")]
    Brackets,
    /// What comes after `?` in a URI is no list of keys and values.
    #[error(
        "after the \"?\" of a URI come key=value pairs with \"&\" between them; write \"=\" in a \
         value as %3D and \"&\" as %26"
    )]
    QueryPair,
    /// A word without `=`.
    #[error(
        "the words of a connection string are key=value{}; write a value with a space in quotes, \
         as in password='two words'",
        word_after(.after)
    )]
    NoEquals {
        /// The key before it.
        after: Option<&'static str>,
    },
    /// A quote that is not closed.
    #[error("the quoted value of {0} is not closed; write a quote inside it as \\'")]
    OpenQuote(&'static str),
    /// A key that libpq does not have.
    #[error("there is no key {key:?}; did you mean {nearest}?")]
    UnknownKey {
        /// What was written.
        key: String,
        /// The known key that is most like it.
        nearest: &'static str,
    },
    /// A key that is like none of libpq's, and may be anything.
    #[error("a connection string holds libpq's keys, and one of these is none{}", strange_after(.after))]
    StrangeKey {
        /// The key before it.
        after: Option<&'static str>,
    },
    /// A key that libpq does not have, which may be a part of a password.
    #[error(
        "what follows the value of password is no known key; in key=value form quote a password \
         with spaces, in a URI write \"&\" as %26"
    )]
    UnknownKeyAfterPassword,
    /// A value that a key cannot have.
    #[error("{named} must be {expected}")]
    Value {
        /// The key, or the environment variable.
        named: &'static str,
        /// What it can be.
        expected: &'static str,
    },
    /// Something that libpq can do and this program cannot.
    #[error("{named} cannot have this value: {why}")]
    Unsupported {
        /// The key, or the environment variable.
        named: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Together(&'static str),
    /// Nobody says as whom to connect.
    #[error("no role to connect as: give user in the connection string, or set PGUSER")]
    NoUser,
}

fn escapes(characters: &[char]) -> String {
    characters
        .iter()
        .map(|&character| {
            format!(
                "an unescaped {character:?}: write it as {}",
                escape(character)
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
        .replace('\'', "\"")
}

fn escape(character: char) -> String {
    percent_encoding::utf8_percent_encode(
        character.encode_utf8(&mut [0; 4]),
        percent_encoding::NON_ALPHANUMERIC,
    )
    .to_string()
}

fn word_after(key: &Option<&'static str>) -> String {
    key.map_or_else(String::new, |key| {
        format!(", and what follows the value of {key} has no \"=\"")
    })
}

fn strange_after(key: &Option<&'static str>) -> String {
    key.map_or_else(String::new, |key| {
        format!(", what follows the value of {key}")
    })
}

#[cfg(test)]
mod tests;
