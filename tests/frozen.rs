//! Servers whose clock has stopped: connections are taken, and nothing ever answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::support::exporter::Exporter;
use super::support::http::Response;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::slow::{OURS, Slow};

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The connections that the exporter may hold.
const BUDGET: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_scrape() {
    for tcp in [true, false] {
        let server = Postgres::builder(18)
            .hba("host all all 127.0.0.1/32 trust")
            .setting("log_connections", "'authorization'")
            .start()
            .await;
        let dsn = if tcp {
            server.tcp_dsn("postgres", "postgres")
        } else {
            server.dsn("postgres", "postgres")
        };
        server.freeze().await;
        let exporter = Exporter::watch(&dsn, &[]).await;
        let page = exporter.scrape_within(TIMEOUT).await;
        assert_eq!(page.down_reason(), Some("timeout"));
        assert_eq!(page.readings(), BTreeSet::new());
        hang(&exporter).await;

        server.thaw();
        // Whoever came before us has been let in, or has been seen to have left.
        server.value("postgres", "SELECT 1").await;
        let sessions = server
            .log()
            .matches(&format!("application_name={OURS}"))
            .count();
        assert!(sessions <= BUDGET, "{sessions} sessions:\n{}", server.log());
        recover(&exporter, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_scrapes() {
    let server = Postgres::start(13).await;
    server.sql("postgres", "CREATE DATABASE other").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    let before = exporter.scrape_within(TIMEOUT).await;
    before.assert_whole();
    server.freeze().await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), Some("timeout"));
    assert_eq!(page.readings(), BTreeSet::from(["pg_server_info"]));
    assert_eq!(
        page.samples("pg_server_info").collect::<Vec<_>>(),
        before.samples("pg_server_info").collect::<Vec<_>>()
    );
    hang(&exporter).await;
    server.thaw();
    recover(&exporter, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_scrape() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();

    slow.pace(600).await;
    let long = Duration::from_secs(6);
    let (page, ()) = tokio::join!(exporter.scrape_within(long), async {
        slow.wait_until_it_runs().await;
        server.freeze().await;
    });
    // It was up when it was asked, and most had answered.
    assert_eq!(page.down_reason(), None);
    assert_eq!(page.failed(), BTreeSet::from(["wal"]));
    assert!(page.skipped().contains(&("wal", "deadline", "")));
    assert!(page.value("pg_settings_max_connections", &[]).is_some());
    assert_eq!(page.value("pg_wal_segments", &[]), None);
    hang(&exporter).await;

    server.thaw();
    slow.pace(0).await;
    recover(&exporter, &server).await;
}

/// Prometheus asks, a probe asks, a person asks: none waits longer than its own time.
#[tokio::test(flavor = "multi_thread")]
async fn with_many_who_ask() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    server.freeze().await;
    let asked = (0..20).map(|_| exporter.scrape_within(TIMEOUT));
    let people = ["/", "/-/healthy", "/-/ready"].map(|path| quick(&exporter, path));
    let (pages, answers) = tokio::join!(
        futures_util::future::join_all(asked),
        futures_util::future::join_all(people)
    );
    for page in pages {
        assert_eq!(page.down_reason(), Some("timeout"));
    }
    for answer in answers {
        assert_eq!(answer.status, 200);
    }
    let (status, log) = exporter.stop().await;
    assert!(status.success(), "{log}");
    server.thaw();
    wait_for("the last session ends", async || {
        server.sessions(OURS, "true").await == 0
    })
    .await;
}

/// Scrapes until every connection of the budget hangs, and sees that this is known then.
async fn hang(exporter: &Exporter) {
    let all = format!("all {BUDGET} connections to ");
    wait_for("all connections hang", async || {
        let page = exporter.scrape_within(TIMEOUT).await;
        assert_eq!(page.down_reason(), Some("timeout"));
        assert!(page.value("pg_exporter_connections", &[]).unwrap() <= BUDGET as f64);
        exporter.output().contains(&all)
    })
    .await;
    let start = Instant::now();
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), Some("timeout"));
    assert_eq!(
        page.value("pg_exporter_connections", &[]),
        Some(BUDGET as f64)
    );
    assert!(
        start.elapsed() < Duration::from_millis(1_300),
        "{:?}",
        start.elapsed()
    );
}

/// The scrapes become whole again, within the budget, and nothing is left of the time before.
async fn recover(exporter: &Exporter, server: &Postgres) {
    wait_for("the page is whole", async || {
        let (page, sessions) = tokio::join!(
            exporter.scrape_within(TIMEOUT),
            server.sessions(OURS, "true")
        );
        assert!(sessions <= BUDGET, "{sessions} sessions");
        page.up() && page.failed().is_empty()
    })
    .await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    assert!(server.sessions(OURS, "true").await <= BUDGET);
    assert_eq!(server.sessions(OURS, "state <> 'idle'").await, 0);
}

async fn quick(exporter: &Exporter, path: &str) -> Response {
    let start = Instant::now();
    let answer = exporter.get(path).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{path}");
    answer
}
