//! Databases that come and go while they are looked at.

use std::time::{Duration, Instant};

use super::support::exporter::Exporter;
use super::support::exposition::{Page, Sample};
use super::support::postgres::Postgres;
use super::support::process::wait_for;

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(5);

const YAML: &str = "
servers: { main: { databases: { interval: 1s } } }
collectors: { table_size: { ttl: 1s } }";

/// Scrapes go on without a pause; whoever drops or copies a database has his way all the same.
#[tokio::test(flavor = "multi_thread")]
async fn visited_databases_are_dropped_and_created() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        server.sql("postgres", "CREATE DATABASE origin").await;
        server.sql("origin", "CREATE TABLE inherited ()").await;
        let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), YAML).await;
        let scrapes = async {
            loop {
                let page = exporter.scrape_within(TIMEOUT).await;
                assert_eq!(page.value("pg_up", &[]), Some(1.0));
                assert_eq!(tables(&page, "origin"), ["inherited"]);
            }
        };
        let changes = async {
            for round in 0..4 {
                server
                    .sql("postgres", "CREATE DATABASE guest TEMPLATE origin")
                    .await;
                server
                    .sql("guest", &format!("CREATE TABLE round{round} ()"))
                    .await;
                let expected = ["inherited".to_owned(), format!("round{round}")];
                wait_for("the new database is visited", || async {
                    tables(&exporter.scrape_within(TIMEOUT).await, "guest") == expected
                })
                .await;
                let start = Instant::now();
                server.sql("postgres", "DROP DATABASE guest").await;
                // PostgreSQL itself waits so long for others to leave.
                assert!(start.elapsed() < Duration::from_secs(5));
                // The first page may share what a scrape read that began before.
                exporter.scrape_within(TIMEOUT).await;
                let page = exporter.scrape_within(TIMEOUT).await;
                assert_eq!(mentions(&page, "guest"), Vec::<&Sample>::new(), "{major}");
            }
        };
        tokio::select! {
            () = scrapes => (),
            () = changes => (),
        }
        let page = exporter.scrape_within(TIMEOUT).await;
        assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
    }
}

/// The connections to a database with Synapse's tables stay open; DROP ... WITH (FORCE) cuts them.
#[tokio::test(flavor = "multi_thread")]
async fn a_warm_database_is_dropped_by_force() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), YAML).await;
        for round in 0..3 {
            server.sql("postgres", "CREATE DATABASE synapse").await;
            server
                .sql(
                    "synapse",
                    &format!(
                        "CREATE TABLE events (); CREATE TABLE schema_version (); \
                         CREATE TABLE applied_schema_deltas (); CREATE TABLE background_updates (); \
                         CREATE TABLE round{round} ()"
                    ),
                )
                .await;
            wait_for("the application is found", || async {
                exporter.scrape_within(TIMEOUT).await;
                held(&server).await
            })
            .await;
            let page = exporter.scrape_within(TIMEOUT).await;
            assert!(tables(&page, "synapse").contains(&format!("round{round}")));
            server
                .sql("postgres", "DROP DATABASE synapse WITH (FORCE)")
                .await;
            let page = exporter.scrape_within(TIMEOUT).await;
            assert_eq!(page.value("pg_up", &[]), Some(1.0));
            assert_eq!(mentions(&page, "synapse"), Vec::<&Sample>::new(), "{major}");
            assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
            server.sql("postgres", "CREATE DATABASE synapse").await;
            wait_for("the new database is visited", || async {
                let page = exporter.scrape_within(TIMEOUT).await;
                assert_eq!(
                    tables(&page, "synapse"),
                    Vec::<String>::new(),
                    "of the old one"
                );
                assert_eq!(page.value("pg_up", &[]), Some(1.0));
                page.value(
                    "pg_exporter_collector_age_seconds",
                    &[("collector", "stat_user_tables"), ("datname", "synapse")],
                )
                .is_some()
            })
            .await;
            server.sql("postgres", "DROP DATABASE synapse").await;
        }
    }
}

/// The warm database itself, the one of the connection string, is dropped and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_own_database_is_dropped_by_force() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE home").await;
    let exporter = Exporter::configured(&server.dsn("home", "postgres"), YAML).await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    server
        .sql("postgres", "DROP DATABASE home WITH (FORCE)")
        .await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.value("pg_up", &[]), Some(0.0));
    let reason = page.value("pg_exporter_down_reason", &[("reason", "database_missing")]);
    assert_eq!(
        reason,
        Some(1.0),
        "{:?}",
        page.families["pg_exporter_down_reason"]
    );
    server.sql("postgres", "CREATE DATABASE home").await;
    wait_for("the server is seen again", || async {
        let page = exporter.scrape_within(TIMEOUT).await;
        page.value("pg_up", &[]) == Some(1.0)
            && page.value("pg_exporter_last_scrape_error", &[]) == Some(0.0)
    })
    .await;
}

/// Whether an idle session of the exporter is in the database.
async fn held(server: &Postgres) -> bool {
    let sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = 'synapse' AND state = 'idle' \
                    AND application_name = 'matrix-postgres-exporter'";
    server.value("postgres", sessions).await.is_some()
}

fn tables(page: &Page, database: &str) -> Vec<String> {
    let samples = page.samples("pg_stat_user_tables_seq_scan");
    let mut names: Vec<_> = samples
        .filter(|sample| sample.labels["datname"] == database)
        .map(|sample| sample.labels["relname"].clone())
        .collect();
    names.sort();
    names
}

/// Every sample that is of a database.
fn mentions<'a>(page: &'a Page, database: &str) -> Vec<&'a Sample> {
    let samples = page.families.values().flat_map(|family| &family.samples);
    samples
        .filter(|sample| {
            sample
                .labels
                .get("datname")
                .is_some_and(|name| name == database)
        })
        .collect()
}
