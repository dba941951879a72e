//! One scrape of a set of servers.
//!
//! A scrape gathers values by its deadline, then puts them together, which for a large page is
//! work.
//!
//! - `target`: the scrape of one server, in these steps:
//! - `reach`: whether the server answers, and what it says of itself
//! - `gather`: what a scrape runs itself, and what it takes from memory
//! - `refresh`: visits and refreshes that go on behind the scrapes
//! - `queue`: the databases that wait for that
//! - `report`: what a scrape says
//! - `status`: what is known, for a person
//! - `collector`: a collector on one server, and what it has brought of each place
//! - `memory`: what is remembered from scrape to scrape
//! - `cell`: a value that concurrent scrapes share
//! - `room`: how much of what a server says is kept
//! - [`own`]: the metrics that no collector defines

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;

use crate::collectors::Registry;
use crate::config::Config;
use crate::query::{Application, Plan, Text};
use crate::snapshot::Snapshot;

mod cell;
mod collector;
mod gather;
mod memory;
pub mod own;
mod queue;
mod reach;
mod refresh;
mod report;
mod room;
mod status;
mod target;

use collector::CollectorState;
pub use collector::Place;
use target::{Scraped, Target};

/// Scrapes the configured servers; cheap to clone.
#[derive(Clone)]
pub struct Scraper(Arc<Inner>);

struct Inner {
    targets: Vec<Arc<Target>>,
    /// Whether a collector runs, by its name.
    switches: BTreeMap<Text, Arc<AtomicBool>>,
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
    pub fn new(config: &Config, registry: &Registry) -> Self {
        let plans: Vec<_> = registry
            .iter()
            .map(|collector| {
                let on = config.collectors.enabled.contains(&*collector.name);
                (
                    Arc::new(Plan::new(collector.clone())),
                    Arc::new(AtomicBool::new(on)),
                )
            })
            .collect();
        let targets = config.servers.iter().map(|server| {
            let states = plans.iter().map(|(plan, on)| {
                let (settings, interval) = (&config.collectors, server.databases.interval);
                let state = CollectorState::new(plan.clone(), settings, interval, on.clone());
                Arc::new(state)
            });
            Arc::new(Target::new(config, server, registry, states.collect()))
        });
        let targets = targets.collect();
        let switches = plans
            .into_iter()
            .map(|(plan, on)| (plan.collector.name.clone(), on));
        Self(Arc::new(Inner {
            targets,
            switches: switches.collect(),
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
        let scrapes = self.0.targets.iter().map(|target| target.scrape(request));
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
            .try_for_each(|name| self.switch_of(name).map(drop))
    }

    /// What is known, without asking any server.
    pub fn status(&self) -> Status {
        let servers = self.0.targets.iter();
        Status {
            servers: servers.map(|target| target.status()).collect(),
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
        self.switch_of(collector)?.store(on, Ordering::Relaxed);
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

    fn switch_of(&self, name: &str) -> Result<&AtomicBool, UnknownCollector> {
        let switch = self.0.switches.get(name);
        switch
            .map(|on| &**on)
            .ok_or_else(|| UnknownCollector(name.to_owned()))
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
                missing.map(move |(collector, place)| (server, collector, place))
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

/// What was not there in time: server, collector (or why there is none) and place.
pub type Missing = BTreeSet<(usize, Text, Place)>;

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
    /// The applications that live there.
    pub applications: Vec<ApplicationStatus>,
    /// Why it is not watched, or could not be visited.
    pub skipped: Option<String>,
}

/// An application in a database.
#[derive(Clone, Debug)]
pub struct ApplicationStatus {
    /// Which it is.
    pub application: &'static Application,
    /// What it is called, with its parts where not all are there.
    pub name: String,
}

/// One collector on one server.
#[derive(Clone, Debug)]
pub struct CollectorStatus {
    /// Its name.
    pub name: Text,
    /// What it tells.
    pub about: Text,
    /// The application whose tables it reads, if it does.
    pub application: Option<&'static Application>,
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
