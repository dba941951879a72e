//! A standby that cancels what is in the way of replay.

use std::time::Duration;

use super::support::exporter::Exporter;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The primary vacuums its catalogues without a pause, and the standby waits for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn replay_that_cancels_queries() {
    for major in [13, 18] {
        let primary = Postgres::builder(major)
            .setting("autovacuum", "off")
            .start()
            .await;
        // So many that the queries on them take a while.
        let tables = "DO $$ BEGIN FOR i IN 1..500 LOOP \
                      EXECUTE format('CREATE TABLE t%s (a int)', i); END LOOP; END $$";
        primary.sql("postgres", tables).await;
        let standby = primary
            .standby()
            .setting("max_standby_streaming_delay", "0")
            .start()
            .await;
        let exporter = Exporter::watch(&standby.dsn("postgres", "postgres"), &[]).await;
        wait_for("the standby is seen", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            page.value("pg_in_recovery", &[]) == Some(1.0)
        })
        .await;
        let vacuums = async {
            let session = primary.client("postgres", "postgres").await;
            loop {
                rows(&session, "CREATE TABLE gone (a int)").await;
                rows(&session, "DROP TABLE gone").await;
                rows(&session, "VACUUM pg_catalog.pg_class").await;
                rows(&session, "VACUUM pg_catalog.pg_attribute").await;
                rows(&session, "VACUUM pg_catalog.pg_type").await;
            }
        };
        let conflicts = wait_for("a query is cancelled", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            assert_eq!(page.value("pg_up", &[]), Some(1.0));
            let mut conflicts = page
                .samples("pg_exporter_collector_skipped")
                .filter(|sample| sample.labels["reason"] == "recovery_conflict");
            conflicts.next().is_some()
        });
        tokio::select! {
            () = vacuums => (),
            () = conflicts => (),
        }
        wait_for("everything is served again", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            page.value("pg_exporter_last_scrape_error", &[]) == Some(0.0)
                && page.samples("pg_stat_user_tables_seq_scan").count() >= 500
        })
        .await;
    }
}
