//! What is counted in pieces is what a single statement would count, whatever goes on meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use matrix_postgres_exporter::collectors;
use matrix_postgres_exporter::query::{Collector, Column, ColumnKind, Query};

use super::support::exporter::{Exporter, failures};
use super::support::exposition::Page;
use super::support::large;
use super::support::postgres::{Postgres, rows};
use super::support::process::PATIENCE;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};
use super::support::whole;

#[tokio::test(flavor = "multi_thread")]
async fn pieces_add_up_on_13() {
    // What takes longer than a statement may is not counted there.
    pieces_add_up(13, OLD, "4s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_add_up_on_18() {
    pieces_add_up(18, NEW, "250ms").await;
}

async fn pieces_add_up(major: u32, version: &str, cap: &str) {
    let (server, _) = Synapse::leave(Postgres::builder(major), version).await;
    large::fill(&server, "synapse", 20_000).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;

    let before = whole(&server).await;
    let dsn = server.dsn("synapse", "exporter");
    let cap = format!("scrape: {{ statement_cap: {cap} }}");
    let exporter = Exporter::configured(&dsn, &cap).await;
    let page = exporter.complete().await;
    let after = whole(&server).await;

    assert_eq!(failures(&page), Vec::<&str>::new());
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for ((metric, labels), before) in before {
        let after = after[&(metric.clone(), labels.clone())];
        let pairs: Vec<_> = labels
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let found = page.value(&metric, &pairs);
        // Some hold for what happened lately, and time goes on.
        let wanted = before.min(after)..=before.max(after);
        assert!(
            found.is_some_and(|found| wanted.contains(&found)),
            "{metric} {labels:?}: {found:?}, not {wanted:?}"
        );
    }
    let statements = "pg_exporter_collector_statements_total";
    let statements = page.value(statements, &[("collector", "synapse_activity")]);
    // Two pieces, and two other questions.
    assert!(statements >= Some(4.0), "{statements:?}");
    let flags = ["pg_exporter_count_estimated", "pg_exporter_count_at_least"];
    for flag in flags.iter().flat_map(|flag| page.samples(flag)) {
        assert_eq!(flag.value, 0.0, "{:?}", flag.labels);
    }
}

/// Rows that are slow to read get smaller pieces; rows that are written again and again meanwhile,
/// which gives them another place on disk, have their place by their key, and are counted once.
#[tokio::test(flavor = "multi_thread")]
async fn slow_rows_that_do_not_keep_still_are_counted_once() {
    const ACTIVITY: &str = "synapse_activity";
    let (server, _) = Synapse::leave(Postgres::builder(18), NEW).await;
    large::fill(&server, "synapse", 500).await;
    let count = server.value("synapse", large::ACTIVE).await.unwrap();
    let _purge = large::slow_down(&server, 1_000).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;

    let writer = Writer::start(&server).await;
    let dsn = server.dsn("synapse", "exporter");
    let exporter = Exporter::configured(&dsn, "scrape: { statement_cap: 100ms }").await;
    let month = [("within", "30d")];
    let counted = |page: &Page| page.value("synapse_db_users_active", &month).is_some();
    let page = exporter
        .scrape_until(3 * PATIENCE, "the active users are counted", counted)
        .await;
    let rounds = writer.stop().await;

    let success = page.value("pg_scrape_collector_success", &[("collector", ACTIVITY)]);
    assert_eq!(success, Some(1.0));
    let found = page.value("synapse_db_users_active", &month).unwrap();
    let count = count.parse().unwrap();
    let table = [("collector", ACTIVITY), ("table", "user_ips")];
    match page.value("pg_exporter_count_at_least", &table) {
        Some(0.0) => assert_eq!(found, count),
        // A machine so busy that a single user took too long.
        Some(1.0) => assert!((0.0..count).contains(&found), "{found} of {count}"),
        other => panic!("{other:?}"),
    }
    assert!(rounds > 2, "{rounds}");
    let log = server.log();
    assert!(log.contains("due to statement timeout"), "{log}");
}

/// What each statement that runs in pieces gives as a whole.
async fn whole(server: &Postgres) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let client = server.client("synapse", "postgres").await;
    let there = whole::columns(server).await;
    let mut found = BTreeMap::new();
    let collectors = collectors::all();
    let queries = collectors.iter();
    let queries = queries.flat_map(|one| one.queries.iter().map(move |query| (one, query.clone())));
    for (collector, mut query) in queries {
        let Some(sql) = whole::plain(&query, server.major(), &there) else {
            continue;
        };
        let is_there =
            |(table, column): (&str, &str)| there.contains(&(table.to_owned(), column.to_owned()));
        query
            .columns
            .retain(|column| column.from.is_none_or(is_there));
        let columns = query
            .columns
            .iter()
            .map(|column| format!("q.{}", column.name));
        let columns: Vec<_> = columns.collect();
        let named = format!("SELECT {} FROM ({}) AS q", columns.join(", "), sql.as_str());
        for row in rows(&client, &named).await {
            for (column, metric, labels, value) in samples(collector, &query, &row) {
                let sum = found.entry((metric, labels)).or_insert(0.0);
                *sum = if column.largest {
                    value.max(*sum)
                } else {
                    *sum + value
                };
            }
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// The samples of a row, each with its column, name and labels.
fn samples<'a>(
    collector: &Collector,
    query: &'a Query,
    row: &[Option<String>],
) -> Vec<(&'a Column, String, BTreeMap<String, String>, f64)> {
    let cells = || query.columns.iter().zip(row);
    let mut samples = Vec::new();
    for (column, cell) in cells().filter(|(column, _)| column.kind != ColumnKind::Label) {
        let Some(value) = cell else { continue };
        let labels = cells()
            .filter(|(label, _)| label.kind == ColumnKind::Label)
            .filter(|(label, _)| column.labels.is_none_or(|some| some.contains(&label.name)))
            .map(|(label, cell)| (label.name.to_owned(), cell.clone().unwrap_or_default()));
        let own = column
            .label
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let database = collector.scope.label();
        let database = database.map(|label| (label.to_owned(), "synapse".to_owned()));
        let value = value.parse().unwrap();
        samples.push((
            column,
            collector.metric_name(column),
            database.into_iter().chain(labels).chain(own).collect(),
            value,
        ));
    }
    samples
}

/// Writes every request of a user again, over and over.
struct Writer {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u32>,
}

impl Writer {
    async fn start(server: &Postgres) -> Self {
        let client = server.client("synapse", "postgres").await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                rows(
                    &client,
                    "UPDATE user_ips SET user_agent = user_agent || '.'",
                )
                .await;
                rounds += 1;
            }
            rounds
        });
        Self { stop, task }
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
