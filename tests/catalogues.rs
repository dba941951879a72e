//! A catalogue that somebody rewrites, and nobody can read meanwhile.

use std::time::Duration;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::{children, wait_for};

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(5);

/// VACUUM FULL holds this lock for as long as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_catalogue() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        server.sql("postgres", "CREATE DATABASE visited").await;
        server.sql("visited", "CREATE TABLE t ()").await;
        let dsn = server.dsn("postgres", "postgres");
        let yaml = "servers: { main: { databases: { interval: 1s } } }";
        let exporter = Exporter::configured(&dsn, yaml).await;
        let page = exporter.scrape().await;
        assert!(is_whole(&page), "{:?}", failures(&page));
        for (database, catalogue) in [
            ("postgres", "pg_class"),
            ("postgres", "pg_attribute"),
            ("visited", "pg_class"),
            ("postgres", "pg_database"),
            ("postgres", "pg_authid"),
        ] {
            let vacuum = server.client(database, "postgres").await;
            let lock = format!("BEGIN; LOCK TABLE pg_catalog.{catalogue} IN ACCESS EXCLUSIVE MODE");
            rows(&vacuum, &lock).await;
            for _ in 0..6 {
                let page = exporter.scrape_within(TIMEOUT).await;
                println!(
                    "PRINT {major} {catalogue} {database} up {:?} fail {:?} took {:?} backends {}",
                    page.value("pg_up", &[]),
                    failures(&page),
                    page.value("pg_exporter_last_scrape_duration_seconds", &[]),
                    children(server.pid()).len()
                );
                let mut sk: Vec<_> = page
                    .samples("pg_exporter_collector_skipped")
                    .map(|s| {
                        format!(
                            "{}/{}/{}",
                            s.labels["collector"], s.labels["reason"], s.labels["datname"]
                        )
                    })
                    .collect();
                sk.sort();
                println!(
                    "PRINT   {sk:?} {:?}",
                    page.samples("pg_exporter_down_reason").collect::<Vec<_>>()
                );
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            rows(&vacuum, "ROLLBACK").await;
            wait_for("everything is served again", || async {
                is_whole(&exporter.scrape_within(TIMEOUT).await)
            })
            .await;
        }
    }
}

fn is_whole(page: &Page) -> bool {
    page.value("pg_up", &[]) == Some(1.0)
        && failures(page).is_empty()
        && page.value("pg_stat_user_tables_seq_scan", &[("datname", "visited")]) == Some(0.0)
}

/// The collectors that did not see everything that they should.
fn failures(page: &Page) -> Vec<&str> {
    let failed = page
        .samples("pg_scrape_collector_success")
        .filter(|sample| sample.value != 1.0);
    failed
        .map(|sample| sample.labels["collector"].as_str())
        .collect()
}
