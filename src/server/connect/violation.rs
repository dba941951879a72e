//! What a server sends and should not.

use std::io;

use crate::bounds;

/// What a server sends and should not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something else than PostgreSQL.
    #[error("it sent data that is not PostgreSQL's protocol")]
    NotPostgres,
    /// A message that is too large.
    #[error("it announced a message of {0} bytes; the limit is {most}", most = bounds::MESSAGE)]
    Message(usize),
    /// Too much before there is a session.
    #[error(
        "it sent more than {} bytes before the session began",
        bounds::START_UP
    )]
    StartUp,
    /// Too much of an answer.
    #[error(
        "its answer to one statement has more than {} bytes or {} messages",
        bounds::ANSWER,
        bounds::ANSWER_MESSAGES
    )]
    Answer,
    /// Too many results.
    #[error("its answer to one message has more than {} results", bounds::RESULTS)]
    Results,
    /// A result that is too wide.
    #[error("it sent a result of {0} columns; the limit is {most}", most = bounds::COLUMNS)]
    Columns(usize),
    /// Too much beside it.
    #[error(
        "it sent more than {} notices and changed parameters, or {} bytes of them, beside one answer",
        bounds::ASIDES,
        bounds::ASIDES_BYTES
    )]
    Asides,
    /// An answer without an end.
    #[error("its answer to one statement went on for more than {} s", bounds::ANSWER_TIME.as_secs())]
    Endless,
    /// Work that the server would have us do.
    #[error(
        "it asks for {0} iterations of SCRAM; the limit is {most}",
        most = bounds::SCRAM_ITERATIONS
    )]
    Iterations(u64),
    /// The words of a server that has no memory or process left for a session.
    #[error("it says: {0}")]
    Words(String),
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(io::ErrorKind::InvalidData, violation)
    }
}
