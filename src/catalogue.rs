//! Every collector and metric on paper, with what each needs: for a terminal, for programs, and as
//! `docs/metrics.md`. All of it comes from the definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::collectors::Registry;
use crate::query::view::{SCHEMA, VIEWS};
use crate::query::{Collector, ColumnKind, Query, Role, Scope, Text, Version};
use crate::scrape::own;
use crate::snapshot::Kind;
use crate::telemetry;

/// How the catalogue is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable.
    Text,
    /// Machine-readable.
    Json,
    /// For `docs/metrics.md`.
    Markdown,
}

/// The catalogue.
pub fn render(registry: &Registry, format: Format) -> String {
    let catalogue = Catalogue::new(registry);
    match format {
        Format::Text => catalogue.text(),
        Format::Json => catalogue.json(),
        Format::Markdown => catalogue.markdown(),
    }
}

/// The metrics of a server that have a label of this name, ordered by name.
pub fn labelled(registry: &Registry, label: &str) -> Vec<String> {
    let of_collectors = registry.iter().flat_map(|collector| metrics(collector));
    let of_collectors = of_collectors
        .filter(|metric| metric.labels.iter().any(|known| known == label))
        .map(|metric| metric.name);
    let own = own::ALL
        .iter()
        .filter(|metric| metric.labels.contains(&label));
    let mut names: Vec<_> = of_collectors
        .chain(own.map(|metric| metric.name.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The major versions that a range is written for; the last stands for every newer one.
const MAJORS: [u32; 7] = [13, 14, 15, 16, 17, 18, 19];

#[derive(Serialize)]
struct Catalogue {
    collectors: Vec<CollectorEntry>,
    /// What no collector brings: the server as a whole, and the exporter.
    own: Vec<MetricEntry>,
}

#[derive(Serialize)]
struct CollectorEntry {
    name: Text,
    about: Text,
    enabled: bool,
    scope: &'static str,
    /// The same in words.
    #[serde(skip)]
    place: String,
    /// 0 is every scrape.
    ttl_seconds: u64,
    /// Rows of one database that are served at most.
    limit: usize,
    /// Beyond a login.
    needs: Vec<String>,
    metrics: Vec<MetricEntry>,
}

#[derive(Serialize)]
struct MetricEntry {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    /// Major versions of PostgreSQL; empty is every one.
    versions: String,
    /// `primary` or `standby`, empty is both; `archiver` where WAL is archived.
    role: &'static str,
    /// The setting of the server without which it is not kept, if any.
    setting: &'static str,
    help: String,
}

impl Catalogue {
    fn new(registry: &Registry) -> Self {
        let own = own::ALL.iter().map(|metric| MetricEntry {
            name: metric.name.to_owned(),
            kind: kind(metric.kind),
            labels: metric.labels.iter().map(|&label| label.into()).collect(),
            versions: String::new(),
            role: "",
            setting: "",
            help: metric.help.to_owned(),
        });
        let process = telemetry::process_metrics();
        let process = process.families().map(|family| MetricEntry {
            name: family.metric.name.to_string(),
            kind: kind(family.metric.kind),
            labels: family
                .samples
                .iter()
                .take(1)
                .flat_map(|sample| sample.labels.iter())
                .map(|(name, _)| name.to_string())
                .collect(),
            versions: String::new(),
            role: "",
            setting: "",
            help: family.metric.help.to_string(),
        });
        Self {
            collectors: registry
                .iter()
                .map(|collector| CollectorEntry::new(collector))
                .collect(),
            own: own.chain(process).collect(),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for collector in &self.collectors {
            let _ = writeln!(out, "{}: {}", collector.name, collector.about);
            let _ = writeln!(out, "    {}", collector.run());
            for need in &collector.needs {
                let _ = writeln!(out, "    needs {need}");
            }
            for metric in &collector.metrics {
                metric.write_text(&mut out);
            }
            out.push('\n');
        }
        out += "Beside the collectors: the server as a whole, and the exporter\n";
        for metric in &self.own {
            metric.write_text(&mut out);
        }
        out
    }

    fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self)
            .expect("strings, numbers and lists of them can always be written as JSON");
        json + "\n"
    }

    fn markdown(&self) -> String {
        let mut out = String::from(
            "# Metrics\n\n\
             `matrix-postgres-exporter metrics --format markdown` writes this page from the \
             definitions of the collectors.\n\n\
             An empty column *versions* means PostgreSQL 13 and newer. The roles and functions that \
             a collector needs come with what `matrix-postgres-exporter grants` prints; the \
             functions are in the schema `matrix_postgres_exporter`. A database without an \
             application's tables is read once per `databases.interval` (60 s), never in every scrape. A row \
             limit is for one database.\n",
        );
        for collector in &self.collectors {
            let _ = write!(
                out,
                "\n## `{}`\n\n{}.\n\n- {}\n",
                collector.name,
                collector.about,
                collector.run()
            );
            for need in &collector.needs {
                let _ = writeln!(out, "- Needs {need}");
            }
            table(&mut out, &collector.metrics);
        }
        out += "\n## Beside the collectors\n\nThe server as a whole, and the exporter.\n";
        table(&mut out, &self.own);
        out
    }
}

fn table(out: &mut String, metrics: &[MetricEntry]) {
    *out += "\n| metric | type | labels | versions | |\n|---|---|---|---|---|\n";
    for metric in metrics {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            metric.where_found(),
            metric.help.replace('|', "\\|")
        );
    }
}

impl CollectorEntry {
    fn new(collector: &Collector) -> Self {
        Self {
            name: collector.name.clone(),
            about: collector.about.clone(),
            enabled: collector.enabled,
            scope: match collector.scope {
                Scope::Server => "server",
                Scope::Database => "database",
                Scope::Application(application) => application.key,
            },
            place: match collector.scope {
                Scope::Server => "server".to_owned(),
                Scope::Database => "each database".to_owned(),
                Scope::Application(application) => {
                    format!("each database with {}'s tables", application.name)
                }
            },
            ttl_seconds: collector.ttl.as_secs(),
            limit: collector.limit,
            needs: needs(&collector.queries),
            metrics: metrics(collector),
        }
    }

    /// When and where it runs.
    fn run(&self) -> String {
        let ttl = match self.ttl_seconds {
            0 => "every scrape".to_owned(),
            seconds => format!("every {seconds} s"),
        };
        let off = if self.enabled { "" } else { ", off by default" };
        format!(
            "Scope: {}. Refresh: {ttl}. Row limit: {}{off}",
            self.place, self.limit
        )
    }
}

/// The privileges, each once.
fn needs(queries: &[Query]) -> Vec<String> {
    let mut needs = BTreeSet::new();
    for query in queries {
        for view in VIEWS {
            if !query.statements.iter().any(|s| s.1.has(view.name)) {
                continue;
            }
            needs.insert(match view.privilege {
                Some(role) => format!("`{role}` or the function `{SCHEMA}.{}()`", view.name),
                None => format!(
                    "the function `{SCHEMA}.{}()`, to see what the role may not",
                    view.name
                ),
            });
        }
    }
    let mut tables: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (table, column) in queries.iter().flat_map(Query::privileges) {
        tables.entry(table).or_default().insert(column);
    }
    for (table, columns) in tables {
        let columns: Vec<_> = columns.into_iter().collect();
        needs.insert(format!("SELECT ({}) on `{table}`", columns.join(", ")));
    }
    needs.into_iter().collect()
}

/// The metrics, each once, although several queries may give it.
fn metrics(collector: &Collector) -> Vec<MetricEntry> {
    let mut seen = BTreeSet::new();
    let metrics = collector.metrics().map(|metric| {
        let (query, column) = (metric.query, metric.column);
        let per_row = query.columns.iter().any(|c| c.kind == ColumnKind::Name);
        let (name, help) = match per_row {
            true => (
                format!("{}_*", collector.prefix),
                "One gauge for each numeric or boolean setting, in seconds or bytes where it has \
                 a unit; its help is the setting's name",
            ),
            false => (metric.name, &*column.help),
        };
        MetricEntry {
            name,
            kind: kind(match column.kind {
                ColumnKind::Counter => Kind::Counter,
                ColumnKind::Untyped => Kind::Untyped,
                _ => Kind::Gauge,
            }),
            labels: metric.labels.into_iter().map(str::to_owned).collect(),
            versions: versions(|version| query.returns(version, column)),
            role: match column.role {
                Role::Any => query.role.as_str(),
                role => role.as_str(),
            },
            setting: column.setting.or(query.setting).unwrap_or_default(),
            help: help.to_owned(),
        }
    });
    metrics
        .filter(|metric| seen.insert(metric.name.clone()))
        .collect()
}

/// `17+`, `13-16`, `17`, or nothing for every version.
fn versions(exists: impl Fn(Version) -> bool) -> String {
    let mut majors = MAJORS
        .into_iter()
        .filter(|major| exists(Version(major * 10_000)));
    let first = majors.next();
    let last = majors.next_back().or(first);
    match (first, last) {
        (Some(13), Some(19)) => String::new(),
        (Some(first), Some(19)) => format!("{first}+"),
        (Some(first), Some(last)) if first == last => first.to_string(),
        (Some(first), Some(last)) => format!("{first}-{last}"),
        _ => "none".to_owned(),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Untyped => "untyped",
    }
}

impl MetricEntry {
    fn where_found(&self) -> String {
        let parts = [self.versions.as_str(), self.role, self.setting];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }

    fn write_text(&self, out: &mut String) {
        let labels = match self.labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(", ")),
        };
        let found = match self.where_found() {
            found if found.is_empty() => String::new(),
            found => format!(" ({found})"),
        };
        let _ = writeln!(out, "  {} {}{labels}{found}", self.kind, self.name);
        let _ = writeln!(out, "      {}", self.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ranges() {
        assert_eq!(versions(|_| true), "");
        assert_eq!(versions(|version| version.major() >= 17), "17+");
        assert_eq!(versions(|version| version.major() < 17), "13-16");
        assert_eq!(versions(|version| version.major() == 17), "17");
    }

    #[test]
    fn a_metric_has_its_own_labels_and_versions() {
        let catalogue = Catalogue::new(&Registry::built_in());
        let find = |name: &str| {
            let mut metrics = catalogue.collectors.iter().flat_map(|c| &c.metrics);
            metrics.find(|metric| metric.name == name).unwrap()
        };
        let status = find("pg_replication_slots_wal_status");
        assert_eq!(status.labels, ["slot_name", "slot_type", "wal_status"]);
        assert_eq!(find("pg_stat_bgwriter_buffers_clean_total").versions, "");
        assert_eq!(
            find("pg_stat_bgwriter_buffers_backend_total").versions,
            "13-16"
        );
        assert_eq!(find("synapse_db_sequence_behind_positions").role, "primary");
        assert_eq!(find("pg_settings_*").kind, "gauge");
    }

    #[test]
    fn json_can_be_read_back() {
        let json: serde_json::Value =
            serde_json::from_str(&render(&Registry::built_in(), Format::Json)).unwrap();
        let collectors = json["collectors"].as_array().unwrap();
        assert_eq!(collectors.len(), Registry::built_in().iter().count());
        assert_eq!(json["own"][0]["name"], "pg_up");
    }

    /// To bring the page up to date: `matrix-postgres-exporter metrics --format markdown`.
    #[test]
    fn the_page_is_current() {
        let page = include_str!("../docs/metrics.md");
        let current = render(&Registry::built_in(), Format::Markdown);
        let line = page.lines().zip(current.lines()).find(|(a, b)| a != b);
        assert!(page == current, "docs/metrics.md is not current: {line:?}");
    }
}
