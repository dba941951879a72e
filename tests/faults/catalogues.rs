//! A catalogue that somebody rewrites, and that nobody can read meanwhile.

use std::time::{Duration, Instant};

use super::support::exporter::{Exporter, failures};
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::{children, wait_for};

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The lock that VACUUM FULL holds as long as it takes. It stops logins, too, so what is connected
/// must stay so, and those who wait for their login must not become more and more.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_catalogue() {
    for (major, locks) in [
        (
            13,
            &[("postgres", "pg_class"), ("postgres", "pg_authid")][..],
        ),
        (
            18,
            &[
                ("visited", "pg_class"),
                ("postgres", "pg_class"),
                ("postgres", "pg_attribute"),
                ("postgres", "pg_database"),
                ("postgres", "pg_authid"),
            ],
        ),
    ] {
        let server = Postgres::start(major).await;
        server.sql("postgres", "CREATE DATABASE visited").await;
        server.sql("visited", "CREATE TABLE t ()").await;
        for (database, catalogue) in locks {
            let vacuum = server.client(database, "postgres").await;
            let yaml = "servers: { main: { databases: { interval: 1s } } }";
            let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), yaml).await;
            let page = exporter.scrape().await;
            assert!(is_whole(&page), "{:?}", failures(&page));

            let lock = format!("BEGIN; LOCK TABLE pg_catalog.{catalogue} IN ACCESS EXCLUSIVE MODE");
            rows(&vacuum, &lock).await;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(6) {
                let page = exporter.scrape_within(TIMEOUT).await;
                let told = format!("{major} {database} {catalogue}: {:?}", skipped(&page));
                assert_eq!(page.value("pg_up", &[]), Some(1.0), "{told}");
                assert!(
                    page.value("pg_postmaster_start_time_seconds", &[])
                        .is_some(),
                    "{told}"
                );
                let open = page.value("pg_exporter_connections", &[]);
                // The three, and the login to the other database that hangs beside them.
                assert!(open <= Some(4.0), "{open:?} {told}");
                // What a visit has found stays, and what is visited is nobody else's matter.
                let table = [("datname", "visited")];
                let found = page.value("pg_stat_user_tables_seq_scan", &table);
                assert_eq!(found, Some(0.0), "{told}");
                if *database == "visited" {
                    assert_eq!(failures(&page), Vec::<&str>::new(), "{told}");
                }
            }
            // That of this test, and these of the exporter.
            let sessions = sessions(&server);
            assert!(
                sessions.len() <= 5,
                "{major} {database} {catalogue}: {sessions:?}"
            );

            rows(&vacuum, "ROLLBACK").await;
            wait_for("everything is served again", || async {
                is_whole(&exporter.scrape_within(TIMEOUT).await)
            })
            .await;
        }
    }
}

/// The processes that serve clients, those in their login too.
fn sessions(server: &Postgres) -> Vec<String> {
    children(server.pid())
        .into_iter()
        .filter_map(|(pid, _)| {
            let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
            let title = String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned();
            title.contains("[local]").then_some(title)
        })
        .collect()
}

fn is_whole(page: &Page) -> bool {
    page.value("pg_up", &[]) == Some(1.0)
        && failures(page).is_empty()
        && page.value("pg_stat_user_tables_seq_scan", &[("datname", "visited")]) == Some(0.0)
}

fn skipped(page: &Page) -> Vec<String> {
    let skipped = page.samples("pg_exporter_collector_skipped");
    let words = ["collector", "reason", "datname"];
    skipped
        .map(|sample| words.map(|word| sample.labels[word].as_str()).join(" "))
        .collect()
}
