//! What of a configuration is of concern to one server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::collectors::Registry;
use crate::config::{self, Config};

/// The settings of one server, and what is asked there. Of two that are equal one may stand for the
/// other.
#[derive(PartialEq)]
pub struct Settings {
    pub server: config::Server,
    pub registry: Registry,
    /// Rows of one database at most, and how long values are served, by collector.
    pub limits: BTreeMap<String, usize>,
    pub ttls: BTreeMap<String, Duration>,
    /// The longest that a statement on the application's tables may take.
    pub statement_cap: Duration,
    /// Where sources keep what they remember, if they do.
    pub state_dir: Option<PathBuf>,
}

impl Settings {
    pub fn new(config: &Config, server: &config::Server, registry: &Registry) -> Self {
        Self {
            server: server.clone(),
            registry: registry.clone(),
            limits: config.collectors.limits.clone(),
            ttls: config.collectors.ttls.clone(),
            statement_cap: config.scrape.statement_cap,
            state_dir: config.state_dir.clone(),
        }
    }

    /// Whether the server is reached in the same way, by as many connections.
    pub fn reaches_as(&self, other: &Self) -> bool {
        self.server.dsn == other.server.dsn && self.server.connections == other.server.connections
    }
}
