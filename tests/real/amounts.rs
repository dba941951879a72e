//! A server that sends far more rows than were asked for: the scrape ends in time, and the exporter
//! keeps what it has room for.

use std::time::Duration;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::footprint::{is_small, memory, rests};
use super::support::forger::{Forger, Forgery};
use super::support::look_alike::SYNAPSE;
use super::support::postgres::{Postgres, rows};
use super::support::roles::Role;

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take, on a busy machine, until all has been asked once.
const PATIENCE: Duration = Duration::from_secs(240);

/// Of the places where the role may create.
#[tokio::test(flavor = "multi_thread")]
async fn rights() {
    bears("pg_options_to_table", 21_000, 0).await;
}

/// Of the tables and columns that an application has.
#[tokio::test(flavor = "multi_thread")]
async fn columns() {
    bears("foreign_code AS MATERIALIZED", 40, 3).await;
}

/// Of the transactions that go on.
#[tokio::test(flavor = "multi_thread")]
async fn transactions() {
    let page = bears("l.virtualxid = l.virtualtransaction", 21_000, 0).await;
    let skip = ("synapse_events", "protocol", "synapse");
    assert!(page.skipped().contains(&skip), "{:?}", page.skipped());
}

/// The owner of a database has as many room versions as he likes, each of 2 kB, in a table that is
/// counted in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn labels_of_a_count_in_pieces() {
    let server = Postgres::builder(18).start().await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    server.sql("synapse", SYNAPSE).await;
    let rooms = "INSERT INTO rooms
                 SELECT lpad(i::text, 8, '0'), md5(i::text) || repeat('x', 2100)
                   FROM generate_series(1, 50000) AS i";
    server.sql("synapse", rooms).await;
    server.sql("synapse", "ANALYZE rooms").await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let before = memory(&exporter, "VmRSS");
    let cut = |page: &Page| {
        let skip = ("synapse_rooms", "series_limit", "synapse");
        page.skipped().contains(&skip)
    };
    let page = exporter
        .scrape_until(PATIENCE, "it is said that there are too many", cut)
        .await;
    exporter.scrape_within(TIMEOUT).await;
    let versions = page.samples("synapse_db_rooms").count();
    assert!((1_000..=10_000).contains(&versions), "{versions}");
    is_small(&exporter, before).await;
}

/// A scrape through a forger ends in time, whatever it says, and leaves little behind.
async fn bears(words: &'static str, times: u64, cell: usize) -> Page {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    server.sql("synapse", SYNAPSE).await;
    Role::PgMonitor
        .create(&server, "exporter", &["synapse"])
        .await;
    server
        .sql("synapse", "GRANT CREATE ON SCHEMA public TO exporter")
        .await;
    // One transaction goes on.
    let client = server.client("synapse", "postgres").await;
    rows(&client, "BEGIN; SELECT count(*) FROM events").await;
    let forger = Forger::start(&server, Forgery { words, times, cell }).await;
    let exporter = Exporter::watch(&forger.dsn("synapse", "exporter"), &[]).await;
    let before = memory(&exporter, "VmRSS");
    let settled = |page: &Page| {
        let skipped = page.skipped();
        let mut waiting = skipped.iter().filter(|skip| skip.1 == "deadline");
        page.up() && waiting.next().is_none()
    };
    let page = exporter
        .scrape_until(PATIENCE, "all has been asked", settled)
        .await;
    exporter.scrape_within(TIMEOUT).await;
    assert!(forger.forged() > times, "{}", forger.forged());
    rests(&exporter).await;
    is_small(&exporter, before).await;
    page
}
