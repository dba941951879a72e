//! Why something could not be seen.

use std::fmt;

use tokio_postgres::error::SqlState;

use crate::text::shown;

/// The value of the label `reason` of `pg_exporter_collector_skipped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The role may not read it.
    NoPrivilege,
    /// The server does not have an extension.
    NoExtension,
    /// The server's or the application's version has no such thing.
    UnsupportedVersion,
    /// A primary's matter on a standby, or the other way round.
    WrongRole,
    /// The database is excluded, or cannot be connected to.
    DatabaseSkipped,
    /// Somebody holds a lock in the way.
    LockTimeout,
    /// The statement took longer than it may.
    StatementTimeout,
    /// It was not there when the scrape had to answer.
    Deadline,
    /// The standby cancelled it, to go on replaying.
    RecoveryConflict,
    /// There were more rows than the limit.
    SeriesLimit,
    /// The functions of the strict role are older than this program.
    GrantsOutdated,
    /// What should be an ordinary table of an application is something else, which might run the
    /// code of others.
    NotAPlainTable,
    /// The table is too large to be counted in the one way that there is.
    TooLarge,
    /// A setting of the server is off, without which it does not keep this.
    SettingOff,
    /// Switched off.
    Disabled,
    /// The connection broke, or none was available.
    Connection,
    /// The connection would have led to another server than the scrape is of.
    OtherServer,
    /// What the server sent is not PostgreSQL's protocol, or more of it than is taken.
    Protocol,
    /// Anything else; the log says what.
    Error,
}

/// The SQLSTATE of an error that is reported as the server's last word, since what the server said
/// itself was not taken. Classes that begin with M are nobody's.
pub const PROTOCOL_VIOLATION: &str = "MPE01";

impl Reason {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPrivilege => "no_privilege",
            Self::NoExtension => "no_extension",
            Self::UnsupportedVersion => "unsupported_version",
            Self::WrongRole => "wrong_role",
            Self::DatabaseSkipped => "database_skipped",
            Self::LockTimeout => "lock_timeout",
            Self::StatementTimeout => "statement_timeout",
            Self::Deadline => "deadline",
            Self::RecoveryConflict => "recovery_conflict",
            Self::SeriesLimit => "series_limit",
            Self::GrantsOutdated => "grants_outdated",
            Self::NotAPlainTable => "not_a_plain_table",
            Self::TooLarge => "too_large",
            Self::SettingOff => "setting_off",
            Self::Disabled => "disabled",
            Self::Connection => "connection",
            Self::OtherServer => "other_server",
            Self::Protocol => "protocol",
            Self::Error => "error",
        }
    }

    /// The reason that a statement itself gives for values that are not known.
    pub fn of_row(text: &str) -> Option<Self> {
        let known = [Self::WrongRole, Self::SettingOff];
        known.into_iter().find(|reason| reason.as_str() == text)
    }

    /// Whether asking again soon would only fill the server's log: such a query is not sent for a while.
    pub const fn lasts(self) -> bool {
        matches!(
            self,
            Self::NoPrivilege
                | Self::NoExtension
                | Self::UnsupportedVersion
                | Self::GrantsOutdated
                | Self::NotAPlainTable
        )
    }

    /// Whether it means that the collector failed. What a role or a version does not offer is not
    /// a failure, and neither is a configured limit.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::LockTimeout
                | Self::StatementTimeout
                | Self::Deadline
                | Self::RecoveryConflict
                | Self::Connection
                | Self::OtherServer
                | Self::Protocol
                | Self::Error
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A statement that gave no result, or not the one that its definition promises.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server said no.
    #[error("{message} (SQLSTATE {})", state.code())]
    Refused {
        /// The server's error code.
        state: SqlState,
        /// The server's words.
        message: String,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer was not taken.
    #[error("the connection was ended: {0}")]
    Protocol(String),
    /// The result does not have the row that it always has.
    #[error(
        "the server's answer has no row where one must be; check that it is a PostgreSQL server, \
         and any proxy between it and the exporter"
    )]
    NoRow,
    /// The result does not have a column.
    #[error("the result has no column {0:?}")]
    MissingColumn(&'static str),
    /// A cell of a value column holds no number.
    #[error("column {column:?} holds {text:?}, which is not a number")]
    NotANumber {
        /// The column.
        column: &'static str,
        /// What it holds, as far as it is shown.
        text: String,
    },
    /// Text that is not UTF-8; the statement is asked again in a form that carries any bytes.
    #[error("the result holds text that is not UTF-8")]
    NotUtf8,
    /// The statement has a placeholder that stands for nothing here.
    #[error("the placeholder {{{0}}} has no value here")]
    NoValue(&'static str),
    /// What the statement reads is not available.
    #[error("{1}")]
    Unavailable(Reason, String),
}

impl QueryError {
    /// The word for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { state, message } => reason_of(state, message),
            Self::Broken(_) => Reason::Connection,
            Self::Unavailable(reason, _) => *reason,
            Self::Protocol(_) | Self::NoRow => Reason::Protocol,
            Self::MissingColumn(_) | Self::NotANumber { .. } | Self::NotUtf8 | Self::NoValue(_) => {
                Reason::Error
            }
        }
    }
}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db)
                if *db.code() == SqlState::CHARACTER_NOT_IN_REPERTOIRE
                    || *db.code() == SqlState::UNTRANSLATABLE_CHARACTER =>
            {
                Self::NotUtf8
            }
            Some(db) if db.code().code() == PROTOCOL_VIOLATION => {
                Self::Protocol(shown(db.message()).into_owned())
            }
            Some(db) => Self::Refused {
                state: db.code().clone(),
                message: shown(db.message()).into_owned(),
            },
            None => Self::Broken(shown(&error.to_string()).into_owned()),
        }
    }
}

/// The reason behind an error code. The server has no code of its own for a recovery conflict:
/// it says so in words, in whatever language it speaks, with codes of serialization failures.
fn reason_of(state: &SqlState, message: &str) -> Reason {
    match *state {
        SqlState::INSUFFICIENT_PRIVILEGE => Reason::NoPrivilege,
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_FUNCTION
            if message.contains(super::view::SCHEMA) =>
        {
            Reason::GrantsOutdated
        }
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_COLUMN
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => Reason::UnsupportedVersion,
        SqlState::UNDEFINED_FILE | SqlState::FEATURE_NOT_SUPPORTED => Reason::NoExtension,
        SqlState::INVALID_TEXT_REPRESENTATION if message.contains(super::guard::REFUSED) => {
            Reason::NotAPlainTable
        }
        SqlState::LOCK_NOT_AVAILABLE => Reason::LockTimeout,
        SqlState::QUERY_CANCELED => Reason::StatementTimeout,
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            Reason::RecoveryConflict
        }
        SqlState::DATABASE_DROPPED
        | SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW => Reason::Connection,
        _ => Reason::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_reasons() {
        let of = |state: SqlState, message: &str| {
            QueryError::Refused {
                state,
                message: message.to_owned(),
            }
            .reason()
        };
        assert_eq!(of(SqlState::LOCK_NOT_AVAILABLE, ""), Reason::LockTimeout);
        assert_eq!(
            of(SqlState::INSUFFICIENT_PRIVILEGE, ""),
            Reason::NoPrivilege
        );
        assert_eq!(
            of(
                SqlState::UNDEFINED_FUNCTION,
                "function matrix_postgres_exporter.pg_ls_waldir() does not exist"
            ),
            Reason::GrantsOutdated
        );
        assert_eq!(
            of(
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type integer: \"not a plain table: \"a\".\"b\"\""
            ),
            Reason::NotAPlainTable
        );
        assert_eq!(
            of(SqlState::T_R_SERIALIZATION_FAILURE, "annulation"),
            Reason::RecoveryConflict
        );
        assert_eq!(of(SqlState::DIVISION_BY_ZERO, ""), Reason::Error);
    }
}
