//! Tables and databases after a known workload.

use crate::support::answers::{Question, assert_agree, create_roles, wait_until, watch};
use crate::support::exporter::Exporter;
use crate::support::exposition::Page;
use crate::support::postgres::{MAJORS, Postgres, rows};

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_databases() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("track_io_timing", "on")
            .setting("autovacuum", "off")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        create_roles(&server, &["matrix"]).await;
        // One session, since up to 14 what several report may arrive in another order.
        let session = server.client("matrix", "postgres").await;
        for sql in [
            "CREATE TABLE notes (id integer PRIMARY KEY, note text)",
            "ALTER TABLE notes ALTER note SET STORAGE EXTERNAL",
            "INSERT INTO notes SELECT n, repeat(md5(n::text), 900) FROM generate_series(1, 100) n",
            "UPDATE notes SET note = 'short' WHERE id <= 30",
            "UPDATE notes SET id = id + 1000 WHERE id <= 10",
            "DELETE FROM notes WHERE id > 80 AND id <= 100",
            "BEGIN; INSERT INTO notes VALUES (5000); ROLLBACK",
            "SET enable_seqscan = off; SELECT length(note) FROM notes WHERE id = 42; RESET ALL",
            "SET enable_indexscan = off; SET enable_bitmapscan = off",
            "SELECT sum(length(note)) FROM notes",
        ] {
            rows(&session, sql).await;
        }
        drop(session);
        let known =
            "SELECT n_tup_ins = 101 AND n_tup_upd = 40 AND n_tup_del = 20 AND seq_tup_read >= 80
                       FROM pg_stat_user_tables";
        wait_until(&server, "matrix", known).await;
        let exporters = watch(&server, "matrix").await;
        let page = assert_tables_agree(&server, &exporters).await;
        let notes = |name: &str| page.value(name, &[("relname", "notes")]);
        assert_eq!(notes("pg_stat_user_tables_n_tup_ins"), Some(101.0));
        assert_eq!(notes("pg_stat_user_tables_n_tup_upd"), Some(40.0));
        assert_eq!(notes("pg_stat_user_tables_n_tup_del"), Some(20.0));
        assert_eq!(notes("pg_stat_user_tables_n_live_tup"), Some(80.0));
        assert!(notes("pg_stat_user_tables_n_dead_tup").unwrap() > 0.0);
        assert_eq!(notes("pg_stat_user_tables_last_vacuum"), Some(0.0));
        assert!(notes("pg_statio_user_tables_toast_blocks_hit").unwrap() > 0.0);

        server.sql("matrix", "VACUUM notes").await;
        server.sql("matrix", "ANALYZE notes").await;
        let counted = "SELECT vacuum_count = 1 AND analyze_count = 1 FROM pg_stat_user_tables";
        wait_until(&server, "matrix", counted).await;
        let page = assert_tables_agree(&server, &exporters).await;
        let notes = |name: &str| page.value(name, &[("relname", "notes")]);
        assert_eq!(notes("pg_stat_user_tables_n_dead_tup"), Some(0.0));
        assert_eq!(notes("pg_stat_user_tables_vacuum_count"), Some(1.0));
        assert!(notes("pg_stat_user_tables_last_vacuum").unwrap() > 1e9);
    }
}

/// Compares every column of the statistics of `notes`, and of the database `matrix`.
async fn assert_tables_agree(server: &Postgres, exporters: &[Exporter; 2]) -> Page {
    let mut questions = Vec::new();
    for column in [
        "seq_scan",
        "seq_tup_read",
        "idx_scan",
        "idx_tup_fetch",
        "n_tup_ins",
        "n_tup_upd",
        "n_tup_del",
        "n_tup_hot_upd",
        "n_live_tup",
        "n_dead_tup",
        "n_mod_since_analyze",
        "vacuum_count",
        "autovacuum_count",
        "analyze_count",
        "autoanalyze_count",
    ] {
        questions.push((
            format!("pg_stat_user_tables_{column}"),
            format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = 'notes'"),
        ));
    }
    for column in [
        "last_vacuum",
        "last_autovacuum",
        "last_analyze",
        "last_autoanalyze",
    ] {
        questions.push((
            format!("pg_stat_user_tables_{column}"),
            format!(
                "SELECT coalesce(extract(epoch FROM {column}), 0)
                   FROM pg_stat_user_tables WHERE relname = 'notes'"
            ),
        ));
    }
    for kind in ["heap", "idx", "toast", "tidx"] {
        for what in ["read", "hit"] {
            questions.push((
                format!("pg_statio_user_tables_{kind}_blocks_{what}"),
                format!(
                    "SELECT {kind}_blks_{what} FROM pg_statio_user_tables WHERE relname = 'notes'"
                ),
            ));
        }
    }
    let tables = [
        ("datname", "matrix"),
        ("schemaname", "public"),
        ("relname", "notes"),
    ];
    let of_tables = questions.len();
    for column in [
        "xact_commit",
        "xact_rollback",
        "blks_read",
        "blks_hit",
        "tup_returned",
        "tup_fetched",
        "tup_inserted",
        "tup_updated",
        "tup_deleted",
        "conflicts",
        "temp_files",
        "temp_bytes",
        "deadlocks",
        "blk_read_time",
        "blk_write_time",
    ] {
        questions.push((
            format!("pg_stat_database_{column}"),
            format!("SELECT {column} FROM pg_stat_database WHERE datname = 'matrix'"),
        ));
    }
    questions.push((
        "pg_stat_database_stats_reset".to_owned(),
        "SELECT coalesce(extract(epoch FROM stats_reset), 0) FROM pg_stat_database WHERE datname = 'matrix'".to_owned(),
    ));
    if server.major() >= 14 {
        questions.push((
            "pg_stat_database_active_time_seconds_total".to_owned(),
            "SELECT active_time / 1000 FROM pg_stat_database WHERE datname = 'matrix'".to_owned(),
        ));
    }
    let questions: Vec<Question<'_>> = questions
        .iter()
        .enumerate()
        .map(|(i, (metric, sql))| {
            let labels = if i < of_tables {
                &tables[..]
            } else {
                &tables[..1]
            };
            (metric.as_str(), labels, sql.as_str())
        })
        .collect();
    assert_agree(server, "matrix", exporters, &questions).await
}
