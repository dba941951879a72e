//! An exporter that did not run for a while blames no server for it.

use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::wait_for;

/// How long Prometheus waits for a page.
const TIMEOUT: &str = "2";

/// Longer than any time limit that runs meanwhile: that of a scrape, and that of a login.
const STOPPED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn while_it_asks() {
    is_fair(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_logs_in() {
    is_fair(false).await;
}

/// It is stopped behind a question. The server, which has answered long before it goes on, is up.
async fn is_fair(warm: bool) {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    if warm {
        exporter.scrape().await.assert_whole();
    }
    server.freeze().await;
    let pid = exporter.pid();
    let timeout = [("X-Prometheus-Scrape-Timeout-Seconds", TIMEOUT)];
    let (answer, ()) = tokio::join!(exporter.get_with_headers("/metrics", &timeout), async {
        wait_for("it asks", async || server.has_unread()).await;
        kill_process(pid, Signal::STOP).unwrap();
        server.thaw();
        tokio::time::sleep(STOPPED).await;
        kill_process(pid, Signal::CONT).unwrap();
    });
    // Prometheus has given up, whatever comes.
    match answer.status {
        503 => assert!(
            answer.text().contains("too much to do"),
            "{}",
            answer.text()
        ),
        _ => assert_eq!(answer.page().down_reason(), None),
    }
    assert_eq!(exporter.scrape().await.down_reason(), None);
    let said = exporter.output();
    assert!(!said.contains("level=warn"), "{said}");
}
