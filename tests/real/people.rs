//! What goes wrong with the users of a real Synapse: nobody can notify or write to them.

use serde_json::json;

use super::support::exporter::Exporter;
use super::support::person::Person;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn pushers_fail_and_keys_run_out() {
    for (major, version) in [(13, OLD), (18, NEW)] {
        let (server, synapse, made) = Synapse::go_on(Postgres::builder(major), version).await;
        Role::Strict.create(&server, "exporter", &["synapse"]).await;
        let exporter = Exporter::configured(
            &server.dsn("synapse", "exporter"),
            "collectors: { synapse_pushers: { ttl: 0s }, synapse_encryption: { ttl: 0s } }",
        )
        .await;
        let served = async |metrics: &[&str]| -> Vec<Option<f64>> {
            let page = exporter.scrape().await;
            metrics.iter().map(|name| page.value(name, &[])).collect()
        };
        let pushers = ["synapse_db_pushers", "synapse_db_pushers_failing"];
        wait_for("a pusher that nothing is sent to is well", || async {
            served(&pushers).await == [Some(1.0), Some(0.0)]
        })
        .await;

        // The admin writes to the people in his room; Synapse sends nothing to an address like this.
        let person = Person::on_device(&server, &made, "person1").await;
        let pusher = json!({
            "kind": "http", "app_id": "demo", "app_display_name": "demo", "pushkey": "other",
            "device_display_name": "demo", "lang": "en",
            "data": { "url": "http://127.0.0.1:1/_matrix/push/v1/notify" },
        });
        person
            .asks("POST", "/_matrix/client/v3/pushers/set", &pusher)
            .await;
        synapse.talk().await;
        wait_for("the pusher fails", || async {
            served(&pushers).await == [Some(2.0), Some(1.0)]
        })
        .await;
        synapse.hush().await;
        let age = served(&["synapse_db_pushers_failing_oldest_age_seconds"]).await;
        assert!(age[0] > Some(0.0) && age[0] < Some(60.0), "{age:?}");

        // One has three one-time keys and a fallback key, the other has one key of each device.
        let other = Person::on_device(&server, &made, "person2").await;
        upload_one_key(&other).await;
        let keys = [
            "synapse_db_e2e_devices",
            "synapse_db_e2e_devices_without_one_time_keys",
            "synapse_db_e2e_devices_without_keys",
        ];
        assert_eq!(served(&keys).await, [Some(2.0), Some(0.0), Some(0.0)]);
        for _ in 0..3 {
            claim_key(&other, &person).await;
        }
        assert_eq!(served(&keys).await, [Some(2.0), Some(1.0), Some(0.0)]);
        claim_key(&person, &other).await;
        assert_eq!(served(&keys).await, [Some(2.0), Some(2.0), Some(1.0)]);
    }
}

async fn upload_one_key(person: &Person) {
    let Person { name, device, .. } = person;
    let signatures = json!({ name: { format!("ed25519:{device}"): "AAAA" } });
    let keys = json!({
        "device_keys": {
            "user_id": name,
            "device_id": device,
            "algorithms": [],
            "keys": { format!("ed25519:{device}"): "AAAA" },
            "signatures": signatures,
        },
        "one_time_keys": {
            "signed_curve25519:AAAA": { "key": "AAAA", "signatures": signatures },
        },
    });
    let path = "/_matrix/client/v3/keys/upload";
    person.asks("POST", path, &keys).await;
}

async fn claim_key(person: &Person, of: &Person) {
    let wanted = json!({ &of.name: { &of.device: "signed_curve25519" } });
    let path = "/_matrix/client/v3/keys/claim";
    let wanted = json!({ "one_time_keys": wanted });
    let answer = person.asks("POST", path, &wanted).await;
    let key = &answer["one_time_keys"][&of.name][&of.device];
    assert!(key.is_object(), "{answer}");
}
