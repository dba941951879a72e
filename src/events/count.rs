//! The count of one database: when what is asked, and what is true of the answer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use tracing::Span;

use super::buckets::{Buckets, Exchanged, Task, What};
use super::counts::{Counts, Moment, ORIGINS};
use super::identity::{Identity, Verdict};
use super::pace::Pace;
use super::proof::Proof;
use super::served::Served;
use super::settings::Settings;
use super::state::{Guess, State, known};
use super::survey::{Estimate, Header, Survey, Tails};
use crate::query::message::timeout_step;
use crate::query::{Context, QueryError, Reason, Version};
use crate::state_file::StateFile;

/// No statement of ours takes longer.
const HARD_STOP: Duration = Duration::from_secs(1);

/// From this version on, a session reports what it did when it has had no work for ten seconds.
const REPORTING: Version = Version(150_000);

/// The connection pauses between two statements as long as the first took, but no longer.
const REST: Duration = Duration::from_millis(100);

/// How often the count is written to its file.
const SAVE: Duration = Duration::from_secs(300);

/// The count of one database, for scrapes and for the work behind them.
#[derive(Debug)]
pub struct Count {
    settings: Settings,
    file: Option<StateFile>,
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
    /// Another event is where one was counted.
    exchanged: bool,
    /// Rises with every state that has nothing to do with the last.
    generation: u64,
    proof: Proof,
    pace: Pace,
    /// Positions that the work counted for the first time, and the seconds that took.
    filled: (u64, f64),
    rows: u64,
    saved: Instant,
    unsaved: bool,
}

impl Count {
    /// A count that begins, or goes on where its file says.
    pub fn new(settings: &Settings, file: Option<StateFile>) -> Self {
        Self {
            file,
            settings: settings.clone(),
            turn: tokio::sync::Mutex::default(),
            inner: Mutex::new(Inner {
                state: None,
                look: true,
                shorten: false,
                loaded: false,
                exchanged: false,
                generation: 0,
                proof: Proof::default(),
                pace: Pace::default(),
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
        context: &Context<'_>,
    ) -> Result<Served, QueryError> {
        let _turn = self.turn.lock().await;
        self.load();
        let system = context.system;
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
            let (reporting, before) = (context.version >= REPORTING, Instant::now());
            let found = survey.tails(events, &pieces, reporting).await;
            let mut inner = self.inner();
            match found {
                Ok((header, tails)) => {
                    inner.follow(system, &header)?;
                    let open = (reporting && header.reported).then_some(&tails.open);
                    inner.proof.look(open, before);
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

    /// Whether there is work to do in the background, and time for it.
    pub fn is_due(&self) -> bool {
        let mut inner = self.inner();
        let has_time = inner.pace.has_time(self.settings.share);
        self.is_save_due(&inner) || has_time && inner.task(&self.settings).is_some()
    }

    /// Works for as long as it may, or until somebody else waits.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn work(
        &self,
        survey: &mut Survey<'_>,
        others_wait: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), QueryError> {
        survey.timeout = timeout_step(survey.timeout.min(HARD_STOP));
        loop {
            let task = {
                let mut inner = self.inner();
                let has_time = inner.pace.has_time(self.settings.share);
                let task = has_time.then(|| inner.task(&self.settings));
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
                inner.pace.took(&task, took, found.is_ok());
                if task.what == What::Verify {
                    inner.proof.took(took);
                }
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
            && let Some((file, state)) = self.unsaved()
        {
            let span = Span::current();
            let written = move || span.in_scope(|| write(&file, &state));
            // The next interval tries again.
            let _ = tokio::task::spawn_blocking(written).await;
        }
        Ok(())
    }

    /// Writes the count to its file, if it has one.
    pub fn save(&self) {
        if let Some((file, state)) = self.unsaved() {
            write(&file, &state);
        }
    }

    fn unsaved(&self) -> Option<(StateFile, State)> {
        let file = self.file.clone()?;
        let mut inner = self.inner();
        inner.saved = Instant::now();
        let unsaved = std::mem::take(&mut inner.unsaved);
        let state = inner.state.as_ref().filter(|_| unsaved)?;
        Some((file, state.clone()))
    }

    fn is_save_due(&self, inner: &Inner) -> bool {
        self.file.is_some() && inner.unsaved && inner.saved.elapsed() >= SAVE
    }

    fn load(&self) {
        let Some(file) = &self.file else { return };
        if std::mem::replace(&mut self.inner().loaded, true) {
            return;
        }
        match file.load() {
            Ok(state) => self.inner().go_on(state),
            Err(unusable) => tracing::warn!("the count of events starts over: {unusable}"),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    /// Whether to look first, which events to ask for, and where the pieces of the tails begin.
    fn question(&self) -> (bool, [Option<u64>; 2], [Vec<u64>; 2]) {
        let Some(state) = &self.state else {
            return (true, [None; 2], Default::default());
        };
        let pieces = |origin| state.buckets.line(origin).pieces();
        (self.look, state.identity.events(), ORIGINS.map(pieces))
    }

    /// Lets a standby catch up that was restarted, or that the exporter has come to from another
    /// server: its history is the same.
    fn follow(&self, system: &str, header: &Header) -> Result<(), QueryError> {
        let identity = self.state.as_ref().map(|state| &state.identity);
        let behind = identity.is_some_and(|known| known.is_ahead_of(system, header));
        match behind {
            false => Ok(()),
            true => Err(QueryError::Unavailable(
                Reason::RecoveryConflict,
                "the standby has not yet replayed what was counted before".to_owned(),
            )),
        }
    }

    /// What is known goes on from here, or begins.
    fn looked(&mut self, system: &str, header: &Header, estimate: Estimate, settings: &Settings) {
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
            self.proof.doubt();
        }
        state.shorten(header.ends, &at, all);
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
        settings: &Settings,
    ) -> Option<Served> {
        let at = moment(header, settings);
        if !self.judge(system, header, Estimate::default(), &at) {
            self.look = true;
            return None;
        }
        let tail = tails.pieces.iter().flatten();
        self.rows += tail.map(|(_, counts, _)| counts.events()).sum::<u64>();
        let state = self.state.as_mut()?;
        state.buckets.is_not_after(at.now);
        if let Some(newest) = state.buckets.take(&tails.pieces, header.ends, &at) {
            state.identity.propose(newest);
        }
        if header.reported && state.has_more(header.counters.inserted, at.now) {
            self.proof.doubt();
        }
        let proven = self.proof.take(&state.buckets, tails.at, at.now);
        state.proven = proven.or_else(|| state.proven.take());
        self.unsaved = true;
        let served = self.serve(settings, tails.at)?;
        if let Some(state) = &mut self.state {
            state.shorten(header.ends, &at, false);
        }
        Some(served)
    }

    /// Whether what is known is of this database still; else it starts over.
    fn judge(&mut self, system: &str, header: &Header, estimate: Estimate, at: &Moment) -> bool {
        let Some(state) = &mut self.state else {
            self.begin(system, header, estimate.into(), at);
            return false;
        };
        let mut verdict = match std::mem::take(&mut self.exchanged) {
            true => Verdict::Diverged("events at counted positions were replaced by others"),
            false => state.identity.judge(system, header, at.now),
        };
        let ours = !matches!(verdict, Verdict::Diverged(_) | Verdict::Other);
        if ours && state.buckets.is_beyond(header.ends) {
            verdict = Verdict::Diverged("the event stream ends at an earlier position than before");
        }
        match verdict {
            Verdict::Same => return true,
            Verdict::Dirty => {}
            Verdict::Gone { position, seen } => state.buckets.suspect(position, seen),
            Verdict::Moved => {
                tracing::info!(
                    "the server is on another timeline: the count of events is verified"
                );
                state.buckets.distrust_recent_backfill(at.now);
                state.proven = None;
                self.proof.forget();
            }
            Verdict::Diverged(why) => {
                tracing::warn!("all events are counted again: {why}");
                let earlier = state.clone();
                let guess = Guess::Earlier(earlier.counts());
                self.begin(system, header, guess, at);
                if let Some(state) = &mut self.state {
                    state.buckets.inherit(&earlier.buckets);
                }
                return false;
            }
            Verdict::Other => {
                tracing::info!(
                    "the stored count of events is of another database; counting \
                                starts over"
                );
                self.begin(system, header, estimate.into(), at);
                return false;
            }
        }
        state.buckets.soil();
        self.proof.doubt();
        true
    }

    fn begin(&mut self, system: &str, header: &Header, guess: Guess, at: &Moment) {
        self.generation += 1;
        self.filled = (0, 0.0);
        self.proof.forget();
        self.state = Some(State {
            identity: Identity::new(system, header),
            buckets: Buckets::new(header.ends, at),
            guess,
            ahead: None,
            proven: None,
        });
    }

    /// Goes on where an earlier run of the program has ended.
    fn go_on(&mut self, state: Option<State>) {
        if state.as_ref().is_some_and(|state| state.proven.is_some()) {
            self.proof.goes_on();
        }
        self.state = state;
    }

    fn task(&mut self, settings: &Settings) -> Option<Task> {
        let turn = millis(settings.recount);
        let state = self.state.as_mut().filter(|_| !self.look)?;
        let proof = self.proof.round(&state.buckets, settings.max_age);
        let pace = &self.pace;
        let buckets = &mut state.buckets;
        buckets.next(now(), turn, proof, |what| pace.span(what))
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
        let added = state.buckets.added();
        self.exchanged |= state.buckets.done(task, counts, begun) == Err(Exchanged);
        if state.buckets.take_fewer() && self.proof.trusts_reports() {
            tracing::info!(
                "events were deleted that no session has reported: all ranges are compared again"
            );
            state.buckets.soil();
            self.proof.doubt();
        }
        // Those that were late are no longer missing.
        let found = state.buckets.added() - added;
        state.ahead = state.ahead.map(|ahead| ahead - found.cast_signed());
        if task.what == What::Fill {
            self.filled.0 += task.to - task.from;
            self.filled.1 += took.as_secs_f64();
        }
        if task.origin == ORIGINS[0]
            && !state.identity.is_known()
            && let Some(newest) = newest
        {
            state.identity.propose(newest);
        }
    }

    /// What was proven, if that was not long before `at`; else what is known at this moment.
    fn serve(&self, settings: &Settings, at: u64) -> Option<Served> {
        let state = self.state.as_ref()?;
        let proven = state.proven.as_ref().filter(|proven| {
            let age = at.checked_sub(proven.at).map(Duration::from_micros);
            age.is_some_and(|age| age <= settings.max_age)
        });
        let buckets = &state.buckets;
        let (span, uncounted) = (buckets.span(), buckets.uncounted());
        let (filled, seconds) = self.filled;
        let remaining = match uncounted {
            0 => Some(0.0),
            _ if filled == 0 => None,
            left => Some(left as f64 * seconds / filled as f64 / settings.share),
        };
        Some(Served {
            counts: proven.map_or_else(|| state.counts(), |proven| proven.counts.map(known)),
            as_of: proven.map(|proven| proven.at as f64 / 1e6),
            added: ORIGINS.map(|origin| buckets.line(origin).added),
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

fn write(file: &StateFile, state: &State) {
    if let Err(error) = file.save(state) {
        tracing::warn!("cannot store the count of events in {file}: {error}");
    }
}

fn moment(header: &Header, settings: &Settings) -> Moment {
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
