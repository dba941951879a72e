//! A collector on one server: its settings, and what it has brought of each place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::cell::Cell;
use super::memory::{Known, Outdated};
use super::settings::Settings;
use crate::query::{Cost, Harvest, Plan, Reason, Scope, Source, SourcePlace, Text};

/// A value that could not be refreshed is served until it is this many times its TTL old.
const STALE: u32 = 10;

/// How long before a value that could not be refreshed is tried again, if its TTL is longer.
const RETRY: Duration = Duration::from_secs(30);

/// What may take long pauses this many times as long as it took, so that it takes a fiftieth of the
/// time at most; but no longer than this.
const REST: u32 = 50;
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Where a collector runs on a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the server as a whole.
    Server,
    /// In this database.
    Database(Arc<str>),
}

impl Place {
    /// The database, if it is one.
    pub fn database(&self) -> Option<&Arc<str>> {
        match self {
            Self::Server => None,
            Self::Database(name) => Some(name),
        }
    }

    /// As labels call it: the database, or nothing.
    pub fn name(&self) -> &str {
        self.database().map_or("", |name| name)
    }
}

/// A collector on one server.
pub struct CollectorState {
    pub plan: Arc<Plan>,
    /// How long its values may be served before they are refreshed; zero means every scrape.
    pub ttl: Duration,
    /// How many rows of one place are served at most.
    pub limit: usize,
    /// How often a database is visited that is not kept warm.
    interval: Duration,
    /// Whether it runs; the same for all servers.
    on: Arc<AtomicBool>,
    units: Mutex<BTreeMap<Place, Arc<Unit>>>,
    /// What its runs have cost, once there was one.
    total: Mutex<Option<Cost>>,
}

/// What scrapes share of one collector in one place.
pub struct Unit {
    pub cell: Arc<Cell<Harvest>>,
    pub source: Box<dyn Source>,
}

impl CollectorState {
    pub fn new(plan: Arc<Plan>, settings: &Settings, on: Arc<AtomicBool>) -> Self {
        let collector = &plan.collector;
        let ttl = settings.ttls.get(&*collector.name);
        let limit = settings.limits.get(&*collector.name);
        Self {
            ttl: ttl.copied().unwrap_or(collector.ttl),
            limit: limit.copied().unwrap_or(collector.limit),
            plan,
            interval: settings.server.databases.interval,
            on,
            units: Mutex::default(),
            total: Mutex::default(),
        }
    }

    pub fn name(&self) -> &Text {
        &self.plan.collector.name
    }

    pub fn scope(&self) -> Scope {
        self.plan.collector.scope
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Where it runs when the background works on this database.
    pub fn place_in(&self, database: &Arc<str>, home: &str, known: &Known) -> Option<Place> {
        let there = || Place::Database(database.clone());
        match self.scope() {
            Scope::Server => (**database == *home).then_some(Place::Server),
            Scope::Database => Some(there()),
            Scope::Application(_) => known.concerns(&self.plan).then(there),
        }
    }

    /// How long its values of a database may be served before they are refreshed.
    pub fn ttl_in(&self, warm: bool) -> Duration {
        match warm {
            true => self.ttl,
            false => self.ttl.max(self.interval),
        }
    }

    /// Whether the background is to read it: what a warm database gives in every scrape, it need
    /// not.
    pub fn is_due(&self, place: &Place, warm: bool) -> bool {
        let ttl = self.ttl_in(warm);
        if ttl.is_zero() {
            return false;
        }
        self.latest(place).is_none_or(|(at, harvest)| {
            let wait = match harvest.success() {
                true => ttl,
                false if warm => ttl.min(RETRY),
                false => ttl.min(RETRY.max(self.interval)),
            };
            at.elapsed() >= wait.max(self.rest(&harvest))
        })
    }

    /// Whether its source has work to do behind scrapes.
    pub fn has_work(&self, place: &Place) -> bool {
        self.known(place).is_some_and(|unit| unit.source.is_due())
    }

    /// How old a value may get while it cannot be refreshed.
    pub fn keeps(&self, previous: Option<&Harvest>) -> Duration {
        match previous {
            Some(last) if !self.ttl.is_zero() => self.stale(self.ttl, last),
            _ => self.ttl * STALE,
        }
    }

    /// Whether a value that was read then may still be served.
    pub fn is_fresh(&self, at: Instant, harvest: &Harvest, warm: bool) -> bool {
        let ttl = self.ttl_in(warm).max(self.interval);
        at.elapsed() < self.stale(ttl, harvest)
    }

    fn stale(&self, ttl: Duration, last: &Harvest) -> Duration {
        (ttl * STALE).max(self.rest(last) * 2)
    }

    /// How long it pauses after a run.
    fn rest(&self, harvest: &Harvest) -> Duration {
        match self.plan.collector.walks() {
            true => rest_after(harvest.spent),
            false => Duration::ZERO,
        }
    }

    /// What it has of a place.
    pub fn known(&self, place: &Place) -> Option<Arc<Unit>> {
        self.units.lock().get(place).cloned()
    }

    /// The same, and begins it where there is nothing yet.
    pub fn unit(&self, place: &Place, settings: &Settings) -> Arc<Unit> {
        let begin = || {
            let source = self.plan.begin(&SourcePlace {
                server: &settings.server.name,
                database: place.database(),
                state_dir: settings.state_dir.as_deref(),
            });
            Arc::new(Unit {
                cell: Arc::default(),
                source,
            })
        };
        let mut units = self.units.lock();
        units.entry(place.clone()).or_insert_with(begin).clone()
    }

    /// What it last brought of a place, and when.
    pub fn latest(&self, place: &Place) -> Option<(Instant, Arc<Harvest>)> {
        self.known(place)?.cell.latest()
    }

    /// All that it has.
    pub fn units(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<Unit>>> {
        self.units.lock()
    }

    /// Adds to what it has cost.
    pub fn account(&self, cost: Cost) {
        *self.total.lock().get_or_insert_default() += cost;
    }

    /// What its runs have cost, once there was one.
    pub fn total(&self) -> Option<Cost> {
        *self.total.lock()
    }

    /// Has refused queries asked again in this database.
    pub fn ask_again(&self, database: &Arc<str>) {
        if let Some(unit) = self.known(&Place::Database(database.clone())) {
            unit.source.ask_again();
        }
    }

    /// Forgets what was read of another server, or of databases that are gone.
    pub fn forget(&self, outdated: &Outdated) {
        let mut units = self.units.lock();
        let gone = match outdated {
            Outdated::Everything => return units.clear(),
            Outdated::Databases(gone) if gone.is_empty() => return,
            Outdated::Databases(gone) => gone,
        };
        units.retain(|place, _| !gone.contains(place.name()));
        for unit in units.values() {
            unit.cell.amend(|harvest| harvest.forget(gone));
        }
    }
}

/// How long what may take long pauses after it took this.
pub fn rest_after(took: Duration) -> Duration {
    (took * REST).min(LONGEST_REST)
}

/// What a scrape has of one collector in one place.
#[derive(Clone)]
pub struct Gathered {
    pub collector: Arc<CollectorState>,
    pub place: Place,
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
