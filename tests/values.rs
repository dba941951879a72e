//! The numbers: what is served beside what the server itself answers, asked at the same time.

use std::fs;

use super::support::answers::{Question, assert_agree};
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{MAJORS, Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;

/// The oldest and the newest version.
const ENDS: [u32; 2] = [13, 18];

#[tokio::test(flavor = "multi_thread")]
async fn settings() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("statement_timeout", "'90s'")
            .setting("lock_timeout", "'1500ms'")
            .setting("work_mem", "'6MB'")
            .setting("log_min_duration_statement", "-1")
            .setting("idle_in_transaction_session_timeout", "'2h'")
            .start()
            .await;
        // Another reckoning: SHOW writes units, and functions of the server read them.
        let answers = server
            .sql(
                "postgres",
                "SELECT regexp_replace(name, '[^A-Za-z0-9_]', '_', 'g')
                          || CASE WHEN unit IS NULL THEN '' WHEN unit ~ '^(ms|s|min)$'
                                  THEN '_seconds' ELSE '_bytes' END,
                        CASE WHEN vartype = 'bool' THEN (current_setting(name) = 'on')::int
                             WHEN unit IS NULL THEN current_setting(name)::float8
                             WHEN unit ~ '^(ms|s|min)$'
                             THEN extract(epoch FROM current_setting(name)::interval)
                             ELSE pg_size_bytes(regexp_replace(current_setting(name), '(?<=\\d)B$', ''))
                        END
                   FROM pg_settings
                  WHERE vartype IN ('bool', 'integer', 'real') AND name <> 'is_superuser'",
            )
            .await;
        assert!(answers.len() > 200);
        let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
        let page = exporter.scrape().await;
        for answer in answers {
            let name = format!("pg_settings_{}", answer[0].as_deref().unwrap());
            let expected: f64 = answer[1].as_deref().unwrap().parse().unwrap();
            let value = page.value(&name, &[]);
            assert_eq!(value, Some(expected), "{major} {name}");
        }
        for (name, expected) in [
            ("pg_settings_shared_buffers_bytes", 16_777_216.0),
            ("pg_settings_work_mem_bytes", 6_291_456.0),
            ("pg_settings_wal_segment_size_bytes", 16_777_216.0),
            ("pg_settings_max_wal_size_bytes", 1_073_741_824.0),
            ("pg_settings_statement_timeout_seconds", 90.0),
            ("pg_settings_lock_timeout_seconds", 1.5),
            (
                "pg_settings_idle_in_transaction_session_timeout_seconds",
                7200.0,
            ),
            ("pg_settings_checkpoint_timeout_seconds", 300.0),
            ("pg_settings_bgwriter_delay_seconds", 0.2),
            ("pg_settings_log_min_duration_statement_seconds", -1.0),
            ("pg_settings_max_slot_wal_keep_size_bytes", -1.0),
            ("pg_settings_random_page_cost", 4.0),
            ("pg_settings_fsync", 0.0),
            ("pg_settings_jit", 1.0),
            ("pg_settings_transaction_read_only", 0.0),
        ] {
            assert_eq!(page.value(name, &[]), Some(expected), "{major} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_limits_and_identity() {
    for major in ENDS {
        let server = Postgres::builder(major)
            .setting("autovacuum", "off")
            .setting("cluster_name", "'blue'")
            .start()
            .await;
        server
            .sql("postgres", "CREATE DATABASE matrix CONNECTION LIMIT 7")
            .await;
        server
            .sql(
                "matrix",
                "CREATE TABLE notes (id integer PRIMARY KEY, note text);
                 INSERT INTO notes SELECT n, repeat(md5(n::text), 900) FROM generate_series(1, 999) n;
                 CREATE INDEX ON notes (md5(note))",
            )
            .await;
        server
            .sql("postgres", "CREATE ROLE synapse CONNECTION LIMIT 5")
            .await;
        Role::Strict.create(&server, "strict", &["matrix"]).await;
        let exporter = Exporter::watch(&server.tcp_dsn("matrix", "strict"), &[]).await;
        // The first visits of databases add files to them.
        exporter.scrape().await;
        drop(exporter);
        let exporter = Exporter::watch(&server.tcp_dsn("matrix", "strict"), &[]).await;
        let notes = [
            ("datname", "matrix"),
            ("schemaname", "public"),
            ("relname", "notes"),
        ];
        let questions: [Question<'_>; 15] = [
            (
                "pg_database_size_bytes",
                &[("datname", "matrix")],
                "SELECT pg_database_size('matrix')",
            ),
            (
                "pg_database_size_bytes",
                &[("datname", "postgres")],
                "SELECT pg_database_size('postgres')",
            ),
            (
                "pg_database_size_bytes",
                &[("datname", "template0")],
                "SELECT pg_database_size('template0')",
            ),
            (
                "pg_database_size_bytes",
                &[("datname", "template1")],
                "SELECT pg_database_size('template1')",
            ),
            (
                "pg_stat_user_tables_table_size_bytes",
                &notes,
                "SELECT pg_table_size('notes')",
            ),
            (
                "pg_stat_user_tables_index_size_bytes",
                &notes,
                "SELECT pg_indexes_size('notes')",
            ),
            (
                "pg_postmaster_start_time_seconds",
                &[],
                "SELECT extract(epoch FROM pg_postmaster_start_time())",
            ),
            ("pg_server_version_num", &[], "SHOW server_version_num"),
            (
                "pg_timeline_id",
                &[],
                "SELECT timeline_id FROM pg_control_checkpoint()",
            ),
            ("pg_in_recovery", &[], "SELECT pg_is_in_recovery()"),
            (
                "pg_wal_segments",
                &[],
                "SELECT count(*) FROM pg_ls_waldir() WHERE length(name) = 24",
            ),
            (
                "pg_wal_size_bytes",
                &[],
                "SELECT sum(size) FROM pg_ls_waldir() WHERE length(name) = 24",
            ),
            (
                "pg_database_connection_limit",
                &[("datname", "matrix")],
                "SELECT 7",
            ),
            (
                "pg_database_connection_limit",
                &[("datname", "template0")],
                "SELECT -1",
            ),
            (
                "pg_roles_connection_limit",
                &[("rolname", "synapse")],
                "SELECT 5",
            ),
        ];
        let page = assert_agree(&server, "matrix", &exporter, &questions).await;
        let identifier = server
            .value(
                "postgres",
                "SELECT system_identifier FROM pg_control_system()",
            )
            .await
            .unwrap();
        let labels = [
            ("system_identifier", identifier.as_str()),
            ("cluster_name", "blue"),
        ];
        assert_eq!(page.value("pg_server_info", &labels), Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions() {
    for major in ENDS {
        let server = Postgres::builder(major)
            .setting("max_prepared_transactions", "2")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        server.sql("postgres", "CREATE ROLE synapse LOGIN").await;
        Role::Strict.create(&server, "strict", &["matrix"]).await;
        let mut sessions = Vec::new();
        for _ in 0..5 {
            let session = server.client("matrix", "synapse").await;
            rows(&session, "SET application_name = 'homeserver'").await;
            sessions.push(session);
        }
        rows(&sessions[0], "BEGIN; SELECT 1").await;
        rows(&sessions[1], "BEGIN; SELECT 1").await;
        rows(&sessions[2], "BEGIN; SELECT 1").await;
        assert!(sessions[2].simple_query("SELECT 1 / 0").await.is_err());
        for session in &sessions[3..] {
            drop(
                session
                    .simple_query_raw("SELECT pg_sleep(600)")
                    .await
                    .unwrap(),
            );
        }
        server
            .sql(
                "matrix",
                "BEGIN; CREATE TABLE later (); PREPARE TRANSACTION 'later'",
            )
            .await;
        wait_for("two sessions sleep", || async {
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            server.value("postgres", sleeping).await.as_deref() == Some("2")
        })
        .await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "strict"), &[]).await;
        exporter.scrape().await;

        let matrix = ("datname", "matrix");
        let of = |state| [("datname", "matrix"), ("state", state)];
        let [active, idle, open, aborted] = [
            "active",
            "idle",
            "idle in transaction",
            "idle in transaction (aborted)",
        ]
        .map(of);
        let asleep = [
            matrix,
            ("state", "active"),
            ("usename", "synapse"),
            ("application_name", "homeserver"),
            ("backend_type", "client backend"),
            ("wait_event_type", "Timeout"),
            ("wait_event", "PgSleep"),
        ];
        let lazy = [
            matrix,
            ("state", "idle in transaction"),
            ("wait_event", "ClientRead"),
        ];
        let nobody = [
            ("datname", "template1"),
            ("state", "active"),
            ("usename", ""),
        ];
        let thresholds = ["60", "300", "3600"].map(|age| [matrix, ("threshold_seconds", age)]);
        let mut questions: Vec<Question<'_>> = vec![
            ("pg_activity_sessions", &active, "SELECT 2"),
            ("pg_activity_sessions", &open, "SELECT 2"),
            ("pg_activity_sessions", &aborted, "SELECT 1"),
            ("pg_stat_activity_count", &asleep, "SELECT 2"),
            ("pg_stat_activity_count", &lazy, "SELECT 2"),
            ("pg_stat_activity_count", &nobody, "SELECT 0"),
            (
                "pg_stat_activity_max_tx_duration",
                &asleep,
                "SELECT max(extract(epoch FROM clock_timestamp() - xact_start))
                   FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
            ),
            (
                "pg_activity_longest_query_seconds",
                &[("datname", "matrix")],
                "SELECT max(extract(epoch FROM clock_timestamp() - query_start))
                   FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
            ),
            (
                "pg_activity_longest_transaction_seconds",
                &[("datname", "matrix")],
                "SELECT max(extract(epoch FROM clock_timestamp() - xact_start))
                   FROM pg_stat_activity WHERE usename = 'synapse'",
            ),
            (
                "pg_activity_longest_idle_in_transaction_seconds",
                &[("datname", "matrix")],
                "SELECT max(extract(epoch FROM clock_timestamp() - state_change))
                   FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
            ),
            (
                "pg_activity_longest_query_seconds",
                &[("datname", "template1")],
                "SELECT 0",
            ),
            ("pg_prepared_xacts", &[("datname", "matrix")], "SELECT 1"),
            ("pg_prepared_xacts", &[("datname", "postgres")], "SELECT 0"),
            (
                "pg_prepared_xacts_oldest_age_seconds",
                &[("datname", "matrix")],
                "SELECT extract(epoch FROM clock_timestamp() - prepared) FROM pg_prepared_xacts",
            ),
            (
                "pg_prepared_xacts_oldest_age_seconds",
                &[("datname", "postgres")],
                "SELECT 0",
            ),
        ];
        for threshold in &thresholds {
            questions.extend([
                ("pg_activity_long_queries", &threshold[..], "SELECT 0"),
                ("pg_activity_long_transactions", &threshold[..], "SELECT 0"),
                (
                    "pg_activity_long_idle_in_transaction",
                    &threshold[..],
                    "SELECT 0",
                ),
            ] as [Question<'_>; 3]);
        }
        assert_agree(&server, "postgres", &exporter, &questions).await;

        // Whoever leaves is no longer counted.
        drop(sessions);
        server
            .sql(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'synapse'",
            )
            .await;
        server.sql("matrix", "ROLLBACK PREPARED 'later'").await;
        wait_for("the sessions are gone", || async {
            let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'synapse'";
            server.value("postgres", left).await.as_deref() == Some("0")
        })
        .await;
        let page = assert_agree(
            &server,
            "postgres",
            &exporter,
            &[
                ("pg_activity_sessions", &active, "SELECT 0"),
                ("pg_activity_sessions", &open, "SELECT 0"),
                (
                    "pg_activity_longest_transaction_seconds",
                    &[("datname", "template1")],
                    "SELECT 0",
                ),
                ("pg_prepared_xacts", &[("datname", "matrix")], "SELECT 0"),
            ],
        )
        .await;
        assert!(page.value("pg_activity_sessions", &idle).is_some());
        let left = page
            .samples("pg_stat_activity_count")
            .filter(|sample| sample.labels["usename"] == "synapse");
        assert_eq!(left.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks() {
    for major in ENDS {
        let server = Postgres::builder(major)
            .setting("autovacuum", "off")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        server
            .sql("matrix", "CREATE TABLE notes (id integer)")
            .await;
        Role::Strict.create(&server, "strict", &["matrix"]).await;
        let [holder, waiter] = [
            server.client("matrix", "postgres").await,
            server.client("matrix", "postgres").await,
        ];
        rows(&holder, "BEGIN; LOCK TABLE notes IN EXCLUSIVE MODE").await;
        drop(
            waiter
                .simple_query_raw("INSERT INTO notes VALUES (1)")
                .await
                .unwrap(),
        );
        wait_for("somebody waits", || async {
            let waiting =
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL";
            server.value("postgres", waiting).await.as_deref() == Some("1")
        })
        .await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "strict"), &[]).await;
        exporter.scrape().await;
        let page = exporter.scrape().await;
        for (mode, count) in [
            ("rowsharelock", 0.0),
            ("rowexclusivelock", 1.0),
            ("shareupdateexclusivelock", 0.0),
            ("sharelock", 0.0),
            ("sharerowexclusivelock", 0.0),
            ("exclusivelock", 1.0),
            ("accessexclusivelock", 0.0),
            ("sireadlock", 0.0),
        ] {
            let labels = [("datname", "matrix"), ("mode", mode)];
            assert_eq!(
                page.value("pg_locks_count", &labels),
                Some(count),
                "{major} {mode}"
            );
        }
        rows(&holder, "COMMIT").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_databases() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("autovacuum", "off")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        Role::Strict.create(&server, "strict", &["matrix"]).await;
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
        wait_for("the statistics are written", || async {
            server.value("matrix", known).await.as_deref() == Some("t")
        })
        .await;
        let exporter = Exporter::watch(&server.tcp_dsn("matrix", "strict"), &[]).await;
        let page = assert_tables_agree(&server, &exporter).await;
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
        wait_for("vacuum and analyze are counted", || async {
            let counted = "SELECT vacuum_count = 1 AND analyze_count = 1 FROM pg_stat_user_tables";
            server.value("matrix", counted).await.as_deref() == Some("t")
        })
        .await;
        let page = assert_tables_agree(&server, &exporter).await;
        let notes = |name: &str| page.value(name, &[("relname", "notes")]);
        assert_eq!(notes("pg_stat_user_tables_n_dead_tup"), Some(0.0));
        assert_eq!(notes("pg_stat_user_tables_vacuum_count"), Some(1.0));
        assert!(notes("pg_stat_user_tables_last_vacuum").unwrap() > 1e9);
    }
}

/// Compares every column of the statistics of `notes`, and of the database `matrix`.
async fn assert_tables_agree(server: &Postgres, exporter: &Exporter) -> Page {
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
    assert_agree(server, "matrix", exporter, &questions).await
}

#[tokio::test(flavor = "multi_thread")]
async fn archiving() {
    for major in ENDS {
        let server = Postgres::builder(major)
            .setting("archive_mode", "on")
            .setting("archive_command", "'test -f allowed'")
            .start()
            .await;
        Role::Strict.create(&server, "strict", &["postgres"]).await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "strict"), &[]).await;
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
        let page = assert_agree(&server, "postgres", &exporter, &questions).await;
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
        until(&server, "SELECT failed_count > 0 FROM pg_stat_archiver").await;
        let page = assert_agree(&server, "postgres", &exporter, &questions).await;
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
        let page = assert_agree(&server, "postgres", &exporter, &questions).await;
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
        Role::Strict.create(&server, "strict", &["postgres"]).await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "strict"), &[]).await;
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
        let before = assert_agree(&server, "postgres", &exporter, &questions).await;
        server
            .sql("postgres", "CREATE TABLE t (); CHECKPOINT")
            .await;
        let sql = format!(
            "SELECT {} FROM {view}",
            if major == 16 {
                "checkpoints_req"
            } else {
                "num_requested"
            }
        );
        let count = before.value(requested, &[]).unwrap() + 1.0;
        wait_for("the checkpoint is counted", || async {
            server.value("postgres", &sql).await.unwrap() == count.to_string()
        })
        .await;
        let page = assert_agree(&server, "postgres", &exporter, &questions).await;
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
    for major in ENDS {
        let server = Postgres::builder(major)
            .setting("wal_level", "logical")
            .setting("max_slot_wal_keep_size", "'64MB'")
            .start()
            .await;
        Role::Strict.create(&server, "strict", &["postgres"]).await;
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
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "strict"), &[]).await;
        let kept = [("slot_name", "kept")];
        let new = [("slot_name", "new")];
        let page = assert_agree(
            &server,
            "postgres",
            &exporter,
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

async fn until(server: &Postgres, condition: &str) {
    wait_for(condition, || async {
        server.value("postgres", condition).await.as_deref() == Some("t")
    })
    .await;
}
