//! How much is taken from others at most. More is refused, cut or left out, and said.
//!
//! The table in `docs/limits.md` says the same in words.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Connections to one server that can be configured.
pub const CONNECTIONS: usize = 100;

/// Rows of one collector in one database that can be configured.
pub const ROWS: usize = ANSWER_MESSAGES;

/// Bytes that a server may send before a session begins.
pub const START_UP: usize = 256 * KIB;

/// Iterations of SCRAM that a server may ask for, as many as the driver makes. PostgreSQL's default
/// is 4096.
pub const SCRAM_ITERATIONS: u32 = 100_000;

/// Bytes of one message of a server: a row, an error, a description of columns.
pub const MESSAGE: usize = MIB;

/// Bytes of the answer to one statement.
pub const ANSWER: usize = 64 * MIB;

/// Messages in the answer to one statement, most of them rows.
pub const ANSWER_MESSAGES: usize = 1_000_000;

/// Results in one answer: a message of ours holds a few statements.
pub const RESULTS: usize = 100;

/// Columns of a result, which is what PostgreSQL itself can have.
pub const COLUMNS: usize = 1_664;

/// How long an answer may go on to arrive.
pub const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Notices, notifications and changed parameters that a server may send beside one answer.
pub const ASIDES: usize = 1_000;

/// Their bytes.
pub const ASIDES_BYTES: usize = MIB;

/// Bytes that are read of what a server still sends on a connection that was given up.
pub const FAREWELL: usize = 16 * MIB;

/// How long they are read, from the first of them on.
pub const FAREWELL_TIME: Duration = Duration::from_secs(60);

/// Databases of one server.
pub const DATABASES: usize = 2_000;

/// Rows of one answer about the events of a Synapse: open transactions, most of them.
pub const SURVEY_ROWS: u64 = 20_000;

/// Bytes of the labels in the rows of one statement.
pub const TEXTS: usize = 8 * MIB;

/// Bytes of one label's value.
pub const LABEL: usize = 2 * KIB;

/// Bytes of a text of others that is logged or shown to a person.
pub const SHOWN: usize = KIB;

/// Metrics whose dropped duplicates are counted apart.
pub const DUPLICATES: usize = 100;
