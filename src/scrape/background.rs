//! What goes on behind the scrapes.
//!
//! A database that is not kept warm is visited by a short connection; what a collector serves
//! from memory is refreshed. A scrape finds what is due and leaves it here. One database is
//! worked on at a time, so that the budget always leaves a connection to a scrape. The owners of
//! databases take turns, so that one with many slow databases holds up nobody else for longer than one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::gather::{Until, rest_after};
use super::reach::Unanswered;
use super::target::Target;
use crate::query::{QueryError, Reason, Scope};
use crate::server::{Application, Facts, Owner, Purpose, Rights};

/// How long the work on one database may take.
const JOB_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to walk through tables before other databases have their turn.
const TURN: Duration = Duration::from_secs(5);

/// The databases that wait for their turn.
pub struct Background {
    queue: Mutex<Queue>,
    /// Changes whenever the work on a database has ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
pub struct Queue {
    databases: VecDeque<String>,
    /// Those that have had their turn and are not done; they go on when no other waits.
    paused: VecDeque<String>,
    /// When the work on a database of each owner last ended.
    served: BTreeMap<Owner, Instant>,
    worker: Option<JoinHandle<()>>,
    closed: bool,
}

impl Background {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self {
            queue: Mutex::default(),
            ended: watch::Sender::new(0),
        }
    }

    /// Puts databases at the end of the queue, if they are not in it.
    pub fn enqueue(&self, target: &Arc<Target>, databases: impl IntoIterator<Item = String>) {
        let mut queue = self.queue();
        for database in databases {
            if !queue.databases.contains(&database) {
                queue.databases.push_back(database);
            }
        }
        let working = queue
            .worker
            .as_ref()
            .is_some_and(|worker| !worker.is_finished());
        if !working && !queue.closed && !queue.databases.is_empty() {
            queue.worker = Some(tokio::spawn(work(target.clone())));
        }
    }

    /// Waits until none of these is in the queue any more.
    pub async fn ended(&self, databases: &BTreeSet<String>) {
        let mut ended = self.ended.subscribe();
        while self
            .queue()
            .databases
            .iter()
            .any(|database| databases.contains(database))
        {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends the work that goes on; what is left of it is done when it comes due again.
    pub fn interrupt(&self) {
        if let Some(worker) = self.queue().worker.take() {
            worker.abort();
        }
    }

    /// Ends all work, now.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.databases.clear();
        queue.paused.clear();
        if let Some(worker) = queue.worker.take() {
            worker.abort();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The database that is next: of the owner who has waited longest, the first in the queue.
    fn next(&self, owner: impl Fn(&str) -> Owner) -> Option<String> {
        let served = |database: &&String| self.served.get(&owner(database)).copied();
        let waiting = self.databases.iter().min_by_key(served);
        waiting.or(self.paused.front()).cloned()
    }

    /// Notes that the work on a database has ended, for now if there is more of it.
    fn ended(&mut self, database: String, owner: Owner, paused: bool) {
        self.databases.retain(|other| *other != database);
        self.paused.retain(|other| *other != database);
        if paused {
            self.paused.push_back(database);
        }
        self.served.insert(owner, Instant::now());
    }
}

/// Works through the queue. A database stays in it until the work on it has ended.
async fn work(target: Arc<Target>) {
    loop {
        let background = target.background();
        let next = {
            let mut queue = background.queue();
            let next = queue.next(|name| target.connections.owner(name));
            if next.is_none() {
                // Under the lock, so that whoever adds one sees that nobody works.
                queue.worker = None;
                queue.served.clear();
            }
            next
        };
        let Some(database) = next else { return };
        let deadline = Instant::now() + JOB_LIMIT;
        let paused = target.refresh(&database, deadline).await;
        let owner = target.connections.owner(&database);
        background.queue().ended(database, owner, paused);
        background.ended.send_modify(|count| *count += 1);
    }
}

impl Target {
    /// The background work on one database: what lives in it, and every value that is due. Says
    /// whether there is more to do when others have had their turn.
    pub async fn refresh(&self, database: &str, deadline: Instant) -> bool {
        let facts = self.memory().facts.clone();
        let (Some(facts), Some(known)) = (facts, self.memory().databases.get(database).cloned())
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
            tracing::warn!(database, %reason, "could not visit the database: {message}");
        }
        let mut memory = self.memory();
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
        database: &str,
    ) -> Result<(), QueryError> {
        let due = self
            .memory()
            .databases
            .get(database)
            .is_some_and(|known| known.rights.are_due());
        if !due {
            return Ok(());
        }
        let asked = Instant::now();
        let found = Rights::find(client, facts.version, self.statement_cap).await;
        if let Err(error) = &found {
            tracing::debug!(database, "could not ask what the role may do: {error}");
        }
        match found {
            Err(error) if error.reason() == Reason::Connection => return Err(error),
            found => {
                let rest = self
                    .config
                    .databases
                    .interval
                    .max(rest_after(asked.elapsed()));
                if let Some(known) = self.memory().databases.get_mut(database) {
                    known.rights.take(found, rest);
                }
            }
        }
        Ok(())
    }

    async fn refresh_on(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        database: &str,
        deadline: Instant,
    ) -> Result<bool, QueryError> {
        let until = Until {
            pause: Instant::now() + TURN,
            deadline,
        };
        let warm = self.connections.is_warm(database);
        let application = Application::find(client, facts.version, self.statement_cap).await?;
        let application = application.map(Arc::new);
        self.find_rights(client, facts, database).await?;
        let (home, known, enabled) = {
            let mut memory = self.memory();
            let Some(entry) = memory.databases.get_mut(database) else {
                return Ok(false);
            };
            if entry.application != application {
                entry.application.clone_from(&application);
                self.rest_no_more(database);
                tracing::info!(
                    database,
                    application = application.as_ref().map_or("none", |found| found.name),
                    "looked at the database"
                );
            }
            let known = entry.clone();
            (memory.home.clone(), known, memory.enabled.clone())
        };
        let mut due = Vec::new();
        for plan in self.plans.iter() {
            let Some(key) = self.key_in(plan, database, &home, &known) else {
                continue;
            };
            // What a first visit finds is read at once; after that, the scrapes do.
            let warm = warm && (known.visited.is_some() || plan.scope() != Scope::Synapse);
            if enabled.contains(plan.collector.name) && self.is_due(plan, &key, warm) {
                let unit = self.unit(key.0, &key.1);
                let last = unit.cell.latest().map(|(at, _)| at);
                due.push((plan.walks(), last, plan, key, unit));
            }
        }
        // What may take long comes last, and there what was not read for longest comes first.
        due.sort_by_key(|(walks, last, ..)| walks.then_some(*last));
        let mut paused = false;
        for (walks, _, plan, key, unit) in due {
            paused |= walks && Instant::now() >= until.pause;
            if paused {
                break;
            }
            let (application, unit) = (application.as_deref(), &*unit);
            let harvest = self
                .harvest(client, facts, plan, (&key, unit), application, until)
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
        self.count_on(client, database, application.as_deref(), &enabled)
            .await?;
        Ok(paused)
    }

    /// Lets the counts of the database go on for a while. What fails is tried again the next time.
    async fn count_on(
        &self,
        client: &tokio_postgres::Client,
        database: &str,
        application: Option<&Application>,
        enabled: &BTreeSet<&'static str>,
    ) -> Result<(), QueryError> {
        let others_wait = || self.background.queue().databases.len() > 1;
        for plan in self.plans.iter().filter(|plan| plan.collector.counted) {
            let name = plan.collector.name;
            let unit = self
                .units()
                .get(&(name, Some(database.to_owned())))
                .cloned();
            let Some(count) = unit.as_ref().and_then(|unit| unit.count.as_ref()) else {
                continue;
            };
            let Some(application) = application.filter(|_| enabled.contains(name)) else {
                continue;
            };
            let schema = Some(application.tables.schema.as_str());
            let cap = self.statement_cap;
            let version = self.connections.version();
            let worked = count.work_on(client, version, schema, cap, others_wait);
            let (cost, worked) = worked.await;
            self.account(name, cost);
            match worked {
                Err(error) if error.reason() == Reason::Connection => return Err(error),
                Err(error) => tracing::debug!(collector = name, database, "{error}"),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns() {
        let owner = |name: &str| match name.starts_with('m') {
            true => Owner::Role(16_384),
            false => Owner::Superuser(name.to_owned()),
        };
        let mut queue = Queue {
            databases: ["m1", "m2", "m3", "good"].map(str::to_owned).into(),
            ..Queue::default()
        };
        let mut seen = Vec::new();
        while let Some(next) = queue.next(owner) {
            queue.ended(next.clone(), owner(&next), false);
            // The one comes back as soon as it can.
            if seen.len() < 4 && next == "good" {
                queue.databases.push_back(next.clone());
            }
            seen.push(next);
        }
        assert_eq!(seen, ["m1", "good", "m2", "good", "m3", "good"]);
    }
}
