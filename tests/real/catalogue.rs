//! The names: what real servers give, of every version, primary and standby, to both kinds of
//! role, compared with files in `tests/catalog`.
//!
//! - `served.tsv`: everything that is served; `UPDATE_GOLDEN=1` writes it again
//! - `postgres_exporter-0.20.tsv`: what postgres_exporter exports by default

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use matrix_postgres_exporter::catalogue::{self, Format as Listing};
use matrix_postgres_exporter::collectors::Registry;
use serde_json::Value;
use tokio_postgres::Client;

use super::support::answers::{create_roles, wait_until};
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{MAJORS, Postgres};
use super::support::process::wait_for;

/// Metrics of the catalogue that these servers do not give.
const NOT_SERVED: [(&str, &str); 6] = [
    (
        "pg_exporter_count_",
        "no Synapse lives here; tests/real/pieces.rs",
    ),
    (
        "pg_exporter_tables_not_plain",
        "no Synapse lives here; tests/real/hostile_database.rs",
    ),
    (
        "pg_exporter_down_reason",
        "no server is down; tests/real/down.rs",
    ),
    (
        "pg_exporter_role_warning",
        "no role may do more than it should; tests/real/rights.rs",
    ),
    (
        "pg_exporter_role_can_",
        "no role may do that here; tests/real/creation.rs, tests/real/triggers.rs",
    ),
    (
        "pg_exporter_duplicate_series_total",
        "no series comes twice; tests/real/limits.rs",
    ),
];

/// Metrics that postgres_exporter exports by default and this does not, or not with its labels, as
/// docs/compatibility.md says.
const NOT_EXPORTED: [(&str, &str); 2] = [
    ("postgres_exporter_", "about that program"),
    (
        "pg_stat_database_conflicts_",
        "there alone with the label server",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_server_serves_what_is_recorded() {
    let mut served = BTreeMap::<String, BTreeSet<Place>>::new();
    for major in MAJORS {
        let pair = Pair::start(major).await;
        for (on, server) in [("primary", &pair.primary), ("standby", &pair.standby)] {
            for role in ["monitor", "strict"] {
                let page = page(&server.tcp_dsn("matrix", role)).await;
                for metric in metrics(&page) {
                    served.entry(metric).or_default().insert((on, role, major));
                }
            }
        }
    }
    let mut text = "metric\ttype\tlabels\twhere\n".to_owned();
    for (metric, places) in &served {
        text += &format!("{metric}\t{}\n", describe(places));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path("served.tsv"), &text).unwrap();
    }
    let recorded = fs::read_to_string(path("served.tsv")).unwrap();
    let [recorded, served] = [recorded, text].map(|text| lines(&text));
    let missing: Vec<_> = recorded.difference(&served).collect();
    let new: Vec<_> = served.difference(&recorded).collect();
    assert!(
        missing.is_empty() && new.is_empty(),
        "not what is recorded; when it is right, UPDATE_GOLDEN=1 records it\n\
         recorded: {missing:#?}\nserved: {new:#?}"
    );
}

#[test]
fn the_catalogue_lists_what_is_recorded() {
    let recorded = records("served.tsv");
    let listed = listed();
    // No application lives here; tests/real/synapse.rs, tests/real/applications.rs.
    let applications = Registry::built_in().applications().into_iter();
    let applications: Vec<_> = applications.map(|one| format!("{}_db_", one.key)).collect();
    let known = NOT_SERVED.iter().map(|(known, _)| *known);
    let not_served: Vec<_> = known
        .chain(applications.iter().map(String::as_str))
        .collect();
    for metric in &listed {
        let elsewhere = not_served.iter().any(|known| metric.starts_with(known));
        assert!(
            elsewhere || recorded.contains(metric),
            "listed, not served: {metric}"
        );
    }
    for metric in recorded {
        // The catalogue has one line for all settings.
        let setting = metric.starts_with("pg_settings_") && metric.ends_with("\tgauge\t");
        assert!(
            setting || listed.contains(&metric),
            "served, not listed: {metric}"
        );
    }
}

#[test]
fn what_postgres_exporter_exports_is_recorded() {
    let recorded = records("served.tsv");
    let theirs = records("postgres_exporter-0.20.tsv");
    let missing = theirs.difference(&recorded);
    let (known, unknown): (BTreeSet<_>, BTreeSet<_>) = missing.partition(|metric| {
        NOT_EXPORTED
            .iter()
            .any(|(known, _)| metric.starts_with(known))
    });
    assert_eq!(unknown, BTreeSet::<&String>::new());
    let told = include_str!("../../docs/compatibility.md");
    for (stem, _) in NOT_EXPORTED {
        assert!(
            known.iter().any(|metric| metric.starts_with(stem)),
            "{stem}"
        );
        assert!(told.contains(&format!("`{stem}")), "{stem} is not told");
    }
}

/// Primary or standby, the role of the exporter, and the version.
type Place = (&'static str, &'static str, u32);

/// A primary and its standby, on which every collector has something to tell.
pub struct Pair {
    pub primary: Postgres,
    pub standby: Postgres,
    /// Runs a vacuum that takes its time.
    _vacuum: Client,
}

impl Pair {
    pub async fn start(major: u32) -> Self {
        let primary = Postgres::builder(major)
            .setting("archive_mode", "on")
            .setting("archive_command", "'true'")
            .setting("wal_level", "logical")
            .setting("max_slot_wal_keep_size", "'1GB'")
            .setting("autovacuum", "off")
            .setting("track_io_timing", "on")
            .start()
            .await;
        primary.sql("postgres", "CREATE DATABASE matrix").await;
        primary
            .sql(
                "matrix",
                "CREATE TABLE notes (id integer PRIMARY KEY, note text);
                 INSERT INTO notes SELECT n, repeat(md5(n::text), 500) FROM generate_series(1, 9) n;
                 CREATE TABLE numbers AS SELECT generate_series(1, 200000) AS n;
                 SELECT pg_create_physical_replication_slot('standby')",
            )
            .await;
        create_roles(&primary, &["matrix"]).await;
        let standby = primary
            .standby()
            .setting("primary_slot_name", "standby")
            .start()
            .await;
        // The standby has the files that were there before it.
        let slot = "SELECT pg_create_logical_replication_slot('copy', 'test_decoding')";
        primary.sql("matrix", slot).await;
        let vacuum = slow_vacuum(&primary).await;
        primary
            .sql("matrix", "INSERT INTO numbers VALUES (0)")
            .await;
        primary.sql("postgres", "SELECT pg_switch_wal()").await;
        for (server, condition) in [
            (
                &primary,
                "SELECT last_archived_time IS NOT NULL FROM pg_stat_archiver",
            ),
            (
                &primary,
                "SELECT active FROM pg_replication_slots WHERE slot_name = 'standby'",
            ),
            (&primary, "SELECT count(*) > 0 FROM pg_stat_progress_vacuum"),
            (
                &standby,
                "SELECT pg_last_xact_replay_timestamp() IS NOT NULL",
            ),
        ] {
            wait_until(server, "postgres", condition).await;
        }
        Self {
            primary,
            standby,
            _vacuum: vacuum,
        }
    }
}

/// Starts a vacuum that sleeps at every page.
async fn slow_vacuum(server: &Postgres) -> Client {
    let client = server.client("matrix", "postgres").await;
    for setting in ["vacuum_cost_delay = 100", "vacuum_cost_limit = 1"] {
        client
            .batch_execute(&format!("SET {setting}"))
            .await
            .unwrap();
    }
    let vacuum = client.simple_query_raw("VACUUM numbers").await.unwrap();
    // It runs for as long as the session does; nobody waits for its end.
    drop(vacuum);
    client
}

/// A page of an exporter that has had the time to read everything once, the same in both formats.
async fn page(dsn: &str) -> Page {
    let exporter = Exporter::watch(dsn, &["--openmetrics"]).await;
    wait_for("everything is read", || async {
        let page = exporter.scrape().await;
        let late = page
            .skipped()
            .iter()
            .any(|(_, reason, _)| *reason == "deadline");
        page.failed().is_empty() && !late
    })
    .await;
    let page = exporter.scrape().await;
    let headers = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let other = exporter.get_with_headers("/metrics", &headers).await.page();
    let families = &other.families;
    assert_eq!(other.names(), page.names());
    for (name, family) in &page.families {
        // What is not called so cannot be a counter in OpenMetrics.
        let (other, kind) = match (family.kind.as_str(), name.strip_suffix("_total")) {
            ("counter", Some(stem)) => (stem, "counter"),
            ("counter" | "untyped", _) => (name.as_str(), "unknown"),
            (kind, _) => (name.as_str(), kind),
        };
        assert_eq!(families[other].kind, kind, "{name}");
        assert_eq!(families[other].help, family.help, "{name}");
    }
    page
}

/// Name, type and labels of everything on a page, with tabs between them.
fn metrics(page: &Page) -> BTreeSet<String> {
    let families = page.families.iter();
    let metrics = families.flat_map(|(name, family)| {
        let kind = &family.kind;
        let samples = family.samples.iter();
        samples.map(move |sample| {
            let labels: Vec<_> = sample.labels.keys().map(String::as_str).collect();
            format!("{name}\t{kind}\t{}", labels.join(","))
        })
    });
    metrics.collect()
}

/// The same of everything that the program says it has.
fn listed() -> BTreeSet<String> {
    let list: Value =
        serde_json::from_str(&catalogue::render(&Registry::built_in(), Listing::Json)).unwrap();
    let collectors = list["collectors"].as_array().unwrap().iter();
    let sections = collectors
        .map(|collector| &collector["metrics"])
        .chain([&list["own"]]);
    let metrics = sections.flat_map(|section| section.as_array().unwrap());
    let metrics = metrics.filter(|metric| metric["name"] != "pg_settings_*");
    let metrics = metrics.map(|metric| {
        let labels = metric["labels"].as_array().unwrap().iter();
        let mut labels: Vec<_> = labels.map(|label| label.as_str().unwrap()).collect();
        labels.sort_unstable();
        let [name, kind] = ["name", "kind"].map(|key| metric[key].as_str().unwrap());
        format!("{name}\t{kind}\t{}", labels.join(","))
    });
    metrics.collect()
}

/// `13-18`, or `primary strict 13-16; standby strict 14` where the roles do not see the same.
fn describe(places: &BTreeSet<Place>) -> String {
    let versions = |on: &str, role: &str| {
        let seen = |major: &u32| places.iter().any(|place| *place == (on, role, *major));
        ranges(&MAJORS.into_iter().filter(seen).collect::<Vec<_>>())
    };
    let servers = ["primary", "standby"].map(|on| {
        let [monitor, strict] = ["monitor", "strict"].map(|role| versions(on, role));
        match (monitor == strict, strict.as_str()) {
            (true, "") => String::new(),
            (true, _) => format!("{on} {strict}"),
            (false, _) => format!("{on} strict {strict} monitor {monitor}"),
        }
    });
    match servers.each_ref().map(|server| server.split_once(' ')) {
        [Some((_, one)), Some((_, other))] if one == other => one.to_owned(),
        _ => servers
            .iter()
            .filter(|s| !s.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// `13-16,18`
fn ranges(majors: &[u32]) -> String {
    let runs = majors.chunk_by(|one, next| one + 1 == *next);
    let runs = runs.map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// The lines of a file in `tests/catalog`, but for the first: name, type and labels.
fn records(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(path(file)).unwrap();
    let lines = text.lines().skip(1);
    let records = lines.map(|line| line.splitn(4, '\t').take(3).collect::<Vec<_>>().join("\t"));
    records.collect()
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

fn path(file: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/catalog");
    PathBuf::from(folder).join(file)
}
