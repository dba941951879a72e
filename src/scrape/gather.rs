//! What a scrape runs itself, and what it takes from memory.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout_at;

use super::memory::Known;
use super::reach::Unanswered;
use super::target::{Key, Target, Unit, lock};
use crate::events::Count;
use crate::query::{Context, Cost, Harvest, Plan, Reason, Scope};
use crate::server::{Application, Facts, Purpose};

/// A value that could not be refreshed is served until it is this many times its TTL old.
const STALE: u32 = 10;

/// How long before a value that could not be refreshed is tried again, if its TTL is longer.
const RETRY: Duration = Duration::from_secs(30);

/// What walks through tables rests this many times as long as it took, so that it takes a fiftieth of
/// the time at most; but no longer than this.
const REST: u32 = 50;
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// What a scrape has of one collector on one database.
#[derive(Clone)]
pub struct Gathered {
    pub collector: &'static str,
    pub database: Option<String>,
    pub outcome: Outcome,
}

#[derive(Clone)]
pub enum Outcome {
    /// Read by this scrape, or for it.
    Fresh(Arc<Harvest>),
    /// Read earlier.
    Remembered(Arc<Harvest>),
    /// Nothing.
    Missing(Reason),
}

/// How long a run may take.
#[derive(Clone, Copy)]
pub struct Until {
    /// From then on it had better pause.
    pub pause: Instant,
    /// Then it is over.
    pub deadline: Instant,
}

/// A collector to run, the database, and what lives there.
type Run = (Arc<Plan>, Option<String>, Option<Arc<Application>>);

impl Target {
    /// Runs what is asked in every scrape, starts what is due, and takes the rest from memory.
    pub async fn gather(
        self: &Arc<Self>,
        facts: &Arc<Facts>,
        plans: &[Arc<Plan>],
        started: Instant,
        deadline: Instant,
    ) -> Vec<Gathered> {
        let unseen = self.start_due(plans);
        let longest = self.longest_deadline(deadline);
        let runs: Vec<_> = self
            .foreground(plans)
            .into_iter()
            .map(|(plan, database, application)| {
                let unit = self.unit(plan.collector.name, &database);
                let name = plan.collector.name;
                let awaited = unit.cell.clone().get(started, || {
                    self.clone().run(
                        facts.clone(),
                        plan,
                        unit,
                        database.clone(),
                        application,
                        longest,
                    )
                });
                async move {
                    let outcome = match timeout_at(deadline.into(), awaited).await {
                        Ok(harvest) => Outcome::Fresh(harvest),
                        Err(_) => Outcome::Missing(Reason::Deadline),
                    };
                    Gathered {
                        collector: name,
                        database,
                        outcome,
                    }
                }
            })
            .collect();
        let first_visits = timeout_at(deadline.into(), self.background.ended(&unseen));
        let (mut gathered, _) = tokio::join!(join_all(runs), first_visits);
        let seen: BTreeSet<Key> = gathered
            .iter()
            .map(|one| (one.collector, one.database.clone()))
            .collect();
        gathered.extend(self.remembered(plans, &seen));
        gathered
    }

    /// Leaves to the background what is due in it; returns the databases that it has never worked
    /// on, if anything of what is asked comes from there.
    pub fn start_due(self: &Arc<Self>, plans: &[Arc<Plan>]) -> BTreeSet<String> {
        let from_memory = |plan: &Arc<Plan>| {
            plan.scope() != Scope::Server || !self.ttls[plan.collector.name].is_zero()
        };
        if !plans.iter().any(from_memory) {
            return BTreeSet::new();
        }
        let memory = self.memory();
        let home = memory.home.clone();
        let interval = self.config.databases.interval;
        let mut due: Vec<(bool, String)> = Vec::new();
        for (name, known) in &memory.databases {
            let unvisited = known.visited.is_none_or(|at| at.elapsed() >= interval);
            let warm = self.connections.is_warm(name);
            let stale = || {
                plans.iter().any(|plan| {
                    let key = self.key_in(plan, name, &home, known);
                    key.is_some_and(|key| self.is_due(plan, &key, warm))
                })
            };
            if unvisited || stale() || self.is_count_due(plans, name) {
                // What was never seen goes first.
                due.push((known.visited.is_some(), name.clone()));
            }
        }
        drop(memory);
        due.sort();
        let unseen = due.iter().filter(|(seen, _)| !seen);
        let unseen = unseen.map(|(_, name)| name.clone()).collect();
        self.background
            .enqueue(self, due.into_iter().map(|(_, name)| name));
        unseen
    }

    /// Whether a count of this database has work to do behind the scrapes.
    fn is_count_due(&self, plans: &[Arc<Plan>], database: &str) -> bool {
        let mut counted = plans.iter().filter(|plan| plan.collector.counted);
        counted.any(|plan| {
            let key = (plan.collector.name, Some(database.to_owned()));
            let unit = self.units().get(&key).cloned();
            unit.is_some_and(|unit| unit.count.as_ref().is_some_and(Count::is_due))
        })
    }

    /// The key of a collector that the background runs when it works on this database.
    pub fn key_in(&self, plan: &Plan, database: &str, home: &str, known: &Known) -> Option<Key> {
        let name = plan.collector.name;
        match plan.scope() {
            Scope::Server => (database == home).then_some((name, None)),
            Scope::Database => Some((name, Some(database.to_owned()))),
            Scope::Synapse => known
                .concerns(plan)
                .then(|| (name, Some(database.to_owned()))),
        }
    }

    /// Whether the background is to read it: what a warm database gives in every scrape, it need
    /// not.
    pub fn is_due(&self, plan: &Plan, key: &Key, warm: bool) -> bool {
        let ttl = self.ttl(plan, warm);
        if ttl.is_zero() {
            return false;
        }
        let unit = self.units().get(key).cloned();
        let latest = unit.and_then(|unit| unit.cell.latest());
        latest.is_none_or(|(at, harvest)| {
            let wait = match harvest.success() {
                true => ttl,
                false if warm => ttl.min(RETRY),
                false => ttl.min(RETRY.max(self.config.databases.interval)),
            };
            at.elapsed() >= wait.max(rest(plan, &harvest))
        })
    }

    pub fn ttl(&self, plan: &Plan, warm: bool) -> Duration {
        let ttl = self.ttls[plan.collector.name];
        if warm {
            ttl
        } else {
            ttl.max(self.config.databases.interval)
        }
    }

    /// What runs in the scrape itself: collectors without a TTL, in the warm databases.
    pub fn foreground(&self, plans: &[Arc<Plan>]) -> Vec<Run> {
        let memory = self.memory();
        let mut runs = Vec::new();
        for plan in plans {
            if !self.ttls[plan.collector.name].is_zero() {
                continue;
            }
            if plan.scope() == Scope::Server {
                runs.push((plan.clone(), None, None));
                continue;
            }
            for (name, known) in &memory.databases {
                let wanted = plan.scope() == Scope::Database || known.concerns(plan);
                if wanted && self.connections.is_warm(name) {
                    runs.push((plan.clone(), Some(name.clone()), known.application.clone()));
                }
            }
        }
        runs
    }

    /// One run of a collector on one database, to be shared.
    pub fn run(
        self: Arc<Self>,
        facts: Arc<Facts>,
        plan: Arc<Plan>,
        unit: Arc<Unit>,
        database: Option<String>,
        application: Option<Arc<Application>>,
        deadline: Instant,
    ) -> BoxFuture<'static, Harvest> {
        async move {
            let key = (plan.collector.name, database);
            let place = match &key.1 {
                Some(database) => database.clone(),
                None => self.memory().home.clone(),
            };
            let work = async {
                let leased = self.connections.lease_of(&facts, &place, Purpose::Scrape);
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
                lease
                    .run(async |client| {
                        self.harvest(client, &facts, &plan, (&key, &unit), application, until)
                            .await
                    })
                    .await
            };
            let work = AssertUnwindSafe(work).catch_unwind();
            match timeout_at(deadline.into(), work).await {
                Ok(Ok(harvest)) => harvest,
                Ok(Err(_)) => Harvest::skipped(Reason::Error, "the collector panicked"),
                Err(_) => Harvest::skipped(
                    Reason::Deadline,
                    "it was not there when the scrape had to answer",
                ),
            }
        }
        .boxed()
    }

    pub async fn harvest(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        plan: &Plan,
        (key, unit): (&Key, &Unit),
        application: Option<&Application>,
        until: Until,
    ) -> Harvest {
        let name = plan.collector.name;
        let previous = unit.cell.latest().map(|(_, harvest)| harvest);
        let ttl = self.ttls[name];
        let context = Context {
            version: facts.version,
            standby: facts.standby,
            archiver: facts.archiver,
            settings_off: &facts.settings_off,
            tables: application.map(|found| &found.tables),
            views: &facts.views,
            deadline: until.deadline,
            pause: until.pause,
            keep: match &previous {
                Some(last) if !ttl.is_zero() => stale(plan, ttl, last),
                _ => ttl * STALE,
            },
            statement_cap: self.statement_cap,
            limit: self.limits[name],
            cache: &self.cache,
        };
        let mut holds = std::mem::take(&mut *lock(&unit.holds));
        let mut harvest = match &unit.count {
            Some(count) => {
                let system = &facts.system_identifier;
                count
                    .harvest(client, &context, system, plan, &mut holds)
                    .await
            }
            None => {
                plan.run(client, &context, &mut holds, previous.as_deref())
                    .await
            }
        };
        *lock(&unit.holds) = holds;
        let bytes = harvest.snapshot.page_bytes();
        let owner_of = |name: &str| self.connections.owner(name);
        if !lock(&self.room).take(key, bytes, owner_of) {
            let sentence = format!(
                "there is no room for its {} series: a server has {} MiB of the page, and the \
                 databases of one owner half of what the others leave; servers.{}.page_mib raises it",
                harvest.snapshot.series(),
                self.config.page >> 20,
                self.config.name
            );
            let (cost, spent) = (harvest.cost, harvest.spent);
            harvest = Harvest::skipped(Reason::SeriesLimit, sentence);
            (harvest.cost, harvest.spent) = (cost, spent);
        }
        for skip in &harvest.skipped {
            tracing::debug!(collector = name, reason = %skip.reason, "{}", skip.message);
        }
        self.account(name, harvest.cost);
        harvest
    }

    /// Adds to what a collector has cost.
    pub fn account(&self, collector: &'static str, cost: Cost) {
        let mut memory = self.memory();
        let total = memory.totals.entry(collector).or_default();
        total.duration += cost.duration;
        total.statements += cost.statements;
        total.rows += cost.rows;
        total.cut += cost.cut;
    }

    /// What earlier runs have left of these collectors, in the databases that are still there.
    pub fn remembered(&self, plans: &[Arc<Plan>], seen: &BTreeSet<Key>) -> Vec<Gathered> {
        let memory = self.memory();
        let mut gathered = Vec::new();
        for plan in plans {
            for (name, known) in &memory.databases {
                let warm = self.connections.is_warm(name);
                let Some(key) = self.key_in(plan, name, &memory.home, known) else {
                    continue;
                };
                if seen.contains(&key) {
                    continue;
                }
                let ttl = self.ttl(plan, warm).max(self.config.databases.interval);
                let unit = self.units().get(&key).cloned();
                let latest = unit.and_then(|unit| unit.cell.latest());
                let fresh =
                    |at: Instant, harvest: &Harvest| at.elapsed() < stale(plan, ttl, harvest);
                let outcome = match (latest, &known.failure) {
                    (Some((at, harvest)), _) if fresh(at, &harvest) => Outcome::Remembered(harvest),
                    (_, Some((reason, _))) => Outcome::Missing(*reason),
                    // It has been seen, only not with this collector: the next scrape has it.
                    (_, None) if known.visited.is_some() && !warm => continue,
                    // It is being read behind the scrapes.
                    (_, None) => Outcome::Missing(Reason::Deadline),
                };
                gathered.push(Gathered {
                    collector: key.0,
                    database: key.1,
                    outcome,
                });
            }
            if plan.scope() != Scope::Database {
                continue;
            }
            let Some(facts) = &memory.facts else { continue };
            for database in &facts.databases {
                let excluded = !memory.databases.contains_key(&database.name);
                if excluded {
                    gathered.push(Gathered {
                        collector: plan.collector.name,
                        database: Some(database.name.clone()),
                        outcome: Outcome::Missing(Reason::DatabaseSkipped),
                    });
                }
            }
        }
        gathered
    }
}

/// How long a collector rests after a run.
fn rest(plan: &Plan, harvest: &Harvest) -> Duration {
    match plan.walks() {
        true => (harvest.spent * REST).min(LONGEST_REST),
        false => Duration::ZERO,
    }
}

/// How old a value of a collector may get while it cannot be had anew.
fn stale(plan: &Plan, ttl: Duration, last: &Harvest) -> Duration {
    (ttl * STALE).max(rest(plan, last) * 2)
}
