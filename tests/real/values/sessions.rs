//! Sessions, transactions and locks.

use crate::support::answers::{Question, assert_agree, create_roles, wait_until, watch};
use crate::support::postgres::{MAJORS, Postgres, rows};

#[tokio::test(flavor = "multi_thread")]
async fn sessions() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("max_prepared_transactions", "2")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        server.sql("postgres", "CREATE ROLE synapse LOGIN").await;
        create_roles(&server, &["matrix"]).await;
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
        wait_until(
            &server,
            "postgres",
            "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        )
        .await;
        let exporters = watch(&server, "postgres").await;

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
        assert_agree(&server, "postgres", &exporters, &questions).await;

        // Whoever leaves is no longer counted.
        drop(sessions);
        server
            .sql(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'synapse'",
            )
            .await;
        server.sql("matrix", "ROLLBACK PREPARED 'later'").await;
        wait_until(
            &server,
            "postgres",
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'synapse'",
        )
        .await;
        let page = assert_agree(
            &server,
            "postgres",
            &exporters,
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
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("autovacuum", "off")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        server
            .sql("matrix", "CREATE TABLE notes (id integer)")
            .await;
        create_roles(&server, &["matrix"]).await;
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
        wait_until(
            &server,
            "postgres",
            "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation IS NOT NULL",
        )
        .await;
        let exporters = watch(&server, "postgres").await;
        for exporter in &exporters {
            let page = exporter.scrape().await;
            // Our own reading takes the weakest of locks, the ninth.
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
                let value = page.value("pg_locks_count", &labels);
                assert_eq!(value, Some(count), "{major} {mode}");
            }
        }
        rows(&holder, "COMMIT").await;
    }
}
