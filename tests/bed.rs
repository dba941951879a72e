//! The test bed itself.

use std::time::Instant;

use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use super::support::postgres::{MAJORS, Postgres};
use super::support::process::{PATIENCE, children, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_all_versions_start_together() {
    let start = Instant::now();
    let servers = MAJORS.map(|major| tokio::spawn(Postgres::start(major)));
    for (major, server) in MAJORS.into_iter().zip(servers) {
        let server = server.await.unwrap();
        let version = server.value("postgres", "SHOW server_version_num").await;
        assert_eq!(version.unwrap()[..2], major.to_string());
    }
    assert!(start.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_streams_and_is_promoted() {
    for major in [13, 18] {
        let primary = Postgres::start(major).await;
        primary
            .sql(
                "postgres",
                "CREATE TABLE before (); SELECT pg_create_physical_replication_slot('s1')",
            )
            .await;
        let standby = primary
            .standby()
            .setting("primary_slot_name", "s1")
            .start()
            .await;
        primary.sql("postgres", "CREATE TABLE after ()").await;
        wait_for("the table arrives", || async {
            let found = standby
                .value(
                    "postgres",
                    "SELECT to_regclass('before') IS NOT NULL AND to_regclass('after') IS NOT NULL",
                )
                .await;
            found.as_deref() == Some("t")
        })
        .await;
        let recovery = "SELECT pg_is_in_recovery()";
        assert_eq!(standby.value("postgres", recovery).await.unwrap(), "t");
        standby.promote().await;
        assert_eq!(standby.value("postgres", recovery).await.unwrap(), "f");
        assert_eq!(primary.value("postgres", recovery).await.unwrap(), "f");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_answers_when_thawed() {
    let server = Postgres::start(18).await;
    let client = server.client("postgres", "postgres").await;
    server.freeze().await;
    let answer = tokio::spawn(async move { client.simple_query("SELECT 1").await.is_ok() });
    let frozen = children(server.pid());
    assert!(frozen.len() > 3);
    assert!(frozen.iter().all(|(_, state)| *state == 'T'));
    assert!(!answer.is_finished());
    server.thaw();
    assert!(answer.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_and_comes_back() {
    let mut server = Postgres::start(18).await;
    server.sql("postgres", "CREATE TABLE kept ()").await;
    server.stop_immediate().await;
    assert!(
        TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .is_err()
    );
    server.restart().await;
    server.sql("postgres", "TABLE kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_server_has_its_own_identity() {
    let identity = "SELECT system_identifier FROM pg_control_system()";
    let [one, twin] = [Postgres::start(18).await, Postgres::start(18).await];
    let other = Postgres::builder(18).fresh().start().await;
    let one = one.value("postgres", identity).await;
    assert_eq!(one, twin.value("postgres", identity).await);
    assert_ne!(one, other.value("postgres", identity).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_settings_and_rules() {
    let server = Postgres::builder(16)
        .setting("max_connections", "20")
        .pg_stat_statements()
        .hba("local all turned_away reject")
        .start()
        .await;
    let value = server.value("postgres", "SHOW max_connections").await;
    assert_eq!(value.unwrap(), "20");
    server
        .sql(
            "postgres",
            "CREATE EXTENSION pg_stat_statements; TABLE pg_stat_statements",
        )
        .await;
    for dsn in [
        server.dsn("postgres", "turned_away"),
        server.dsn("nowhere", "postgres"),
    ] {
        assert!(tokio_postgres::connect(&dsn, NoTls).await.is_err());
    }
    let dsn = server.tcp_dsn("postgres", "postgres");
    assert!(tokio_postgres::connect(&dsn, NoTls).await.is_ok());
    let wrong = dsn.replace("-secret", "-guess");
    assert!(tokio_postgres::connect(&wrong, NoTls).await.is_err());
}
