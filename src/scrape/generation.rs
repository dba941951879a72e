//! What is scraped at a time: the collectors and the servers of one configuration.
//!
//! Another configuration makes another generation. It keeps every server of which nothing has changed,
//! with its connections, memory and counts. Another one is built; where it is reached as before, by
//! as many connections, it goes on with these, so that the two never have more. Else both have theirs
//! until the scrapes of the old one have ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::collector::CollectorState;
use super::settings::Settings;
use super::target::Target;
use crate::collectors::Registry;
use crate::config::{self, Config};
use crate::query::{Plan, Text};
use crate::server::Connections;
use crate::server::connect::Dialer;

/// The collectors and servers of one configuration.
pub struct Generation {
    /// In the order of the configuration.
    pub targets: Vec<Arc<Target>>,
    switches: BTreeMap<Text, Switch>,
    /// Goes with the last scrape of this generation.
    scrapes: watch::Sender<()>,
}

/// Whether a collector runs.
struct Switch {
    /// Now; the same for all servers, and for the generations to come.
    on: Arc<AtomicBool>,
    /// As configured. Where that stays, so does what was switched since.
    configured: bool,
}

impl Generation {
    /// Of this configuration, with what can be kept of the generation before.
    pub fn new(config: &Config, registry: &Registry, before: Option<&Self>) -> Self {
        let registry = &config.fill(registry);
        let switches = switches(config, registry, before);
        let plans: Vec<_> = registry
            .iter()
            .map(|collector| Arc::new(Plan::new(collector.clone())))
            .collect();
        let target = |server: &config::Server| {
            let settings = Settings::new(config, server, registry);
            let known = before.and_then(|before| before.target(&server.name));
            if let Some(same) = known.filter(|known| known.settings == settings) {
                return same.clone();
            }
            let plans = plans.iter().filter_map(|plan| {
                let on = switches.get(&plan.collector.name)?.on.clone();
                let state = CollectorState::new(plan.clone(), &settings, on);
                Some(Arc::new(state))
            });
            let plans = plans.collect();
            let reached = known.filter(|known| known.settings.reaches_as(&settings));
            let connections = match reached {
                Some(known) => known.connections.clone(),
                None => {
                    let dialer = Dialer::new(server.dsn.clone());
                    Connections::new(&server.name, dialer, server.connections)
                }
            };
            Arc::new(Target::new(settings, connections, plans))
        };
        Self {
            targets: config.servers.iter().map(target).collect(),
            switches,
            scrapes: watch::Sender::new(()),
        }
    }

    /// Whether a collector runs; none if there is no such collector.
    pub fn switch(&self, collector: &str) -> Option<&AtomicBool> {
        self.switches.get(collector).map(|switch| &*switch.on)
    }

    /// Those of its servers that another generation does not have.
    pub fn left_by(&self, next: &Self) -> Vec<Arc<Target>> {
        let is_kept =
            |target: &&Arc<Target>| next.targets.iter().any(|one| Arc::ptr_eq(one, target));
        let left = self.targets.iter().filter(|target| !is_kept(target));
        left.cloned().collect()
    }

    /// Waits until the last scrape of this generation has ended.
    pub async fn ended(self: Arc<Self>) {
        let mut scrapes = self.scrapes.subscribe();
        drop(self);
        while scrapes.changed().await.is_ok() {}
    }

    /// Whether one of its servers uses these connections.
    pub fn uses(&self, connections: &Connections) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.connections.are(connections))
    }

    fn target(&self, name: &str) -> Option<&Arc<Target>> {
        let mut targets = self.targets.iter();
        targets.find(|target| target.name() == name)
    }
}

fn switches(
    config: &Config,
    registry: &Registry,
    before: Option<&Generation>,
) -> BTreeMap<Text, Switch> {
    let switches = registry.iter().map(|collector| {
        let configured = config.collectors.enabled.contains(&*collector.name);
        let known = before.and_then(|before| before.switches.get(&collector.name));
        let on = match known {
            Some(known) => known.on.clone(),
            None => Arc::new(AtomicBool::new(configured)),
        };
        if known.is_some_and(|known| known.configured != configured) {
            on.store(configured, Ordering::Relaxed);
        }
        (collector.name.clone(), Switch { on, configured })
    });
    switches.collect()
}
