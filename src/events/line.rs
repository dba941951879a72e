//! One end of the stream.
//!
//! Below a line's mark nothing is expected to arrive any more: that part is cut into buckets that
//! are counted, and gaps that are still to be. What is above the mark, the tail, is counted in
//! every scrape.

use serde::{Deserialize, Serialize};

use super::counts::{Counts, End, Moment};

/// A bucket that holds fewer rows takes in what comes next to it.
pub const BUCKET_ROWS: u64 = 65_536;

/// A tail of more positions than this is cut.
pub const TAIL: u64 = 100_000;

/// Where the mark stands below the end at first, unless Synapse says how far it has written.
const FIRST_TAIL: u64 = 10_000;

/// So many pieces of a tail at most wait to be frozen.
const MAX_SEGMENTS: usize = 16;

/// What Synapse says is written has to be this old before it is frozen. A writer that never wrote
/// before has not said anything yet.
pub const GRACE: u64 = 60_000;

/// What was frozen within this time is looked at more often: the net below the rules of freezing.
pub const RECENT: u64 = 3_600_000;

/// Positions of which it is known how many rows they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The first position.
    pub from: u64,
    /// The first position beyond.
    pub to: u64,
    /// What they hold.
    pub counts: Counts,
    /// Since when the counts are true at the latest.
    pub counted: u64,
    /// When their sum was last seen to be true, at the earliest.
    pub verified: u64,
    /// When the last of it was frozen; 0 for what was old already.
    pub frozen: u64,
    /// What is thought of it.
    pub standing: Standing,
}

/// What is thought of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// It is right.
    Proven,
    /// Something was deleted somewhere since.
    Dirty,
    /// It holds fewer or more rows.
    Wrong,
}

/// Positions that are not counted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first position.
    pub from: u64,
    /// The first position beyond.
    pub to: u64,
    /// Whether the rows have arrived since the counting began.
    pub arrived: bool,
}

/// A piece of the tail, up to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Segment {
    from: u64,
    /// When `from` was beyond everything, and the first transaction that had not begun then.
    at: u64,
    xmax: u64,
    counts: Counts,
    newest: Option<u64>,
}

/// Positions below the mark of which nobody has said that they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unsettled {
    from: u64,
    to: u64,
    /// When the mark went beyond them, and the first transaction that had not begun then.
    at: u64,
    xmax: u64,
}

/// One end of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Ordered and apart from each other, as the gaps are.
    pub(super) buckets: Vec<Bucket>,
    pub(super) gaps: Vec<Gap>,
    /// The first one begins at the mark.
    segments: Vec<Segment>,
    unsettled: Option<Unsettled>,
    /// Whether the tail was ever counted.
    begun: bool,
    /// The first position beyond all that were seen.
    seen: u64,
    /// What has arrived since the counting began.
    pub added: Counts,
}

impl Line {
    /// Nothing is counted yet.
    pub fn new(end: End, lowest: u64, at: &Moment) -> Self {
        let mark = safe_mark(end, lowest).max(lowest);
        let gap = Gap {
            from: lowest,
            to: mark,
            arrived: false,
        };
        let mut line = Self {
            buckets: Vec::new(),
            gaps: Vec::from_iter((mark > lowest).then_some(gap)),
            segments: vec![Segment::new(mark, at)],
            unsettled: None,
            begun: false,
            seen: end.reached,
            added: Counts::default(),
        };
        if mark > lowest {
            // A writer that nobody has heard of may be at work.
            let recent = mark.saturating_sub(FIRST_TAIL).max(lowest);
            let from = end.finished.map_or(recent, |finished| finished.min(recent));
            line.unsettle(from, mark, at);
        }
        line
    }

    /// Where the tail begins.
    pub fn mark(&self) -> u64 {
        self.segments[0].from
    }

    /// Where the pieces of the tail begin that are to be counted: the last one apart from what is
    /// new in it.
    pub fn pieces(&self) -> Vec<u64> {
        let begins = self.segments.iter().map(|segment| segment.from);
        let last = self.segments[self.segments.len() - 1].from;
        begins
            .chain((self.seen > last).then_some(self.seen))
            .collect()
    }

    /// Everything that is counted, the tail too.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for bucket in &self.buckets {
            sum += bucket.counts;
        }
        for segment in &self.segments {
            sum += segment.counts;
        }
        sum
    }

    /// How many positions are not counted.
    pub fn uncounted(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.to - gap.from).sum()
    }

    /// Whether events may still come below the mark, as far as Synapse says.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Takes in what the tail holds: rows and the newest position of each of its [`Self::pieces`],
    /// by its number.
    pub fn take(&mut self, found: &[(usize, Counts, u64)]) {
        let rows_of = |number| {
            let found = found.iter().find(|(of, ..)| *of == number);
            found.map_or((Counts::default(), None), |(_, counts, newest)| {
                (*counts, Some(*newest))
            })
        };
        let last = self.segments.len() - 1;
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let (mut counts, mut newest) = rows_of(number);
            let mut added = counts.beyond(&segment.counts);
            if number == last {
                // Beyond all that were seen, nothing can have gone.
                let (new, newest_of_all) = rows_of(last + 1);
                counts += new;
                added += new;
                newest = newest_of_all.or(newest);
            }
            if self.begun {
                self.added += added;
            }
            segment.counts = counts;
            segment.newest = newest;
            self.seen = self.seen.max(newest.map_or(0, |newest| newest + 1));
        }
        self.begun = true;
    }

    /// Freezes the pieces of the tail into which nothing can come any more; the newest position in
    /// them. Ids are allocated before the transaction that writes them begins, so that a place in
    /// the tail is safe when Synapse says that all before it is written; or after a long time, if
    /// no transaction of then goes on.
    pub fn freeze(&mut self, end: End, at: &Moment, busy: Option<u64>) -> Option<u64> {
        let mut newest = None;
        while let [first, second, ..] = &self.segments[..] {
            if !is_over(end, second.from, second.at, second.xmax, at) {
                break;
            }
            newest = first.newest.or(newest);
            let bucket = Bucket {
                from: first.from,
                to: second.from,
                counts: first.counts,
                counted: at.now,
                verified: at.now,
                frozen: at.now,
                standing: Standing::Proven,
            };
            self.segments.remove(0);
            self.add(bucket, busy);
        }
        newest
    }

    /// Whether events can no longer come where they could until now; that part has to be verified.
    pub fn settle(&mut self, end: End, at: &Moment) -> bool {
        let settled = self
            .unsettled
            .take_if(|part| is_over(end, part.to, part.at, part.xmax, at));
        let Some(part) = &settled else { return false };
        let buckets = self.buckets.iter_mut();
        for bucket in buckets.filter(|bucket| bucket.from < part.to && bucket.to > part.from) {
            bucket.standing = bucket.standing.max(Standing::Dirty);
        }
        true
    }

    /// Lets the last piece of the tail end where the stream ends now, unless enough pieces wait.
    pub fn cut(&mut self, end: End, at: &Moment) {
        self.seen = self.seen.max(end.reached);
        let last = &self.segments[self.segments.len() - 1];
        let patient = at.now.saturating_sub(last.at) >= at.settle / 8;
        let room = self.segments.len() < 4 || patient && self.segments.len() < MAX_SEGMENTS;
        if self.seen > last.from && room {
            self.segments.push(Segment::new(self.seen, at));
        }
    }

    /// Shortens a tail that is too long to be counted in every scrape: its beginning becomes a gap.
    pub fn shorten(&mut self, end: End, at: &Moment) {
        let mark = self.mark();
        let next = safe_mark(end, mark);
        if next <= mark {
            return;
        }
        let seen = match self.begun {
            true => self.seen.clamp(mark, next),
            false => next,
        };
        for (from, to, arrived) in [(mark, seen, false), (seen, next, true)] {
            if from < to {
                self.gaps.push(Gap { from, to, arrived });
            }
        }
        self.unsettle(mark, next, at);
        self.segments = vec![Segment::new(next, at)];
        // A tail that is new as a whole has arrived as a whole.
        self.begun &= self.seen <= next;
    }

    /// The mark goes beyond positions that a writer may still have to write.
    fn unsettle(&mut self, from: u64, to: u64, at: &Moment) {
        let before = self.unsettled.take();
        self.unsettled = Some(Unsettled {
            from: before.map_or(from, |before| before.from.min(from)),
            to,
            at: at.now,
            xmax: at.xmax,
        });
    }

    /// Adds a bucket, or lets the one beside it grow.
    pub fn add(&mut self, bucket: Bucket, busy: Option<u64>) {
        let at = self.buckets.partition_point(|b| b.from < bucket.from);
        let small = |other: &Bucket| {
            other.counts.events() < BUCKET_ROWS && busy.is_none_or(|busy| busy != other.from)
        };
        if let Some(above) = self.buckets.get_mut(at)
            && above.from == bucket.to
            && small(above)
        {
            above.join(&bucket);
        } else if let Some(below) = at.checked_sub(1).and_then(|at| self.buckets.get_mut(at))
            && below.to == bucket.from
            && small(below)
        {
            below.join(&bucket);
        } else {
            self.buckets.insert(at, bucket);
        }
    }

    /// Joins neighbours, two by two.
    pub fn halve(&mut self) {
        let mut joined: Vec<Bucket> = Vec::with_capacity(self.buckets.len() / 2 + 1);
        let mut pairs = false;
        for bucket in self.buckets.drain(..) {
            match joined.last_mut() {
                Some(last) if pairs && last.to == bucket.from => {
                    last.join(&bucket);
                    pairs = false;
                }
                _ => {
                    joined.push(bucket);
                    pairs = true;
                }
            }
        }
        self.buckets = joined;
    }

    /// The bucket of exactly these positions.
    pub fn bucket(&mut self, from: u64, to: u64) -> Option<&mut Bucket> {
        let found = self.buckets.binary_search_by_key(&from, |b| b.from).ok()?;
        Some(&mut self.buckets[found]).filter(|bucket| bucket.to == to)
    }

    /// Nothing has happened later than now, whatever a clock said that was ahead.
    pub fn is_not_after(&mut self, now: u64) {
        for bucket in &mut self.buckets {
            for time in [
                &mut bucket.counted,
                &mut bucket.verified,
                &mut bucket.frozen,
            ] {
                *time = now.min(*time);
            }
        }
        for segment in &mut self.segments {
            segment.at = segment.at.min(now);
        }
        if let Some(part) = &mut self.unsettled {
            part.at = part.at.min(now);
        }
    }
}

impl Segment {
    fn new(from: u64, at: &Moment) -> Self {
        Self {
            from,
            at: at.now,
            xmax: at.xmax,
            counts: Counts::default(),
            newest: None,
        }
    }
}

impl Bucket {
    /// Whether a position is one of its own.
    pub fn holds(&self, position: u64) -> bool {
        (self.from..self.to).contains(&position)
    }

    fn join(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.counts += other.counts;
        self.counted = self.counted.min(other.counted);
        self.verified = self.verified.min(other.verified);
        self.frozen = self.frozen.max(other.frozen);
        self.standing = self.standing.max(other.standing);
    }
}

/// Whether all below a position is written that was beyond everything at a time, when `xmax` was the
/// first transaction that had not begun.
fn is_over(end: End, below: u64, since: u64, xmax: u64, at: &Moment) -> bool {
    let age = at.now.saturating_sub(since);
    let written = end.finished.is_some_and(|finished| below <= finished);
    written && age >= GRACE.min(at.settle) || at.xmin >= xmax && age >= at.settle
}

/// Where a tail can begin whose own beginning is `mark` or unknown: as far as Synapse says that it
/// has written, or not far from the end.
fn safe_mark(end: End, mark: u64) -> u64 {
    let near = end.reached.saturating_sub(FIRST_TAIL);
    near.max(end.finished.unwrap_or(0)).max(mark)
}
