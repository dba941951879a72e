//! What happens to every homeserver, with all the rules: nobody is told of it.
//!
//! A cluster of two PostgreSQL servers, a Synapse with people on it, the exporters, Prometheus with the shipped rules,
//! Alertmanager with the shipped routes. A minute of the rules takes six seconds here; with
//! NORMAL_LIFE_SECONDS=3600 a minute is one, and all of it lasts for an hour.

use std::env;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::{run, scratch, wait_at_most, wait_for};
use super::support::roles::Role;
use super::support::synapse::{NEW, Synapse};
use super::support::watchers::{Pace, Watchers};
use super::{major_of_tools, tool, with_server};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_arrives() {
    let seconds = env::var("NORMAL_LIFE_SECONDS").map_or(40, |value| value.parse().unwrap());
    let minute = if seconds < 3600 { 6_000 } else { 60_000 };
    let pace = Pace {
        minute,
        hour: 60 * minute,
        scrape: 5,
    };
    // What is done takes its time, and between it goes by.
    let rest = Duration::from_secs(seconds) / 8;

    let server = Postgres::builder(major_of_tools()).fresh();
    let settings = [
        ("fsync", "on"),
        ("archive_mode", "on"),
        ("archive_command", "'true'"),
        ("recovery_target_timeline", "latest"),
        // What a standby lacks that was away for a moment.
        ("wal_keep_size", "1GB"),
    ];
    let server = settings
        .iter()
        .fold(server, |server, (name, value)| server.setting(name, value));
    let mut one = server.start().await;
    let (synapse, made) = Synapse::start(&one, NEW).await;
    Role::Strict
        .create(&one, "exporter", &[&made.database])
        .await;
    let mut two = one.standby().setting("fsync", "on").start().await;
    let of_one = Exporter::watch(&one.dsn("postgres", "exporter"), &[]).await;
    let of_two = Exporter::watch(&two.dsn("postgres", "exporter"), &[]).await;
    let targets = [of_one.address(), of_two.address()];
    let watchers = Watchers::start(&targets, pace).await;
    let healthy = async || {
        let asked = "count(pg_up == 1) == 2 and count(pg_stat_replication_pg_wal_lsn_diff) == 1";
        let up = || async { watchers.prometheus.query(asked).await.len() == 1 };
        wait_for("both answer, and one follows the other", up).await;
        let arrived = watchers.inbox.alerts();
        assert!(arrived.is_empty(), "{arrived:#?}");
    };
    healthy().await;

    // People write, while everything is vacuumed and dumped.
    synapse.talk().await;
    tokio::time::sleep(rest).await;
    one.sql(&made.database, "VACUUM (ANALYZE)").await;
    let mut dump = with_server(tool("pg_dump"), &one);
    dump.args([
        "--format=directory",
        "--jobs=2",
        "--file=dump",
        &made.database,
    ]);
    let folder = scratch();
    dump.current_dir(folder.path());
    spawn_blocking(move || run(&mut dump)).await.unwrap();
    tokio::time::sleep(rest).await;

    // The exporter of the primary is restarted.
    let address = format!("--web.listen-address={}", of_one.address());
    drop(of_one);
    let of_one = Exporter::watch(&one.dsn("postgres", "exporter"), &[&address]).await;
    tokio::time::sleep(rest).await;

    // A rolling restart. Synapse finds out that its connections are gone one by one, and then says so to people.
    synapse.hush().await;
    two.restart().await;
    healthy().await;
    one.restart().await;
    healthy().await;
    tokio::time::sleep(rest).await;

    // A switch-over, with which Synapse goes. Where the standby lacks anything, the former primary could
    // not follow it.
    wait_for("the standby follows", || async {
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        one.value("postgres", streaming).await.as_deref() == Some("1")
    })
    .await;
    one.stop().await;
    two.promote().await;
    one.follow(&two).await;
    let (synapse, _) = synapse.upgrade_on(&two, NEW).await;
    healthy().await;
    synapse.talk().await;
    tokio::time::sleep(rest).await;

    // A quiet night.
    synapse.hush().await;
    tokio::time::sleep(rest).await;
    healthy().await;

    // Now somebody is to be told.
    two.stop_immediate().await;
    let told = || async {
        let alerts = watchers.inbox.alerts();
        alerts
            .iter()
            .any(|alert| alert.labels["alertname"] == "PostgresNoPrimary")
    };
    wait_at_most(
        Duration::from_millis(10 * minute),
        "an outage is told",
        told,
    )
    .await;
    drop((of_one, of_two));
}
