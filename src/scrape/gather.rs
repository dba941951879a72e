//! What a scrape runs itself, and what it takes from memory.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout_at;
use tracing::Instrument;

use super::collector::{CollectorState, Gathered, Outcome, Place, Unit, Until};
use super::queue::Queue;
use super::reach::Unanswered;
use super::target::Target;
use crate::query::{Context, Harvest, Reason, Scope};
use crate::server::{Facts, Installation, Purpose};

/// A collector to run, where, and what is there.
type Run = (Arc<CollectorState>, Place, Option<Arc<Installation>>);

impl Target {
    /// Runs what is asked in every scrape, starts what is due, and takes the rest from memory.
    pub async fn gather(
        self: &Arc<Self>,
        facts: &Arc<Facts>,
        collectors: &[Arc<CollectorState>],
        started: Instant,
        deadline: Instant,
    ) -> Vec<Gathered> {
        let unseen = self.start_due(collectors);
        let runs = self.foreground(collectors).into_iter();
        let runs = runs.map(|(collector, place, application)| async move {
            let unit = collector.unit(&place, &self.settings);
            let mut since = started;
            let outcome = loop {
                let longest = self.longest_deadline(deadline);
                let awaited = unit.cell.clone().get(since, || {
                    let of = (collector.clone(), place.clone(), unit.clone());
                    self.clone()
                        .run(facts.clone(), of, application.clone(), longest)
                });
                match timeout_at(deadline.into(), awaited).await {
                    // A scrape with less patience may have ended the run: this one asks again.
                    Ok(harvest) if harvest.was_hasty(deadline) => since = Instant::now(),
                    Ok(harvest) => break Outcome::Fresh(harvest),
                    Err(_) => break Outcome::Missing(Reason::Deadline),
                }
            };
            Gathered {
                collector,
                place,
                outcome,
            }
        });
        let runs = join_all(runs.collect::<Vec<_>>());
        let first_visits = timeout_at(deadline.into(), self.queue.ended(&unseen));
        let (mut gathered, _) = tokio::join!(runs, first_visits);
        let remembered = self.remembered(collectors, &gathered);
        gathered.extend(remembered);
        gathered
    }

    /// Leaves to the background what is due in it; returns the databases that it has never worked
    /// on, if anything of what is asked comes from there.
    fn start_due(self: &Arc<Self>, collectors: &[Arc<CollectorState>]) -> BTreeSet<Arc<str>> {
        let from_memory = |one: &Arc<CollectorState>| {
            let remembers = !one.ttl.is_zero() || one.plan.collector.source.is_some();
            one.scope() != Scope::Server || remembers
        };
        if !collectors.iter().any(from_memory) {
            return BTreeSet::new();
        }
        let memory = self.memory.lock();
        let interval = self.settings.server.databases.interval;
        let mut due: Vec<(bool, Arc<str>)> = Vec::new();
        for (name, known) in &memory.databases {
            let unvisited = known.visited.is_none_or(|at| at.elapsed() >= interval);
            let warm = self.connections.is_warm(name);
            let is_due = |collector: &Arc<CollectorState>| {
                let place = collector.place_in(name, &memory.home, known);
                place.is_some_and(|place| {
                    collector.is_due(&place, warm) || collector.has_work(&place)
                })
            };
            if unvisited || collectors.iter().any(is_due) {
                // What was never seen goes first.
                due.push((known.visited.is_some(), name.clone()));
            }
        }
        drop(memory);
        due.sort();
        let unseen = due.iter().filter(|(seen, _)| !seen);
        let unseen = unseen.map(|(_, name)| name.clone()).collect();
        Queue::enqueue(self, due.into_iter().map(|(_, name)| name));
        unseen
    }

    /// What runs in the scrape itself: collectors without a TTL, in the warm databases.
    fn foreground(&self, collectors: &[Arc<CollectorState>]) -> Vec<Run> {
        let memory = self.memory.lock();
        let mut runs = Vec::new();
        for collector in collectors.iter().filter(|one| one.ttl.is_zero()) {
            if collector.scope() == Scope::Server {
                runs.push((collector.clone(), Place::Server, None));
                continue;
            }
            for (name, known) in &memory.databases {
                let place = collector.place_in(name, &memory.home, known);
                if let Some(place) = place.filter(|_| self.connections.is_warm(name)) {
                    let application = known.installation(collector.scope());
                    runs.push((collector.clone(), place, application.cloned()));
                }
            }
        }
        runs
    }

    /// One run of a collector in one place, to be shared.
    fn run(
        self: Arc<Self>,
        facts: Arc<Facts>,
        (collector, place, unit): (Arc<CollectorState>, Place, Arc<Unit>),
        application: Option<Arc<Installation>>,
        deadline: Instant,
    ) -> BoxFuture<'static, Harvest> {
        async move {
            let database = match &place {
                Place::Database(database) => database.clone(),
                Place::Server => self.memory.lock().home.clone(),
            };
            let work = async {
                let leased = self
                    .connections
                    .lease_of(&facts, &database, Purpose::Scrape);
                let mut lease = match leased.await {
                    Ok(lease) => lease,
                    Err(error) => {
                        let error = Unanswered::from(error);
                        return Harvest::skipped(error.reason(), error.to_string());
                    }
                };
                let now = Instant::now();
                let pause = now + deadline.saturating_duration_since(now) / 2;
                let until = Until { pause, deadline };
                let application = application.as_deref();
                let of = (&*collector, &place, &*unit);
                lease
                    .run(async |client| self.harvest(client, &facts, of, application, until).await)
                    .await
            };
            let work = work.instrument(self.span_of(&place));
            let work = AssertUnwindSafe(work).catch_unwind();
            let mut harvest = match timeout_at(deadline.into(), work).await {
                Ok(Ok(harvest)) => harvest,
                Ok(Err(_)) => Harvest::skipped(Reason::Error, "the collector panicked"),
                Err(_) => Harvest::skipped(
                    Reason::Deadline,
                    "it was not finished when the scrape had to answer",
                ),
            };
            harvest.deadline = Some(deadline);
            harvest
        }
        .boxed()
    }

    /// Runs a collector in one place on this connection, and keeps account of it.
    pub async fn harvest(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        (collector, place, unit): (&CollectorState, &Place, &Unit),
        application: Option<&Installation>,
        until: Until,
    ) -> Harvest {
        let previous = unit.cell.latest().map(|(_, harvest)| harvest);
        let context = Context {
            keep: collector.keeps(previous.as_deref()),
            ..self.context(facts, (collector, place), application, until)
        };
        let run = unit.source.run(client, &context, previous.as_deref());
        let mut harvest = run.await;
        let bytes = harvest.snapshot.page_bytes();
        let owner_of = |name: &str| self.connections.owner(name);
        let name = collector.name();
        if !self.room.lock().take(name, place, bytes, owner_of) {
            let sentence = format!(
                "its {} series are dropped: a server may fill {} MiB of the page, and the \
                 databases of one owner half of what the others leave; servers.{}.page_mib raises \
                 the limit",
                harvest.snapshot.series(),
                self.settings.server.page >> 20,
                self.name()
            );
            let (cost, spent) = (harvest.cost, harvest.spent);
            harvest = Harvest::skipped(Reason::SeriesLimit, sentence);
            (harvest.cost, harvest.spent) = (cost, spent);
        }
        for skip in &harvest.skipped {
            tracing::debug!(collector = %name, reason = %skip.reason, "{}", skip.message);
        }
        collector.account(harvest.cost);
        harvest
    }

    /// What a run knows of the server and the place.
    pub fn context<'a>(
        &'a self,
        facts: &'a Facts,
        (collector, place): (&CollectorState, &Place),
        application: Option<&'a Installation>,
        until: Until,
    ) -> Context<'a> {
        Context {
            system: &facts.system_identifier,
            version: facts.version,
            standby: facts.standby,
            archiver: facts.archiver,
            settings_off: &facts.settings_off,
            database: place.database().cloned(),
            tables: application.map(|found| &found.tables),
            views: &facts.views,
            deadline: until.deadline,
            pause: until.pause,
            keep: Duration::ZERO,
            statement_cap: self.settings.statement_cap,
            limit: collector.limit,
            cache: &self.cache,
        }
    }

    /// What earlier runs have left of these collectors, in the databases that are still there.
    fn remembered(
        &self,
        collectors: &[Arc<CollectorState>],
        gathered: &[Gathered],
    ) -> Vec<Gathered> {
        let seen: BTreeSet<_> = gathered
            .iter()
            .map(|one| (one.collector.name(), &one.place))
            .collect();
        let memory = self.memory.lock();
        let mut remembered = Vec::new();
        for collector in collectors {
            let mut push = |place, outcome| {
                remembered.push(Gathered {
                    collector: collector.clone(),
                    place,
                    outcome,
                });
            };
            for (name, known) in &memory.databases {
                let Some(place) = collector.place_in(name, &memory.home, known) else {
                    continue;
                };
                if seen.contains(&(collector.name(), &place)) {
                    continue;
                }
                let warm = self.connections.is_warm(name);
                let latest = collector.latest(&place);
                let latest = latest.filter(|(at, harvest)| collector.is_fresh(*at, harvest, warm));
                let outcome = match (latest, &known.failure) {
                    (Some((_, harvest)), _) => Outcome::Remembered(harvest),
                    (None, Some((reason, _))) => Outcome::Missing(*reason),
                    // It has been seen, only not with this collector: the next scrape has it.
                    (None, None) if known.visited.is_some() && !warm => continue,
                    // It is being read in the background.
                    (None, None) => Outcome::Missing(Reason::Deadline),
                };
                push(place, outcome);
            }
            let facts = memory.facts.iter();
            let facts = facts.filter(|_| collector.scope() == Scope::Database);
            for database in facts.flat_map(|facts| &facts.databases) {
                if !memory.databases.contains_key(&*database.name) {
                    let place = Place::Database(database.name.as_str().into());
                    push(place, Outcome::Missing(Reason::DatabaseSkipped));
                }
            }
        }
        remembered
    }
}
