//! What is counted, and what is to be counted next; no I/O.
//!
//! Each of the two ends of `stream_ordering` is a [`Line`] of positions: the stream ordering itself
//! for live events, and without its sign for backfilled ones, so that both grow upwards.
//!
//! Times are milliseconds since 1970.

use serde::{Deserialize, Serialize};

use super::counts::{Counts, End, Moment, ORIGINS, Origin};
use super::line::{Bucket, Line, RECENT, Standing, TAIL};

/// There are never more buckets of a line than this.
pub const MAX_BUCKETS: usize = 16_384;

/// A bucket that was frozen recently is verified this often.
const RECENT_INTERVAL: u64 = 300_000;

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
    /// Counts a bucket again.
    Recount,
    /// Compares the number of rows alone, which an index tells.
    Verify,
}

/// Another event is where one was counted: what is known is of another history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged;

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
    /// How often a count that was known has turned out to be another.
    #[serde(skip)]
    changes: u64,
    /// A live event that is gone, and no counter of deletes has moved.
    vanished: Option<u64>,
    /// A bucket that was thought right has turned out to hold fewer rows.
    #[serde(skip)]
    fewer: bool,
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
            changes: 0,
            vanished: None,
            fewer: false,
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

    /// Whether the stream ends below what was frozen, as it does after a restore. Ids may have been
    /// given that nobody has used, so the sequence tells, too.
    pub fn is_beyond(&self, ends: [End; 2]) -> bool {
        let mut lines = self.lines.iter().zip(ends);
        lines.any(|(line, end)| end.reached.max(end.given) < line.mark())
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
            // What a statement finds that began before proves nothing.
            self.epoch += u64::from(self.line_mut(origin).settle(end, at));
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

    /// Events may have come where none were expected: below the mark, but not far.
    pub fn soil_recent(&mut self, now: u64) {
        self.epoch += 1;
        let buckets = self.lines.iter_mut().flat_map(|line| &mut line.buckets);
        for bucket in buckets.filter(|bucket| now.saturating_sub(bucket.frozen) < RECENT) {
            bucket.standing = bucket.standing.max(Standing::Dirty);
        }
    }

    /// What was backfilled last may have been lost, and other events may be in its place.
    pub fn distrust_recent_backfill(&mut self, now: u64) {
        let line = self.line_mut(Origin::Backfill);
        let buckets = line.buckets.iter_mut();
        for bucket in buckets.filter(|bucket| now.saturating_sub(bucket.frozen) < RECENT) {
            bucket.standing = Standing::Wrong;
        }
    }

    /// A live event is gone that was there at a time. If its bucket was not counted since, and its
    /// number of rows turns out to be right all the same, another event is in its place.
    pub fn suspect(&mut self, position: u64, seen: u64) {
        let buckets = &self.line(Origin::Live).buckets;
        let mut holders = buckets.iter().filter(|bucket| bucket.holds(position));
        if holders.any(|bucket| bucket.counted <= seen) {
            self.vanished = Some(position);
        }
    }

    /// Nothing has happened later than now, whatever a clock said that was ahead.
    pub fn is_not_after(&mut self, now: u64) {
        self.turned = self.turned.min(now);
        for line in &mut self.lines {
            line.is_not_after(now);
        }
    }

    /// What to do now, if anything: what is right too, if it was not verified after `proof`;
    /// `step` is how many positions a statement may span.
    pub fn next(
        &mut self,
        now: u64,
        turn: u64,
        proof: Option<u64>,
        step: impl Fn(What) -> u64,
    ) -> Option<Task> {
        if self.job.is_none()
            && let Some(task) = self.fill(step(What::Fill))
        {
            return Some(task);
        }
        let job = match self.job.take() {
            Some(job) => job,
            None => self.choose(now, turn, proof)?,
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

    /// The bucket that needs it most: what is wrong, what may be, what is to be proven, what is new,
    /// and each in turn.
    fn choose(&mut self, now: u64, turn: u64, proof: Option<u64>) -> Option<Job> {
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
        let unproven = |proof| {
            buckets()
                .filter(move |(_, bucket)| bucket.verified <= proof)
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
            .or_else(|| Some((unproven(proof?)?, What::Verify)))
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
    ///
    /// # Errors
    ///
    /// Fails if another event is where one was counted.
    pub fn done(&mut self, task: &Task, found: Counts, begun: u64) -> Result<(), Exchanged> {
        match task.what {
            What::Fill => self.filled(task, found, begun),
            What::Recount | What::Verify => return self.checked(task, found),
        }
        Ok(())
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

    fn checked(&mut self, task: &Task, found: Counts) -> Result<(), Exchanged> {
        let Some(mut job) = self.job.take_if(|job| {
            job.origin == task.origin && job.what == task.what && job.cursor == task.from
        }) else {
            return Ok(());
        };
        job.sum += found;
        job.cursor = task.to;
        if job.cursor < job.to {
            self.job = Some(job);
            return Ok(());
        }
        let proven = job.epoch == self.epoch;
        let line = &mut self.lines[job.origin as usize];
        let Some(bucket) = line.bucket(job.from, job.to) else {
            return Ok(());
        };
        let known = bucket.counts;
        let right = proven && bucket.standing == Standing::Proven;
        self.fewer |= right && job.sum.events() < known.events();
        let held = |position| job.origin == Origin::Live && bucket.holds(position);
        if self.vanished.is_some_and(held) {
            if job.sum.events() < known.events() {
                self.vanished = self.vanished.filter(|_| job.what == What::Verify);
            } else if proven {
                return Err(Exchanged);
            }
        }
        if job.what == What::Verify && job.sum.events() != known.events() {
            bucket.standing = Standing::Wrong;
            return Ok(());
        }
        bucket.verified = job.begun;
        bucket.standing = match (proven, job.what) {
            (true, _) => Standing::Proven,
            (false, What::Recount) => Standing::Dirty,
            (false, _) => bucket.standing,
        };
        if job.what == What::Recount {
            bucket.counts = job.sum;
            bucket.counted = job.begun;
            self.changes += u64::from(job.sum != known);
            // Whoever was late has come all the same.
            if job.sum.events() > known.events() {
                line.added += job.sum.beyond(&known);
            }
        }
        Ok(())
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

    /// Whether, since this was asked last, a bucket that was thought right has turned out to hold
    /// fewer rows.
    pub fn take_fewer(&mut self) -> bool {
        std::mem::take(&mut self.fewer)
    }

    /// Whether all is counted, nothing known speaks against it, and only what Synapse has written
    /// counts as written.
    pub fn is_sound(&self) -> bool {
        let settled = !self.lines.iter().any(Line::is_unsettled);
        self.uncounted() == 0 && self.dirty() == 0 && settled
    }

    /// How often a count that was known has turned out to be another.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// All that has arrived since the counting began.
    pub fn added(&self) -> u64 {
        self.lines.iter().map(|line| line.added.events()).sum()
    }

    /// All events that are counted.
    pub fn events(&self) -> u64 {
        self.lines.iter().map(|line| line.counts().events()).sum()
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
