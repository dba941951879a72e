//! What is counted, and what is to be counted next; no I/O.
//!
//! Each of the two ends of `stream_ordering` is a [`Line`] of positions: the stream ordering itself
//! for live events, and without its sign for backfilled ones, so that both grow upwards. Below a
//! line's mark nothing arrives any more: that part is cut into buckets that are counted, and gaps
//! that are still to be. What is above the mark, the tail, is counted in every scrape.
//!
//! Times are milliseconds since 1970.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// A bucket that holds fewer rows takes in what comes next to it.
pub const BUCKET_ROWS: u64 = 65_536;

/// There are never more buckets of a line than this.
pub const MAX_BUCKETS: usize = 16_384;

/// A tail of more positions than this is cut.
pub const TAIL: u64 = 100_000;

/// Where the mark stands below the end at first, unless Synapse says how far it has written.
const FIRST_TAIL: u64 = 10_000;

/// So many pieces of a tail at most wait to be frozen.
const MAX_SEGMENTS: usize = 16;

/// What Synapse says is written has to be this old before it is frozen. A writer that never wrote
/// before has not said anything yet.
const GRACE: u64 = 10_000;

/// A bucket that was frozen within this time...
const RECENT: u64 = 3_600_000;

/// ... is verified this often: the net below the rules of freezing.
const RECENT_INTERVAL: u64 = 300_000;

/// What is counted of each event, in this order: the word in the name of a gauge, and the value of
/// the label `kind`.
pub const KINDS: [(&str, &str); 6] = [
    ("events", "event"),
    ("events_messages", "message"),
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
    fn beyond(&self, before: &Self) -> Self {
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

/// Positions of which it is known how many rows they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    from: u64,
    to: u64,
    counts: Counts,
    /// Since when the counts are true at the latest.
    counted: u64,
    /// Since when their sum is true at the latest.
    verified: u64,
    /// When the last of it was frozen; 0 for what was old already.
    frozen: u64,
    standing: Standing,
}

/// What is thought of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Standing {
    /// It is right.
    Proven,
    /// Something was deleted somewhere since.
    Dirty,
    /// Rows are gone from it.
    Wrong,
}

/// Positions that are not counted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    from: u64,
    to: u64,
    /// Whether the rows have arrived since the counting began.
    arrived: bool,
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

/// One end of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Ordered and apart from each other, as the gaps are.
    buckets: Vec<Bucket>,
    gaps: Vec<Gap>,
    /// The first one begins at the mark.
    segments: Vec<Segment>,
    /// Whether the tail was ever counted.
    begun: bool,
    /// The first position beyond all that were seen.
    seen: u64,
    /// What has arrived since the counting began.
    pub added: Counts,
}

impl Line {
    fn new(end: End, lowest: u64, at: &Moment) -> Self {
        let mark = safe_mark(end, lowest).max(lowest);
        let gap = Gap {
            from: lowest,
            to: mark,
            arrived: false,
        };
        Self {
            buckets: Vec::new(),
            gaps: Vec::from_iter((mark > lowest).then_some(gap)),
            segments: vec![Segment::new(mark, at)],
            begun: false,
            seen: end.reached,
            added: Counts::default(),
        }
    }

    /// Where the tail begins.
    pub fn mark(&self) -> u64 {
        self.segments[0].from
    }

    /// Where the pieces of the tail begin.
    pub fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.iter().map(|segment| segment.from)
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

    /// Takes in what the tail holds: rows and the newest position of each piece, by its number.
    fn take(&mut self, found: &[(usize, Counts, u64)]) {
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let found = found.iter().find(|(of, ..)| *of == number);
            let counts = found.map_or(Counts::default(), |(_, counts, _)| *counts);
            if self.begun {
                self.added += counts.beyond(&segment.counts);
            }
            segment.counts = counts;
            segment.newest = found.map(|(.., newest)| *newest);
            self.seen = self.seen.max(segment.newest.map_or(0, |newest| newest + 1));
        }
        self.begun = true;
    }

    /// Freezes the pieces of the tail into which nothing can come any more; the newest position in
    /// them. Ids are allocated before the transaction that writes them begins, so that a place in
    /// the tail is safe when Synapse says that all before it is written; or after a long time, if
    /// no transaction of then goes on.
    fn freeze(&mut self, end: End, at: &Moment, busy: Option<u64>) -> Option<u64> {
        let mut newest = None;
        while let [first, second, ..] = &self.segments[..] {
            let age = at.now.saturating_sub(second.at);
            let written = end.finished.is_some_and(|finished| second.from <= finished);
            let over = at.xmin >= second.xmax;
            if !(written && age >= GRACE.min(at.settle) || over && age >= at.settle) {
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

    /// Lets the last piece of the tail end where the stream ends now, unless enough pieces wait.
    fn cut(&mut self, end: End, at: &Moment) {
        self.seen = self.seen.max(end.reached);
        let last = &self.segments[self.segments.len() - 1];
        let patient = at.now.saturating_sub(last.at) >= at.settle / 8;
        let room = self.segments.len() < 4 || patient && self.segments.len() < MAX_SEGMENTS;
        if self.seen > last.from && room {
            self.segments.push(Segment::new(self.seen, at));
        }
    }

    /// Shortens a tail that is too long to be counted in every scrape: its beginning becomes a gap.
    fn shorten(&mut self, end: End, at: &Moment) {
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
        self.segments = vec![Segment::new(next, at)];
        // A tail that is new as a whole has arrived as a whole.
        self.begun &= self.seen <= next;
    }

    /// Adds a bucket, or lets the one beside it grow.
    fn add(&mut self, bucket: Bucket, busy: Option<u64>) {
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
    fn halve(&mut self) {
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

    fn bucket(&mut self, from: u64, to: u64) -> Option<&mut Bucket> {
        let found = self.buckets.binary_search_by_key(&from, |b| b.from).ok()?;
        Some(&mut self.buckets[found]).filter(|bucket| bucket.to == to)
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

/// Where a tail can begin whose own beginning is `mark` or unknown: as far as Synapse says that it
/// has written, or not far from the end.
fn safe_mark(end: End, mark: u64) -> u64 {
    let near = end.reached.saturating_sub(FIRST_TAIL);
    near.max(end.finished.unwrap_or(0)).max(mark)
}

/// A statement that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Of which end.
    pub origin: Origin,
    /// The first position.
    pub from: u64,
    /// The first position beyond.
    pub to: u64,
    /// What for.
    pub what: What,
    epoch: u64,
}

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Counts what was never counted.
    Fill,
    /// Counts a bucket anew.
    Recount,
    /// Compares the number of rows alone, which an index tells.
    Verify,
}

/// A bucket that is being recounted or verified, in as many statements as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    origin: Origin,
    from: u64,
    to: u64,
    what: What,
    cursor: u64,
    sum: Counts,
    epoch: u64,
    begun: u64,
}

/// Both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    lines: [Line; 2],
    /// Rises whenever everything becomes dirty: a count that began before proves nothing.
    epoch: u64,
    /// When a bucket was last recounted in turn.
    turned: u64,
    #[serde(skip)]
    job: Option<Job>,
}

impl Buckets {
    /// Nothing counted yet.
    pub fn new(ends: [End; 2], at: &Moment) -> Self {
        let line = |origin: Origin| Line::new(ends[origin as usize], origin.lowest(), at);
        Self {
            lines: ORIGINS.map(line),
            epoch: 0,
            turned: at.now,
            job: None,
        }
    }

    /// One of the ends.
    pub fn line(&self, origin: Origin) -> &Line {
        &self.lines[origin as usize]
    }

    fn line_mut(&mut self, origin: Origin) -> &mut Line {
        &mut self.lines[origin as usize]
    }

    /// Goes on with what another count has seen arrive.
    pub fn inherit(&mut self, earlier: &Self) {
        for (line, earlier) in self.lines.iter_mut().zip(&earlier.lines) {
            line.added = earlier.added;
        }
    }

    /// Whether the stream ends below what was frozen, as it does after a restore.
    pub fn is_beyond(&self, ends: [End; 2]) -> bool {
        let mut lines = self.lines.iter().zip(ends);
        lines.any(|(line, end)| end.reached < line.mark())
    }

    /// Takes in what the tails hold, and moves the marks; the newest position of the live end that
    /// was frozen.
    pub fn take(
        &mut self,
        tails: &[Vec<(usize, Counts, u64)>; 2],
        ends: [End; 2],
        at: &Moment,
    ) -> Option<u64> {
        let mut frozen = [None; 2];
        for origin in ORIGINS {
            let busy = self.busy(origin);
            let (tail, end) = (&tails[origin as usize], ends[origin as usize]);
            let line = self.line_mut(origin);
            line.take(tail);
            frozen[origin as usize] = line.freeze(end, at, busy);
            line.cut(end, at);
            self.bound(origin);
        }
        frozen[Origin::Live as usize]
    }

    /// Shortens the tails that are too long, or all of them.
    pub fn shorten(&mut self, ends: [End; 2], at: &Moment, all: bool) {
        for (line, end) in self.lines.iter_mut().zip(ends) {
            if all || end.reached.saturating_sub(line.mark()) > TAIL {
                line.shorten(end, at);
            }
        }
    }

    /// Something was deleted, who knows where.
    pub fn soil(&mut self) {
        self.epoch += 1;
        for bucket in self.lines.iter_mut().flat_map(|line| &mut line.buckets) {
            bucket.standing = bucket.standing.max(Standing::Dirty);
        }
    }

    /// What to do now, if anything; `step` is how many positions a statement may span.
    pub fn next(&mut self, now: u64, turn: u64, step: impl Fn(What) -> u64) -> Option<Task> {
        if self.job.is_none()
            && let Some(task) = self.fill(step(What::Fill))
        {
            return Some(task);
        }
        let job = match self.job.take() {
            Some(job) => job,
            None => self.choose(now, turn)?,
        };
        let task = Task {
            origin: job.origin,
            from: job.cursor,
            to: job.to.min(job.cursor.saturating_add(step(job.what).max(1))),
            what: job.what,
            epoch: job.epoch,
        };
        self.job = Some(job);
        Some(task)
    }

    /// The top of the newest gap, live events first.
    fn fill(&self, step: u64) -> Option<Task> {
        ORIGINS.into_iter().find_map(|origin| {
            let gap = self.line(origin).gaps.last()?;
            Some(Task {
                origin,
                from: gap.from.max(gap.to.saturating_sub(step.max(1))),
                to: gap.to,
                what: What::Fill,
                epoch: self.epoch,
            })
        })
    }

    /// The bucket that needs it most: what is wrong, what may be, what is new, and each in turn.
    fn choose(&mut self, now: u64, turn: u64) -> Option<Job> {
        let buckets = || {
            ORIGINS.into_iter().flat_map(|origin| {
                let line = self.line(origin);
                line.buckets.iter().map(move |bucket| (origin, bucket))
            })
        };
        let stale = |standing| {
            buckets()
                .filter(move |(_, bucket)| bucket.standing == standing)
                .min_by_key(|(_, bucket)| bucket.verified)
        };
        let recent = || {
            buckets()
                .filter(|(_, bucket)| now.saturating_sub(bucket.frozen) < RECENT)
                .find(|(_, bucket)| now.saturating_sub(bucket.verified) >= RECENT_INTERVAL)
        };
        let in_turn = || {
            let oldest = buckets().min_by_key(|(_, bucket)| bucket.counted)?;
            let pace = turn / self.number() as u64;
            let due = now.saturating_sub(self.turned) >= pace
                || now.saturating_sub(oldest.1.counted) >= turn;
            due.then_some(oldest)
        };
        let found = stale(Standing::Wrong)
            .map(|found| (found, What::Recount))
            .or_else(|| Some((stale(Standing::Dirty)?, What::Verify)))
            .or_else(|| Some((recent()?, What::Verify)));
        let (found, turned) = match found {
            Some(found) => (found, false),
            None => ((in_turn()?, What::Recount), true),
        };
        let ((origin, bucket), what) = found;
        let job = Job {
            origin,
            from: bucket.from,
            to: bucket.to,
            what,
            cursor: bucket.from,
            sum: Counts::default(),
            epoch: self.epoch,
            begun: now,
        };
        if turned {
            self.turned = now;
        }
        Some(job)
    }

    /// Takes in what a statement has found that began at `begun`.
    pub fn done(&mut self, task: &Task, found: Counts, begun: u64) {
        match task.what {
            What::Fill => self.filled(task, found, begun),
            What::Recount | What::Verify => self.checked(task, found),
        }
    }

    fn filled(&mut self, task: &Task, found: Counts, begun: u64) {
        let busy = self.busy(task.origin);
        let dirty = task.epoch != self.epoch;
        let line = self.line_mut(task.origin);
        // Others may have come above it since.
        let Some(at) = line.gaps.iter().position(|gap| gap.to == task.to) else {
            return;
        };
        let arrived = line.gaps[at].arrived;
        line.gaps[at].to = task.from;
        if line.gaps[at].from == task.from {
            line.gaps.remove(at);
        }
        if arrived {
            line.added += found;
        }
        let new = arrived || task.to == line.mark();
        let bucket = Bucket {
            from: task.from,
            to: task.to,
            counts: found,
            counted: begun,
            verified: begun,
            frozen: if new { begun } else { 0 },
            standing: if dirty {
                Standing::Dirty
            } else {
                Standing::Proven
            },
        };
        line.add(bucket, busy);
        self.bound(task.origin);
    }

    fn checked(&mut self, task: &Task, found: Counts) {
        let Some(mut job) = self.job.take_if(|job| {
            job.origin == task.origin && job.what == task.what && job.cursor == task.from
        }) else {
            return;
        };
        job.sum += found;
        job.cursor = task.to;
        if job.cursor < job.to {
            self.job = Some(job);
            return;
        }
        let proven = job.epoch == self.epoch;
        let Some(bucket) = self.line_mut(job.origin).bucket(job.from, job.to) else {
            return;
        };
        if job.what == What::Verify && job.sum.events() != bucket.counts.events() {
            bucket.standing = Standing::Wrong;
            return;
        }
        bucket.verified = job.begun;
        if job.what == What::Recount {
            bucket.counts = job.sum;
            bucket.counted = job.begun;
        }
        bucket.standing = match (proven, job.what) {
            (true, _) => Standing::Proven,
            (false, What::Recount) => Standing::Dirty,
            (false, _) => bucket.standing,
        };
    }

    fn busy(&self, origin: Origin) -> Option<u64> {
        let job = self.job.as_ref().filter(|job| job.origin == origin)?;
        Some(job.from)
    }

    fn bound(&mut self, origin: Origin) {
        if self.line(origin).buckets.len() > MAX_BUCKETS {
            self.job = None;
            self.line_mut(origin).halve();
        }
    }

    /// Whether all is counted, and nothing known speaks against it.
    pub fn is_exact(&self) -> bool {
        self.uncounted() == 0 && self.dirty() == 0
    }

    /// How many positions are not counted.
    pub fn uncounted(&self) -> u64 {
        self.lines.iter().map(Line::uncounted).sum()
    }

    /// How many positions there are below the marks.
    pub fn span(&self) -> u64 {
        let buckets = self.lines.iter().flat_map(|line| &line.buckets);
        buckets.map(|b| b.to - b.from).sum::<u64>() + self.uncounted()
    }

    /// How many buckets there are.
    pub fn number(&self) -> usize {
        self.lines.iter().map(|line| line.buckets.len()).sum()
    }

    /// How many of them may be wrong.
    pub fn dirty(&self) -> usize {
        let buckets = self.lines.iter().flat_map(|line| &line.buckets);
        buckets
            .filter(|bucket| bucket.standing != Standing::Proven)
            .count()
    }

    /// When the one was verified that has waited longest.
    pub fn verified(&self) -> Option<u64> {
        let buckets = self.lines.iter().flat_map(|line| &line.buckets);
        buckets.map(|bucket| bucket.verified).min()
    }
}

#[cfg(test)]
mod tests;
