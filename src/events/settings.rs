//! What a user may set of the count.

use std::time::Duration;

/// How Synapse's events are counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The part of the time that the count in the background may take, up to 1.
    pub share: f64,
    /// The time within which everything is counted again, a little at a time.
    pub recount: Duration,
    /// How long before an event is counted for good of which Synapse does not say that it, and all
    /// before it, is written.
    pub settle: Duration,
    /// How old the moment may be as of which numbers are exact.
    pub max_age: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            share: 0.1,
            recount: Duration::from_secs(24 * 60 * 60),
            settle: Duration::from_secs(600),
            max_age: Duration::from_secs(15 * 60),
        }
    }
}
