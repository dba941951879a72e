//! Servers that restart, give way to others, or are two behind one address.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::slow::Slow;
use super::support::watch::OURS;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What tells of tables: read in every scrape, and remembered.
const TABLES: [&str; 2] = [
    "pg_stat_user_tables_n_live_tup",
    "pg_stat_user_tables_table_size_bytes",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_scrape_is_lost_to_a_restart() {
    for major in [13, 18] {
        let mut server = Postgres::start(major).await;
        server.sql("postgres", "CREATE DATABASE other").await;
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
        let before = exporter.scrape_within(TIMEOUT).await;
        before.assert_whole();
        for crash in [false, true, false] {
            if crash {
                server.stop_immediate().await;
            }
            server.restart().await;
            let page = exporter.scrape_within(TIMEOUT).await;
            page.assert_whole();
            assert_eq!(start_time(&page), epoch(&server).await);
            assert_eq!(identifier(&page), identifier(&before));
        }
        assert_ne!(start_time(&before), epoch(&server).await);
        let (status, log) = exporter.stop().await;
        assert!(status.success());
        assert!(!log.contains("level=warn target=matrix_postgres"), "{log}");
    }
}

/// The functions of the strict role are in another database than the one that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_privilege() {
    let mut server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE matrix").await;
    Role::Plain.create(&server, "exporter", &[]).await;
    Slow::install(&server, "exporter").await;
    let exporter = Exporter::watch(&server.tcp_dsn("matrix", "exporter"), &[]).await;
    let page = exporter.scrape_within(TIMEOUT).await;
    page.assert_whole();
    assert!(page.value("pg_wal_segments", &[]).unwrap() >= 1.0);

    server.stop().await;
    exporter.is_down("refused").await;
    server.restart().await;
    let page = exporter.is_whole().await;
    assert!(page.value("pg_wal_segments", &[]).unwrap() >= 1.0);
}

/// Somebody ends our sessions; a backend dies, and all others with it.
#[tokio::test(flavor = "multi_thread")]
async fn no_scrape_is_lost_to_an_end_of_sessions() {
    let server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    let before = exporter.scrape_within(TIMEOUT).await;
    before.assert_whole();

    let ours = backends(&server, "true").await;
    assert!(!ours.is_empty());
    ours.iter().for_each(|pid| send(*pid, Signal::TERM));
    gone(&server, &ours).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();

    let ours = backends(&server, "true").await;
    let other = server.client("postgres", "postgres").await;
    let pid = rows(&other, "SELECT pg_backend_pid()").await[0][0].clone();
    send(
        Pid::from_raw(pid.unwrap().parse().unwrap()).unwrap(),
        Signal::KILL,
    );
    wait_for("the server has recovered", async || {
        server.log().matches("ready to accept connections").count() == 2
    })
    .await;
    gone(&server, &ours).await;
    let page = exporter.scrape_within(TIMEOUT).await;
    page.assert_whole();
    assert_eq!(start_time(&page), start_time(&before));
}

/// The connection ends while the first question of a scrape is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_middle_of_a_question() {
    let mut server = Postgres::start(18).await;
    let exporter = Exporter::watch(&server.tcp_dsn("postgres", "postgres"), &[]).await;
    exporter.scrape_within(TIMEOUT).await.assert_whole();

    // Somebody ends the sessions: others are made.
    let ours = hold(&server).await;
    let (page, ()) = tokio::join!(exporter.scrape_within(TIMEOUT), async {
        wait_for("the question is sent", async || server.has_unread()).await;
        ours.iter().for_each(|pid| send(*pid, Signal::TERM));
        ours.iter().for_each(|pid| send(*pid, Signal::CONT));
    });
    assert_eq!(page.down_reason(), None);
    // Whoever has met an ended session as well says so.
    let met: BTreeSet<_> = page
        .skipped()
        .into_iter()
        .filter(|skip| skip.1 == "connection")
        .collect();
    assert_eq!(page.failed(), met.iter().map(|skip| skip.0).collect());
    exporter.scrape_within(TIMEOUT).await.assert_whole();

    // The server shuts down: what was true before is not, any more.
    let ours = hold(&server).await;
    let (page, ()) = tokio::join!(exporter.scrape_within(TIMEOUT), async {
        wait_for("the question is sent", async || server.has_unread()).await;
        send(server.pid(), Signal::INT);
        wait_for("the shutdown begins", async || {
            server.log().contains("received fast shutdown request")
        })
        .await;
        ours.iter().for_each(|pid| send(*pid, Signal::CONT));
    });
    assert!(
        ["refused", "shutting_down"]
            .map(Some)
            .contains(&page.down_reason()),
        "{:?}",
        page.down_reason()
    );
    server.stop().await;
}

/// Stops the clock of the exporter's backends.
async fn hold(server: &Postgres) -> Vec<Pid> {
    let ours = backends(server, "true").await;
    assert!(!ours.is_empty());
    ours.iter().for_each(|pid| send(*pid, Signal::STOP));
    ours
}

/// Waits until backends are gone.
async fn gone(server: &Postgres, pids: &[Pid]) {
    wait_for("the sessions end", async || {
        let left = backends(server, "true").await;
        !left.iter().any(|pid| pids.contains(pid))
    })
    .await;
}

fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_over_when_the_first_is_gone() {
    let [first, second] = pair().await;
    let door = Door::open(first.port()).await;
    let exporter = Exporter::watch(&door.dsn(), &[]).await;
    let before = exporter.scrape_within(TIMEOUT).await;
    before.assert_whole();
    assert_eq!(identifier(&before), identifier_of(&first).await);

    let mut first = first;
    first.stop().await;
    let page = exporter.is_down("refused").await;
    assert_eq!(identifier(&page), identifier(&before));

    door.lead_to([second.port()]);
    wait_for("the second server is seen", async || {
        exporter.scrape_within(TIMEOUT).await.up()
    })
    .await;
    let page = exporter.scrape_within(TIMEOUT).await;
    page.assert_whole();
    assert_eq!(identifier(&page), identifier_of(&second).await);
    assert_eq!(start_time(&page), epoch(&second).await);
    assert_eq!(page.value("pg_settings_max_connections", &[]), Some(60.0));
    for name in TABLES {
        let tables: Vec<_> = page
            .samples(name)
            .map(|sample| &sample.labels["relname"])
            .collect();
        assert_eq!(tables, ["second"], "{name}");
    }
}

/// What is read of one server is never served as the other's, whichever way the connections lead.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_behind_one_address_are_never_mixed() {
    let [first, second] = pair().await;
    let door = Door::open(first.port()).await;
    let exporter = Exporter::watch(&door.dsn(), &[]).await;
    let [one, two] = [first.port(), second.port()];
    let turns = [one, two].repeat(100);
    let mut refused = 0;
    for ports in [
        vec![one, two],
        vec![two, one],
        turns.clone(),
        vec![one, one, two],
        turns,
    ] {
        for server in [&first, &second] {
            let ours = backends(server, "true").await;
            ours.iter().for_each(|pid| send(*pid, Signal::TERM));
            gone(server, &ours).await;
        }
        door.lead_to(ports.clone());
        for _ in 0..3 {
            let page = exporter.scrape_within(TIMEOUT).await;
            for (reason, server) in assert_unmixed(&page, [&first, &second]).await {
                assert_eq!(reason, "other_server", "{ports:?} {server}");
                refused += 1;
            }
        }
        let lasting = match ports.last() {
            Some(port) if *port == one => &first,
            _ => &second,
        };
        // It settles with the one that stays, or is left.
        door.lead_to([lasting.port()]);
        wait_for("one server is seen", async || {
            let page = exporter.scrape_within(TIMEOUT).await;
            page.up() && page.failed().is_empty()
        })
        .await;
        exporter.scrape_within(TIMEOUT).await.assert_whole();
    }
    assert!(refused > 0, "no connection has led to the other server");
}

/// Checks everything that tells two servers apart; returns why something is missing.
async fn assert_unmixed(page: &Page, servers: [&Postgres; 2]) -> Vec<(String, String)> {
    if let Some(reason) = page.down_reason() {
        return vec![(reason.to_owned(), String::new())];
    }
    let mut seen = BTreeSet::new();
    let identifiers = [
        identifier_of(servers[0]).await,
        identifier_of(servers[1]).await,
    ];
    seen.insert(usize::from(identifier(page) != identifiers[0]));
    for (name, values) in [
        (
            "pg_postmaster_start_time_seconds",
            [epoch(servers[0]).await, epoch(servers[1]).await],
        ),
        ("pg_settings_max_connections", [50.0, 60.0]),
    ] {
        for sample in page.samples(name) {
            assert!(values.contains(&sample.value));
            seen.insert(usize::from(sample.value != values[0]));
        }
    }
    for name in TABLES {
        for sample in page.samples(name) {
            seen.insert(usize::from(sample.labels["relname"] != "first"));
        }
    }
    assert_eq!(seen.len(), 1, "both servers are on one page");
    let missing = page
        .skipped()
        .into_iter()
        .filter(|skip| page.failed().contains(skip.0));
    missing
        .map(|(collector, reason, _)| (reason.to_owned(), collector.to_owned()))
        .collect()
}

/// Two servers that differ in identity, in a setting and in a table, to be told apart by.
async fn pair() -> [Postgres; 2] {
    let trust = "host all all 127.0.0.1/32 trust";
    let (first, second) = tokio::join!(
        Postgres::builder(18)
            .hba(trust)
            .setting("max_connections", "50")
            .start(),
        Postgres::builder(18)
            .hba(trust)
            .setting("max_connections", "60")
            .fresh()
            .start(),
    );
    first.sql("postgres", "CREATE TABLE first ()").await;
    second.sql("postgres", "CREATE TABLE second ()").await;
    [first, second]
}

/// An address that leads to a server of our choice.
struct Door {
    address: SocketAddr,
    ports: Arc<Mutex<VecDeque<u16>>>,
}

impl Door {
    async fn open(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Self {
            address: listener.local_addr().unwrap(),
            ports: Arc::new(Mutex::new(VecDeque::from([port]))),
        };
        let ports = door.ports.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let port = {
                    let mut ports = ports.lock().unwrap();
                    let port = ports.pop_front().unwrap();
                    if ports.is_empty() {
                        ports.push_back(port);
                    }
                    port
                };
                tokio::spawn(async move {
                    // Where nothing listens, the door is shut.
                    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
        door
    }

    /// Leads each connection to the next of these, and all others to the last.
    fn lead_to(&self, ports: impl IntoIterator<Item = u16>) {
        *self.ports.lock().unwrap() = ports.into_iter().collect();
    }

    fn dsn(&self) -> String {
        let port = self.address.port();
        format!("host=127.0.0.1 port={port} user=postgres dbname=postgres")
    }
}

fn start_time(page: &Page) -> f64 {
    page.value("pg_postmaster_start_time_seconds", &[]).unwrap()
}

fn identifier(page: &Page) -> String {
    let mut samples = page.samples("pg_server_info");
    samples.next().unwrap().labels["system_identifier"].clone()
}

async fn identifier_of(server: &Postgres) -> String {
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    server.value("postgres", identifier).await.unwrap()
}

/// When the server started, by its own account.
async fn epoch(server: &Postgres) -> f64 {
    let start = "SELECT extract(epoch FROM pg_postmaster_start_time())::float8";
    server
        .value("postgres", start)
        .await
        .unwrap()
        .parse()
        .unwrap()
}

/// The exporter's backends for which this holds.
async fn backends(server: &Postgres, condition: &str) -> Vec<Pid> {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity \
          WHERE application_name = '{OURS}' AND {condition}"
    );
    let rows = server.sql("postgres", &sql).await;
    let pids = rows
        .iter()
        .map(|row| row[0].as_ref().unwrap().parse().unwrap());
    pids.map(|pid| Pid::from_raw(pid).unwrap()).collect()
}
