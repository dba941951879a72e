//! File, environment and flags become one validated [`Config`].
//!
//! Precedence: flags, environment, file, defaults. Every error is reported at once, with file,
//! line and key. No socket is opened here, and no secret is ever printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use wildmatch::WildMatch;

pub mod dsn;

pub use dsn::Dsn;

/// Everything the program needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// HTTP.
    pub web: Web,
    /// The servers to watch, one at present.
    pub servers: Vec<Server>,
    /// How a scrape runs.
    pub scrape: Scrape,
    /// What a scrape asks.
    pub collectors: Collectors,
}

/// HTTP.
#[derive(Clone, Debug)]
pub struct Web {
    /// The addresses to listen on, `host:port`.
    pub listen: Vec<String>,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// Whether a scraper that asks for OpenMetrics gets it.
    pub openmetrics: bool,
    /// Whether collectors can be switched from other hosts than this one.
    pub lifecycle: bool,
}

/// One PostgreSQL server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name in the configuration; `main` where it has none.
    pub name: String,
    /// How to reach it.
    pub dsn: Dsn,
    /// Connections to it at most, in all.
    pub connections: usize,
    /// Which of its databases are visited, and how often.
    pub databases: Databases,
    /// Overrides `cluster_name` in `pg_server_info`.
    pub cluster: Option<String>,
    /// Labels that every series of this server gets.
    pub labels: BTreeMap<String, String>,
}

/// Which databases are visited, and how often.
#[derive(Clone, Debug)]
pub struct Databases {
    /// Globs; empty means every one.
    pub include: Vec<String>,
    /// Globs; these win over `include`.
    pub exclude: Vec<String>,
    /// How long the values of a database without Synapse are served before it is visited again.
    pub interval: Duration,
}

impl Databases {
    /// Whether a database of this name is visited.
    pub fn watches(&self, name: &str) -> bool {
        let any = |globs: &[String]| globs.iter().any(|glob| WildMatch::new(glob).matches(name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// How a scrape runs.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The longest a scrape may take; Prometheus' own timeout, where shorter, wins.
    pub timeout: Duration,
    /// The longest a statement on the application's tables may take.
    pub statement_cap: Duration,
}

/// What a scrape asks.
#[derive(Clone, Debug)]
pub struct Collectors {
    /// The names of those that run.
    pub enabled: BTreeSet<String>,
    /// Rows of one database at most, by collector, where not the definition's own.
    pub limits: BTreeMap<String, usize>,
    /// How long values are served before they are refreshed, where not the definition's own.
    pub ttls: BTreeMap<String, Duration>,
}

/// Where a value came from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// A file and the line in it.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}
