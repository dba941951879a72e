//! Servers that answer, and refuse.

use std::collections::BTreeSet;
use std::time::Duration;

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_free_connection() {
    let server = Postgres::builder(13)
        .setting("max_connections", "8")
        .setting("superuser_reserved_connections", "2")
        .start()
        .await;
    Role::Plain.create(&server, "exporter", &[]).await;
    Role::Plain.create(&server, "synapse", &[]).await;
    let dsn = server.tcp_dsn("postgres", "exporter");
    let [warm, cold] = [
        Exporter::watch(&dsn, &[]).await,
        Exporter::watch(&dsn, &[]).await,
    ];
    warm.scrape_within(TIMEOUT).await.assert_whole();

    // Synapse takes all that is left.
    let mut synapse = Vec::new();
    while let Ok((client, connection)) =
        tokio_postgres::connect(&server.dsn("postgres", "synapse"), tokio_postgres::NoTls).await
    {
        tokio::spawn(connection);
        synapse.push(client);
    }
    assert!(synapse.len() >= 3);

    let page = cold.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), Some("too_many_connections"));
    assert_eq!(page.readings(), BTreeSet::new());
    let says = "has no connection left for role \\\"exporter\\\": ";
    cold.has_said(says).await;
    // Who has connections keeps them, and sees the server while it matters most.
    let page = warm.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), None);
    assert_eq!(page.failed(), BTreeSet::new(), "{:?}", page.skipped());
    // Autovacuum may be there for a moment.
    wait_for("all sessions are counted", async || {
        let page = warm.scrape_within(TIMEOUT).await;
        let used = page.value("pg_stat_database_numbackends", &[("datname", "postgres")]);
        let ours = page.value("pg_exporter_connections", &[]).unwrap();
        used == Some(synapse.len() as f64 + ours)
    })
    .await;

    drop(synapse);
    cold.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_has_used_up_its_connections() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    server
        .sql("postgres", "ALTER ROLE exporter CONNECTION LIMIT 1")
        .await;
    let other = server.client("postgres", "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), Some("too_many_connections"));
    let says = "too many connections for role \\\"exporter\\\"";
    exporter.has_said(says).await;

    // With its one connection it sees the server, and says for what there was none.
    drop(other);
    wait_for("the server is seen", async || {
        exporter.scrape_within(TIMEOUT).await.up()
    })
    .await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), None);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
    assert_eq!(
        server.value("postgres", sessions).await.as_deref(),
        Some("1")
    );
    let without: BTreeSet<_> = page
        .skipped()
        .into_iter()
        .filter(|(_, reason, _)| *reason == "connection")
        .map(|(collector, ..)| collector)
        .collect();
    assert_eq!(page.failed(), without);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_shown_nowhere() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    server
        .sql(
            "postgres",
            "SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'x'",
        )
        .await;
    for role in ["exporter", "old", "nobody_knows"] {
        for dsn in [
            format!(
                "postgresql://{role}:correct-horse%20battery@127.0.0.1:{}/postgres",
                server.port()
            ),
            format!(
                "host=127.0.0.1 port={} user={role} dbname=postgres password='correct-horse battery'",
                server.port()
            ),
        ] {
            let exporter = Exporter::watch(&dsn, &["--log.level=trace"]).await;
            let response = exporter.get("/metrics").await;
            let page = response.page();
            assert_eq!(page.down_reason(), Some("authentication"));
            assert_eq!(page.readings(), BTreeSet::new());
            let mut shown = response.text().to_owned();
            for path in ["/", "/-/ready", "/nowhere"] {
                shown += exporter.get(path).await.text();
            }
            let (status, log) = exporter.stop().await;
            assert!(status.success());
            let says = format!("refused the password of role \\\"{role}\\\"; check that the role");
            assert!(log.contains(&says), "{log}");
            shown += &log;
            for part in ["correct", "horse", "battery"] {
                assert!(!shown.contains(part), "{part} in {shown}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_databases_that_do_not_exist() {
    let server = Postgres::start(16).await;
    for (dsn, reason, says) in [
        (
            server.dsn("postgres", "nobody"),
            "authentication",
            "role \\\"nobody\\\" does not exist",
        ),
        (
            server.dsn("nowhere", "postgres"),
            "database_missing",
            "has no database \\\"nowhere\\\"; check dbname",
        ),
    ] {
        let exporter = Exporter::watch(&dsn, &[]).await;
        let page = exporter.scrape_within(TIMEOUT).await;
        assert_eq!(page.down_reason(), Some(reason));
        assert_eq!(page.readings(), BTreeSet::new());
        exporter.has_said(says).await;
    }

    // A database that comes later is found.
    let exporter = Exporter::watch(&server.dsn("later", "postgres"), &[]).await;
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.down_reason(), Some("database_missing"));
    server.sql("postgres", "CREATE DATABASE later").await;
    exporter.is_whole().await;
}
