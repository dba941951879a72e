//! The scrape of one server.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout_at;

use super::background::Background;
use super::cell::Cell;
use super::{CollectorStatus, DatabaseStatus, Request, ServerStatus, State, own};
use crate::config;
use crate::query::{Context, Cost, Harvest, Holds, Plan, QueryError, Reason, Scope, Version};
use crate::server::connect::Dialer;
use crate::server::{Application, Connections, Facts, LeaseError, Purpose};
use crate::snapshot::Snapshot;

/// The database in which the strict set-up keeps its functions.
const MAINTENANCE: &str = "postgres";

/// How long a failed connect is remembered, so that probes stay fast.
const DOWN_MEMORY: Duration = Duration::from_secs(1);

/// How long before the functions of the strict set-up are looked for again.
const PROBE_INTERVAL: Duration = Duration::from_secs(180);

/// A value that could not be refreshed is served until it is this many times its TTL old.
const STALE: u32 = 10;

/// The newest major version that the definitions were tested with.
const NEWEST: u32 = 18;

/// One server, and what is remembered of it.
pub struct Target {
    config: config::Server,
    statement_cap: Duration,
    plans: Arc<[Arc<Plan>]>,
    limits: BTreeMap<&'static str, usize>,
    ttls: BTreeMap<&'static str, Duration>,
    connections: Connections,
    /// The DSN's database.
    own_database: String,
    facts: Arc<Cell<Result<Arc<Facts>, Down>>>,
    units: Mutex<BTreeMap<Key, Arc<Unit>>>,
    memory: Mutex<Memory>,
    /// The deadlines of the scrapes that go on.
    active: Mutex<Vec<Instant>>,
    background: Background,
}

/// One collector on one database; none for the server as a whole.
type Key = (&'static str, Option<String>);

/// What scrapes share of one collector on one database.
#[derive(Default)]
struct Unit {
    cell: Arc<Cell<Harvest>>,
    holds: Mutex<Holds>,
}

struct Memory {
    /// The database in which the server's own matters are asked.
    home: String,
    facts: Option<Arc<Facts>>,
    down: Option<(Instant, Down)>,
    /// When the functions of the strict set-up were last looked for elsewhere.
    probed: Option<Instant>,
    databases: BTreeMap<String, Known>,
    enabled: BTreeSet<&'static str>,
    totals: BTreeMap<&'static str, Cost>,
    duplicates: BTreeMap<Arc<str>, u64>,
    scrapes: u64,
    asked: Option<SystemTime>,
}

/// What is remembered of a database.
#[derive(Clone, Debug)]
struct Known {
    oid: u32,
    application: Option<Application>,
    visited: Option<Instant>,
    /// Why the last visit failed.
    failure: Option<(Reason, String)>,
}

/// Why a server does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    pub reason: &'static str,
    pub message: String,
}

/// What a scrape has of one collector on one database.
struct Gathered {
    collector: &'static str,
    database: Option<String>,
    outcome: Outcome,
}

enum Outcome {
    /// Read by this scrape, or for it.
    Fresh(Arc<Harvest>),
    /// Read earlier.
    Remembered(Arc<Harvest>),
    /// Nothing.
    Missing(Reason),
}

impl Target {
    pub fn new(
        config: &config::Server,
        scrape: &config::Scrape,
        collectors: &config::Collectors,
        plans: Arc<[Arc<Plan>]>,
    ) -> Self {
        let connections = Connections::new(Dialer::new(config.dsn.clone()), config.connections);
        let own_database = config.dsn.database().to_owned();
        connections.keep_warm(&[&own_database]);
        let mut limits = BTreeMap::new();
        let mut ttls = BTreeMap::new();
        for plan in &*plans {
            let collector = &plan.collector;
            let name = collector.name;
            limits.insert(
                name,
                *collectors.limits.get(name).unwrap_or(&collector.limit),
            );
            ttls.insert(name, *collectors.ttls.get(name).unwrap_or(&collector.ttl));
        }
        Self {
            statement_cap: scrape.statement_cap,
            limits,
            ttls,
            connections,
            facts: Arc::default(),
            units: Mutex::default(),
            memory: Mutex::new(Memory {
                home: own_database.clone(),
                facts: None,
                down: None,
                probed: None,
                databases: BTreeMap::new(),
                enabled: BTreeSet::new(),
                totals: BTreeMap::new(),
                duplicates: BTreeMap::new(),
                scrapes: 0,
                asked: None,
            }),
            active: Mutex::default(),
            background: Background::new(),
            own_database,
            plans,
            config: config.clone(),
        }
    }

    pub fn background(&self) -> &Background {
        &self.background
    }

    pub async fn close(&self) {
        self.background.close();
        self.connections.close().await;
    }

    /// What could be had by the deadline, and what could not and why.
    pub async fn scrape(
        self: &Arc<Self>,
        request: &Request,
        enabled: &BTreeSet<&'static str>,
    ) -> Snapshot {
        let started = Instant::now();
        let _active = Active::new(self, request.deadline);
        {
            let mut memory = self.memory();
            memory.enabled = enabled.clone();
            memory.scrapes += 1;
            memory.asked = Some(SystemTime::now());
        }
        let facts = self.facts(started, request.deadline).await;
        let wanted: Vec<_> = self
            .plans
            .iter()
            .filter(|plan| {
                request.collect.is_empty() || request.collect.contains(plan.collector.name)
            })
            .cloned()
            .collect();
        let running: Vec<_> = wanted
            .iter()
            .filter(|plan| enabled.contains(plan.collector.name))
            .cloned()
            .collect();
        let gathered = match &facts {
            Ok(facts) => {
                self.gather(facts, &running, started, request.deadline)
                    .await
            }
            Err(_) => running
                .iter()
                .map(|plan| Gathered {
                    collector: plan.collector.name,
                    database: None,
                    outcome: Outcome::Missing(Reason::Connection),
                })
                .collect(),
        };
        let disabled = wanted
            .iter()
            .map(|plan| plan.collector.name)
            .filter(|name| !enabled.contains(name));
        self.assemble(&facts, gathered, disabled, started)
    }

    /// The server's facts, read by this scrape or shared with another.
    async fn facts(
        self: &Arc<Self>,
        started: Instant,
        deadline: Instant,
    ) -> Result<Arc<Facts>, Down> {
        if let Some((at, down)) = &self.memory().down
            && at.elapsed() < DOWN_MEMORY
        {
            return Err(down.clone());
        }
        let longest = self.longest_deadline(deadline);
        let awaited = self.facts.get(started, || {
            let target = self.clone();
            async move { target.read_facts(longest).await }.boxed()
        });
        match timeout_at(deadline.into(), awaited).await {
            Ok(facts) => (*facts).clone(),
            Err(_) => Err(self.timed_out(started)),
        }
    }

    fn timed_out(&self, started: Instant) -> Down {
        Down {
            reason: "timeout",
            message: format!(
                "{} did not answer within {:.1} s",
                self.connections.address(),
                started.elapsed().as_secs_f64()
            ),
        }
    }

    async fn read_facts(self: Arc<Self>, deadline: Instant) -> Result<Arc<Facts>, Down> {
        let started = Instant::now();
        let read = timeout_at(deadline.into(), self.ask_facts(deadline)).await;
        let facts = read.unwrap_or_else(|_| Err(self.timed_out(started)));
        let mut memory = self.memory();
        match &facts {
            Ok(facts) => {
                if memory.down.take().is_some() {
                    tracing::info!(server = self.config.name, "the server answers again");
                }
                memory.remember(facts, &self.config.databases);
            }
            Err(down) => {
                let known = memory.down.as_ref().is_some_and(|(_, known)| known == down);
                if !known {
                    tracing::warn!(
                        server = self.config.name,
                        reason = down.reason,
                        "{}",
                        down.message
                    );
                }
                memory.down = Some((Instant::now(), down.clone()));
            }
        }
        drop(memory);
        self.keep_warm();
        facts
    }

    async fn ask_facts(&self, deadline: Instant) -> Result<Arc<Facts>, Down> {
        let home = self.memory().home.clone();
        let facts = match self.ask_facts_in(&home, deadline).await {
            Err(Unanswered::Lease(error)) if home != self.own_database => {
                tracing::debug!(%error, "{home} is out of reach");
                self.memory().home = self.own_database.clone();
                self.ask_facts_in(&self.own_database, deadline).await
            }
            other => other,
        };
        match facts {
            Ok(facts) => Ok(Arc::new(self.find_functions(facts, deadline).await)),
            // The server answers, if only to refuse this: what was true a moment ago still is.
            Err(Unanswered::Query(error @ QueryError::Refused { .. })) => {
                tracing::warn!(server = self.config.name, %error, "could not read the server's facts");
                self.memory().facts.clone().ok_or_else(|| Down {
                    reason: error.reason().as_str(),
                    message: format!(
                        "{} refuses to tell its version and role: {error}",
                        self.connections.address()
                    ),
                })
            }
            Err(error) => Err(Down {
                reason: match &error {
                    Unanswered::Lease(error) => error.reason(),
                    Unanswered::Query(error) => error.reason().as_str(),
                },
                message: error.to_string(),
            }),
        }
    }

    async fn ask_facts_in(&self, database: &str, deadline: Instant) -> Result<Facts, Unanswered> {
        let mut again = true;
        loop {
            let mut lease = self.connections.lease(database, Purpose::Scrape).await?;
            let timeout = deadline.saturating_duration_since(Instant::now()) / 2;
            match lease
                .run(async |client| Facts::read(client, timeout).await)
                .await
            {
                // A warm connection that a restart has cut: the server itself may be well.
                Err(QueryError::Broken(_)) if again => again = false,
                other => return Ok(other?),
            }
        }
    }

    /// Where the role may not read the statistics views itself, the functions that stand in for
    /// them are looked for in the maintenance database.
    async fn find_functions(&self, facts: Facts, deadline: Instant) -> Facts {
        let elsewhere = facts
            .databases
            .iter()
            .any(|database| database.name == MAINTENANCE && database.closed.is_none());
        let home = self.memory().home.clone();
        let due = {
            let memory = self.memory();
            memory.probed.is_none_or(|at| at.elapsed() > PROBE_INTERVAL)
        };
        let content = facts.views.strict || facts.views.privileges.contains("pg_read_all_stats");
        if content || home == MAINTENANCE || !elsewhere || !due {
            return facts;
        }
        self.memory().probed = Some(Instant::now());
        match self.ask_facts_in(MAINTENANCE, deadline).await {
            Ok(there) if there.views.strict => {
                self.memory().home = MAINTENANCE.to_owned();
                there
            }
            Ok(_) => facts,
            Err(error) => {
                tracing::debug!(%error, "could not look for functions in {MAINTENANCE}");
                facts
            }
        }
    }

    /// The databases whose connections are kept: the home, the DSN's own, those with an
    /// application.
    fn keep_warm(&self) {
        let memory = self.memory();
        let mut warm = vec![memory.home.as_str(), self.own_database.as_str()];
        warm.extend(
            memory
                .databases
                .iter()
                .filter(|(_, known)| known.application.is_some())
                .map(|(name, _)| name.as_str()),
        );
        warm.sort_unstable();
        warm.dedup();
        self.connections.keep_warm(&warm);
    }

    /// Runs what is asked in every scrape, starts what is due, and takes the rest from memory.
    async fn gather(
        self: &Arc<Self>,
        facts: &Arc<Facts>,
        plans: &[Arc<Plan>],
        started: Instant,
        deadline: Instant,
    ) -> Vec<Gathered> {
        self.start_due(plans);
        let unseen: BTreeSet<_> = {
            let memory = self.memory();
            let never = memory
                .databases
                .iter()
                .filter(|(_, known)| known.visited.is_none());
            never.map(|(name, _)| name.clone()).collect()
        };
        let longest = self.longest_deadline(deadline);
        let runs: Vec<_> = self
            .foreground(plans)
            .into_iter()
            .map(|(plan, database, schema)| {
                let unit = self.unit(plan.collector.name, &database);
                let name = plan.collector.name;
                let awaited = unit.cell.clone().get(started, || {
                    self.clone()
                        .run(facts.clone(), plan, unit, database.clone(), schema, longest)
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

    /// Leaves to the background what is due in it.
    fn start_due(self: &Arc<Self>, plans: &[Arc<Plan>]) {
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
            if unvisited || stale() {
                // What was never seen goes first.
                due.push((known.visited.is_some(), name.clone()));
            }
        }
        drop(memory);
        due.sort();
        self.background
            .enqueue(self, due.into_iter().map(|(_, name)| name));
    }

    /// The key of a collector that the background runs when it works on this database.
    fn key_in(&self, plan: &Plan, database: &str, home: &str, known: &Known) -> Option<Key> {
        let name = plan.collector.name;
        match plan.scope() {
            Scope::Server => (database == home).then_some((name, None)),
            Scope::Database => Some((name, Some(database.to_owned()))),
            Scope::Synapse => known
                .application
                .is_some()
                .then(|| (name, Some(database.to_owned()))),
        }
    }

    /// Whether the background is to read it: what a warm database gives in every scrape, it need
    /// not.
    fn is_due(&self, plan: &Plan, key: &Key, warm: bool) -> bool {
        let ttl = self.ttl(plan, warm);
        if ttl.is_zero() {
            return false;
        }
        let unit = self.units().get(key).cloned();
        unit.and_then(|unit| unit.cell.latest())
            .is_none_or(|(at, _)| at.elapsed() >= ttl)
    }

    fn ttl(&self, plan: &Plan, warm: bool) -> Duration {
        let ttl = self.ttls[plan.collector.name];
        if warm {
            ttl
        } else {
            ttl.max(self.config.databases.interval)
        }
    }

    /// What runs in the scrape itself: collectors without a TTL, in the warm databases.
    fn foreground(&self, plans: &[Arc<Plan>]) -> Vec<(Arc<Plan>, Option<String>, Option<String>)> {
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
                let schema = known.application.as_ref().map(|found| found.schema.clone());
                let wanted = plan.scope() == Scope::Database || schema.is_some();
                if wanted && self.connections.is_warm(name) {
                    runs.push((plan.clone(), Some(name.clone()), schema));
                }
            }
        }
        runs
    }

    /// One run of a collector on one database, to be shared.
    fn run(
        self: Arc<Self>,
        facts: Arc<Facts>,
        plan: Arc<Plan>,
        unit: Arc<Unit>,
        database: Option<String>,
        schema: Option<String>,
        deadline: Instant,
    ) -> BoxFuture<'static, Harvest> {
        async move {
            let place = database.unwrap_or_else(|| self.memory().home.clone());
            let work = async {
                let mut lease = match self.connections.lease(&place, Purpose::Scrape).await {
                    Ok(lease) => lease,
                    Err(error) => {
                        return Harvest::skipped(Reason::Connection, error.to_string());
                    }
                };
                let schema = schema.as_deref();
                lease
                    .run(async |client| {
                        self.harvest(client, &facts, &plan, &unit, schema, deadline)
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

    async fn harvest(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        plan: &Plan,
        unit: &Unit,
        schema: Option<&str>,
        deadline: Instant,
    ) -> Harvest {
        let name = plan.collector.name;
        let context = Context {
            version: facts.version,
            standby: facts.standby,
            schema,
            views: &facts.views,
            deadline,
            statement_cap: self.statement_cap,
            limit: self.limits[name],
        };
        let previous = unit.cell.latest().map(|(_, harvest)| harvest);
        let mut holds = std::mem::take(&mut *lock(&unit.holds));
        let harvest = plan
            .run(client, &context, &mut holds, previous.as_deref())
            .await;
        *lock(&unit.holds) = holds;
        for skip in &harvest.skipped {
            tracing::debug!(collector = name, reason = %skip.reason, "{}", skip.message);
        }
        let mut memory = self.memory();
        let total = memory.totals.entry(name).or_default();
        total.duration += harvest.cost.duration;
        total.statements += harvest.cost.statements;
        total.rows += harvest.cost.rows;
        total.cut += harvest.cost.cut;
        harvest
    }

    /// The background work on one database: what lives in it, and every value that is due.
    pub async fn refresh(&self, database: &str, deadline: Instant) {
        let facts = self.memory().facts.clone();
        let (Some(facts), Some(known)) = (facts, self.memory().databases.get(database).cloned())
        else {
            return;
        };
        let work = async {
            let mut lease = self
                .connections
                .lease(database, Purpose::Background)
                .await?;
            lease
                .run(async |client| self.refresh_on(client, &facts, database, deadline).await)
                .await?;
            Ok::<_, Unanswered>(())
        };
        let work = AssertUnwindSafe(work).catch_unwind();
        let failure = match timeout_at(deadline.into(), work).await {
            Ok(Ok(Ok(()))) => None,
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
    }

    async fn refresh_on(
        &self,
        client: &tokio_postgres::Client,
        facts: &Facts,
        database: &str,
        deadline: Instant,
    ) -> Result<(), QueryError> {
        let warm = self.connections.is_warm(database);
        let application = Application::find(client, self.statement_cap).await?;
        let (home, known, enabled) = {
            let mut memory = self.memory();
            let Some(entry) = memory.databases.get_mut(database) else {
                return Ok(());
            };
            if entry.application != application {
                entry.application.clone_from(&application);
                tracing::info!(
                    database,
                    application = application.as_ref().map_or("none", |found| found.name),
                    "looked at the database"
                );
            }
            let known = entry.clone();
            (memory.home.clone(), known, memory.enabled.clone())
        };
        let schema = application.as_ref().map(|found| found.schema.as_str());
        for plan in self.plans.iter() {
            let Some(key) = self.key_in(plan, database, &home, &known) else {
                continue;
            };
            // What a first visit finds is read at once; after that, the scrapes do.
            let warm = warm && (known.visited.is_some() || plan.scope() != Scope::Synapse);
            if !enabled.contains(plan.collector.name) || !self.is_due(plan, &key, warm) {
                continue;
            }
            let unit = self.unit(key.0, &key.1);
            let harvest = self
                .harvest(client, facts, plan, &unit, schema, deadline)
                .await;
            let broken = harvest
                .skipped
                .iter()
                .find(|skip| skip.reason == Reason::Connection)
                .map(|skip| QueryError::Broken(skip.message.clone()));
            match broken {
                Some(broken) => return Err(broken),
                None => unit.cell.set(Arc::new(harvest)),
            }
        }
        self.keep_warm();
        Ok(())
    }

    /// What earlier runs have left of these collectors, in the databases that are still there.
    fn remembered(&self, plans: &[Arc<Plan>], seen: &BTreeSet<Key>) -> Vec<Gathered> {
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
                let outcome = match (latest, &known.failure) {
                    (Some((at, harvest)), _) if at.elapsed() < ttl * STALE => {
                        Outcome::Remembered(harvest)
                    }
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

    /// Everything that was gathered, and what there is to say about it.
    fn assemble(
        &self,
        facts: &Result<Arc<Facts>, Down>,
        gathered: Vec<Gathered>,
        disabled: impl Iterator<Item = &'static str>,
        started: Instant,
    ) -> Snapshot {
        let mut page = Snapshot::default();
        let mut reports: BTreeMap<&'static str, Report> = BTreeMap::new();
        for one in &gathered {
            let report = reports.entry(one.collector).or_default();
            report.add(one, &mut page);
        }
        let failed = reports.values().any(|report| !report.success);
        for (collector, report) in &reports {
            own::COLLECTOR_SUCCESS.push(&mut page, [collector], f64::from(report.success));
            let duration = report.duration.as_secs_f64();
            own::COLLECTOR_DURATION.push(&mut page, [collector], duration);
            own::ROW_LIMIT.push(&mut page, [collector], self.limits[collector] as f64);
            for (reason, database) in &report.skipped {
                own::SKIPPED.push(&mut page, [collector, reason.as_str(), database], 1.0);
            }
            for (database, age) in &report.ages {
                own::AGE.push(&mut page, [collector, database], age.as_secs_f64());
            }
        }
        for collector in disabled {
            let reason = Reason::Disabled.as_str();
            own::SKIPPED.push(&mut page, [collector, reason, ""], 1.0);
        }
        let mut memory = self.memory();
        memory.own_metrics(&self.config, &self.connections, facts, &mut page);
        for (metric, dropped) in page.dedupe() {
            let total = memory.duplicates.entry(metric.clone()).or_default();
            if *total == 0 {
                tracing::warn!(%metric, dropped, "dropped samples whose labels were already there");
            }
            *total += dropped as u64;
        }
        for (metric, total) in &memory.duplicates {
            own::DUPLICATES.push(&mut page, [metric], *total as f64);
        }
        own::LAST_SCRAPE_ERROR.push(&mut page, [], f64::from(failed || facts.is_err()));
        own::LAST_SCRAPE_DURATION.push(&mut page, [], started.elapsed().as_secs_f64());
        page.add_labels(&self.config.labels);
        page
    }

    /// What is known, without asking the server.
    pub fn status(&self, enabled: &BTreeSet<&'static str>) -> ServerStatus {
        let memory = self.memory();
        let state = match (&memory.down, &memory.facts) {
            (Some((_, down)), _) => Some(State::Down {
                reason: down.reason,
                message: down.message.clone(),
            }),
            (None, Some(_)) => Some(State::Up),
            (None, None) => None,
        };
        let databases = memory.facts.iter().flat_map(|facts| &facts.databases);
        let databases = databases
            .map(|database| {
                let known = memory.databases.get(&database.name);
                let skipped = match (known, database.closed) {
                    (_, Some(why)) => Some(why.to_owned()),
                    (None, None) => Some("it is excluded by the configuration".to_owned()),
                    (Some(known), None) => {
                        known.failure.as_ref().map(|(_, message)| message.clone())
                    }
                };
                let application = known
                    .and_then(|known| known.application.as_ref())
                    .map(|found| found.name);
                DatabaseStatus {
                    name: database.name.clone(),
                    application,
                    skipped,
                }
            })
            .collect();
        let warnings = memory.warnings();
        let facts = memory.facts.clone();
        let asked = memory.asked;
        drop(memory);
        ServerStatus {
            name: self.config.name.clone(),
            address: self.connections.address(),
            state,
            asked,
            version: facts.as_ref().map(|facts| facts.version_text.clone()),
            standby: facts.as_ref().map(|facts| facts.standby),
            databases,
            warnings,
            collectors: self
                .plans
                .iter()
                .map(|plan| self.collector_status(plan, enabled))
                .collect(),
        }
    }

    fn collector_status(&self, plan: &Plan, enabled: &BTreeSet<&'static str>) -> CollectorStatus {
        let name = plan.collector.name;
        let mut status = CollectorStatus {
            name,
            about: plan.collector.about,
            enabled: enabled.contains(name),
            success: None,
            skipped: Vec::new(),
            age: None,
            duration: Duration::ZERO,
            rows: 0,
            statements: 0,
        };
        for ((_, database), unit) in self.units().iter().filter(|((of, _), _)| *of == name) {
            let Some((_, harvest)) = unit.cell.latest() else {
                continue;
            };
            let success = harvest.success();
            status.success = Some(status.success.unwrap_or(true) && success);
            for skip in &harvest.skipped {
                let database = database.clone().unwrap_or_default();
                status.skipped.push((skip.reason.as_str(), database));
            }
            status.age = status.age.max(Some(harvest.oldest.elapsed()));
            status.duration += harvest.cost.duration;
            status.rows += harvest.cost.rows;
            status.statements += harvest.cost.statements;
        }
        status.skipped.sort_unstable();
        status.skipped.dedup();
        status
    }

    /// The longest deadline of the scrapes that go on.
    fn longest_deadline(&self, own: Instant) -> Instant {
        lock(&self.active).iter().copied().fold(own, Instant::max)
    }

    fn unit(&self, collector: &'static str, database: &Option<String>) -> Arc<Unit> {
        let key = (collector, database.clone());
        self.units().entry(key).or_default().clone()
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Unit>>> {
        lock(&self.units)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

impl Memory {
    /// Takes in what a scrape has learned: databases come and go.
    fn remember(&mut self, facts: &Arc<Facts>, rules: &config::Databases) {
        let watched = facts
            .databases
            .iter()
            .filter(|database| database.closed.is_none() && rules.watches(&database.name));
        let mut databases = BTreeMap::new();
        for database in watched {
            let known = self
                .databases
                .remove(&database.name)
                .filter(|known| known.oid == database.oid);
            let known = known.unwrap_or(Known {
                oid: database.oid,
                application: None,
                visited: None,
                failure: None,
            });
            databases.insert(database.name.clone(), known);
        }
        self.databases = databases;
        self.facts = Some(facts.clone());
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(facts) = &self.facts {
            if facts.superuser {
                warnings.push(format!(
                    "the role {:?} is a superuser; a monitoring role needs no such power: see `grants`",
                    facts.role
                ));
            }
            let views = &facts.views;
            if !facts.superuser && views.privileges.contains("pg_read_all_stats") {
                warnings.push(format!(
                    "the role {:?} has pg_monitor or pg_read_all_stats: with it anybody can read \
                     query texts, and in Synapse's these are message bodies; the strict set-up of \
                     `grants` does without",
                    facts.role
                ));
            } else if !facts.superuser && views.functions.is_empty() {
                warnings.push(format!(
                    "the role {:?} may not see other sessions; run what `grants` prints",
                    facts.role
                ));
            }
        }
        for name in self.writable() {
            warnings.push(format!(
                "the role could write the application's tables in database {name:?}; a monitoring \
                 role of its own is safer: see `grants`"
            ));
        }
        warnings
    }

    fn writable(&self) -> impl Iterator<Item = &str> {
        self.databases
            .iter()
            .filter(|(_, known)| {
                let application = known.application.as_ref();
                application.is_some_and(|application| application.writable)
            })
            .map(|(name, _)| name.as_str())
    }

    /// The metrics of the server as a whole, and of the exporter.
    fn own_metrics(
        &self,
        config: &config::Server,
        connections: &Connections,
        facts: &Result<Arc<Facts>, Down>,
        page: &mut Snapshot,
    ) {
        own::UP.push(page, [], f64::from(facts.is_ok()));
        if let Err(down) = facts {
            own::DOWN_REASON.push(page, [down.reason], 1.0);
        }
        if let Some(known) = &self.facts {
            let cluster = config.cluster.as_deref().unwrap_or(&known.cluster_name);
            own::SERVER_INFO.push(page, [&known.system_identifier, cluster], 1.0);
        }
        if let Ok(facts) = facts {
            let short = facts.short_version();
            let address = connections.address();
            own::STATIC.push(page, [&facts.version_text, &short, &address], 1.0);
            own::VERSION.push(page, [], f64::from(facts.version.0));
            own::IN_RECOVERY.push(page, [], f64::from(facts.standby));
            own::TIMELINE.push(page, [], facts.timeline);
            let unknown = facts.version >= Version((NEWEST + 1) * 10_000);
            own::VERSION_UNKNOWN.push(page, [], f64::from(unknown));
            if facts.superuser {
                own::ROLE_WARNING.push(page, ["superuser", ""], 1.0);
            }
            for name in self.writable() {
                own::ROLE_WARNING.push(page, ["writable", name], 1.0);
            }
            own::DATABASES.push(page, [], self.databases.len() as f64);
        }
        own::SCRAPES.push(page, [], self.scrapes as f64);
        own::CONNECTIONS.push(page, [], connections.open() as f64);
        own::CONNECTION_LIMIT.push(page, [], connections.budget() as f64);
        own::CONNECTIONS_OPENED.push(page, [], connections.opened() as f64);
        for (collector, cost) in &self.totals {
            own::STATEMENTS.push(page, [collector], cost.statements as f64);
            own::ROWS.push(page, [collector], cost.rows as f64);
            own::SERIES_CUT.push(page, [collector], cost.cut as f64);
            own::QUERY_SECONDS.push(page, [collector], cost.duration.as_secs_f64());
        }
    }
}

/// What there is to say of a collector after a scrape.
struct Report {
    success: bool,
    duration: Duration,
    skipped: BTreeSet<(Reason, String)>,
    ages: BTreeMap<String, Duration>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            success: true,
            duration: Duration::ZERO,
            skipped: BTreeSet::new(),
            ages: BTreeMap::new(),
        }
    }
}

impl Report {
    fn add(&mut self, one: &Gathered, page: &mut Snapshot) {
        let database = one.database.clone().unwrap_or_default();
        let (harvest, remembered) = match &one.outcome {
            Outcome::Fresh(harvest) => (harvest, false),
            Outcome::Remembered(harvest) => (harvest, true),
            Outcome::Missing(reason) => {
                self.success &= !reason.is_failure();
                self.skipped.insert((*reason, database));
                return;
            }
        };
        page.merge(&harvest.snapshot);
        self.success &= harvest.success();
        self.duration += harvest.cost.duration;
        for skip in &harvest.skipped {
            self.skipped.insert((skip.reason, database.clone()));
        }
        if remembered {
            self.ages.insert(database, harvest.oldest.elapsed());
        }
    }
}

/// A scrape that goes on.
struct Active<'a> {
    target: &'a Target,
    deadline: Instant,
}

impl<'a> Active<'a> {
    fn new(target: &'a Target, deadline: Instant) -> Self {
        lock(&target.active).push(deadline);
        Self { target, deadline }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut active = lock(&self.target.active);
        if let Some(position) = active.iter().position(|one| *one == self.deadline) {
            active.swap_remove(position);
        }
    }
}

/// No connection, or no answer on it.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Unanswered {
    /// Why a database could not be visited.
    fn reason(&self) -> Reason {
        match self {
            Self::Query(error) => error.reason(),
            Self::Lease(error) => match error.reason() {
                "no_connect_privilege" | "authentication" => Reason::NoPrivilege,
                "database_missing" => Reason::DatabaseSkipped,
                _ => Reason::Connection,
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
