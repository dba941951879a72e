//! Databases that nobody may connect to, and one that refuses.

use std::time::{Duration, Instant};

use super::support::exporter::{Exporter, exporter_command};
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Other databases are visited as often as can be.
const EACH_SECOND: &str = "servers: { main: { databases: { interval: 1s } } }";

/// What is closed to the exporter by the server's own account, and how that is done. The first is
/// what an interrupted DROP DATABASE leaves.
const CLOSED: [(&str, &str); 4] = [
    (
        "dropped",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'dropped'",
    ),
    ("shut", "ALTER DATABASE shut ALLOW_CONNECTIONS false"),
    ("private", "REVOKE CONNECT ON DATABASE private FROM PUBLIC"),
    ("limited", "ALTER DATABASE limited CONNECTION LIMIT 0"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_is_not_tried_and_what_refuses_only_now_and_then() {
    for major in [13, 18] {
        let server = Postgres::builder(major)
            .hba("local barred exporter reject")
            .hba("local barred_too exporter reject")
            .start()
            .await;
        for (name, close) in CLOSED {
            let create = format!("CREATE DATABASE {name}");
            server.sql("postgres", &create).await;
            server.sql("postgres", close).await;
        }
        server.sql("postgres", "CREATE DATABASE barred").await;
        server.sql("postgres", "CREATE DATABASE barred_too").await;
        Role::Strict
            .create(&server, "exporter", &["postgres"])
            .await;
        let dsn = server.dsn("postgres", "exporter");
        let exporter = Exporter::configured(&dsn, EACH_SECOND).await;
        wait_for("what refuses is told", async || {
            let page = exporter.scrape_within(TIMEOUT).await;
            let skipped = page.skipped();
            ["barred", "barred_too"]
                .iter()
                .all(|name| skipped.contains(&("stat_user_tables", "no_privilege", *name)))
        })
        .await;
        let start = Instant::now();
        let mut scrapes = 0;
        // Several times the interval at which it would be visited.
        while start.elapsed() < Duration::from_secs(5) {
            let page = exporter.scrape_within(TIMEOUT).await;
            page.assert_whole();
            for (name, _) in CLOSED {
                let skip = ("stat_user_tables", "database_skipped", name);
                assert!(page.skipped().contains(&skip), "{major} {skip:?}");
            }
            scrapes += 1;
        }
        let log = server.log_so_far().await;
        let refused: Vec<_> = log.lines().filter(|line| line.contains("FATAL")).collect();
        assert_eq!(refused.len(), 2, "{major}, {scrapes} scrapes: {refused:#?}");

        let output = exporter_command(&["check"])
            .env("DATA_SOURCE_NAME", &dsn)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        for (name, _) in CLOSED {
            let line = format!("Database {name} is not monitored: ");
            assert!(said.contains(&line), "{said}");
        }
    }
}

/// What refuses and then does not is seen, after a minute at the latest.
#[tokio::test(flavor = "multi_thread")]
async fn what_refuses_no_more_is_seen() {
    let server = Postgres::builder(18)
        .hba("local barred exporter reject")
        .start()
        .await;
    server.sql("postgres", "CREATE DATABASE barred").await;
    server.sql("barred", "CREATE TABLE seen ()").await;
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    let dsn = server.dsn("postgres", "exporter");
    let exporter = Exporter::configured(&dsn, EACH_SECOND).await;
    let skip = ("stat_user_tables", "no_privilege", "barred");
    wait_for("what refuses is told", async || {
        exporter
            .scrape_within(TIMEOUT)
            .await
            .skipped()
            .contains(&skip)
    })
    .await;
    let hba = server.data_dir().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, rules.replace("reject", "trust")).unwrap();
    server.sql("postgres", "SELECT pg_reload_conf()").await;
    let patience = Duration::from_secs(60 + 30);
    super::support::process::wait_at_most(patience, "it is seen", async || {
        let page = exporter.scrape_within(TIMEOUT).await;
        let seen = page.value(
            "pg_stat_user_tables_seq_scan",
            &[("datname", "barred"), ("relname", "seen")],
        );
        seen.is_some() && !page.skipped().contains(&skip)
    })
    .await;
}
