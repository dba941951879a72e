//! What waits in a Synapse that runs is seen while it waits, and not before or after.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::person::Person;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

/// All is read again in each scrape, or nearly so.
const FRESH: &str = "collectors: { synapse_to_device: { ttl: 1ms }, synapse_queues: { ttl: 1ms }, \
                     synapse_device_lists: { ttl: 1ms }, synapse_cleanup: { ttl: 1ms } }";

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_seen_on_13() {
    what_waits_is_seen(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_seen_on_18() {
    what_waits_is_seen(18, NEW).await;
}

async fn what_waits_is_seen(major: u32, version: &str) {
    let server = Postgres::start(major).await;
    let bridge = Bridge::open().await;
    let (_synapse, made) = Synapse::start_with_bridge(&server, version, bridge.address).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), FRESH).await;
    let one = Person::log_in(&made, "person1").await;
    let two = Person::log_in(&made, "person2").await;

    a_message_waits_for_its_device(&exporter, &one, &two).await;
    a_change_that_is_converted_does_not_wait(&exporter, &server).await;
    a_redaction_waits_to_be_cleared_away(&exporter, &one).await;
    a_server_cannot_be_reached(&exporter, &one).await;
    a_bridge_is_down(&exporter, &one, &bridge).await;
}

async fn a_message_waits_for_its_device(exporter: &Exporter, from: &Person, to: &Person) {
    waits(exporter, "synapse_db_device_inbox_messages", 0.0).await;
    waits(
        exporter,
        "synapse_db_device_inbox_oldest_behind_positions",
        0.0,
    )
    .await;
    for number in 1..=2 {
        let devices = json!({ &*to.device: { "number": number } });
        let messages = json!({ "messages": { &*to.name: devices } });
        let path = format!("/_matrix/client/v3/sendToDevice/test/{number}");
        from.asks("PUT", &path, &messages).await;
    }
    waits(exporter, "synapse_db_device_inbox_messages", 2.0).await;
    waits(
        exporter,
        "synapse_db_device_inbox_oldest_behind_positions",
        2.0,
    )
    .await;

    // What it has fetched it confirms with the next sync.
    let sync = "/_matrix/client/v3/sync?timeout=0";
    let fetched = to.asks("GET", sync, &Value::Null).await;
    let since = fetched["next_batch"].as_str().unwrap();
    let next = format!("{sync}&since={since}");
    to.asks("GET", &next, &Value::Null).await;
    waits(exporter, "synapse_db_device_inbox_messages", 0.0).await;
    waits(
        exporter,
        "synapse_db_device_inbox_oldest_behind_positions",
        0.0,
    )
    .await;
}

/// Synapse leaves the flag of a change as it is when it has converted it; only its position tells.
async fn a_change_that_is_converted_does_not_wait(exporter: &Exporter, server: &Postgres) {
    let flagged = "SELECT count(*) > 0 FROM device_lists_changes_in_room \
                   WHERE NOT converted_to_destinations";
    wait_for("a change is flagged as not converted", || async {
        server.value("synapse", flagged).await.as_deref() == Some("t")
    })
    .await;
    waits(exporter, "synapse_db_device_list_changes_unconverted", 0.0).await;
}

async fn a_redaction_waits_to_be_cleared_away(exporter: &Exporter, person: &Person) {
    waits(exporter, "synapse_db_redactions_uncensored", 0.0).await;
    let rooms = "/_matrix/client/v3";
    let room = person
        .asks("POST", &format!("{rooms}/createRoom"), &json!({}))
        .await;
    let room = format!("{rooms}/rooms/{}", room["room_id"].as_str().unwrap());
    let text = json!({ "msgtype": "m.text", "body": "regretted" });
    let sent = person
        .asks("PUT", &format!("{room}/send/m.room.message/1"), &text)
        .await;
    let sent = sent["event_id"].as_str().unwrap();
    person
        .asks("PUT", &format!("{room}/redact/{sent}/2"), &json!({}))
        .await;
    waits(exporter, "synapse_db_redactions_uncensored", 1.0).await;
}

/// The keys of somebody there are asked for in vain.
async fn a_server_cannot_be_reached(exporter: &Exporter, person: &Person) {
    let failing = [
        "synapse_db_federation_destinations_failing",
        "synapse_db_federation_destinations_newly_failing_1h",
        "synapse_db_federation_destinations_backing_off",
    ];
    for metric in failing {
        waits(exporter, metric, 0.0).await;
    }
    let asked = json!({ "device_keys": { "@somebody:gone.invalid": [] } });
    person
        .asks("POST", "/_matrix/client/v3/keys/query", &asked)
        .await;
    for metric in failing {
        waits(exporter, metric, 1.0).await;
    }
}

async fn a_bridge_is_down(exporter: &Exporter, person: &Person, bridge: &Bridge) {
    let down = "synapse_db_appservice_down";
    let waiting = "synapse_db_appservice_transactions_waiting";
    let labels = [("datname", "synapse"), ("as_id", "bridge")];
    let is = async |metric: &str, wanted: Option<f64>| {
        wait_for(&format!("{metric} is {wanted:?}"), || async {
            exporter.scrape().await.value(metric, &labels) == wanted
        })
        .await;
    };
    is(down, None).await;

    bridge.answers.store(false, Ordering::Relaxed);
    let invited = json!({ "invite": ["@bridged_one:demo.test"] });
    person
        .asks("POST", "/_matrix/client/v3/createRoom", &invited)
        .await;
    is(down, Some(1.0)).await;
    let page = exporter.scrape().await;
    assert!(page.value(waiting, &labels) >= Some(1.0));

    bridge.answers.store(true, Ordering::Relaxed);
    is(down, Some(0.0)).await;
    is(waiting, None).await;
}

async fn waits(exporter: &Exporter, metric: &str, wanted: f64) {
    let value = |page: Page| page.value(metric, &[("datname", "synapse")]);
    wait_for(&format!("{metric} is {wanted}"), || async {
        value(exporter.scrape().await) == Some(wanted)
    })
    .await;
}

/// A bridge that takes what Synapse sends, or refuses it.
struct Bridge {
    address: SocketAddr,
    answers: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Bridge {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(AtomicBool::new(true));
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&answers));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            answers,
            task,
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(answers): State<Arc<AtomicBool>>) -> (StatusCode, &'static str) {
    match answers.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "{}"),
        false => (StatusCode::BAD_GATEWAY, "{}"),
    }
}
