//! A server that wants to stop is let go at once.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::{stat, wait_at_most};

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(10);

/// At most so often a connection is renewed, which is how it is found out; and a busy machine.
const RENEWAL: Duration = Duration::from_secs(60 + 20);

/// What is visited each second tells at once.
const EACH_SECOND: &str = "servers: { main: { databases: { interval: 1s } } }";

#[tokio::test(flavor = "multi_thread")]
async fn visits_of_other_databases_tell() {
    for major in [15, 18] {
        let server = Postgres::start(major).await;
        server.sql("postgres", "CREATE DATABASE other").await;
        let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), EACH_SECOND).await;
        exporter.complete().await;
        let took = stop_smart(&server, &exporter, RENEWAL).await;
        assert!(took < Duration::from_secs(20), "{major}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_renewal_of_a_connection_tells() {
    let stops = [13, 15, 18].map(|major| async move {
        let server = Postgres::start(major).await;
        let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
        exporter.complete().await;
        let opened = opened(&exporter).await;
        stop_smart(&server, &exporter, RENEWAL).await;
        assert_eq!(self::opened(&exporter).await, opened, "{major}");
    });
    futures_util::future::join_all(stops).await;
}

/// Nobody scrapes any more, and its connections are still there.
#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_nobody_asks_holds_nobody() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    exporter.complete().await;
    kill_process(server.pid(), Signal::TERM).unwrap();
    wait_at_most(RENEWAL, "the server stops", async || gone(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_renewed_each_minute_and_no_scrape_is_lost() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    exporter.complete().await;
    let sessions = async || {
        let sql = "SELECT pid FROM pg_stat_activity
                    WHERE application_name = 'matrix-postgres-exporter' ORDER BY backend_start";
        let rows = server.sql("postgres", sql).await;
        let pids = rows.into_iter().map(|row| row[0].clone().unwrap());
        pids.collect::<Vec<_>>()
    };
    let oldest = sessions().await.remove(0);
    let begun = Instant::now();
    // A scrape that is slow may open another, which puts it off.
    wait_at_most(
        2 * RENEWAL,
        "the oldest connection is renewed",
        async || {
            let page = exporter.scrape_within(TIMEOUT).await;
            let mut skipped = page.skipped().into_iter();
            let lost = skipped.any(|(_, reason, _)| reason == "connection");
            assert!(
                page.down_reason().is_none() && !lost,
                "{:?}",
                page.skipped()
            );
            !sessions().await.contains(&oldest)
        },
    )
    .await;
    assert!(begun.elapsed() > Duration::from_secs(30), "{begun:?}");
    // A new one took its place.
    exporter.scrape_within(TIMEOUT).await;
    assert!((1..=3).contains(&sessions().await.len()));
}

/// Asks the server to stop once every session has ended, and scrapes until it has.
async fn stop_smart(server: &Postgres, exporter: &Exporter, patience: Duration) -> Duration {
    kill_process(server.pid(), Signal::TERM).unwrap();
    let start = Instant::now();
    let mut reasons = Vec::new();
    while !gone(server) {
        assert!(start.elapsed() < patience, "{reasons:?}\n{}", server.log());
        let page = exporter.scrape_within(TIMEOUT).await;
        let reason = page.down_reason().unwrap_or("up").to_owned();
        if reasons.last() != Some(&reason) {
            reasons.push(reason);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = start.elapsed();
    // Whoever has seen that it stops has not taken it for up again.
    let known = ["up", "shutting_down", "refused"].map(str::to_owned);
    let known: Vec<_> = known
        .into_iter()
        .filter(|reason| reasons.contains(reason))
        .collect();
    assert_eq!(reasons, known);
    exporter.is_down("refused").await;
    took
}

fn gone(server: &Postgres) -> bool {
    stat(server.pid().as_raw_nonzero().get()).is_none()
}

async fn opened(exporter: &Exporter) -> Option<f64> {
    let page = exporter.scrape_within(TIMEOUT).await;
    page.value("pg_exporter_connections_opened_total", &[])
}
