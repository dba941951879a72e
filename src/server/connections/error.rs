//! Why no connection is available.

use std::sync::Arc;

use crate::query::Reason;
use crate::server::connect::ConnectError;

/// No connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// It could not be made.
    #[error("{0}")]
    Connect(Arc<ConnectError>),
    /// It reached another server than the rest.
    #[error(
        "a new connection to {address} reached another server (system identifier {found}) than \
         those that are open; use a host name that resolves to one server only"
    )]
    OtherServer {
        /// Where it went.
        address: String,
        /// Whom it reached.
        found: String,
    },
    /// It reached another database than it was to.
    #[error(
        "a connection to database {database:?} at {address} reached another one; check the \
         database names in the pooler's configuration"
    )]
    OtherDatabase {
        /// Where it went.
        address: String,
        /// Which it was to reach.
        database: String,
    },
    /// A login to a database of the same owner was given up, and its backend is still there.
    #[error(
        "a login to database {database:?} hangs; until the server ends it, no database of the \
         same owner is read. Most often a session holds or waits for a lock on a system catalog \
         there, as VACUUM FULL pg_class does: see pg_locks and pg_stat_activity"
    )]
    LoginHangs {
        /// Where it hangs.
        database: String,
    },
    /// Logins to databases of several owners were given up, and their backends are still there.
    #[error(
        "logins to databases of several owners hang; until the server ends one, only databases of \
         superusers are read: see pg_locks for locks on system catalogs such as pg_class"
    )]
    LoginsHang,
    /// There is no room for another, and those that were given up are still there.
    #[error(
        "no connection to {address} is free: of {budget}, some hang, and the server neither \
         answers on them nor closes them"
    )]
    Hanging {
        /// Where they go.
        address: String,
        /// How many there may be.
        budget: usize,
    },
    /// The new connection broke before it could be used.
    #[error("a new connection to {address} broke: {reason}")]
    Broken {
        /// Where it went.
        address: String,
        /// In whose words.
        reason: String,
    },
    /// The new connection leads to something else than a PostgreSQL server.
    #[error("a new connection to {address} cannot be used: {reason}")]
    Protocol {
        /// Where it went.
        address: String,
        /// What was seen.
        reason: String,
    },
}

impl LeaseError {
    /// The value of the label `reason` of `pg_exporter_down_reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.reason().as_str(),
            Self::OtherServer { .. } => "other_server",
            Self::OtherDatabase { .. } => "database_missing",
            Self::Hanging { .. } | Self::LoginHangs { .. } | Self::LoginsHang => "timeout",
            Self::Broken { .. } => "connection",
            Self::Protocol { .. } => Reason::Protocol.as_str(),
        }
    }
}
