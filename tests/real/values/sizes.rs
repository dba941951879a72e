//! Sizes, limits, and what a server is.

use crate::support::answers::{Question, assert_agree, create_roles, watch};
use crate::support::postgres::{MAJORS, Postgres};

#[tokio::test(flavor = "multi_thread")]
async fn sizes_limits_and_identity() {
    for major in MAJORS {
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
        create_roles(&server, &["matrix"]).await;
        // The first visits of databases add files to them.
        for exporter in watch(&server, "matrix").await {
            exporter.scrape().await;
        }
        let exporters = watch(&server, "matrix").await;
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
        let page = assert_agree(&server, "matrix", &exporters, &questions).await;
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
