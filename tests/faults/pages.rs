//! From a fault to the page, and to its end: PostgreSQL, Synapse's database, the exporter,
//! Prometheus with the shipped rules, Alertmanager with the shipped routes, and who receives.
//!
//! Only time is shorter than in what is shipped: a minute takes two seconds and an hour ten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::support::alertmanager::Alert;
use super::support::exporter::Exporter;
use super::support::postgres::{Builder, Postgres, rows};
use super::support::process::{wait_at_most, wait_for};
use super::support::roles::Role;
use super::support::synapse::{NEW, Synapse};
use super::support::watchers::{Pace, Watchers};

/// The longest `for` is five hours, after an hour without progress.
const PATIENCE: Duration = Duration::from_secs(180);

const PACE: Pace = Pace {
    minute: 2000,
    hour: 10_000,
    scrape: 3,
};

#[tokio::test(flavor = "multi_thread")]
async fn faults_page_and_repairs_resolve() {
    let mut killed = Watched::start(server()).await;
    let archives = Watched::start(
        server()
            .setting("archive_mode", "on")
            .setting("archive_command", "'test ! -e broken'"),
    )
    .await;
    let crowded = Watched::start(
        server()
            .setting("max_connections", "20")
            .setting("reserved_connections", "2"),
    )
    .await;
    let (homeserver, _synapse) = homeserver().await;
    let targets = [&killed, &archives, &crowded, &homeserver].map(|one| one.exporter.address());

    let Watchers {
        prometheus, inbox, ..
    } = &Watchers::start(&targets, PACE).await;
    wait_for("all are scraped", || async {
        prometheus.query("pg_up == 1").await.len() == targets.len()
    })
    .await;

    killed.postgres.stop_immediate().await;
    let writes = write_on(&archives.postgres).await;
    let broken = archives.postgres.data_dir().join("broken");
    fs::write(&broken, "").unwrap();
    let clients = crowd(&crowded.postgres).await;
    let stick = "INSERT INTO background_updates (update_name, progress_json) \
                 VALUES ('sticks', '{\"at\": 5}'); \
                 INSERT INTO application_services_state (as_id, state) VALUES ('telegram', 'down')";
    homeserver.postgres.sql("synapse", stick).await;

    let expected = [
        (
            "page",
            killed.alert(&[
                ("alertname", "PostgresServerDown"),
                ("severity", "critical"),
                ("component", "availability"),
            ]),
        ),
        (
            "page",
            archives.alert(&[
                ("alertname", "PostgresArchivingFailing"),
                ("severity", "critical"),
                ("component", "archiving"),
            ]),
        ),
        (
            "page",
            crowded.alert(&[
                ("alertname", "PostgresConnectionsSaturated"),
                ("severity", "critical"),
                ("component", "connections"),
            ]),
        ),
        (
            "ticket",
            homeserver.alert(&[
                ("alertname", "SynapseBackgroundUpdateStuck"),
                ("severity", "warning"),
                ("component", "synapse"),
                ("datname", "synapse"),
            ]),
        ),
        (
            "ticket",
            homeserver.alert(&[
                ("alertname", "SynapseAppserviceDown"),
                ("severity", "warning"),
                ("component", "synapse"),
                ("datname", "synapse"),
                ("as_id", "telegram"),
            ]),
        ),
    ];
    let told = async |status: &str, since: usize| {
        let alerts = inbox.alerts();
        expected.iter().all(|(to, labels)| {
            let mut alerts = alerts.iter().skip(since);
            alerts.any(|a| a.to == *to && a.status == status && a.labels == *labels)
        })
    };
    wait_at_most(PATIENCE, "every fault is told", || told("firing", 0)).await;

    let before = inbox.alerts().len();
    killed.postgres.restart().await;
    fs::remove_file(broken).unwrap();
    drop(clients);
    let unstick = "DELETE FROM background_updates; \
                   UPDATE application_services_state SET state = 'up'";
    homeserver.postgres.sql("synapse", unstick).await;
    wait_at_most(PATIENCE, "every repair is told", || {
        told("resolved", before)
    })
    .await;
    writes.abort();

    // What follows from a fault, or is the same but less urgent, stays unsaid.
    let alerts = inbox.alerts();
    let all: BTreeSet<_> = alerts.iter().map(|alert| &alert.labels).collect();
    assert_eq!(all, expected.iter().map(|(_, labels)| labels).collect());
    let is_down = |alert: &&Alert| alert.labels == expected[0].1;
    assert_eq!(
        alerts.iter().find(is_down).unwrap().annotations["description"],
        format!(
            "PostgreSQL on {} does not answer. Reason: refused.",
            killed.exporter.address()
        )
    );
}

/// A server, and the exporter that watches it.
struct Watched {
    postgres: Postgres,
    exporter: Exporter,
}

impl Watched {
    async fn start(server: Builder<'static>) -> Self {
        Self::by_exporter(server.start().await, "postgres").await
    }

    async fn by_exporter(postgres: Postgres, database: &str) -> Self {
        Role::Strict
            .create(&postgres, "exporter", &[database])
            .await;
        let exporter = Exporter::watch(&postgres.dsn("postgres", "exporter"), &[]).await;
        Self { postgres, exporter }
    }

    /// The labels of an alert on this server.
    fn alert(&self, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let instance = self.exporter.address().to_string();
        let target = [("job", "postgres"), ("instance", instance.as_str())];
        let labels = labels.iter().copied().chain(target);
        labels
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// A cluster of its own, as copies of one would be one to the rules, and with safe settings.
fn server() -> Builder<'static> {
    Postgres::builder(18).fresh().setting("fsync", "on")
}

/// A server with the database of a Synapse that runs, and has done its background updates.
async fn homeserver() -> (Watched, Synapse) {
    let postgres = server().start().await;
    let (synapse, made) = Synapse::start(&postgres, NEW).await;
    wait_for("no background update is left", || async {
        let count = "SELECT count(*) FROM background_updates";
        postgres.value(&made.database, count).await.as_deref() == Some("0")
    })
    .await;
    let watched = Watched::by_exporter(postgres, &made.database).await;
    (watched, synapse)
}

/// Fills WAL files, since the archiver looks for work when one is full. Slowly: many that wait would
/// be another alert.
async fn write_on(postgres: &Postgres) -> JoinHandle<()> {
    let client = postgres.client("postgres", "postgres").await;
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_secs(4));
        loop {
            interval.tick().await;
            rows(
                &client,
                "SELECT pg_create_restore_point('x'), pg_switch_wal()",
            )
            .await;
        }
    })
}

/// Connects as an application until it may no more.
async fn crowd(postgres: &Postgres) -> Vec<tokio_postgres::Client> {
    postgres.sql("postgres", "CREATE ROLE app LOGIN").await;
    let mut clients = Vec::new();
    let dsn = postgres.dsn("postgres", "app");
    while let Ok((client, connection)) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await
    {
        tokio::spawn(connection);
        clients.push(client);
    }
    clients
}
