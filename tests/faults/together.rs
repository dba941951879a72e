//! Many who scrape at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::slow::Slow;
use super::support::watch::OURS;

const COUNTER: &str = "pg_exporter_collector_statements_total";

/// The collectors that somebody wants, all for none, and for how many seconds they are waited for.
type Asked = (&'static [&'static str], u64);

/// How much later a page may come on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// The ten.
const ASKED: [Asked; 10] = [
    (&[], 20),
    (&[], 15),
    (&["locks"], 20),
    (&["locks", "settings"], 18),
    (&["stat_user_tables"], 20),
    (&["stat_user_tables", "synapse_schema"], 12),
    (&["database_size"], 20),
    // These have given up by then.
    (&[], 1),
    (&["locks"], 1),
    (&["stat_user_tables", "wal"], 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn ten_scrapes_at_once_cost_as_much_as_one() {
    let server = Postgres::start(18).await;
    for sql in ["CREATE DATABASE matrix", "CREATE DATABASE other"] {
        server.sql("postgres", sql).await;
    }
    let tables = "CREATE TABLE events (); CREATE TABLE applied_schema_deltas ();
                  CREATE TABLE background_updates (); CREATE TABLE schema_version (version int);
                  INSERT INTO schema_version VALUES (88)";
    server.sql("matrix", tables).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    settle(&exporter).await;

    let before = statements(&exporter.scrape().await);
    let one = difference(&before, &statements(&exporter.scrape().await));
    // Twice as many where both warm databases are asked, or two questions in one.
    assert_eq!(
        (one["locks"], one["stat_user_tables"], one["synapse_schema"]),
        (1, 2, 2)
    );

    let before = statements(&exporter.scrape().await);
    server.freeze().await;
    let (late, in_time) = ASKED.split_at(7);
    let all = |asked: &'static [Asked]| {
        join_all(
            asked
                .iter()
                .map(|(collect, seconds)| scrape(&exporter, collect, *seconds)),
        )
    };
    let (first, (others, in_time)) = tokio::join!(all(&late[..1]), async {
        // The deadline of the first is the longest that is known when the question is sent.
        wait_for("the first asks", async || server.has_unread()).await;
        let start = Instant::now();
        tokio::join!(all(&late[1..]), async {
            let pages = all(in_time).await;
            assert!(start.elapsed() < Duration::from_secs(1) + SLACK);
            server.thaw();
            pages
        })
    });
    let late: Vec<_> = first.into_iter().chain(others).collect();
    for ((collect, _), page) in ASKED.iter().zip(late.iter().chain(&in_time)) {
        assert_eq!(
            collectors(page, collect),
            collect.iter().copied().collect(),
            "{collect:?}"
        );
    }
    for page in &in_time {
        assert_eq!(page.down_reason(), Some("timeout"));
    }
    for page in &late {
        assert_eq!(page.down_reason(), None);
        assert_eq!(page.failed(), BTreeSet::new(), "{:?}", page.skipped());
    }
    late[0].assert_whole();
    let tables = late[4].samples("pg_stat_user_tables_n_live_tup");
    let databases: BTreeSet<_> = tables
        .map(|sample| sample.labels["datname"].as_str())
        .collect();
    assert_eq!(databases, BTreeSet::from(["matrix"]));
    assert_eq!(late[5].value("synapse_db_schema_version", &[]), Some(88.0));
    assert!(
        late[6]
            .value("pg_database_size_bytes", &[("datname", "matrix")])
            .unwrap()
            > 1e6
    );
    assert!(late[2].readings().contains("pg_locks_count"));
    assert!(!late[2].readings().contains("pg_settings_max_connections"));
    assert!(server.sessions(OURS, "true").await <= 3);

    // What all ten have cost, and the one that tells it.
    let after = statements(&exporter.scrape().await);
    let twice = one.into_iter().map(|(name, cost)| (name, 2 * cost));
    assert_eq!(difference(&before, &after), twice.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_less_time_gets_what_is_there_by_then() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape().await.assert_whole();
    let before = statements(&exporter.scrape().await)["wal"];

    slow.pace(3).await;
    let ((patient, hasty), idle) = tokio::join!(
        async {
            tokio::join!(scrape(&exporter, &[], 10), async {
                slow.wait_until_it_runs().await;
                let start = Instant::now();
                let page = scrape(&exporter, &[], 2).await;
                assert!(
                    start.elapsed() < Duration::from_secs(2) + SLACK,
                    "{:?}",
                    start.elapsed()
                );
                page
            })
        },
        scrape(&exporter, &["locks"], 10),
    );
    assert_eq!(hasty.down_reason(), None);
    assert_eq!(hasty.failed(), BTreeSet::from(["wal"]));
    assert!(hasty.skipped().contains(&("wal", "deadline", "")));
    assert_eq!(hasty.value("pg_wal_segments", &[]), None);
    assert!(hasty.value("pg_settings_max_connections", &[]).is_some());
    patient.assert_whole();
    assert!(patient.value("pg_wal_segments", &[]).unwrap() >= 1.0);
    // Who asked for something else has not waited for it.
    assert_eq!(idle.failed(), BTreeSet::new());
    assert!(
        idle.value("pg_exporter_last_scrape_duration_seconds", &[])
            .unwrap()
            < 3.0
    );
    assert_eq!(statements(&patient)["wal"], before + 1);
}

/// The run that it has joined ends with the patience of the scrape that began it.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_more_time_asks_again() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape().await.assert_whole();

    slow.pace(3).await;
    let (hasty, patient) = tokio::join!(scrape(&exporter, &["wal"], 4), async {
        slow.wait_until_it_runs().await;
        scrape(&exporter, &[], 20).await
    });
    assert_eq!(hasty.failed(), BTreeSet::from(["wal"]));
    patient.assert_whole();
    assert!(patient.value("pg_wal_segments", &[]).unwrap() >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_collector_is_named() {
    let server = Postgres::start(13).await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    let response = exporter
        .get("/metrics?collect[]=locks&collect[]=lokcs")
        .await;
    assert_eq!(response.status, 400);
    assert!(
        response.text().contains("there is no collector \"lokcs\""),
        "{}",
        response.text()
    );
    // Nothing has been asked of the server for it.
    assert_eq!(server.sessions(OURS, "true").await, 0);
    let page = exporter.get("/metrics?collect[]=locks").await.page();
    assert_eq!(page.collectors(), BTreeSet::from(["locks"]));
}

/// Scrapes until every database has been seen and nothing is read for the first time any more.
async fn settle(exporter: &Exporter) {
    loop {
        let page = exporter.scrape().await;
        page.assert_whole();
        let ages = page.samples("pg_exporter_collector_age_seconds");
        let databases: BTreeSet<_> = ages
            .map(|sample| sample.labels["datname"].clone())
            .collect();
        if databases.len() == 4 && page.value("synapse_db_schema_version", &[]).is_some() {
            return;
        }
    }
}

async fn scrape(exporter: &Exporter, collect: &[&str], seconds: u64) -> Page {
    let query: Vec<_> = collect
        .iter()
        .map(|name| format!("collect[]={name}"))
        .collect();
    let path = format!("/metrics?{}", query.join("&"));
    let seconds = seconds.to_string();
    let headers = [("X-Prometheus-Scrape-Timeout-Seconds", seconds.as_str())];
    exporter.get_with_headers(&path, &headers).await.page()
}

/// The collectors on a page; none where all are that were asked for by no name.
fn collectors<'a>(page: &'a Page, asked: &[&str]) -> BTreeSet<&'a str> {
    let found = page.collectors();
    if asked.is_empty() && found.len() > 20 {
        BTreeSet::new()
    } else {
        found
    }
}

fn statements(page: &Page) -> BTreeMap<String, u64> {
    let samples = page.samples(COUNTER);
    samples
        .map(|sample| (sample.labels["collector"].clone(), sample.value as u64))
        .collect()
}

/// What has been added, but for the collectors with nothing to add.
fn difference(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let mut added = after.clone();
    for (name, count) in &mut added {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    added.retain(|_, count| *count > 0);
    added
}
