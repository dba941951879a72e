//! What is counted: events of each kind, along both ends of the stream.
//!
//! Times are milliseconds since 1970.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What is counted of each event, in this order: the word in the name of a gauge, and the value of
/// the label `kind`.
pub const KINDS: [(&str, &str); 6] = [
    ("events", "event"),
    ("events_unencrypted_messages", "unencrypted_message"),
    ("events_encrypted", "encrypted"),
    ("events_state", "state"),
    ("events_redactions", "redaction"),
    ("events_rejected", "rejected"),
];

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(pub [u64; KINDS.len()]);

impl Counts {
    /// All events.
    pub fn events(&self) -> u64 {
        self.0[0]
    }

    /// What is more here than there.
    pub fn beyond(&self, before: &Self) -> Self {
        let mut more = *self;
        for (more, before) in more.0.iter_mut().zip(before.0) {
            *more = more.saturating_sub(before);
        }
        more
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}

/// One of the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Events as they were sent: positive.
    Live,
    /// Older ones, fetched from other servers: negative.
    Backfill,
}

/// Both.
pub const ORIGINS: [Origin; 2] = [Origin::Live, Origin::Backfill];

impl Origin {
    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }

    /// The lowest position that there may be.
    pub const fn lowest(self) -> u64 {
        match self {
            Self::Live => 0,
            Self::Backfill => 1,
        }
    }
}

/// How far an end has grown, as it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The first position that some writer may not have written yet, if any of them says.
    pub finished: Option<u64>,
    /// The first position beyond all that there are.
    pub reached: u64,
    /// The first position that the sequence has never given; on a standby and after a crash it may
    /// be too far.
    pub given: u64,
}

/// When something was seen.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: u64,
    /// The oldest transaction that goes on.
    pub xmin: u64,
    /// The first transaction that has not begun.
    pub xmax: u64,
    /// How long before a position is safe of which nobody says that it is written.
    pub settle: u64,
}
