//! Servers whose clock has stopped: connections are taken, and nothing ever answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::http::Response;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::slow::Slow;
use super::support::watch::OURS;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How much later the page may come on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

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
        let page = ask(&exporter).await;
        assert_eq!(page.down_reason(), Some("timeout"));
        assert_eq!(page.readings(), BTreeSet::new());
        hang(&exporter).await;

        server.thaw();
        // This comes after all that waited at the door.
        let log = server.log_so_far().await;
        let sessions = log.matches(&format!("application_name={OURS}")).count();
        assert!(sessions <= BUDGET, "{sessions} sessions:\n{log}");
        recover(&exporter, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_scrapes() {
    let server = Postgres::start(13).await;
    server.sql("postgres", "CREATE DATABASE other").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    let before = exporter.scrape().await;
    before.assert_whole();
    server.freeze().await;
    let page = ask(&exporter).await;
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
    exporter.scrape().await.assert_whole();

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

/// Impatient probes end their own questions, and not that of a scrape that has time.
#[tokio::test(flavor = "multi_thread")]
async fn for_a_shorter_time_than_a_patient_scrape_has() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    exporter.scrape().await.assert_whole();
    server.freeze().await;
    let probe = async |timeout| {
        let page = exporter.scrape_within(timeout).await;
        assert_eq!(page.down_reason(), Some("timeout"));
    };
    let asked = Notify::new();
    let (page, ()) = tokio::join!(
        async {
            // The question of the other probe is under way then.
            asked.notified().await;
            exporter.scrape_within(Duration::from_secs(10)).await
        },
        async {
            tokio::join!(probe(Duration::from_millis(1_500)), async {
                probe(Duration::from_secs(1)).await;
                asked.notify_one();
            });
            server.thaw();
        }
    );
    assert_eq!(page.down_reason(), None);
    recover(&exporter, &server).await;
}

/// Prometheus asks, a probe asks, a person asks: none waits longer than its own time.
#[tokio::test(flavor = "multi_thread")]
async fn with_many_who_ask() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    exporter.scrape().await.assert_whole();
    server.freeze().await;
    let asked = (0..20).map(|_| ask(&exporter));
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
    wait_for("all connections hang", async || {
        let page = ask(exporter).await;
        assert_eq!(page.down_reason(), Some("timeout"));
        let connections = page.value("pg_exporter_connections", &[]).unwrap();
        assert!(connections <= BUDGET as f64);
        let took = page.value("pg_exporter_last_scrape_duration_seconds", &[]);
        // The first that finds them all hanging, and not what was remembered of another.
        connections == BUDGET as f64 && (0.1..1.4).contains(&took.unwrap())
    })
    .await;
    let start = Instant::now();
    let page = ask(exporter).await;
    assert_eq!(page.down_reason(), Some("timeout"));
    assert_eq!(
        page.value("pg_exporter_connections", &[]),
        Some(BUDGET as f64)
    );
    assert!(
        start.elapsed() < Duration::from_secs(1) + SLACK,
        "{:?}",
        start.elapsed()
    );
}

/// The scrapes become whole again, within the budget, and nothing is left of the time before.
async fn recover(exporter: &Exporter, server: &Postgres) {
    wait_for("the page is whole", async || {
        let (page, sessions) = tokio::join!(exporter.scrape(), server.sessions(OURS, "true"));
        assert!(sessions <= BUDGET, "{sessions} sessions");
        page.up() && page.failed().is_empty()
    })
    .await;
    exporter.scrape().await.assert_whole();
    assert!(server.sessions(OURS, "true").await <= BUDGET);
    assert_eq!(server.sessions(OURS, "state <> 'idle'").await, 0);
}

/// Scrapes as Prometheus does, and sees that the page comes in time.
async fn ask(exporter: &Exporter) -> Page {
    let start = Instant::now();
    let seconds = TIMEOUT.as_secs().to_string();
    let headers = [("X-Prometheus-Scrape-Timeout-Seconds", seconds.as_str())];
    let page = exporter.get_with_headers("/metrics", &headers).await.page();
    assert!(start.elapsed() < TIMEOUT + SLACK, "{:?}", start.elapsed());
    page
}

async fn quick(exporter: &Exporter, path: &str) -> Response {
    let start = Instant::now();
    let answer = exporter.get(path).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{path}");
    answer
}
