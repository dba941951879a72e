//! One scrape of a set of servers.
//!
//! A scrape gathers values by its deadline, then puts them together, which for a large page is
//! work.
//!
//! - `target`: the scrape of one server, in these steps:
//! - `reach`: whether the server answers, and what it says of itself
//! - `gather`: what a scrape runs itself, and what it takes from memory
//! - `background`: visits and refreshes that go on behind the scrapes
//! - `report`: what a scrape says
//! - `status`: what is known, for a person
//! - `memory`: what is remembered from scrape to scrape
//! - `cell`: a value that concurrent scrapes share
//! - `room`: how much of what a server says is kept
//! - [`own`]: the metrics that no collector defines

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;

use crate::collectors;
use crate::config::Config;
use crate::query::Plan;
use crate::snapshot::Snapshot;

mod background;
mod cell;
mod gather;
mod memory;
pub mod own;
mod reach;
mod report;
mod room;
mod status;
mod target;

use target::{Scraped, Target};

/// Scrapes the configured servers; cheap to clone.
#[derive(Clone)]
pub struct Scraper(Arc<Inner>);

struct Inner {
    targets: Vec<Arc<Target>>,
    plans: Arc<[Arc<Plan>]>,
    enabled: Mutex<BTreeSet<&'static str>>,
}

/// What one caller wants, and by when.
#[derive(Clone, Debug)]
pub struct Request {
    /// Values that were read since then will do.
    pub since: Instant,
    /// When an answer must be ready.
    pub deadline: Instant,
    /// Only these collectors, `collect[]`; empty means every enabled one.
    pub collect: BTreeSet<String>,
}

/// A name that is no collector.
#[derive(Debug, thiserror::Error)]
#[error("there is no collector {0:?}; `matrix-postgres-exporter metrics` lists them")]
pub struct UnknownCollector(pub String);

impl Scraper {
    /// A scraper of the configured servers; connects to none of them yet.
    pub fn new(config: &Config) -> Self {
        let plans: Arc<[_]> = collectors::all()
            .into_iter()
            .map(|collector| Arc::new(Plan::new(collector)))
            .collect();
        let enabled = plans
            .iter()
            .map(|plan| plan.collector.name)
            .filter(|name| config.collectors.enabled.contains(*name))
            .collect();
        let targets = config
            .servers
            .iter()
            .map(|server| {
                let target = Target::new(
                    server,
                    &config.scrape,
                    &config.collectors,
                    &config.events,
                    plans.clone(),
                );
                Arc::new(target)
            })
            .collect();
        Self(Arc::new(Inner {
            targets,
            plans,
            enabled: Mutex::new(enabled),
        }))
    }

    /// What could be had by the deadline, and what could not and why.
    ///
    /// # Errors
    ///
    /// Fails on a name in `collect` that is no collector.
    pub async fn scrape(&self, request: Request) -> Result<Snapshot, UnknownCollector> {
        self.check(&request.collect)?;
        Ok(self.gather(&request).await.assemble())
    }

    /// What could be had by the deadline, still in parts; names that are no collectors give
    /// nothing.
    pub async fn gather(&self, request: &Request) -> Gathering {
        let enabled = self.enabled().clone();
        let scrapes = self
            .0
            .targets
            .iter()
            .map(|target| target.scrape(request, &enabled));
        Gathering(join_all(scrapes).await)
    }

    /// Whether these are collectors.
    ///
    /// # Errors
    ///
    /// Fails on the first that is none.
    pub fn check(&self, collect: &BTreeSet<String>) -> Result<(), UnknownCollector> {
        collect
            .iter()
            .try_for_each(|name| self.known(name).map(drop))
    }

    /// The names of the metrics that collectors other than these bring.
    pub fn metrics_beside(&self, collect: &BTreeSet<String>) -> HashSet<Arc<str>> {
        let plans = self.0.plans.iter();
        plans
            .filter(|plan| !collect.contains(plan.collector.name))
            .flat_map(|plan| plan.metrics())
            .cloned()
            .collect()
    }

    /// What is known, without asking any server.
    pub fn status(&self) -> Status {
        let enabled = self.enabled().clone();
        let servers = self.0.targets.iter();
        Status {
            servers: servers.map(|target| target.status(&enabled)).collect(),
        }
    }

    /// Name and address of every server, and whether it answers as far as that is known.
    pub fn states(&self) -> impl Iterator<Item = (&str, String, Option<State>)> {
        let targets = self.0.targets.iter();
        targets.map(|target| {
            let name = target.config.name.as_str();
            (name, target.connections.address(), target.state())
        })
    }

    /// Switches a collector on or off, from the next scrape on and until the program ends.
    ///
    /// # Errors
    ///
    /// Fails on a name that is no collector.
    pub fn switch(&self, collector: &str, on: bool) -> Result<(), UnknownCollector> {
        let name = self.known(collector)?;
        let mut enabled = self.enabled();
        if on {
            enabled.insert(name);
        } else {
            enabled.remove(name);
        }
        Ok(())
    }

    /// Writes what is to outlive the program to its files.
    pub fn keep(&self) {
        self.0.targets.iter().for_each(|target| target.keep());
    }

    /// Closes every connection.
    pub async fn close(&self) {
        join_all(self.0.targets.iter().map(|target| target.close())).await;
    }

    fn known(&self, name: &str) -> Result<&'static str, UnknownCollector> {
        let mut names = self.0.plans.iter().map(|plan| plan.collector.name);
        names
            .find(|known| *known == name)
            .ok_or_else(|| UnknownCollector(name.to_owned()))
    }

    fn enabled(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0
            .enabled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What scrapes have gathered, server by server.
#[derive(Clone)]
pub struct Gathering(Vec<Scraped>);

impl Gathering {
    /// What was not there in time: server, collector and database. Of two that have gathered values
    /// since the same moment and miss the same, one may stand for the other.
    pub fn missing(&self) -> Missing {
        let servers = self.0.iter().enumerate();
        servers
            .flat_map(|(server, scraped)| {
                let missing = scraped.missing();
                missing.map(move |(collector, database)| (server, collector, database))
            })
            .collect()
    }

    /// Puts it together: work that grows with the page.
    pub fn assemble(self) -> Snapshot {
        let mut page = Snapshot::default();
        for scraped in self.0 {
            page.append(scraped.assemble());
        }
        page
    }
}

/// What was not there in time: server, collector (or why there is none) and database.
pub type Missing = BTreeSet<(usize, &'static str, Option<String>)>;

/// What is known of every server, for a person.
#[derive(Clone, Debug)]
pub struct Status {
    /// In the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

/// What is known of one server.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Where it was reached, or is to be: `host:port` or a socket's path. Never a secret.
    pub address: String,
    /// `None` before the first scrape; otherwise up, or down for this reason and since then.
    pub state: Option<State>,
    /// When a scrape last asked it.
    pub asked: Option<SystemTime>,
    /// Its version, as `version()` gives it.
    pub version: Option<String>,
    /// Whether it is in recovery.
    pub standby: Option<bool>,
    /// The databases that are watched, and what lives in them.
    pub databases: Vec<DatabaseStatus>,
    /// What a person should know about the role that is used: superuser, no grants, ...
    pub warnings: Vec<String>,
    /// Every collector.
    pub collectors: Vec<CollectorStatus>,
}

/// Whether a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Up,
    /// It does not: the reason as in `pg_up`'s companion metric, and the whole story.
    Down {
        /// One word: `refused`, `timeout`, ...
        reason: &'static str,
        /// A sentence.
        message: String,
    },
}

/// One database.
#[derive(Clone, Debug)]
pub struct DatabaseStatus {
    /// Its name.
    pub name: String,
    /// `Synapse`, or nothing.
    pub application: Option<&'static str>,
    /// Why it is not watched, or could not be visited.
    pub skipped: Option<String>,
}

/// One collector on one server.
#[derive(Clone, Debug)]
pub struct CollectorStatus {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub about: &'static str,
    /// Whether it runs at present.
    pub enabled: bool,
    /// Whether its last run succeeded everywhere; `None` before the first.
    pub success: Option<bool>,
    /// What it could not see: reason and database (empty for the server as a whole).
    pub skipped: Vec<(&'static str, String)>,
    /// The age of the oldest value that would be served.
    pub age: Option<Duration>,
    /// How long its last runs took, summed over databases.
    pub duration: Duration,
    /// Rows that its last runs brought.
    pub rows: u64,
    /// Statements that its last runs sent.
    pub statements: u64,
}
