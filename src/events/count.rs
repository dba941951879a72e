//! The count of one database: when what is asked, and what is true of the answer.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::buckets::{Buckets, Counts, KINDS, Moment, ORIGINS, Task, What};
use super::keep;
use super::served::Served;
use super::survey::{Estimate, Event, Header, Survey, Tails};
use crate::config::Events;
use crate::query::message::timeout_step;
use crate::query::{QueryError, Reason};

/// No statement of ours takes longer.
const HARD_STOP: Duration = Duration::from_secs(1);

/// What a statement of the work behind the scrapes is to take.
const AIM: Duration = Duration::from_millis(100);

/// The positions that such a statement spans at first, at least, and at most.
const SPAN: u64 = 8_192;
const SPAN_LEAST: u64 = 256;
const SPAN_MOST: u64 = 1 << 20;

/// What of the work may be done at once; a small database is counted with it.
const ADVANCE: Duration = Duration::from_secs(1);

/// What may be done at once when no work was done for a while.
const SLICE: Duration = Duration::from_secs(5);

/// The connection rests between two statements as long as the first took, but no longer.
const REST: Duration = Duration::from_millis(100);

/// How often the count is written to its file.
const SAVE: Duration = Duration::from_secs(300);

/// The count of one database, for scrapes and for the work behind them.
#[derive(Debug)]
pub struct Count {
    pub(super) database: String,
    settings: Events,
    path: Option<PathBuf>,
    /// An answer is taken in before the next question is asked.
    turn: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Option<State>,
    /// The server has to be looked at before the tails are counted: nothing is known, or what is
    /// known is old.
    look: bool,
    /// The tails took too long.
    shorten: bool,
    loaded: bool,
    /// Rises with every state that has nothing to do with the last.
    generation: u64,
    /// What of the time may be used, in seconds; less than nothing after a long statement.
    budget: f64,
    earned: Instant,
    count_span: u64,
    total_span: u64,
    /// Positions that the work counted for the first time, and the seconds that took.
    filled: (u64, f64),
    rows: u64,
    saved: Instant,
    unsaved: bool,
}

/// What is known of a database; this is what the file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    identity: Identity,
    buckets: Buckets,
    guess: Guess,
}

/// Whose count it is, and until when it is known to be that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    system: String,
    database: u32,
    relation: u32,
    timeline: u32,
    lsn: u64,
    deleted: u64,
    stats_reset: Option<String>,
    /// An event that was counted for good: in another history another one is there.
    fingerprint: Option<Event>,
    /// The position of a newer one.
    #[serde(skip)]
    candidate: Option<u64>,
}

/// What is served while not all is counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Guess {
    /// What the planner thinks.
    Planner {
        rows: Option<f64>,
        shares: [Option<f64>; KINDS.len()],
    },
    /// What was counted before everything had to be counted anew.
    Earlier([[Option<f64>; KINDS.len()]; 2]),
}

/// What an answer says of the count that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// Rows may have been deleted.
    Dirty,
    /// The history of the database has become another one.
    Diverged(&'static str),
    /// It is another database.
    Other,
}

impl Count {
    /// A count that begins, or goes on where its file says.
    pub fn new(settings: &Events, server: &str, database: &str) -> Self {
        let folder = settings.state_dir.as_deref();
        Self {
            database: database.to_owned(),
            path: folder.map(|folder| keep::path(folder, server, database)),
            settings: settings.clone(),
            turn: tokio::sync::Mutex::default(),
            inner: Mutex::new(Inner {
                state: None,
                look: true,
                shorten: false,
                loaded: false,
                generation: 0,
                budget: ADVANCE.as_secs_f64(),
                earned: Instant::now(),
                count_span: SPAN,
                total_span: SPAN,
                filled: (0, 0.0),
                rows: 0,
                saved: Instant::now(),
                unsaved: false,
            }),
        }
    }

    /// Counts the ends, for a scrape.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn scrape(
        &self,
        survey: &mut Survey<'_>,
        system: &str,
    ) -> Result<Served, QueryError> {
        let _turn = self.turn.lock().await;
        self.load();
        survey.timeout = timeout_step(survey.timeout.min(HARD_STOP));
        loop {
            let (look, events, pieces) = self.inner().question();
            if look {
                let (header, estimate) = survey.look(events).await?;
                let mut inner = self.inner();
                inner.follow(system, &header)?;
                inner.looked(system, &header, estimate, &self.settings);
                continue;
            }
            let found = survey.tails(events, &pieces).await;
            let mut inner = self.inner();
            match found {
                Ok((header, tails)) => {
                    inner.follow(system, &header)?;
                    if let Some(served) = inner.take(system, &header, &tails, &self.settings) {
                        return Ok(served);
                    }
                }
                Err(error) => {
                    inner.shorten = error.reason() == Reason::StatementTimeout;
                    inner.look = true;
                    return Err(error);
                }
            }
        }
    }

    /// Whether there is work to do behind the scrapes, and time for it.
    pub fn is_due(&self) -> bool {
        let mut inner = self.inner();
        inner.earn(self.settings.share);
        self.is_save_due(&inner) || inner.budget > 0.0 && inner.task(&self.settings).is_some()
    }

    /// Works for as long as it may, or until somebody else waits.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn work(
        &self,
        survey: &mut Survey<'_>,
        others_wait: impl Fn() -> bool,
    ) -> Result<(), QueryError> {
        survey.timeout = timeout_step(survey.timeout.min(HARD_STOP));
        loop {
            let task = {
                let mut inner = self.inner();
                inner.earn(self.settings.share);
                let task = (inner.budget > 0.0).then(|| inner.task(&self.settings));
                task.flatten().map(|task| (inner.generation, task))
            };
            let Some((generation, task)) = task else {
                break;
            };
            let (begun, started) = (now(), Instant::now());
            let found = match task.what {
                What::Verify => survey
                    .total(task.origin, task.from, task.to)
                    .await
                    .map(|total| (total, None)),
                What::Fill | What::Recount => survey.count(task.origin, task.from, task.to).await,
            };
            let took = started.elapsed();
            {
                let mut inner = self.inner();
                inner.budget -= took.as_secs_f64();
                inner.pace(&task, took, found.is_ok());
                match found {
                    Ok((counts, newest)) if inner.generation == generation => {
                        inner.done(&task, counts, newest, begun, took);
                    }
                    Ok(_) => {}
                    Err(error) if error.reason() == Reason::StatementTimeout => {}
                    Err(error) => return Err(error),
                }
            }
            if others_wait() {
                break;
            }
            tokio::time::sleep(took.min(REST)).await;
        }
        if self.is_save_due(&self.inner())
            && let Some((path, state)) = self.unsaved()
        {
            // The next interval tries again.
            let _ = tokio::task::spawn_blocking(move || write(&path, &state)).await;
        }
        Ok(())
    }

    /// Writes the count to its file, if it has one.
    pub fn save(&self) {
        if let Some((path, state)) = self.unsaved() {
            write(&path, &state);
        }
    }

    fn unsaved(&self) -> Option<(PathBuf, State)> {
        let path = self.path.clone()?;
        let mut inner = self.inner();
        inner.saved = Instant::now();
        let unsaved = std::mem::take(&mut inner.unsaved);
        let state = inner.state.as_ref().filter(|_| unsaved)?;
        Some((path, state.clone()))
    }

    fn is_save_due(&self, inner: &Inner) -> bool {
        self.path.is_some() && inner.unsaved && inner.saved.elapsed() >= SAVE
    }

    fn load(&self) {
        let Some(path) = &self.path else { return };
        if std::mem::replace(&mut self.inner().loaded, true) {
            return;
        }
        match keep::load(path) {
            Ok(state) => self.inner().state = state,
            Err(unusable) => tracing::warn!("the count of events begins anew: {unusable}"),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether to look first, which events to ask for, and where the pieces of the tails begin.
    fn question(&self) -> (bool, [Option<u64>; 2], [Vec<u64>; 2]) {
        let Some(state) = &self.state else {
            return (true, [None; 2], Default::default());
        };
        let kept = state.identity.fingerprint.map(|kept| kept.position);
        let pieces = |origin| state.buckets.line(origin).segments().collect();
        (
            self.look,
            [kept, state.identity.candidate],
            ORIGINS.map(pieces),
        )
    }

    /// Lets a standby catch up that was restarted, or that the exporter has come to from another
    /// server: its history is the same.
    fn follow(&self, system: &str, header: &Header) -> Result<(), QueryError> {
        let identity = self.state.as_ref().map(|state| &state.identity);
        let behind = identity.is_some_and(|known| {
            known.is_of(system, header)
                && known.timeline == header.timeline
                && header.standby
                && header.lsn < known.lsn
        });
        match behind {
            false => Ok(()),
            true => Err(QueryError::Unavailable(
                Reason::RecoveryConflict,
                "the standby has yet to replay what was counted before".to_owned(),
            )),
        }
    }

    /// What is known goes on from here, or begins.
    fn looked(&mut self, system: &str, header: &Header, estimate: Estimate, settings: &Events) {
        self.look = false;
        let all = std::mem::take(&mut self.shorten);
        let at = moment(header, settings);
        if !self.judge(system, header, estimate, &at) {
            return;
        }
        let Some(state) = &mut self.state else { return };
        if header.standby {
            // No counter tells what was deleted while nobody looked.
            state.buckets.soil();
        }
        state.buckets.shorten(header.ends, &at, all);
        if let Guess::Planner { rows, shares } = &mut state.guess {
            (*rows, *shares) = (estimate.rows, estimate.shares);
        }
    }

    /// Takes in the ends; what to serve, unless the server has to be looked at first.
    fn take(
        &mut self,
        system: &str,
        header: &Header,
        tails: &Tails,
        settings: &Events,
    ) -> Option<Served> {
        let at = moment(header, settings);
        if !self.judge(system, header, Estimate::default(), &at) {
            self.look = true;
            return None;
        }
        let tail = tails.iter().flatten();
        self.rows += tail.map(|(_, counts, _)| counts.events()).sum::<u64>();
        let state = self.state.as_mut()?;
        if let Some(newest) = state.buckets.take(tails, header.ends, &at) {
            state.identity.candidate = Some(newest);
        }
        self.unsaved = true;
        let served = self.serve(settings)?;
        if let Some(state) = &mut self.state {
            state.buckets.shorten(header.ends, &at, false);
        }
        Some(served)
    }

    /// Whether what is known is of this database still; else it begins anew.
    fn judge(&mut self, system: &str, header: &Header, estimate: Estimate, at: &Moment) -> bool {
        let Some(state) = &mut self.state else {
            self.begin(system, header, planner(estimate), at);
            return false;
        };
        let mut verdict = state.identity.judge(system, header);
        if matches!(verdict, Verdict::Same | Verdict::Dirty) && state.buckets.is_beyond(header.ends)
        {
            verdict = Verdict::Diverged("the stream of events ends earlier than it did");
        }
        match verdict {
            Verdict::Same => true,
            Verdict::Dirty => {
                state.buckets.soil();
                true
            }
            Verdict::Diverged(why) => {
                tracing::warn!("all events are counted anew: {why}");
                let earlier = state.clone();
                let guess = Guess::Earlier(earlier.counts());
                self.begin(system, header, guess, at);
                if let Some(state) = &mut self.state {
                    state.buckets.inherit(&earlier.buckets);
                }
                false
            }
            Verdict::Other => {
                tracing::info!("the count of events was another database's, and begins anew");
                self.begin(system, header, planner(estimate), at);
                false
            }
        }
    }

    fn begin(&mut self, system: &str, header: &Header, guess: Guess, at: &Moment) {
        self.generation += 1;
        self.filled = (0, 0.0);
        self.state = Some(State {
            identity: Identity {
                system: system.to_owned(),
                database: header.database,
                relation: header.relation,
                timeline: header.timeline,
                lsn: header.lsn,
                deleted: header.deleted,
                stats_reset: header.stats_reset.clone(),
                fingerprint: None,
                candidate: None,
            },
            buckets: Buckets::new(header.ends, at),
            guess,
        });
    }

    fn earn(&mut self, share: f64) {
        let earned = std::mem::replace(&mut self.earned, Instant::now()).elapsed();
        let most = SLICE.as_secs_f64();
        self.budget = (self.budget + share * earned.as_secs_f64()).min(most);
    }

    fn task(&mut self, settings: &Events) -> Option<Task> {
        let (count, total) = (self.count_span, self.total_span);
        let turn = millis(settings.recount);
        let state = self.state.as_mut().filter(|_| !self.look)?;
        state.buckets.next(now(), turn, |what| match what {
            What::Fill | What::Recount => count,
            What::Verify => total,
        })
    }

    /// Statements span twice as much while they are short, and half as much once they are long.
    fn pace(&mut self, task: &Task, took: Duration, ended: bool) {
        let span = match task.what {
            What::Fill | What::Recount => &mut self.count_span,
            What::Verify => &mut self.total_span,
        };
        let whole = task.to - task.from >= *span;
        *span = match ended {
            false => *span / 8,
            true if took > AIM * 3 / 2 => *span / 2,
            true if took < AIM / 2 && whole => *span * 2,
            true => *span,
        };
        *span = (*span).clamp(SPAN_LEAST, SPAN_MOST);
    }

    fn done(
        &mut self,
        task: &Task,
        counts: Counts,
        newest: Option<u64>,
        begun: u64,
        took: Duration,
    ) {
        self.rows += counts.events();
        self.unsaved = true;
        let Some(state) = &mut self.state else { return };
        state.buckets.done(task, counts, begun);
        if task.what == What::Fill {
            self.filled.0 += task.to - task.from;
            self.filled.1 += took.as_secs_f64();
        }
        if task.origin == ORIGINS[0]
            && state.identity.fingerprint.is_none()
            && let Some(newest) = newest
        {
            state.identity.candidate = Some(newest);
        }
    }

    fn serve(&self, settings: &Events) -> Option<Served> {
        let state = self.state.as_ref()?;
        let buckets = &state.buckets;
        let (span, uncounted) = (buckets.span(), buckets.uncounted());
        let (filled, seconds) = self.filled;
        let remaining = match uncounted {
            0 => Some(0.0),
            _ if filled == 0 => None,
            left => Some(left as f64 * seconds / filled as f64 / settings.share),
        };
        Some(Served {
            counts: state.counts(),
            added: ORIGINS.map(|origin| buckets.line(origin).added),
            exact: buckets.is_exact(),
            ratio: match span {
                0 => 1.0,
                span => 1.0 - uncounted as f64 / span as f64,
            },
            remaining,
            buckets: buckets.number(),
            dirty: buckets.dirty(),
            verified: buckets.verified().map(|at| at as f64 / 1000.0),
            rows: self.rows,
        })
    }
}

impl State {
    /// What was counted; where not all is, as much as can be told.
    fn counts(&self) -> [[Option<f64>; KINDS.len()]; 2] {
        let counted = ORIGINS.map(|origin| self.buckets.line(origin).counts());
        let left = ORIGINS.map(|origin| self.buckets.line(origin).uncounted());
        let all_left: u64 = left.iter().sum();
        let known = |counts: Counts| counts.0.map(|count| Some(count as f64));
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

impl Identity {
    fn is_of(&self, system: &str, header: &Header) -> bool {
        (self.system.as_str(), self.database, self.relation)
            == (system, header.database, header.relation)
    }

    /// Compares what is known with what is true now, and takes it in.
    fn judge(&mut self, system: &str, header: &Header) -> Verdict {
        if !self.is_of(system, header) {
            return Verdict::Other;
        }
        if self.timeline != header.timeline {
            return Verdict::Diverged("the server is on another timeline");
        }
        if header.lsn < self.lsn {
            return Verdict::Diverged("the server is at an earlier position of its WAL");
        }
        let deleted = self.deleted != header.deleted || self.stats_reset != header.stats_reset;
        let mut gone = false;
        if let Some(known) = self.fingerprint {
            gone = header.events[0].is_none();
            if header.events[0].is_some_and(|event| event != known) {
                return Verdict::Diverged("another event is where one was counted");
            }
        }
        if gone || header.events[1].is_some() {
            self.fingerprint = header.events[1];
        }
        self.lsn = header.lsn;
        self.deleted = header.deleted;
        self.stats_reset.clone_from(&header.stats_reset);
        match deleted || gone {
            true => Verdict::Dirty,
            false => Verdict::Same,
        }
    }
}

fn write(path: &Path, state: &State) {
    if let Err(error) = keep::save(path, state) {
        let path = path.display();
        tracing::warn!("cannot keep the count of events in {path}: {error}");
    }
}

fn planner(estimate: Estimate) -> Guess {
    Guess::Planner {
        rows: estimate.rows,
        shares: estimate.shares,
    }
}

fn moment(header: &Header, settings: &Events) -> Moment {
    Moment {
        now: now(),
        xmin: header.xmin,
        xmax: header.xmax,
        settle: millis(settings.settle),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
