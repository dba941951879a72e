//! What goes on in the background.
//!
//! A database that is not kept warm is visited by a short connection; what a collector serves
//! from memory is refreshed. A scrape finds what is due and leaves it to the queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout_at;
use tracing::Instrument;

use super::collector::{Place, Until, rest_after};
use super::memory::Known;
use super::queue::{Queue, Work};
use super::reach::Unanswered;
use super::target::Target;
use crate::query::{QueryError, Reason};
use crate::server::{Facts, Owner, Purpose};

/// How long the work on one database may take.
const JOB_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to walk through tables before other databases have their turn.
const TURN: Duration = Duration::from_secs(5);

impl Work for Target {
    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn owner(&self, database: &str) -> Owner {
        self.connections.owner(database)
    }

    fn work_on<'a>(&'a self, database: &'a Arc<str>) -> BoxFuture<'a, bool> {
        let span = self.span_of(&Place::Database(database.clone()));
        let refresh = self.refresh(database, Instant::now() + JOB_LIMIT);
        refresh.instrument(span).boxed()
    }
}

impl Target {
    /// The background work on one database: what is in it, and every value that is due. Says
    /// whether there is more to do when others have had their turn.
    async fn refresh(&self, database: &Arc<str>, deadline: Instant) -> bool {
        let facts = self.memory.lock().facts.clone();
        let (Some(facts), Some(known)) =
            (facts, self.memory.lock().databases.get(database).cloned())
        else {
            return false;
        };
        let work = async {
            let mut lease = self
                .connections
                .lease_of(&facts, database, Purpose::Background)
                .await?;
            let paused = lease
                .run(async |client| self.refresh_on(client, &facts, database, deadline).await)
                .await?;
            Ok::<_, Unanswered>(paused)
        };
        let work = AssertUnwindSafe(work).catch_unwind();
        let mut paused = false;
        let failure = match timeout_at(deadline.into(), work).await {
            Ok(Ok(Ok(more))) => {
                paused = more;
                None
            }
            Ok(Ok(Err(error))) => Some((error.reason(), error.to_string())),
            Ok(Err(_)) => Some((Reason::Error, "a collector panicked".to_owned())),
            Err(_) => Some((Reason::Deadline, "it took too long".to_owned())),
        };
        if let Some((reason, message)) = &failure
            && known.failure.as_ref() != failure.as_ref()
        {
            tracing::warn!(%reason, "could not read the database: {message}");
        }
        let mut memory = self.memory.lock();
        if let Some(entry) = memory.databases.get_mut(database)
            && entry.oid == known.oid
        {
            entry.visited = Some(Instant::now());
            entry.failure = failure;
        }
        paused
    }

    /// Asks what the role may do, if it is time to.
    async fn find_rights(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        database: &Arc<str>,
    ) -> Result<(), QueryError> {
        let is_due = {
            let memory = self.memory.lock();
            let known = memory.databases.get(database);
            known.is_some_and(|known| known.rights.are_due())
        };
        if !is_due {
            return Ok(());
        }
        let asked = Instant::now();
        let found = self
            .rights
            .run(client, facts.version, self.settings.statement_cap)
            .await;
        if let Err(error) = &found {
            tracing::debug!("could not read the role's privileges: {error}");
        }
        match found {
            Err(error) if error.reason() == Reason::Connection => Err(error),
            found => {
                let interval = self.settings.server.databases.interval;
                let rest = interval.max(rest_after(asked.elapsed()));
                if let Some(known) = self.memory.lock().databases.get_mut(database) {
                    known.rights.take(found, rest);
                }
                Ok(())
            }
        }
    }

    async fn refresh_on(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        database: &Arc<str>,
        deadline: Instant,
    ) -> Result<bool, QueryError> {
        let until = Until {
            pause: Instant::now() + TURN,
            deadline,
        };
        let warm = self.connections.is_warm(database);
        let cap = self.settings.statement_cap;
        let found = self.search.run(client, facts.version, cap).await?;
        let applications: Vec<_> = found.into_iter().map(Arc::new).collect();
        self.find_rights(client, facts, database).await?;
        let (home, known) = {
            let mut memory = self.memory.lock();
            let Some(entry) = memory.databases.get_mut(database) else {
                return Ok(false);
            };
            if entry.applications != applications {
                let names = applications.iter().map(ToString::to_string);
                let names = names.collect::<Vec<_>>().join(", ");
                entry.applications = applications;
                for collector in &self.collectors {
                    collector.ask_again(database);
                }
                let application = if names.is_empty() { "none" } else { &names };
                tracing::info!(
                    application,
                    "checked the database for an application's tables"
                );
            }
            let known = entry.clone();
            (memory.home.clone(), known)
        };
        // What a first visit finds is read at once; after that, the scrapes do. They may have passed
        // it over, as an application was not known yet when they began, or the database was not warm,
        // which that of the DSN always is.
        let seen = known.visited.is_some();
        let mut due = Vec::new();
        for collector in &self.collectors {
            let Some(place) = collector.place_in(database, &home, &known) else {
                continue;
            };
            let by_scrapes = seen || *database == home && collector.scope().application().is_none();
            if collector.is_on() && collector.is_due(&place, warm && by_scrapes) {
                let last = collector.latest(&place).map(|(at, _)| at);
                due.push((collector.plan.collector.walks(), last, collector, place));
            }
        }
        // What may take long comes last, and there what was not read for longest comes first.
        due.sort_by_key(|(walks, last, ..)| walks.then_some(*last));
        let mut paused = false;
        for (walks, _, collector, place) in due {
            paused |= walks && Instant::now() >= until.pause;
            if paused {
                break;
            }
            let unit = collector.unit(&place, &self.settings);
            let application = known.installation(collector.scope());
            let harvest = self
                .harvest(
                    client,
                    facts,
                    (collector, &place, &unit),
                    application.map(|found| &**found),
                    until,
                )
                .await;
            let broken = harvest
                .skipped
                .iter()
                .find(|skip| skip.reason == Reason::Connection)
                .map(|skip| QueryError::Broken(skip.message.clone()));
            paused = harvest.paused;
            match broken {
                Some(broken) => return Err(broken),
                // The last value stays due.
                None if paused => (),
                None => unit.cell.set(Arc::new(harvest)),
            }
        }
        self.keep_warm();
        self.work_behind(client, facts, (database, &home, &known), until)
            .await?;
        Ok(paused)
    }

    /// Lets sources that run in the database work for a while. What fails is tried again the next time.
    async fn work_behind(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        (database, home, known): (&Arc<str>, &str, &Known),
        until: Until,
    ) -> Result<(), QueryError> {
        for collector in self.collectors.iter().filter(|one| one.is_on()) {
            let place = collector.place_in(database, home, known);
            let unit = place.and_then(|place| Some((collector.known(&place)?, place)));
            let Some((unit, place)) = unit.filter(|(unit, _)| unit.source.is_due()) else {
                continue;
            };
            let application = known.installation(collector.scope());
            let application = application.map(|found| &**found);
            let context = self.context(facts, (collector, &place), application, until);
            let others_wait = || self.queue.others_wait();
            let (cost, worked) = unit.source.work(client, &context, &others_wait).await;
            collector.account(cost);
            match worked {
                Err(error) if error.reason() == Reason::Connection => return Err(error),
                Err(error) => {
                    let collector = collector.name();
                    tracing::debug!(%collector, "{error}");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}
