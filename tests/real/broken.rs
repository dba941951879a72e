//! What breaks a real Synapse is told: before it is noticed, and when nobody else can tell.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::exporter::Exporter;
use super::support::person::Person;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_old_synapse_is_told_on_13() {
    what_breaks_it_is_told(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_new_synapse_is_told_on_18() {
    what_breaks_it_is_told(18, NEW).await;
}

async fn what_breaks_it_is_told(major: u32, version: &str) {
    let (server, synapse, made) = Synapse::go_on(Postgres::builder(major), version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let admin = Person::log_in(&made, "person0").await;

    a_background_update_stands_still(&server, &exporter, &admin).await;
    its_work_is_left_half_done(&server, &exporter, admin, &synapse).await;
    a_sequence_is_set_back(&server, &exporter, synapse, version).await;
}

/// A lock holds up the update; its progress tells, and so do those that wait for it.
async fn a_background_update_stands_still(server: &Postgres, exporter: &Exporter, admin: &Person) {
    let pending = "synapse_db_background_updates_pending";
    let hash = "synapse_db_background_updates_progress_hash";
    is(exporter, pending, &[], Some(0.0)).await;
    let idle = value(exporter, hash, &[]).await;
    let holder = hold(server, "user_directory").await;
    let job = json!({ "job_name": "regenerate_directory" });
    let path = "/_synapse/admin/v1/background_updates/start_job";
    admin.asks("POST", path, &job).await;
    somebody_waits_for(server, "user_directory").await;

    let waiting = "synapse_db_background_updates_waiting";
    assert!(value(exporter, pending, &[]).await > Some(1.0));
    assert!(value(exporter, waiting, &[]).await > Some(0.0));
    let mut hashes = BTreeSet::new();
    for _ in 0..5 {
        hashes.insert(value(exporter, hash, &[]).await.map(f64::to_bits));
    }
    assert_eq!(hashes.len(), 1);
    assert!(!hashes.contains(&idle.map(f64::to_bits)));

    rows(&holder, "ROLLBACK").await;
    is(exporter, pending, &[], Some(0.0)).await;
    is(exporter, hash, &[], idle).await;
}

/// Synapse is killed in the midst of a purge and of a message: the task of the purge stays active, its
/// lock is held by nobody, and notifications stay staged.
async fn its_work_is_left_half_done(
    server: &Postgres,
    exporter: &Exporter,
    admin: Person,
    synapse: &Synapse,
) {
    let purge = [("action", "purge_history"), ("status", "active")];
    let lock = [("lock_name", "purge_pagination_lock"), ("mode", "write")];
    let [tasks, locks, stale] = ["scheduled_tasks", "worker_locks", "worker_locks_stale"]
        .map(|name| format!("synapse_db_{name}"));
    is(exporter, &tasks, &purge, None).await;
    is(exporter, &locks, &lock, None).await;
    let _holders = [
        hold(server, "rejections").await,
        hold(server, "stream_ordering_to_exterm").await,
    ];
    // The admin is in the public one alone.
    let rooms = "/_synapse/admin/v1/rooms?order_by=public&dir=b";
    let rooms = admin.asks("GET", rooms, &Value::Null).await;
    let [public, other] = [0, 1].map(|at| rooms["rooms"][at]["room_id"].as_str().unwrap());
    let now = "SELECT (extract(epoch FROM now()) * 1000)::bigint";
    let now: u64 = server
        .value("postgres", now)
        .await
        .unwrap()
        .parse()
        .unwrap();
    let path = format!("/_synapse/admin/v1/purge_history/{other}");
    let all = json!({ "purge_up_to_ts": now, "delete_local_events": true });
    admin.asks("POST", &path, &all).await;
    somebody_waits_for(server, "rejections").await;
    is(exporter, &tasks, &purge, Some(1.0)).await;
    is(exporter, &locks, &lock, Some(1.0)).await;
    is(exporter, &stale, &lock, Some(0.0)).await;

    let staged = "synapse_db_push_actions_staged";
    is(exporter, staged, &[], Some(0.0)).await;
    let path = format!("/_matrix/client/v3/rooms/{public}/send/m.room.message/1");
    let message = json!({ "msgtype": "m.text", "body": "never sent" });
    let sending = tokio::spawn(async move { admin.asks("PUT", &path, &message).await });
    // Two others are in the room.
    is(exporter, staged, &[], Some(2.0)).await;
    sending.abort();

    synapse.kill();
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'synapse_user' AND state <> 'active'";
    wait_for("Synapse is gone", || async {
        server.value("postgres", gone).await.as_deref() == Some("0")
    })
    .await;
    // Two minutes later.
    let later = "UPDATE worker_read_write_locks SET last_renewed_ts = last_renewed_ts - 121000";
    server.sql("synapse", later).await;
    is(exporter, &stale, &lock, Some(1.0)).await;
    is(exporter, &tasks, &purge, Some(1.0)).await;
    is(exporter, staged, &[], Some(2.0)).await;
    let age = "synapse_db_scheduled_tasks_active_oldest_age_seconds";
    assert!(value(exporter, age, &purge[..1]).await > Some(0.0));
}

/// As after a restore. A Synapse that runs does not notice; the next does not start.
async fn a_sequence_is_set_back(
    server: &Postgres,
    exporter: &Exporter,
    synapse: Synapse,
    version: &str,
) {
    let behind = "synapse_db_sequence_behind_positions";
    let sequence = [("sequence_name", "events_stream_seq")];
    is(exporter, behind, &sequence, Some(0.0)).await;
    let set_back = "SELECT setval('events_stream_seq', max(stream_id) - 5)
                      FROM stream_positions WHERE stream_name = 'events'";
    server.sql("synapse", set_back).await;
    is(exporter, behind, &sequence, Some(5.0)).await;
    let said = synapse.restart_in_vain(version).await;
    assert!(said.contains("exit code 1"), "{said}");
    assert!(
        said.contains("'events' in the 'stream_positions'"),
        "{said}"
    );
}

/// A session in whose transaction nobody else can write to a table.
async fn hold(server: &Postgres, table: &str) -> tokio_postgres::Client {
    let holder = server.client("synapse", "postgres").await;
    let lock = format!("BEGIN; LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE");
    rows(&holder, &lock).await;
    holder
}

async fn somebody_waits_for(server: &Postgres, table: &str) {
    let waiting = format!(
        "SELECT count(*) > 0 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    );
    wait_for(&format!("somebody waits for {table}"), || async {
        server.value("synapse", &waiting).await.as_deref() == Some("t")
    })
    .await;
}

async fn is(exporter: &Exporter, metric: &str, labels: &[(&str, &str)], wanted: Option<f64>) {
    wait_for(&format!("{metric} {labels:?} is {wanted:?}"), || async {
        value(exporter, metric, labels).await == wanted
    })
    .await;
}

async fn value(exporter: &Exporter, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    exporter.scrape().await.value(metric, labels)
}
