//! A number belongs to a role of the server: to a primary or a standby, as it is now.

use std::collections::BTreeSet;

use matrix_postgres_exporter::collectors;
use matrix_postgres_exporter::query::Collector;

use super::support::answers::{create_roles, wait_until, watch};
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;

/// Where a metric may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// On each server.
    Each,
    /// Where writes are accepted.
    Primary,
    /// In recovery.
    Standby,
    /// Where an archiver runs; here, on the primary.
    Archiving,
}
use On::{Archiving, Each, Primary, Standby};

/// By the beginning of its name, the longest that fits; each metric of each collector has a line.
const BELONGS: &[(&str, On)] = &[
    ("pg_activity_", Each),
    ("pg_database_", Each),
    ("pg_indexes_", Each),
    ("pg_locks_", Each),
    ("pg_postmaster_", Each),
    ("pg_prepared_xacts", Primary),
    ("pg_publication_", Each),
    ("pg_replication_", Each),
    ("pg_replication_slots_", Each),
    ("pg_roles_", Each),
    ("pg_settings_", Each),
    ("pg_stat_activity_", Each),
    ("pg_stat_archiver_", Each),
    ("pg_stat_archiver_last_archive_age", Archiving),
    ("pg_stat_bgwriter_", Each),
    ("pg_stat_checkpointer_", Each),
    ("pg_stat_database_", Each),
    ("pg_stat_database_conflicts", Each),
    ("pg_stat_progress_vacuum_", Primary),
    ("pg_stat_replication_", Each),
    // What is written, vacuumed and analyzed is counted where it is done; reads are of each server.
    ("pg_stat_user_tables_", Primary),
    ("pg_stat_user_tables_seq_", Each),
    ("pg_stat_user_tables_idx_", Each),
    ("pg_stat_user_tables_index_size_bytes", Each),
    ("pg_stat_user_tables_table_size_bytes", Each),
    ("pg_stat_wal_receiver_", Standby),
    ("pg_statio_user_tables_", Each),
    ("pg_wal_", Each),
    ("pg_wal_archive_ready_", Archiving),
    // Rows of tables, which are the same everywhere; tests/real/events.rs sees what is counted.
    ("synapse_db_", Each),
];

fn belongs(metric: &str) -> On {
    let fits = BELONGS
        .iter()
        .filter(|(start, _)| metric.starts_with(start));
    let longest = fits.max_by_key(|(start, _)| start.len());
    longest
        .unwrap_or_else(|| panic!("to which role does {metric} belong?"))
        .1
}

/// The names of all metrics that definitions give.
fn metrics() -> BTreeSet<String> {
    let collectors = collectors::all();
    let metrics = collectors.iter().flat_map(Collector::metrics);
    metrics.map(|metric| metric.name).collect()
}

#[test]
fn each_metric_belongs_somewhere() {
    for metric in metrics() {
        belongs(&metric);
    }
    for (start, _) in BELONGS {
        let mut metrics = metrics().into_iter();
        assert!(metrics.any(|metric| metric.starts_with(start)), "{start}");
    }
}

/// A primary whose archiving fails gives way to its standby, and becomes a standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_leaves_no_number_behind() {
    for major in [13, 15, 18] {
        let mut old = Postgres::builder(major)
            .setting("archive_mode", "on")
            .setting("archive_command", "'false'")
            .setting("wal_log_hints", "on")
            .setting("max_prepared_transactions", "2")
            .setting("recovery_target_timeline", "latest")
            .start()
            .await;
        old.sql(
            "postgres",
            "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n; ANALYZE t",
        )
        .await;
        create_roles(&old, &["postgres"]).await;
        let new = old.standby().start().await;
        caught_up(&old, &new).await;
        let (of_old, of_new) = (watch(&old, "postgres").await, watch(&new, "postgres").await);

        for _ in 0..3 {
            let wal = "CREATE TABLE w (); DROP TABLE w; SELECT pg_switch_wal()";
            old.sql("postgres", wal).await;
        }
        old.sql(
            "postgres",
            "BEGIN; CREATE TABLE p (); PREPARE TRANSACTION 'p'",
        )
        .await;
        let failing = "SELECT failed_count > 0 FROM pg_stat_archiver";
        wait_until(&old, "postgres", failing).await;
        for exporter in &of_old {
            let page = exporter.complete().await;
            assert!(page.value("pg_wal_archive_ready_files", &[]) >= Some(3.0));
            assert_eq!(
                page.value("pg_prepared_xacts", &[("datname", "postgres")]),
                Some(1.0)
            );
            assert_belongs(&page, Primary, major);
        }
        for exporter in &of_new {
            assert_belongs(&exporter.complete().await, Standby, major);
        }
        old.sql("postgres", "ROLLBACK PREPARED 'p'").await;
        caught_up(&old, &new).await;

        // The old one stops with all it has written sent, and the new one takes over.
        old.stop().await;
        new.promote().await;
        wait_until(&new, "postgres", "SELECT NOT pg_is_in_recovery()").await;
        old.follow(&new).await;
        new.sql("postgres", "INSERT INTO t SELECT generate_series(1, 10)")
            .await;
        caught_up(&new, &old).await;
        let left = "SELECT count(*) >= 3 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
        assert_eq!(old.value("postgres", left).await.as_deref(), Some("t"));

        for exporter in &of_old {
            back(exporter).await;
            assert_belongs(&exporter.complete().await, Standby, major);
        }
        let client = new.client("postgres", "postgres").await;
        rows(&client, "SELECT pg_switch_wal()").await;
        for exporter in &of_new {
            back(exporter).await;
            assert_belongs(&exporter.complete().await, Primary, major);
            wait_for("the new one has files to archive", async || {
                exporter
                    .scrape()
                    .await
                    .value("pg_wal_archive_ready_files", &[])
                    > Some(0.0)
            })
            .await;
        }
    }
}

/// Each metric is where it belongs, and nowhere else; a collector that leaves something out says so.
fn assert_belongs(page: &Page, role: On, major: u32) {
    page.assert_whole();
    let all = metrics();
    for name in page.names() {
        let Some(metric) = all
            .get(name)
            .filter(|name| !name.starts_with("pg_exporter_"))
        else {
            continue;
        };
        let allowed = match belongs(metric) {
            Each => true,
            Archiving => role == Primary,
            one => one == role,
        };
        assert!(allowed, "{major}: {metric} on a {role:?}");
    }
    let skipped = page.skipped();
    let (gone, there) = match role {
        Standby => (
            &[
                "archive_ready",
                "stat_archiver",
                "activity",
                "stat_user_tables",
            ][..],
            &[
                "pg_stat_wal_receiver_streaming",
                "pg_stat_user_tables_seq_scan",
            ][..],
        ),
        _ => (
            &["stat_wal_receiver"][..],
            &[
                "pg_wal_archive_ready_files",
                "pg_stat_user_tables_n_live_tup",
                "pg_prepared_xacts",
            ][..],
        ),
    };
    for collector in gone {
        let said = skipped
            .iter()
            .any(|(of, reason, _)| of == collector && *reason == "wrong_role");
        assert!(said, "{major} {role:?} {collector}: {skipped:?}");
    }
    for metric in there {
        assert!(
            page.samples(metric).count() > 0,
            "{major} {role:?} {metric}"
        );
    }
}

/// Waits until a server is seen again after its restart.
async fn back(exporter: &Exporter) {
    wait_for("the server is seen", async || exporter.scrape().await.up()).await;
}

/// Waits until the standby has replayed what its primary has written.
async fn caught_up(primary: &Postgres, standby: &Postgres) {
    let end = primary
        .value("postgres", "SELECT pg_current_wal_lsn()")
        .await;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", end.unwrap());
    wait_until(standby, "postgres", &replayed).await;
}
