//! Servers that are not there, or not there yet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is remembered of a server that is down.
const REMEMBERED: &str = "pg_server_info";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_after_the_exporter() {
    let mut server = Postgres::start(18).await;
    server.stop().await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;

    let page = exporter.scrape_within(TIMEOUT).await;
    assert_down(&page, "refused");
    assert_eq!(page.readings(), BTreeSet::new());
    let ready = exporter.get("/-/ready").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready
            .text()
            .contains("down, refused: no server can be reached at "),
        "{}",
        ready.text()
    );

    server.restart().await;
    exporter.is_whole().await;
    let ready = exporter.get("/-/ready").await;
    assert!(
        ready.text().trim_end().ends_with(": up"),
        "{}",
        ready.text()
    );
    let (status, log) = exporter.stop().await;
    assert!(status.success());
    assert_eq!(log.matches("no server can be reached").count(), 1, "{log}");
    assert_eq!(log.matches("the server answers again").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_is_remembered() {
    for major in [13, 18] {
        let mut server = Postgres::builder(major)
            .setting("cluster_name", "'main'")
            .start()
            .await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
        let page = exporter.scrape_within(TIMEOUT).await;
        page.assert_whole();
        let identity: Vec<_> = page.samples(REMEMBERED).cloned().collect();
        assert_eq!(identity.len(), 1);
        assert_eq!(identity[0].labels["cluster_name"], "main");

        server.stop_immediate().await;
        let page = exporter.is_down("refused").await;
        assert_down(&page, "refused");
        assert_eq!(page.readings(), BTreeSet::from([REMEMBERED]));
        let remembered: Vec<_> = page.samples(REMEMBERED).cloned().collect();
        assert_eq!(remembered, identity);
        assert_eq!(page.value("pg_exporter_connections", &[]), Some(0.0));

        let landing = exporter.get("/").await;
        assert_eq!(landing.status, 200);
        assert!(
            landing
                .text()
                .contains("no server can be reached at 127.0.0.1:")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_to_nowhere() {
    let mut server = Postgres::start(18).await;
    server.stop().await;
    let socket_missing = "host=/nonexistent user=exporter dbname=postgres".to_owned();
    for (dsn, reason, says) in [
        (
            server.tcp_dsn("postgres", "postgres"),
            "refused",
            "no server can be reached at 127.0.0.1:",
        ),
        (
            socket_missing,
            "refused",
            "no server can be reached at /nonexistent/.s.PGSQL.5432: No such file or directory",
        ),
        (
            "host=matrix.invalid user=exporter".to_owned(),
            "dns",
            "the host name \\\"matrix.invalid\\\" cannot be looked up",
        ),
    ] {
        let exporter = Exporter::watch(&dsn, &[]).await;
        assert_down(&exporter.scrape_within(TIMEOUT).await, reason);
        let start = Instant::now();
        assert_down(&exporter.scrape_within(TIMEOUT).await, reason);
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "probes are fast"
        );
        exporter.has_said(says).await;
        assert_eq!(exporter.get("/-/healthy").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_starting_up() {
    let primary = Postgres::start(13).await;
    let mut standby = primary
        .standby()
        .setting("hot_standby", "off")
        .start_until("started streaming WAL")
        .await;
    let exporter = Exporter::watch(&standby.tcp_dsn("postgres", "postgres"), &[]).await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_down(&page, "starting_up");
    assert_eq!(page.readings(), BTreeSet::new());
    let says = "does not accept connections now: the database system is starting up";
    exporter.has_said(says).await;

    // It is up in the end, as a standby.
    let conf = standby.data_dir().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text.replace("hot_standby = off", "hot_standby = on")).unwrap();
    standby.restart().await;
    let page = exporter.is_whole().await;
    assert_eq!(page.value("pg_in_recovery", &[]), Some(1.0));
}

/// The page of a server that is down for this reason: each collector has failed for want of a
/// connection, and says so.
fn assert_down(page: &Page, reason: &str) {
    assert_eq!(page.down_reason(), Some(reason));
    assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(1.0));
    assert!(page.collectors().contains("stat_database"));
    assert_eq!(page.failed(), page.collectors());
    let expected: BTreeSet<_> = page
        .collectors()
        .into_iter()
        .map(|collector| (collector, "connection", ""))
        .collect();
    let disabled = |skip: &(&str, &str, &str)| skip.1 == "disabled";
    let skipped: BTreeSet<_> = page
        .skipped()
        .into_iter()
        .filter(|skip| !disabled(skip))
        .collect();
    assert_eq!(skipped, expected);
}
