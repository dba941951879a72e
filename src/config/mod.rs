//! File, environment and flags become one validated [`Config`].
//!
//! Precedence: flags, environment, file, defaults. Every error is reported at once, with file,
//! line and key. No socket is opened here, and no secret is ever printed.
//!
//! - `layer`: what one source says
//! - `file`: the YAML file, with the line of every key
//! - `environment`: `DATA_SOURCE_*`
//! - `section`: reads settings one by one and notes everything that is wrong
//! - `resolve`: settings become a [`Config`]
//! - `problem`: what can be wrong, in sentences
//! - [`dsn`]: connection strings

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Config as Layers, Map, Source, Value};
use wildmatch::WildMatch;

use crate::collectors::Registry;
use crate::events;

pub mod dsn;
mod environment;
mod file;
mod layer;
mod problem;
mod resolve;
mod section;

pub use dsn::Dsn;
pub use layer::Layer;
pub use problem::{Fault, Problem, Problems, nearest};

pub use crate::telemetry::LogFormat;

use file::File;
use section::Notes;

/// Lays flags over environment over file over defaults, and checks the result; the settings of
/// collectors are for those of the registry.
///
/// # Errors
///
/// Fails with everything that is wrong, not only with the first.
pub fn load(sources: Sources<'_>, registry: &Registry) -> Result<Loaded, Problems> {
    let (settings, notes) = merge(&sources)?;
    resolve::config(
        settings,
        &sources.switches,
        sources.variable,
        registry,
        notes,
    )
}

/// The same for HTTP alone, for a command that needs no database.
///
/// # Errors
///
/// Fails with everything that is wrong with it.
pub fn load_web(sources: Sources<'_>) -> Result<Web, Problems> {
    let (settings, notes) = merge(&sources)?;
    resolve::web_alone(settings, notes)
}

/// The layers as one tree. A file that cannot be read ends it: what it would say is unknown.
fn merge(sources: &Sources<'_>) -> Result<(Map<String, Value>, Notes), Problems> {
    let mut warnings = sources.warnings.clone();
    let file = match &sources.file {
        None => File::default(),
        Some(path) if is_postgres_exporters(path) && matches!(path.try_exists(), Ok(false)) => {
            warnings.push(format!("{} does not exist and is ignored", path.display()));
            File::default()
        }
        Some(path) => File::read(path)?,
    };
    let server = file.server().unwrap_or(UNNAMED).to_owned();
    let mut notes = Notes {
        file: sources.file.as_deref().map(section::FileName::new),
        places: file.places,
        problems: sources.problems.clone(),
        warnings,
    };

    let mut environment = sources.environment.clone();
    environment::data_source(sources.variable, &mut environment, &mut notes);

    let mut layers = Layers::builder().add_source(Layer::from(file.settings));
    let mut dsn_below = notes.places.contains_key(&format!("servers.{server}.dsn"));
    for mut layer in [environment, sources.flags.clone()] {
        layer.displace(dsn_below);
        dsn_below |= layer.has(layer::DSN);
        layers = layers.add_source(layer.for_server(&server));
    }
    let settings = layers
        .build()
        .and_then(|layers| layers.collect())
        .map_err(|error| Problem::new("configuration", Fault::Invalid(error.to_string())))?;
    Ok((settings, notes))
}

/// Whether a file is called as postgres_exporter's own is, which need not be there: installations
/// name it whether they have one or not.
fn is_postgres_exporters(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "postgres_exporter.yml" || name == "postgres_exporter.yaml")
}

/// Where settings come from.
pub struct Sources<'a> {
    /// The file, where one is named.
    pub file: Option<PathBuf>,
    /// What environment variables say, but for how the server is reached.
    pub environment: Layer,
    /// What flags say.
    pub flags: Layer,
    /// Collectors switched by flags or environment, the later one wins.
    pub switches: Vec<Switch>,
    /// Looks up an environment variable.
    pub variable: Variable<'a>,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    /// What was accepted without effect so far.
    pub warnings: Vec<String>,
}

/// Looks up an environment variable; an empty one counts as not set.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A collector switched on or off.
#[derive(Clone, Debug)]
pub struct Switch {
    /// Its name.
    pub collector: String,
    /// On or off.
    pub on: bool,
    /// Where that was said.
    pub place: String,
}

/// A checked configuration, and what was accepted without effect: sentences for the log.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The sentences.
    pub warnings: Vec<String>,
}

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
    /// Where sources keep what they remember from one start to the next, if they do.
    pub state_dir: Option<PathBuf>,
    /// How events are counted.
    pub events: events::Settings,
    /// What is logged.
    pub log: Log,
}

impl Config {
    /// These collectors, with the settings of their sources.
    pub fn fill(&self, registry: &Registry) -> Registry {
        registry.with_settings(self.events.clone())
    }
}

/// HTTP.
#[derive(Clone, Debug)]
pub struct Web {
    /// The addresses to listen on, `host:port`; `:port` stands for all addresses.
    pub listen: Vec<String>,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// Whether a scraper that asks for OpenMetrics gets it.
    pub openmetrics: bool,
    /// Whether collectors can be switched from other hosts than this one.
    pub lifecycle: bool,
    /// How much clients may take.
    pub limits: WebLimits,
}

/// How much the clients of HTTP may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebLimits {
    /// Connections at once.
    pub connections: usize,
    /// Scrapes of different collectors at once, beside those of all.
    pub scrapes: usize,
    /// Bytes of pages that are kept for slow readers, beside the newest.
    pub unread: usize,
    /// Bytes of its answer that a client has to take in a second.
    pub least_rate: u64,
}

impl Default for WebLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            scrapes: 16,
            unread: 32 << 20,
            least_rate: 64 << 10,
        }
    }
}

/// One PostgreSQL server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its name in the configuration; `main` where it has none.
    pub name: String,
    /// How to reach it.
    pub dsn: Dsn,
    /// Connections to it at most, in all.
    pub connections: usize,
    /// Bytes of its part of the page at most.
    pub page: usize,
    /// Which of its databases are visited, and how often.
    pub databases: Databases,
    /// Overrides `cluster_name` in `pg_server_info`.
    pub cluster: Option<String>,
    /// Labels that every series of this server gets.
    pub labels: BTreeMap<String, String>,
}

/// Which databases are visited, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Databases {
    /// Globs; empty means every one.
    pub include: Vec<String>,
    /// Globs; these win over `include`.
    pub exclude: Vec<String>,
    /// How long the values of a database without an application are served before it is visited again.
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

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or a filter by library.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

/// What the server is called where nobody named it.
const UNNAMED: &str = "main";

/// Whether a server may be called so: the name is a label value, a query string and a key.
fn is_server_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests;
