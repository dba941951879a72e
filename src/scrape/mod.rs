//! One scrape of a set of servers.
//!
//! A scrape gathers values by its deadline, then puts them together, which for a large page is
//! work.
//!
//! - `generation`: the collectors and servers of one configuration
//! - `settings`: what of a configuration is of concern to one server
//! - `target`: the scrape of one server, in these steps:
//! - `reach`: whether the server answers, and what it says of itself
//! - `gather`: what a scrape runs itself, and what it takes from memory
//! - `refresh`: visits and refreshes that go on in the background
//! - `queue`: the databases that wait for that
//! - `report`: what a scrape says
//! - `status`: what is known, for a person
//! - `collector`: a collector on one server, and what it has brought of each place
//! - `memory`: what is remembered from scrape to scrape
//! - `cell`: a value that concurrent scrapes share
//! - `room`: how much of what a server says is kept
//! - [`own`]: the metrics that no collector defines

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::collectors::Registry;
use crate::config::Config;
use crate::query::{Application, Text};
use crate::snapshot::Snapshot;

mod cell;
mod collector;
mod gather;
mod generation;
mod memory;
pub mod own;
mod queue;
mod reach;
mod refresh;
mod report;
mod room;
mod settings;
mod status;
mod target;

pub use collector::Place;
use generation::Generation;
use target::{Scraped, Target};

/// Scrapes the configured servers; cheap to clone.
#[derive(Clone)]
pub struct Scraper(Arc<Inner>);

struct Inner {
    current: ArcSwap<Generation>,
    /// Closes what the last change of the configuration has left.
    leaving: Mutex<Option<JoinHandle<()>>>,
}

/// What another configuration has changed: names of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that go on as they were.
    pub kept: Vec<String>,
    /// Those that begin, with other settings or for the first time.
    pub begun: Vec<String>,
    /// Those that end, for good or to begin with other settings.
    pub ended: Vec<String>,
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

/// A name that is not a collector.
#[derive(Debug, thiserror::Error)]
#[error("there is no collector {0:?}; `matrix-postgres-exporter metrics` lists them")]
pub struct UnknownCollector(pub String);

impl Scraper {
    /// A scraper of the configured servers; connects to none of them yet.
    pub fn new(config: &Config, registry: &Registry) -> Self {
        Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(Generation::new(config, registry, None)),
            leaving: Mutex::default(),
        }))
    }

    /// Takes another configuration and other collectors, from the next scrape on. A server of which
    /// nothing has changed goes on with its connections, memory and counts; one that is left is closed
    /// when the last scrape of it has ended. Before the next change that is waited for, so that no server
    /// has connections of more than two configurations.
    pub async fn change(&self, config: &Config, registry: &Registry) -> Changes {
        let mut leaving = self.0.leaving.lock().await;
        closed(&mut leaving).await;
        let before = self.0.current.load_full();
        let next = Arc::new(Generation::new(config, registry, Some(&before)));
        let (left, begun) = (before.left_by(&next), next.left_by(&before));
        let names = |targets: &[Arc<Target>]| {
            let names = targets.iter().map(|target| target.name().to_owned());
            names.collect::<Vec<_>>()
        };
        let mut changes = Changes {
            kept: names(&next.targets),
            begun: names(&begun),
            ended: names(&left),
        };
        changes.kept.retain(|name| !changes.begun.contains(name));
        // What goes on in another target is read from its file there.
        let files = left.clone();
        let written = move || files.iter().for_each(|target| target.keep());
        if let Err(error) = tokio::task::spawn_blocking(written).await {
            tracing::warn!(%error, "could not write all state files");
        }
        for target in &left {
            target.memory.lock().left = true;
        }
        self.0.current.store(next.clone());
        *leaving = Some(tokio::spawn(leave(before, left, next)));
        changes
    }

    /// What was collected by the deadline, and what could not and why.
    ///
    /// # Errors
    ///
    /// Fails on a name in `collect` that is not a collector.
    pub async fn scrape(&self, request: Request) -> Result<Snapshot, UnknownCollector> {
        self.check(&request.collect)?;
        Ok(self.gather(&request).await.assemble())
    }

    /// What was collected by the deadline, still in parts; names that are not collectors give
    /// nothing.
    pub async fn gather(&self, request: &Request) -> Gathering {
        let current = self.0.current.load_full();
        let scrapes = current.targets.iter();
        let scrapes = scrapes.map(|target| {
            let scrape = target.scrape(request);
            scrape.instrument(target.span.clone())
        });
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
            .try_for_each(|name| self.with_switch(name, |_| ()))
    }

    /// What is known, without asking any server.
    pub fn status(&self) -> Status {
        let current = self.0.current.load_full();
        let servers = current.targets.iter();
        Status {
            servers: servers.map(|target| target.status()).collect(),
        }
    }

    /// Name and address of every server, and whether it answers as far as that is known.
    pub fn states(&self) -> Vec<(String, String, Option<State>)> {
        let current = self.0.current.load_full();
        let targets = current.targets.iter();
        let states = targets.map(|target| {
            let name = target.name().to_owned();
            (name, target.connections.address(), target.state())
        });
        states.collect()
    }

    /// Switches a collector on or off, from the next scrape on and until the program ends.
    ///
    /// # Errors
    ///
    /// Fails on a name that is not a collector.
    pub fn switch(&self, collector: &str, on: bool) -> Result<(), UnknownCollector> {
        self.with_switch(collector, |switch| switch.store(on, Ordering::Relaxed))
    }

    /// Writes what is to outlive the program to its files.
    pub fn keep(&self) {
        let current = self.0.current.load_full();
        current.targets.iter().for_each(|target| target.keep());
    }

    /// Closes every connection.
    pub async fn close(&self) {
        let current = self.0.current.load_full();
        let all = join_all(current.targets.iter().map(|target| target.close()));
        let mut leaving = self.0.leaving.lock().await;
        tokio::join!(all, closed(&mut leaving));
    }

    fn with_switch<T>(
        &self,
        collector: &str,
        what: impl FnOnce(&AtomicBool) -> T,
    ) -> Result<T, UnknownCollector> {
        let current = self.0.current.load_full();
        let switch = current.switch(collector);
        switch
            .map(what)
            .ok_or_else(|| UnknownCollector(collector.to_owned()))
    }
}

/// Waits until what a change has left is closed.
async fn closed(leaving: &mut Option<JoinHandle<()>>) {
    if let Some(task) = leaving.take()
        && let Err(error) = task.await
    {
        tracing::error!(%error, "could not close a server that is not in the configuration any more");
    }
}

/// Closes these servers when the last scrape has ended that may use them; the connections of one go on
/// where the next generation has them.
async fn leave(before: Arc<Generation>, left: Vec<Arc<Target>>, next: Arc<Generation>) {
    before.ended().await;
    let closed = left.iter().map(|target| async {
        match next.uses(&target.connections) {
            true => target.queue.close(),
            false => target.close().await,
        }
    });
    join_all(closed).await;
}

/// What scrapes have gathered, server by server.
#[derive(Clone)]
pub struct Gathering(Vec<Scraped>);

impl Gathering {
    /// What was not there in time: server, collector and database. Of two that have gathered values
    /// since the same moment and miss the same, one may stand for the other.
    pub fn missing(&self) -> Missing {
        let missing = self.0.iter().flat_map(|scraped| {
            let missing = scraped.missing();
            missing.map(|(collector, place)| (scraped.server().to_owned(), collector, place))
        });
        missing.collect()
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
pub type Missing = BTreeSet<(String, Text, Place)>;

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
    /// The databases that are watched, and what is in them.
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
