//! The test bed itself.

mod checker;

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;

use super::support::certificates::Certificates;
use super::support::exporter::{Exporter, exporter_command};
use super::support::http::request;
use super::support::pgbouncer::PgBouncer;
use super::support::postgres::{MAJORS, Postgres, rows};
use super::support::process::{PATIENCE, User, children, command, run, wait_for};
use super::support::prometheus::{Prometheus, promtool};
use super::support::roles::{Role, run_script};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_speaks_tls() {
    let certificates = Certificates::new(&["exporter"]);
    let server = Postgres::builder(18).tls(&certificates).start().await;
    let address = format!("127.0.0.1:{}", server.port());
    run(command(User::Same, "openssl")
        .args(["s_client", "-starttls", "postgres", "-connect", &address])
        .args(["-verify_return_error", "-verify_hostname", "localhost"])
        .args(["-CAfile".as_ref(), certificates.path("ca.crt").as_os_str()])
        .args([
            "-cert".as_ref(),
            certificates.path("exporter.crt").as_os_str(),
        ])
        .args([
            "-key".as_ref(),
            certificates.path("exporter.key").as_os_str(),
        ])
        .stdin(Stdio::null()));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_may_do_what_they_should() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "plain", &[]).await;
    Role::Superuser.create(&server, "admin", &[]).await;
    for (role, superuser) in [("plain", "off"), ("admin", "on")] {
        let dsn = server.tcp_dsn("postgres", role);
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
        tokio::spawn(connection);
        let answer = rows(&client, "SHOW is_superuser").await;
        assert_eq!(answer, [[Some(superuser.to_owned())]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_in_its_databases() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE other").await;
    let script = "CREATE TABLE here ();\n\\connect \"other\"\nCREATE TABLE there ();\n";
    run_script(&server, script).await.unwrap();
    server.sql("postgres", "TABLE here").await;
    server.sql("other", "TABLE there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_gives_every_transaction_the_same_session() {
    let server = Postgres::start(18).await;
    Role::Plain.create(&server, "synapse", &[]).await;
    let bouncer = PgBouncer::start(&server, &["synapse"]).await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let dsn = bouncer.dsn("postgres", "synapse");
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        sessions.push((
            rows(&client, "SELECT pg_backend_pid(), current_user").await,
            client,
        ));
        assert!(!connection.is_finished());
    }
    assert_eq!(sessions[0].0, sessions[1].0);
    assert_eq!(sessions[0].0[0][1].as_deref(), Some("synapse"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_and_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let body = "# HELP m M\n# TYPE m gauge\nm{a=\"b\"} 7\n";
            serve_once(
                &listener,
                &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            )
            .await;
        }
    });
    let prometheus = Prometheus::scrape(target).await;
    wait_for("a sample is stored", || async {
        !prometheus.query("m == 7").await.is_empty()
    })
    .await;
    let stored = prometheus.query(r#"m{a="b"} + 1"#).await;
    assert_eq!((stored[0].0["a"].as_str(), stored[0].1), ("b", 8.0));
    run(promtool().arg("--version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_http_are_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for answer in ["Content-Length: 5\r\n\r\nabcde", chunked] {
        let headers = [("X-Question", "?")];
        let (response, question) = tokio::join!(
            request(address, "POST", "/path", &headers),
            serve_once(&listener, answer)
        );
        assert_eq!((response.status, response.text()), (200, "abcde"));
        assert!(question.starts_with("POST /path HTTP/1.1\r\n"));
        assert!(question.contains("X-Question: ?\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exporter_starts_is_scraped_and_stops() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &["--openmetrics"]).await;
    let page = exporter.scrape_within(Duration::from_secs(10)).await;
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    let headers = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let answer = exporter.get_with_headers("/metrics", &headers).await;
    assert!(answer.text().ends_with("# EOF\n"));
    assert_eq!(answer.page().value("pg_up", &[]), Some(1.0));
    let (status, output) = exporter.stop().await;
    assert!(status.success(), "{output}");
}

#[test]
fn the_program_runs() {
    exporter_command(&["--version"]).assert().success();
}

/// Answers one request with 200, these headers and this body; returns the request.
async fn serve_once(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        question.push(stream.read_u8().await.unwrap());
    }
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n{answer}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(question).unwrap()
}
