//! What is served of a count.

use std::sync::Arc;

use super::counts::{Counts, KINDS, ORIGINS};
use crate::query::Plan;
use crate::snapshot::Snapshot;

/// What is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The numbers of events of each origin and kind; what is not known is not there.
    pub counts: [[Option<f64>; KINDS.len()]; 2],
    /// What has arrived.
    pub added: [Counts; 2],
    /// As of when the numbers are exact, in seconds since 1970; if they are not, there is no moment.
    pub as_of: Option<f64>,
    /// What part is counted.
    pub ratio: f64,
    /// How many seconds more the first count will take.
    pub remaining: Option<f64>,
    /// How many buckets there are.
    pub buckets: usize,
    /// How many of them have to be verified.
    pub dirty: usize,
    /// When the one was verified that has waited longest, in seconds since 1970.
    pub verified: Option<f64>,
    /// The rows that were counted.
    pub rows: u64,
}

impl Served {
    /// Puts it onto the page.
    pub fn write(&self, plan: &Plan, database: &Arc<str>, page: &mut Snapshot) {
        let mut push = |column: &str, labels: &[&str], value: Option<f64>| {
            if let Some(value) = value {
                plan.push(page, database, column, labels, value);
            }
        };
        for origin in ORIGINS {
            let labels = [origin.as_str()];
            let (counts, added) = (self.counts[origin as usize], self.added[origin as usize]);
            for (at, (column, kind)) in KINDS.into_iter().enumerate() {
                push(column, &labels, counts[at]);
                let labels = [origin.as_str(), kind];
                push("events_added_total", &labels, Some(added.0[at] as f64));
            }
        }
        for (column, value) in [
            ("events_exact", Some(f64::from(self.as_of.is_some()))),
            ("events_as_of_timestamp_seconds", self.as_of),
            ("events_counted_ratio", Some(self.ratio)),
            ("events_remaining_seconds", self.remaining),
            ("events_ranges", Some(self.buckets as f64)),
            ("events_ranges_pending_recount", Some(self.dirty as f64)),
            ("events_verified_timestamp_seconds", self.verified),
            ("events_rows_counted_total", Some(self.rows as f64)),
        ] {
            push(column, &[], value);
        }
    }
}
