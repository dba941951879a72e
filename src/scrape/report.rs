//! What a scrape says: the samples that were gathered, and how the gathering went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::collector::{CollectorState, Gathered, Outcome};
use super::memory::{Down, Memory};
use super::own;
use super::target::Target;
use crate::bounds;
use crate::config;
use crate::query::{Reason, Tables, Version};
use crate::server::{Connections, Facts};
use crate::snapshot::Snapshot;

/// The newest major version that the definitions were tested with.
const NEWEST: u32 = 18;

impl Target {
    /// Everything that was gathered, and what there is to say about it.
    pub fn assemble(
        &self,
        facts: &Result<Arc<Facts>, Down>,
        gathered: &[Gathered],
        off: &[Arc<CollectorState>],
        started: Instant,
    ) -> Snapshot {
        let mut page = Snapshot::default();
        let mut reports: BTreeMap<&str, Report> = BTreeMap::new();
        for one in gathered {
            let report = reports.entry(one.collector.name()).or_default();
            report.limit = one.collector.limit;
            report.add(one, &mut page);
        }
        let failed = reports.values().any(|report| !report.success);
        for (collector, report) in &reports {
            own::COLLECTOR_SUCCESS.push(&mut page, [collector], f64::from(report.success));
            let duration = report.duration.as_secs_f64();
            own::COLLECTOR_DURATION.push(&mut page, [collector], duration);
            own::ROW_LIMIT.push(&mut page, [collector], report.limit as f64);
            for (reason, database) in &report.skipped {
                own::SKIPPED.push(&mut page, [collector, reason.as_str(), database], 1.0);
            }
            for (database, age) in &report.ages {
                own::AGE.push(&mut page, [collector, database], age.as_secs_f64());
            }
        }
        for collector in off {
            let reason = Reason::Disabled.as_str();
            own::SKIPPED.push(&mut page, [collector.name(), reason, ""], 1.0);
        }
        for collector in &self.collectors {
            let Some(cost) = collector.total() else {
                continue;
            };
            let name = [&**collector.name()];
            own::STATEMENTS.push(&mut page, name, cost.statements as f64);
            own::ROWS.push(&mut page, name, cost.rows as f64);
            own::SERIES_CUT.push(&mut page, name, cost.cut as f64);
            own::QUERY_SECONDS.push(&mut page, name, cost.duration.as_secs_f64());
        }
        let mut memory = self.memory.lock();
        memory.own_metrics(&self.settings.server, &self.connections, facts, &mut page);
        for (metric, dropped) in page.dedupe() {
            let known = memory.duplicates.contains_key(&metric);
            if !known && memory.duplicates.len() >= bounds::DUPLICATES {
                continue;
            }
            let total = memory.duplicates.entry(metric.clone()).or_default();
            if *total == 0 {
                tracing::warn!(%metric, dropped, "dropped samples with duplicate labels");
            }
            *total += dropped as u64;
        }
        // What a constant label has made the same was said of at the start.
        if page.set_labels(&self.settings.server.labels) {
            for (metric, dropped) in page.dedupe() {
                *memory.duplicates.entry(metric).or_default() += dropped as u64;
            }
        }
        let mut last = Snapshot::default();
        for (metric, total) in &memory.duplicates {
            own::DUPLICATES.push(&mut last, [metric], *total as f64);
        }
        own::LAST_SCRAPE_ERROR.push(&mut last, [], f64::from(failed || facts.is_err()));
        own::LAST_SCRAPE_DURATION.push(&mut last, [], started.elapsed().as_secs_f64());
        if last.set_labels(&self.settings.server.labels) {
            last.dedupe();
        }
        page.append(last);
        page
    }
}

impl Memory {
    /// The metrics of the server as a whole, and of the exporter.
    pub fn own_metrics(
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
            for power in &facts.powers {
                own::ROLE_WARNING.push(page, [power, ""], 1.0);
            }
            for (warning, name) in self.role_warnings() {
                own::ROLE_WARNING.push(page, [warning.as_str(), name], 1.0);
            }
            for (name, known) in &self.databases {
                let rights = &known.rights.found;
                if let Some(unknown) = known.rights.are_unknown() {
                    own::ROLE_UNKNOWN.push(page, [name], f64::from(unknown));
                }
                for [schema, _] in &rights.create.named {
                    own::ROLE_CAN_CREATE.push(page, [name, schema], 1.0);
                }
                for [schema, table] in &rights.write.named {
                    own::ROLE_CAN_WRITE.push(page, [name, schema, table], 1.0);
                }
                for [schema, function] in &rights.call.named {
                    own::ROLE_CAN_CALL.push(page, [name, schema, function], 1.0);
                }
            }
            let functions = facts.views.missing().count();
            own::GRANTS_MISSING.push(page, [""], functions as f64);
            let databases = self.databases.iter();
            for (name, known) in databases.filter(|(_, known)| !known.applications.is_empty()) {
                let tables = || known.applications.iter().map(|found| &found.tables);
                let columns: usize = tables().map(Tables::unreadable_count).sum();
                own::GRANTS_MISSING.push(page, [name], columns as f64);
                let not_plain: usize = tables().map(|tables| tables.not_plain.len()).sum();
                own::NOT_PLAIN.push(page, [name], not_plain as f64);
            }
            own::DATABASES.push(page, [], self.databases.len() as f64);
            let beyond = self.without_connection.len();
            own::WITHOUT_CONNECTION.push(page, [], beyond as f64);
        }
        own::SCRAPES.push(page, [], self.scrapes as f64);
        own::CONNECTIONS.push(page, [], connections.open() as f64);
        own::CONNECTION_LIMIT.push(page, [], connections.budget() as f64);
        own::CONNECTIONS_OPENED.push(page, [], connections.opened() as f64);
    }
}

/// What there is to say of a collector after a scrape.
struct Report {
    limit: usize,
    success: bool,
    duration: Duration,
    skipped: BTreeSet<(Reason, String)>,
    ages: BTreeMap<String, Duration>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            limit: 0,
            success: true,
            duration: Duration::ZERO,
            skipped: BTreeSet::new(),
            ages: BTreeMap::new(),
        }
    }
}

impl Report {
    pub fn add(&mut self, one: &Gathered, page: &mut Snapshot) {
        let database = one.place.name().to_owned();
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
        for (table, quality) in &harvest.walked {
            let labels = [one.collector.name(), database.as_str(), *table];
            match quality.planner_rows {
                Some(rows) => own::PLANNER_ROWS.push(page, labels, rows),
                None => own::COUNT_ESTIMATED.push(page, labels, f64::from(quality.estimated)),
            }
            if let Some(at_least) = quality.at_least {
                own::COUNT_AT_LEAST.push(page, labels, f64::from(at_least));
            }
        }
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
