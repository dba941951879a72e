//! Names that are hard to write down: no UTF-8, quotes, newlines, backslashes.

use super::support::exporter::{Exporter, failures};
use super::support::postgres::{Postgres, rows};

/// A SQL_ASCII database takes any bytes as a name, and so does, from there, the shared catalogue.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_utf_8() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        for (database, encoding) in [
            ("ascii", "SQL_ASCII"),
            ("latin", "LATIN1"),
            ("windows", "WIN1252"),
            ("one", "UTF8"),
            ("other", "UTF8"),
        ] {
            let create = format!(
                "CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' \
                 LC_COLLATE 'C' LC_CTYPE 'C'"
            );
            server.sql("postgres", &create).await;
            let tables = "CREATE SCHEMA \"schö\"; CREATE TABLE \"schö\".\"tabé\" AS SELECT 1";
            server.sql(database, tables).await;
        }
        server.sql("postgres", "CREATE ROLE someone LOGIN").await;
        let session = server.client("ascii", "someone").await;
        let application = r"SELECT set_config('application_name',
                                   convert_from('\x617070e9', 'SQL_ASCII'), false) IS NULL";
        rows(&session, application).await;
        let odd = [
            named("CREATE SCHEMA %I", "736368e9"),
            named("CREATE TABLE %I (a) AS SELECT 1", "746162e9"),
            named("CREATE TABLE %I (a int)", "746162e8"),
            named("ALTER DATABASE one RENAME TO %I", "6462e9"),
            named("ALTER DATABASE other RENAME TO %I", "6462e8"),
            // WIN1252 has no character 0x81.
            named("CREATE ROLE %I CONNECTION LIMIT 3", "726fe981"),
            named("CREATE ROLE %I CONNECTION LIMIT 4", "726fe881"),
            named("ALTER ROLE someone RENAME TO %I", "7573e9"),
        ];
        server.sql("ascii", &odd.join("; ")).await;

        for home in ["postgres", "ascii", "windows"] {
            let exporter = Exporter::watch(&server.dsn(home, "postgres"), &[]).await;
            let page = exporter.scrape().await;
            assert_eq!(failures(&page), Vec::<&str>::new(), "{major} {home}");
            for (role, limit) in [
                (r"ro\xE9\x81", 3.0),
                (r"ro\xE8\x81", 4.0),
                ("postgres", -1.0),
            ] {
                let found = page.value("pg_roles_connection_limit", &[("rolname", role)]);
                assert_eq!(found, Some(limit), "{major} {home}");
            }
            for (database, schema, table, size) in [
                ("ascii", "public", r"tab\xE9", 8192.0),
                ("ascii", "public", r"tab\xE8", 0.0),
                ("ascii", "schö", "tabé", 8192.0),
                ("latin", "schö", "tabé", 8192.0),
                ("windows", "schö", "tabé", 8192.0),
            ] {
                let labels = [
                    ("datname", database),
                    ("schemaname", schema),
                    ("relname", table),
                ];
                let found = page.value("pg_stat_user_tables_table_size_bytes", &labels);
                assert_eq!(found, Some(size), "{major} {home} {labels:?}");
                let found = page.value("pg_stat_user_tables_n_dead_tup", &labels);
                assert_eq!(found, Some(0.0), "{major} {home} {labels:?}");
            }
            // Windows has characters for these bytes, and shows them.
            let [one, other, someone] = match home {
                "windows" => ["dbé", "dbè", "usé"],
                _ => [r"db\xE9", r"db\xE8", r"us\xE9"],
            };
            for database in [one, other] {
                let labels = [("datname", database)];
                let limit = page.value("pg_database_connection_limit", &labels);
                assert_eq!(limit, Some(-1.0), "{major} {home}");
                assert!(page.value("pg_database_size_bytes", &labels) > Some(1e6));
                let skipped = [("collector", "table_size"), ("datname", database)];
                let skipped = page.value("pg_exporter_collector_skipped", &skipped);
                assert_eq!(skipped, Some(1.0), "{major} {home}");
            }
            // The server itself allows nothing but ASCII here.
            let application = if major < 16 { "app?" } else { r"app\xe9" };
            let session = [("usename", someone), ("application_name", application)];
            let sessions = page.value("pg_stat_activity_count", &session);
            assert_eq!(sessions, Some(1.0), "{major} {home}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_every_character_that_has_a_meaning() {
    let odd = "a\"b\\c\\nd\ne\tf'g{h=\"i\",}#j %k$l\u{1f600}m\\xE9";
    let quoted = format!("\"{}\"", odd.replace('"', "\"\""));
    let dsn = format!("'{}'", odd.replace('\\', r"\\").replace('\'', r"\'"));
    let server = Postgres::start(18).await;
    server
        .sql(
            "postgres",
            &format!("CREATE DATABASE {quoted} CONNECTION LIMIT 50"),
        )
        .await;
    server
        .sql(
            &dsn,
            &format!(
                "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} AS SELECT 1; \
                 CREATE ROLE {quoted} LOGIN CONNECTION LIMIT 7"
            ),
        )
        .await;
    let session = server.client(&dsn, &dsn).await;
    rows(&session, r#"SET application_name = 'q"b\b'"#).await;

    let text = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    let open = Exporter::configured(&server.dsn(&dsn, "postgres"), "openmetrics: true").await;
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let answer = open.get_with_headers("/metrics", &accept).await;
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");

    for page in [text.scrape().await, answer.page()] {
        assert_eq!(failures(&page), Vec::<&str>::new());
        let database = [("datname", odd)];
        assert_eq!(
            page.value("pg_database_connection_limit", &database),
            Some(50.0)
        );
        assert_eq!(
            page.value("pg_stat_database_deadlocks", &database),
            Some(0.0)
        );
        assert_eq!(
            page.value("pg_roles_connection_limit", &[("rolname", odd)]),
            Some(7.0)
        );
        let session = [
            ("usename", odd),
            ("application_name", r#"q"b\b"#),
            ("datname", odd),
        ];
        assert_eq!(page.value("pg_stat_activity_count", &session), Some(1.0));
        let table = [("datname", odd), ("schemaname", odd), ("relname", odd)];
        let size = page.value("pg_stat_user_tables_table_size_bytes", &table);
        assert_eq!(size, Some(8192.0));
    }
}

/// A statement with a name of these bytes, for a database that takes any.
fn named(statement: &str, bytes: &str) -> String {
    format!(
        "DO $$ BEGIN EXECUTE format('{statement}', convert_from('\\x{bytes}', 'SQL_ASCII')); END $$"
    )
}
