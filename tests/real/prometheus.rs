//! A real Prometheus takes everything that is served, and its checker finds little to complain of.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use matrix_postgres_exporter::collectors;
use matrix_postgres_exporter::query::{Collector, ColumnKind};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::{PATIENCE, wait_at_most, wait_for};
use super::support::prometheus::{Prometheus, promtool};
use super::support::roles::Role;
use super::support::synapse::{NEW, Synapse};

/// What Prometheus adds to every target.
const ITS_OWN: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
];

/// What does not change on a server where nothing happens.
const QUIET: [&str; 4] = ["synapse_db_", "pg_settings_", "pg_roles_", "pg_static"];

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_stores_every_series() {
    let server = server_with_synapse().await;
    for openmetrics in [false, true] {
        let configuration = format!("openmetrics: {openmetrics}");
        let exporter =
            Exporter::configured(&server.dsn("synapse", "exporter"), &configuration).await;
        let prometheus = Prometheus::scrape(exporter.address()).await;
        let both = RefCell::default();
        let same = "what is served and what is stored are the same";
        wait_at_most(3 * PATIENCE, same, || async {
            let served = series_of(&exporter.scrape().await);
            let stored = stored_in(&prometheus).await;
            let same = served.keys().eq(stored.keys());
            *both.borrow_mut() = (served, stored);
            same
        })
        .await;
        let (served, stored) = both.into_inner();
        assert!(served.len() > 500, "{}", served.len());
        for ((name, labels), value) in &served {
            let is_quiet = QUIET.iter().any(|prefix| name.starts_with(prefix));
            if is_quiet && !name.ends_with("_age_seconds") {
                let there = stored[&(name.clone(), labels.clone())];
                assert!(
                    there == *value,
                    "{name} {labels:?} is {value}, stored {there}"
                );
            }
        }
        // A busy machine may be too slow for one scrape or another.
        wait_for("a scrape is without fault", || async {
            let targets = prometheus.api("targets").await;
            let target = &targets["activeTargets"][0];
            (&target["lastError"], &target["health"]) == (&"".into(), &"up".into())
        })
        .await;
    }
}

/// Every name that promtool dislikes is postgres_exporter's, or a setting's, and is on the list.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_complains_of_nothing_new() {
    let mut complaints = check(&every_definition());
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
        complaints.append(&mut check(exporter.get("/metrics").await.text()));
    }
    let allowed: BTreeSet<_> = ALLOWED.lines().map(str::to_owned).collect();
    assert_eq!(complaints, allowed);
}

/// Its complaints, as it words them.
const ALLOWED: &str = include_str!("../catalog/promtool-allowed.txt");

/// A server with the database of a Synapse that has gone home, and the role `exporter`.
async fn server_with_synapse() -> Postgres {
    let (server, _) = Synapse::leave(Postgres::builder(18), NEW).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    server
}

type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn series_of(page: &Page) -> Series {
    let samples = page.families.values().flat_map(|family| &family.samples);
    samples
        .map(|sample| {
            // Prometheus knows no empty labels.
            let mut labels = sample.labels.clone();
            labels.retain(|_, value| !value.is_empty());
            ((sample.name.clone(), labels), sample.value)
        })
        .collect()
}

async fn stored_in(prometheus: &Prometheus) -> Series {
    let stored = prometheus.query(r#"{job="postgres"}"#).await;
    stored
        .into_iter()
        .map(|(mut labels, value)| {
            labels.retain(|name, _| name != "job" && name != "instance");
            ((labels.remove("__name__").unwrap(), labels), value)
        })
        .filter(|((name, _), _)| !ITS_OWN.contains(&name.as_str()))
        .collect()
}

/// A page with every metric that a collector defines, whether a server would give it or not, but
/// for those that the rows name themselves.
fn every_definition() -> String {
    let mut metrics = BTreeMap::new();
    let collectors = collectors::all();
    for metric in collectors.iter().flat_map(Collector::metrics) {
        let kind = match metric.column.kind {
            ColumnKind::Counter => "counter",
            ColumnKind::Untyped => "untyped",
            _ => "gauge",
        };
        if !metric.column.help.is_empty() {
            metrics.insert(metric.name, (kind, metric.column.help.clone()));
        }
    }
    let page = metrics.into_iter().map(|(name, (kind, help))| {
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} 1\n")
    });
    page.collect()
}

/// What `promtool check metrics` says of a page.
fn check(page: &str) -> BTreeSet<String> {
    let mut promtool = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains("error while linting"), "{said}");
    said.lines().map(str::to_owned).collect()
}
