//! The scrape of one server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Request;
use super::background::Background;
use super::cell::Cell;
use super::gather::{Gathered, Outcome};
use super::memory::{Down, Memory, Outdated};
use super::room::Room;
use crate::config;
use crate::events::Count;
use crate::query::{CacheShare, Harvest, Holds, Plan, Reason};
use crate::server::connect::Dialer;
use crate::server::{Connections, Facts};
use crate::snapshot::Snapshot;

/// One server, and what is remembered of it.
pub struct Target {
    pub config: config::Server,
    pub statement_cap: Duration,
    pub plans: Arc<[Arc<Plan>]>,
    pub limits: BTreeMap<&'static str, usize>,
    pub ttls: BTreeMap<&'static str, Duration>,
    pub events: config::Events,
    pub connections: Connections,
    /// The DSN's database.
    pub own_database: String,
    pub facts: Arc<Cell<Result<Arc<Facts>, Down>>>,
    pub units: Mutex<BTreeMap<Key, Arc<Unit>>>,
    pub memory: Mutex<Memory>,
    pub room: Mutex<Room>,
    /// The deadlines of the scrapes that go on.
    pub active: Mutex<Vec<Instant>>,
    pub background: Background,
    /// How fast walks may fill the server's cache.
    pub cache: CacheShare,
}

/// One collector on one database; none for the server as a whole.
pub type Key = (&'static str, Option<String>);

/// What scrapes share of one collector on one database.
#[derive(Default)]
pub struct Unit {
    pub cell: Arc<Cell<Harvest>>,
    pub holds: Mutex<Holds>,
    /// The count of a collector that has one.
    pub count: Option<Count>,
}

impl Target {
    pub fn new(
        config: &config::Server,
        scrape: &config::Scrape,
        collectors: &config::Collectors,
        events: &config::Events,
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
            events: events.clone(),
            connections,
            facts: Arc::default(),
            units: Mutex::default(),
            memory: Mutex::new(Memory {
                home: own_database.clone(),
                facts: None,
                down: None,
                refusal: None,
                probed: None,
                databases: BTreeMap::new(),
                without_connection: Vec::new(),
                enabled: BTreeSet::new(),
                totals: BTreeMap::new(),
                duplicates: BTreeMap::new(),
                scrapes: 0,
                asked: None,
            }),
            room: Mutex::new(Room::new(config.page)),
            active: Mutex::default(),
            background: Background::new(),
            cache: CacheShare::default(),
            own_database,
            plans,
            config: config.clone(),
        }
    }

    pub fn background(&self) -> &Background {
        &self.background
    }

    /// Writes every count to its file.
    pub fn keep(&self) {
        for unit in self.units().values() {
            unit.count.iter().for_each(Count::save);
        }
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
    ) -> Scraped {
        let started = request.since;
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
            .filter(|name| !enabled.contains(name))
            .collect();
        Scraped {
            target: self.clone(),
            facts,
            gathered,
            disabled,
            started,
        }
    }

    /// The longest deadline of the scrapes that go on.
    pub fn longest_deadline(&self, own: Instant) -> Instant {
        lock(&self.active).iter().copied().fold(own, Instant::max)
    }

    pub fn unit(&self, collector: &'static str, database: &Option<String>) -> Arc<Unit> {
        let key = (collector, database.clone());
        let unit = || {
            let counted = |plan: &&Arc<Plan>| plan.collector.name == collector;
            let plan = self.plans.iter().find(counted);
            let counted = plan.is_some_and(|plan| plan.collector.counted);
            let database = database.as_ref().filter(|_| counted);
            let count = database.map(|name| Count::new(&self.events, &self.config.name, name));
            Arc::new(Unit {
                count,
                ..Unit::default()
            })
        };
        self.units().entry(key).or_insert_with(unit).clone()
    }

    pub fn units(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Unit>>> {
        lock(&self.units)
    }

    /// Has refused queries asked again in this database.
    pub fn rest_no_more(&self, database: &str) {
        let units = self.units();
        for (_, unit) in units
            .iter()
            .filter(|((_, of), _)| of.as_deref() == Some(database))
        {
            *lock(&unit.holds) = Holds::default();
        }
    }

    /// Forgets what was read of another server, or of databases that are gone.
    pub fn forget(&self, outdated: &Outdated) {
        let mut units = self.units();
        let gone = match outdated {
            Outdated::Everything => {
                lock(&self.room).give_back(None);
                return units.clear();
            }
            Outdated::Databases(gone) if gone.is_empty() => return,
            Outdated::Databases(gone) => gone,
        };
        lock(&self.room).give_back(Some(gone));
        units.retain(|(_, database), _| !database.as_ref().is_some_and(|name| gone.contains(name)));
        for unit in units.values() {
            unit.cell
                .amend(|harvest: &mut Harvest| harvest.forget(gone));
        }
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

/// What a scrape has gathered from one server.
#[derive(Clone)]
pub struct Scraped {
    target: Arc<Target>,
    facts: Result<Arc<Facts>, Down>,
    gathered: Vec<Gathered>,
    disabled: Vec<&'static str>,
    started: Instant,
}

impl Scraped {
    /// What was not there in time: collector and database, or why the server is down.
    pub fn missing(&self) -> impl Iterator<Item = (&'static str, Option<String>)> {
        let late = |one: &&Gathered| matches!(one.outcome, Outcome::Missing(Reason::Deadline));
        let late = self.gathered.iter().filter(late);
        let late = late.map(|one| (one.collector, one.database.clone()));
        let down = self.facts.as_ref().err();
        late.chain(down.map(|down| (down.reason, None)))
    }

    /// Puts it together.
    pub fn assemble(self) -> Snapshot {
        let disabled = self.disabled.into_iter();
        self.target
            .assemble(&self.facts, self.gathered, disabled, self.started)
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

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
