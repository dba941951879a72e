//! As of which moment the count is known to be right.
//!
//! What a session deletes or inserts, the server's counters tell late: when the session is between
//! two transactions, a second after its last report or after ten seconds without work. So numbers
//! that a scrape has seen are kept until they are proven, in one of two ways:
//!
//! - by reports: since then, each session has had to report what it did before, and no counter has
//!   moved. From 15 on; before, a session without work never reports. A superuser may turn track_counts
//!   off in a session, which then reports nothing; that shows when a bucket of it is counted again.
//! - by counting: since then, every bucket was verified, and none has changed. Events go, and do not
//!   come back, so that a bucket that is right before and after was right between. This works on a
//!   standby too, and while a transaction goes on for hours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::buckets::Buckets;
use super::counts::{Counts, ORIGINS};

/// A session between two transactions has reported what it did longer ago than this: ten seconds
/// without work, a second between two reports, and a second for a busy machine.
const REPORTED: Duration = Duration::from_secs(12);

/// A transaction is over for so long before its session has reported it.
const LEAVING: Duration = Duration::from_secs(1);

/// Numbers that are not proven yet are this far apart, and so many at most.
const APART: Duration = Duration::from_secs(1);
const MOST: usize = 32;

/// Once anything is proven, a round of counting pauses this many times as long as its statements
/// took...
const REST: u32 = 20;

/// ... and where reports are available, these have had so much time before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers of events, and when they were seen in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of each origin.
    pub counts: [Counts; 2],
    /// By the server's clock, in microseconds since 1970.
    pub at: u64,
}

/// Numbers that are to be proven.
#[derive(Debug)]
struct Candidate {
    seen: Seen,
    /// When they had been seen, by two clocks.
    taken: Instant,
    clock: u64,
    /// How often a bucket had changed.
    changes: u64,
    /// Whether reports are enough.
    sound: bool,
}

/// The numbers that are to be proven, and what is known for that.
#[derive(Debug, Default)]
pub struct Proof {
    candidates: VecDeque<Candidate>,
    reports: Reports,
    /// When the numbers had been seen that were proven last.
    proven: Option<Instant>,
    /// A round of counting proves what was seen until then.
    round: Option<u64>,
    /// When the last round ended, and what the statements of the last one took.
    ended: Option<Instant>,
    spent: Duration,
}

impl Proof {
    /// Takes in which transactions go on, if reports are available.
    pub fn look(&mut self, open: Option<&BTreeSet<String>>, at: Instant) {
        match open {
            Some(open) => self.reports.look(open, at),
            None => self.reports = Reports::default(),
        }
    }

    /// Counters have moved: reports prove nothing of what was seen before.
    pub fn doubt(&mut self) {
        for candidate in &mut self.candidates {
            candidate.sound = false;
        }
    }

    /// Whether what sessions report is taken for a proof.
    pub fn trusts_reports(&self) -> bool {
        self.reports.until.is_some()
    }

    /// Nothing that was seen is of this history.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Numbers that were proven in an earlier run of the program are known.
    pub fn goes_on(&mut self) {
        self.proven = Some(Instant::now());
    }

    /// Takes in what a scrape has seen, and returns the newest numbers that are proven now.
    pub fn take(&mut self, buckets: &Buckets, at: u64, clock: u64) -> Option<Seen> {
        let taken = Instant::now();
        // A clock that was ahead is not a proof of anything.
        self.candidates.retain(|candidate| {
            candidate.changes == buckets.changes()
                && candidate.seen.at <= at
                && candidate.clock <= clock
        });
        let last = self.candidates.back();
        if buckets.uncounted() == 0 && last.is_none_or(|last| taken - last.taken >= APART) {
            if self.candidates.len() == MOST {
                let mut number = 0;
                self.candidates.retain(|_| {
                    number += 1;
                    number % 2 == 0
                });
            }
            self.candidates.push_back(Candidate {
                seen: Seen {
                    counts: ORIGINS.map(|origin| buckets.line(origin).counts()),
                    at,
                },
                taken,
                clock,
                changes: buckets.changes(),
                sound: buckets.is_sound(),
            });
        }
        let (verified, sound) = (buckets.verified(), buckets.is_sound());
        let newest = self.candidates.iter().rposition(|candidate| {
            let reported = self.reports.until;
            let by_reports = sound && reported.is_some_and(|until| candidate.taken <= until);
            candidate.sound && by_reports
                || verified.is_none_or(|verified| verified > candidate.clock)
        })?;
        let proven = self.candidates.drain(..=newest).next_back()?;
        self.proven = Some(proven.taken);
        Some(proven.seen)
    }

    /// What was verified before this time has to be verified again, if anything has.
    pub fn round(&mut self, buckets: &Buckets, max_age: Duration) -> Option<u64> {
        let verified = buckets.verified()?;
        if self.round.take_if(|goal| verified > *goal).is_some() {
            self.ended = Some(Instant::now());
        }
        if self.round.is_some() {
            return self.round;
        }
        let newest = self.candidates.back()?.clock;
        let least = match (self.proven, self.reports.until) {
            (None, _) => None,
            (Some(_), None) => Some(Duration::ZERO),
            (Some(_), Some(_)) => Some(PATIENCE),
        };
        let rest = least.map_or(Duration::ZERO, |least| least.max(self.spent * REST));
        let rest = rest.min(max_age / 3);
        let has_rested = |since: Option<Instant>| since.is_none_or(|at| at.elapsed() >= rest);
        if verified <= newest && has_rested(self.ended) && has_rested(self.proven) {
            self.round = Some(newest);
            self.spent = Duration::ZERO;
        }
        self.round
    }

    /// A statement of a round has taken so long.
    pub fn took(&mut self, took: Duration) {
        if self.round.is_some() {
            self.spent += took;
        }
    }
}

/// Until when every session has reported what it did.
#[derive(Debug, Default)]
struct Reports {
    /// The transactions that go on, by name.
    open: BTreeMap<String, Open>,
    looked: Option<Instant>,
    until: Option<Instant>,
}

/// A transaction.
#[derive(Debug)]
struct Open {
    /// When it had not begun, if that was ever seen: its session was between two transactions.
    before: Option<Instant>,
    /// Since when it is over.
    over: Option<Instant>,
}

impl Reports {
    /// Takes in which transactions go on at a time.
    fn look(&mut self, open: &BTreeSet<String>, at: Instant) {
        for (name, known) in &mut self.open {
            match open.contains(name) {
                true => known.over = None,
                false => drop(known.over.get_or_insert(at)),
            }
        }
        self.open
            .retain(|_, known| known.over.is_none_or(|over| at - over < LEAVING));
        for name in open {
            let before = self.looked;
            let begun = || Open { before, over: None };
            self.open.entry(name.clone()).or_insert_with(begun);
        }
        self.looked = Some(at);
        let before = self.open.values().map(|known| known.before);
        let earliest = before.fold(Some(at), Option::min);
        let until = earliest.and_then(|earliest| earliest.checked_sub(REPORTED));
        self.until = self.until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(reports: &mut Reports, open: &[&str], at: Instant) -> Option<Instant> {
        let open = open.iter().map(|name| (*name).to_owned()).collect();
        reports.look(&open, at);
        reports.until.map(|until| until + REPORTED)
    }

    #[test]
    fn an_open_transaction_holds_back_what_came_after_the_look_before_it() {
        let start = Instant::now() + REPORTED;
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reports = Reports::default();
        // Of one that goes on from the beginning, nothing is known.
        assert_eq!(until(&mut reports, &["3/7"], at(0)), None);
        assert_eq!(until(&mut reports, &["3/7"], at(100)), None);
        // It is over, and may not have reported yet.
        assert_eq!(until(&mut reports, &[], at(110)), None);
        assert_eq!(until(&mut reports, &[], at(120)), Some(at(120)));
        // Before it is seen, its session was between two transactions.
        assert_eq!(until(&mut reports, &["3/8"], at(130)), Some(at(120)));
        assert_eq!(until(&mut reports, &["3/8"], at(500)), Some(at(120)));
        // A session that goes from one to the next reports in between.
        assert_eq!(until(&mut reports, &["3/9"], at(510)), Some(at(120)));
        assert_eq!(until(&mut reports, &["3/9"], at(520)), Some(at(500)));
        assert_eq!(until(&mut reports, &["3/10"], at(530)), Some(at(500)));
        assert_eq!(until(&mut reports, &[], at(540)), Some(at(520)));
        assert_eq!(until(&mut reports, &[], at(550)), Some(at(550)));
    }

    #[test]
    fn numbers_wait_apart_and_not_too_many() {
        let at = crate::events::counts::Moment {
            now: 5,
            xmin: 1,
            xmax: 1,
            settle: 0,
        };
        let buckets = Buckets::new(Default::default(), &at);
        let mut proof = Proof::default();
        // Nothing is below the marks, so that the tails are all there is.
        assert_eq!(proof.take(&buckets, 7, 5).map(|seen| seen.at), Some(7));
        assert!(proof.candidates.is_empty());
        // A clock has gone back: what was seen later than now is forgotten.
        proof.candidates.push_back(Candidate {
            seen: Seen {
                counts: Default::default(),
                at: 900,
            },
            taken: Instant::now(),
            clock: 5,
            changes: 0,
            sound: true,
        });
        assert_eq!(proof.take(&buckets, 8, 5).map(|seen| seen.at), Some(8));
        assert!(proof.candidates.is_empty());
    }
}
