//! WAL: archiving, checkpoints, slots.

use std::fs;

use crate::support::answers::{Question, assert_agree, create_roles, wait_until, watch};
use crate::support::exposition::Page;
use crate::support::postgres::{MAJORS, Postgres};
use crate::support::process::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn archiving() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("archive_mode", "on")
            .setting("archive_command", "'test -f allowed'")
            .start()
            .await;
        create_roles(&server, &["postgres"]).await;
        let exporters = watch(&server, "postgres").await;
        let questions: [Question<'_>; 5] = [
            (
                "pg_stat_archiver_archived_count",
                &[],
                "SELECT archived_count FROM pg_stat_archiver",
            ),
            (
                "pg_stat_archiver_failed_count",
                &[],
                "SELECT failed_count FROM pg_stat_archiver",
            ),
            (
                "pg_stat_archiver_last_archive_age",
                &[],
                "SELECT extract(epoch FROM clock_timestamp() - last_archived_time) FROM pg_stat_archiver",
            ),
            (
                "pg_wal_archive_ready_files",
                &[],
                "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
            ),
            (
                "pg_wal_archive_ready_oldest_age_seconds",
                &[],
                "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(modification)), 0)
                   FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
            ),
        ];
        let page = assert_agree(&server, "postgres", &exporters, &questions).await;
        assert_eq!(page.value("pg_wal_archive_ready_files", &[]), Some(0.0));
        assert_eq!(page.value("pg_stat_archiver_last_archive_age", &[]), None);

        for _ in 0..2 {
            server
                .sql(
                    "postgres",
                    "CREATE TABLE t (); DROP TABLE t; SELECT pg_switch_wal()",
                )
                .await;
        }
        wait_until(
            &server,
            "postgres",
            "SELECT failed_count > 0 FROM pg_stat_archiver",
        )
        .await;
        let page = assert_agree(&server, "postgres", &exporters, &questions).await;
        assert_eq!(page.value("pg_wal_archive_ready_files", &[]), Some(2.0));
        assert!(
            page.value("pg_wal_archive_ready_oldest_age_seconds", &[])
                .unwrap()
                > 0.0
        );
        assert!(page.value("pg_stat_archiver_failed_count", &[]).unwrap() > 0.0);
        assert_eq!(
            page.value("pg_stat_archiver_archived_count", &[]),
            Some(0.0)
        );
        assert_eq!(page.value("pg_stat_archiver_last_archive_age", &[]), None);

        fs::write(server.data_dir().join("allowed"), "").unwrap();
        wait_for("everything is archived", || async {
            // After three failures the archiver rests for a minute, unless another file is ready.
            let more = "CREATE TABLE t (); DROP TABLE t; SELECT pg_switch_wal()";
            server.sql("postgres", more).await;
            let all = "SELECT archived_count > 2 AND NOT EXISTS (
                         SELECT FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
                         FROM pg_stat_archiver";
            server.value("postgres", all).await.as_deref() == Some("t")
        })
        .await;
        let page = assert_agree(&server, "postgres", &exporters, &questions).await;
        assert_eq!(page.value("pg_wal_archive_ready_files", &[]), Some(0.0));
        assert_eq!(
            page.value("pg_wal_archive_ready_oldest_age_seconds", &[]),
            Some(0.0)
        );
        assert!(page.value("pg_stat_archiver_archived_count", &[]).unwrap() > 2.0);
        assert!(
            page.value("pg_stat_archiver_last_archive_age", &[])
                .unwrap()
                >= 0.0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints() {
    for major in [16, 17, 18] {
        let server = Postgres::start(major).await;
        create_roles(&server, &["postgres"]).await;
        let exporters = watch(&server, "postgres").await;
        let (view, columns, requested): (_, &[&str], _) = match major {
            16 => (
                "pg_stat_bgwriter",
                &[
                    "checkpoints_timed",
                    "checkpoints_req",
                    "checkpoint_write_time",
                    "checkpoint_sync_time",
                    "buffers_checkpoint",
                    "buffers_clean",
                    "maxwritten_clean",
                    "buffers_backend",
                    "buffers_backend_fsync",
                    "buffers_alloc",
                ],
                "pg_stat_bgwriter_checkpoints_req_total",
            ),
            17 => (
                "pg_stat_checkpointer",
                CHECKPOINTER,
                "pg_stat_checkpointer_num_requested_total",
            ),
            _ => (
                "pg_stat_checkpointer",
                &[
                    "num_done",
                    "slru_written",
                    "num_timed",
                    "num_requested",
                    "buffers_written",
                ],
                "pg_stat_checkpointer_num_requested_total",
            ),
        };
        let texts: Vec<_> = columns
            .iter()
            .map(|column| {
                (
                    format!("{view}_{column}_total"),
                    format!("SELECT {column} FROM {view}"),
                )
            })
            .collect();
        let questions: Vec<Question<'_>> = texts
            .iter()
            .map(|(metric, sql)| (metric.as_str(), &[][..], sql.as_str()))
            .collect();
        let before = assert_agree(&server, "postgres", &exporters, &questions).await;
        server
            .sql("postgres", "CREATE TABLE t (); CHECKPOINT")
            .await;
        let count = before.value(requested, &[]).unwrap() + 1.0;
        let column = if major == 16 {
            "checkpoints_req"
        } else {
            "num_requested"
        };
        wait_until(
            &server,
            "postgres",
            &format!("SELECT {column} = {count} FROM {view}"),
        )
        .await;
        let page = assert_agree(&server, "postgres", &exporters, &questions).await;
        assert_eq!(page.value(requested, &[]), Some(count), "{major}");
    }
}

const CHECKPOINTER: &[&str] = &[
    "num_timed",
    "num_requested",
    "restartpoints_timed",
    "restartpoints_req",
    "restartpoints_done",
    "write_time",
    "sync_time",
    "buffers_written",
];

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_nobody_reads() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("wal_level", "logical")
            .setting("max_slot_wal_keep_size", "'64MB'")
            .start()
            .await;
        create_roles(&server, &["postgres"]).await;
        server
            .sql(
                "postgres",
                "SELECT pg_create_physical_replication_slot('kept', true);
                 SELECT pg_create_physical_replication_slot('new')",
            )
            .await;
        server
            .sql(
                "postgres",
                "CREATE TABLE t AS SELECT generate_series(1, 100000)",
            )
            .await;
        let exporters = watch(&server, "postgres").await;
        let kept = [("slot_name", "kept")];
        let new = [("slot_name", "new")];
        let page = assert_agree(
            &server,
            "postgres",
            &exporters,
            &[
                (
                    "pg_replication_slots_pg_wal_lsn_diff",
                    &kept,
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)
                       FROM pg_replication_slots WHERE slot_name = 'kept'",
                ),
                ("pg_replication_slots_pg_wal_lsn_diff", &new, "SELECT NULL"),
                (
                    "pg_replication_slots_slot_current_wal_lsn",
                    &kept,
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')",
                ),
                (
                    "pg_replication_slots_safe_wal_size_bytes",
                    &kept,
                    "SELECT safe_wal_size FROM pg_replication_slots WHERE slot_name = 'kept'",
                ),
                ("pg_replication_slots_active", &kept, "SELECT 0"),
                ("pg_replication_slots_slot_is_active", &kept, "SELECT 0"),
                (
                    "pg_replication_slots_slot_confirmed_flush_lsn",
                    &kept,
                    "SELECT NULL",
                ),
                ("pg_replication_slots_wal_status", &new, "SELECT NULL"),
            ],
        )
        .await;
        let labels = [
            kept[0],
            ("slot_type", "physical"),
            ("wal_status", "reserved"),
        ];
        assert_eq!(
            page.value("pg_replication_slots_wal_status", &labels),
            Some(1.0)
        );
        let behind = page
            .value("pg_replication_slots_pg_wal_lsn_diff", &kept)
            .unwrap();
        assert!(behind > 1e6, "{behind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_slots_have_decoded() {
    for major in [14, 15, 18] {
        let server = Postgres::builder(major)
            .setting("wal_level", "logical")
            .setting("logical_decoding_work_mem", "'64kB'")
            .start()
            .await;
        create_roles(&server, &["postgres"]).await;
        let exporters = watch(&server, "postgres").await;
        for sql in [
            "CREATE TABLE t (n integer); CREATE PUBLICATION p FOR TABLE t",
            "SELECT pg_create_physical_replication_slot('physical', true)",
            "SELECT pg_create_logical_replication_slot('spills', 'test_decoding')",
            "SELECT pg_create_logical_replication_slot('streams', 'pgoutput')",
        ] {
            server.sql("postgres", sql).await;
        }
        let texts: Vec<_> = ["spills", "streams"]
            .into_iter()
            .flat_map(|slot| {
                DECODED.iter().map(move |(metric, column)| {
                    let sql = format!(
                        "SELECT {column} FROM pg_stat_replication_slots WHERE slot_name = '{slot}'"
                    );
                    (
                        format!("pg_stat_replication_slots_{metric}_total"),
                        [("slot_name", slot)],
                        sql,
                    )
                })
            })
            .collect();
        let questions: Vec<Question<'_>> = texts
            .iter()
            .map(|(metric, labels, sql)| (metric.as_str(), &labels[..], sql.as_str()))
            .collect();
        let value = |page: &Page, slot: &str, metric: &str| {
            let metric = format!("pg_stat_replication_slots_{metric}_total");
            page.value(&metric, &[("slot_name", slot)])
        };
        let page = assert_agree(&server, "postgres", &exporters, &questions).await;
        for (metric, _) in DECODED {
            assert_eq!(value(&page, "spills", metric), Some(0.0), "{major}");
            assert_eq!(value(&page, "physical", metric), None, "{major}");
        }

        for sql in [
            "INSERT INTO t SELECT generate_series(1, 10000)",
            "INSERT INTO t SELECT 1",
            "SELECT count(*) FROM pg_logical_slot_get_changes('spills', NULL, NULL)",
            "SELECT count(*) FROM pg_logical_slot_get_binary_changes('streams', NULL, NULL,
                    'proto_version', '2', 'publication_names', 'p', 'streaming', 'on')",
        ] {
            server.sql("postgres", sql).await;
        }
        wait_until(
            &server,
            "postgres",
            "SELECT count(*) = 2 FROM pg_stat_replication_slots WHERE total_txns >= 2",
        )
        .await;
        let page = assert_agree(&server, "postgres", &exporters, &questions).await;
        for (slot, what, not) in [
            ("spills", "spill", "stream"),
            ("streams", "stream", "spill"),
        ] {
            let value = |metric: &str| value(&page, slot, metric).unwrap();
            assert_eq!(value(&format!("{what}_txns")), 1.0, "{major} {slot}");
            assert!(value(&format!("{what}_bytes")) > 64e3, "{major} {slot}");
            assert_eq!(value(&format!("{not}_bytes")), 0.0, "{major} {slot}");
            assert!(value("decoded_txns") >= 2.0, "{major} {slot}");
            let all = value("decoded_bytes");
            assert!(all > value(&format!("{what}_bytes")), "{major} {slot}");
        }
    }
}

/// Metrics of a logical slot, and the columns that they come from.
const DECODED: [(&str, &str); 6] = [
    ("spill_txns", "spill_txns"),
    ("spill_bytes", "spill_bytes"),
    ("stream_txns", "stream_txns"),
    ("stream_bytes", "stream_bytes"),
    ("decoded_txns", "total_txns"),
    ("decoded_bytes", "total_bytes"),
];
