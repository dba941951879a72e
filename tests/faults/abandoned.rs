//! Statements that take too long, or that nobody waits for any more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::{scratch, wait_for};
use super::support::roles::Role;
use super::support::slow::Slow;
use super::support::watch::OURS;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(6);

/// The longest that a statement may take then: half of what is left, rounded down to a step.
const STATEMENT: Duration = Duration::from_secs(2);

/// How long a client whose side is closed may still wait for its answer.
const LEAVES: Duration = Duration::from_secs(2);

/// How long it takes, on a busy machine, until a server has seen to a cancelled statement.
const MOMENT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_statements_along() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        Role::Plain.create(&server, "exporter", &[]).await;
        let slow = Slow::install(&server, "exporter").await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
        exporter.scrape_within(TIMEOUT).await.assert_whole();
        for _ in 0..3 {
            slow.pace(600).await;
            let mut client = TcpStream::connect(exporter.address()).await.unwrap();
            client
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
                .await
                .unwrap();
            slow.wait_until_it_runs().await;
            let start = Instant::now();
            drop(client);
            nothing_runs(&server).await;
            // Without a deadline of its own the statement might have taken 4 s.
            assert!(start.elapsed() < LEAVES + MOMENT, "{:?}", start.elapsed());

            slow.pace(0).await;
            exporter.scrape_within(TIMEOUT).await.assert_whole();
        }
        let log = server.log_so_far().await;
        let cancelled = log.matches("canceling statement due to user request");
        assert_eq!(cancelled.count(), 3, "{log}");
    }
}

/// Most statements are over in a moment, and nobody who leaves costs a connection or a line in the
/// server's log.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_and_leave_cost_no_connections() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    let opened = async || {
        let page = exporter.scrape_within(TIMEOUT).await;
        page.value("pg_exporter_connections_opened_total", &[])
            .unwrap()
    };
    let before = opened().await;
    for client in 0..200 {
        let mut stream = TcpStream::connect(exporter.address()).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
            .await
            .unwrap();
        // In the middle of anything that a scrape does.
        tokio::time::sleep(Duration::from_millis(client % 40)).await;
    }
    let more = opened().await - before;
    assert!(more <= 5.0, "{more}");
    let log = server.log_so_far().await;
    let cancelled = log.matches("canceling statement due to user request");
    assert!(cancelled.count() <= 5, "{log}");
}

/// One of two who wait leaves; the other gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stays_is_served() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    slow.pace(1).await;
    let mut client = TcpStream::connect(exporter.address()).await.unwrap();
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
        .await
        .unwrap();
    slow.wait_until_it_runs().await;
    let now = server
        .value("postgres", "SELECT clock_timestamp()")
        .await
        .unwrap();
    let (page, ()) = tokio::join!(exporter.scrape_within(TIMEOUT), async {
        // The second has joined once it asks more than the facts that come first.
        let asks =
            format!("query_start > '{now}' AND query !~ 'pg_control_checkpoint|datistemplate'");
        wait_for("the second asks", async || {
            server.sessions(OURS, &asks).await > 0
        })
        .await;
        drop(client);
    });
    page.assert_whole();
    assert!(page.value("pg_wal_segments", &[]).unwrap() >= 1.0);
    let log = server.log_so_far().await;
    assert!(!log.contains("canceling statement"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_costs_itself() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    slow.pace(600).await;
    for _ in 0..2 {
        let start = Instant::now();
        let page = exporter.scrape_within(TIMEOUT).await;
        assert!(start.elapsed() > STATEMENT);
        assert_eq!(page.down_reason(), None);
        assert_eq!(page.failed(), BTreeSet::from(["wal"]));
        assert!(page.skipped().contains(&("wal", "statement_timeout", "")));
        assert_eq!(page.value("pg_wal_segments", &[]), None);
        assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(1.0));
        let took = page.value(
            "pg_scrape_collector_duration_seconds",
            &[("collector", "wal")],
        );
        assert!(took.unwrap() >= STATEMENT.as_secs_f64());
        assert_eq!(server.sessions(OURS, "state <> 'idle'").await, 0);
    }
    slow.pace(0).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
}

/// A backend that does not even hear that it is to stop, as one in a system call that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_deaf_costs_one_connection() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    slow.pace(600).await;
    let mut deaf = Vec::new();
    let (page, ()) = tokio::join!(exporter.scrape_within(TIMEOUT), async {
        slow.wait_until_it_runs().await;
        let running = format!(
            "SELECT pid FROM pg_stat_activity \
              WHERE application_name = '{OURS}' AND state = 'active'"
        );
        let pid = server
            .value("postgres", &running)
            .await
            .unwrap()
            .parse()
            .unwrap();
        deaf.push(Pid::from_raw(pid).unwrap());
        kill_process(deaf[0], Signal::STOP).unwrap();
    });
    assert_eq!(page.failed(), BTreeSet::from(["wal"]));
    assert!(page.skipped().contains(&("wal", "deadline", "")));

    // The others go on, and the deaf one counts.
    slow.pace(0).await;
    for _ in 0..3 {
        let page = exporter.scrape_within(TIMEOUT).await;
        page.assert_whole();
        assert!(page.value("pg_wal_segments", &[]).unwrap() >= 1.0);
        let ours = server.sessions(OURS, "true").await;
        assert!((2..=3).contains(&ours), "{ours} sessions");
        assert_eq!(
            page.value("pg_exporter_connections", &[]),
            Some(ours as f64)
        );
    }
    kill_process(deaf[0], Signal::CONT).unwrap();
    nothing_runs(&server).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_middle_of_a_scrape_lets_it_end() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    slow.pace(1).await;
    let pid = exporter.pid();
    let (page, ()) = tokio::join!(exporter.scrape_within(TIMEOUT), async {
        slow.wait_until_it_runs().await;
        kill_process(pid, Signal::TERM).unwrap();
        // It takes no further requests.
        wait_for("the port is closed", async || {
            TcpStream::connect(exporter.address()).await.is_err()
        })
        .await;
    });
    page.assert_whole();
    assert!(page.value("pg_wal_segments", &[]).unwrap() >= 1.0);
    let (status, log) = exporter.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(server.sessions(OURS, "true").await, 0);
    let log = server.log_so_far().await;
    assert!(!log.contains("canceling statement"), "{log}");
    let log = server.log_so_far().await;
    assert!(!log.contains("connection reset"), "{log}");
}

/// What is refreshed in the background delays none of them, nor the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_refresh_delays_nobody() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let folder = scratch();
    let config = folder.path().join("exporter.yml");
    std::fs::write(&config, "collectors: { wal: { ttl: 1s } }").unwrap();
    let config = format!("--config.file={}", config.display());
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[&config]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();

    slow.pace(600).await;
    let running = "wait_event = 'PgSleep'";
    wait_for("the refresh begins", async || {
        exporter.scrape_within(TIMEOUT).await.assert_whole();
        server.sessions(OURS, running).await > 0
    })
    .await;
    for _ in 0..5 {
        let page = exporter.scrape_within(TIMEOUT).await;
        page.assert_whole();
        let took = page.value("pg_exporter_last_scrape_duration_seconds", &[]);
        assert!(took.unwrap() < 1.0, "{took:?}");
        assert!(page.value("pg_wal_segments", &[]).unwrap() >= 1.0);
        let age = page.value("pg_exporter_collector_age_seconds", &[("collector", "wal")]);
        assert!(age.unwrap() >= 1.0, "{age:?}");
    }
    assert_eq!(server.sessions(OURS, running).await, 1);

    let start = Instant::now();
    let (status, log) = exporter.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() < MOMENT, "{:?}", start.elapsed());
    assert_eq!(server.sessions(OURS, "true").await, 0);
}

/// Who ends it does not wait forever for a scrape that does not end.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_ever() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let slow = Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();
    slow.pace(600).await;
    let mut client = TcpStream::connect(exporter.address()).await.unwrap();
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
        .await
        .unwrap();
    slow.wait_until_it_runs().await;
    server.freeze().await;
    let start = Instant::now();
    let (status, log) = exporter.stop().await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.contains("level=warn"),
        "it says what it has left behind:\n{log}"
    );
    server.thaw();
    wait_for("the last session ends", async || {
        server.sessions(OURS, "true").await == 0
    })
    .await;
}

async fn nothing_runs(server: &Postgres) {
    wait_for("nothing of ours runs", async || {
        server.sessions(OURS, "state <> 'idle'").await == 0
    })
    .await;
}
