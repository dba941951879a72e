//! What is known of a database, from scrape to scrape and from run to run.

use serde::{Deserialize, Serialize};

use super::buckets::Buckets;
use super::counts::{Counts, End, KINDS, Moment, ORIGINS};
use super::identity::Identity;
use super::proof::Seen;
use super::survey::Estimate;

/// Where more rows were inserted than have arrived in the tails, and it is more than one of so many,
/// events may have come in bulk anywhere; else only a writer is late.
const BULK: u64 = 10_000;

/// What is known of a database; this is what the file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Whose count it is.
    pub identity: Identity,
    /// What is counted.
    pub buckets: Buckets,
    /// What is served while not all is.
    pub guess: Guess,
    /// By how much the rows that were inserted, as the server's counter says, were ahead of those
    /// that had arrived here, at most.
    pub ahead: Option<i64>,
    /// The newest numbers that are known to be right.
    pub proven: Option<Seen>,
}

/// What is served while not all is counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Guess {
    /// What the planner thinks.
    Planner {
        /// Rows in all.
        rows: Option<f64>,
        /// What part of them is of each kind.
        shares: [Option<f64>; KINDS.len()],
    },
    /// What was counted before some or all of it has to be counted again.
    Earlier([[Option<f64>; KINDS.len()]; 2]),
}

impl State {
    /// Whether more rows were inserted than have arrived, by more than ever: some may be where none
    /// were expected. The counter lags behind the rows, so that it hides some for a moment.
    pub fn has_more(&mut self, inserted: u64, now: u64) -> bool {
        if self.buckets.uncounted() > 0 {
            return false;
        }
        let ahead = inserted.cast_signed() - self.buckets.added().cast_signed();
        let known = *self.ahead.get_or_insert(ahead);
        if ahead <= known {
            return false;
        }
        self.ahead = Some(ahead);
        let more = (ahead - known).unsigned_abs();
        match more > self.buckets.events() / BULK {
            true => self.buckets.soil(),
            false => self.buckets.soil_recent(now),
        }
        true
    }

    /// Shortens the tails that are too long, or all of them. What was known of them is served while they
    /// are counted again.
    pub fn shorten(&mut self, ends: [End; 2], at: &Moment, all: bool) {
        let counted = self.buckets.uncounted() == 0 && self.buckets.events() > 0;
        let earlier = self.counts();
        self.buckets.shorten(ends, at, all);
        if counted && self.buckets.uncounted() > 0 {
            self.guess = Guess::Earlier(earlier);
        }
    }

    /// What was counted; where not all is, as much as can be told.
    pub fn counts(&self) -> [[Option<f64>; KINDS.len()]; 2] {
        let counted = ORIGINS.map(|origin| self.buckets.line(origin).counts());
        let left = ORIGINS.map(|origin| self.buckets.line(origin).uncounted());
        let all_left: u64 = left.iter().sum();
        if all_left == 0 {
            return counted.map(known);
        }
        let (rows, shares) = match &self.guess {
            Guess::Earlier(counts) => return *counts,
            Guess::Planner { rows, shares } => (rows, shares),
        };
        let all: u64 = counted.iter().map(Counts::events).sum();
        let beyond = rows.map(|rows| (rows - all as f64).max(0.0));
        ORIGINS.map(|origin| {
            let (counts, left) = (counted[origin as usize], left[origin as usize]);
            let mut guess = known(counts);
            if left > 0 {
                let part = left as f64 / all_left as f64;
                for (guess, share) in guess.iter_mut().zip(shares) {
                    let more = beyond.zip(*share).map(|(rows, share)| rows * share * part);
                    *guess = guess
                        .zip(more)
                        .map(|(counted, more)| counted + more.round());
                }
            }
            guess
        })
    }
}

impl From<Estimate> for Guess {
    fn from(estimate: Estimate) -> Self {
        Self::Planner {
            rows: estimate.rows,
            shares: estimate.shares,
        }
    }
}

/// All of these numbers are known.
pub fn known(counts: Counts) -> [Option<f64>; KINDS.len()] {
    counts.0.map(|count| Some(count as f64))
}
