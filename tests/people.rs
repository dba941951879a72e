//! What goes wrong with the users of a real Synapse: nobody can notify or write to them.

use serde_json::{Value, json};

use super::support::exporter::Exporter;
use super::support::http::send;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{Made, NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn pushers_fail_and_keys_run_out() {
    for (major, version) in [(13, OLD), (18, NEW)] {
        let server = Postgres::start(major).await;
        let (synapse, made) = Synapse::start(&server, version).await;
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
        let person = Person::of(&server, &made, "person1").await;
        let pusher = json!({
            "kind": "http", "app_id": "demo", "app_display_name": "demo", "pushkey": "other",
            "device_display_name": "demo", "lang": "en",
            "data": { "url": "http://127.0.0.1:1/_matrix/push/v1/notify" },
        });
        person.post("pushers/set", &pusher).await;
        synapse.talk().await;
        wait_for("the pusher fails", || async {
            served(&pushers).await == [Some(2.0), Some(1.0)]
        })
        .await;
        synapse.hush().await;
        let age = served(&["synapse_db_pushers_failing_oldest_age_seconds"]).await;
        assert!(age[0] > Some(0.0) && age[0] < Some(60.0), "{age:?}");

        // One has three one-time keys and a fallback key, the other has one key of each device.
        let other = Person::of(&server, &made, "person2").await;
        other.upload_one_key().await;
        let keys = [
            "synapse_db_e2e_devices",
            "synapse_db_e2e_devices_without_one_time_keys",
            "synapse_db_e2e_devices_exhausted",
        ];
        assert_eq!(served(&keys).await, [Some(2.0), Some(0.0), Some(0.0)]);
        for _ in 0..3 {
            other.claim_key_of(&person).await;
        }
        assert_eq!(served(&keys).await, [Some(2.0), Some(1.0), Some(0.0)]);
        person.claim_key_of(&other).await;
        assert_eq!(served(&keys).await, [Some(2.0), Some(2.0), Some(1.0)]);
    }
}

/// Somebody with one device.
struct Person {
    address: std::net::SocketAddr,
    user: String,
    device: String,
    token: String,
}

impl Person {
    async fn of(server: &Postgres, made: &Made, name: &str) -> Self {
        let user = format!("@{name}:{}", made.server_name);
        let device = format!(
            "SELECT device_id, token FROM access_tokens \
             WHERE user_id = '{user}' AND puppets_user_id IS NULL"
        );
        let mut rows = server.sql("synapse", &device).await;
        let mut row = rows.remove(0).into_iter().flatten();
        Self {
            address: made.url.trim_start_matches("http://").parse().unwrap(),
            user,
            device: row.next().unwrap(),
            token: row.next().unwrap(),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/_matrix/client/v3/{path}");
        let token = format!("Bearer {}", self.token);
        let headers = [("Authorization", token.as_str())];
        let answer = send(self.address, "POST", &path, &headers, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_str(answer.text()).unwrap()
    }

    async fn upload_one_key(&self) {
        let Self { user, device, .. } = self;
        let signatures = json!({ user: { format!("ed25519:{device}"): "AAAA" } });
        let keys = json!({
            "device_keys": {
                "user_id": user,
                "device_id": device,
                "algorithms": [],
                "keys": { format!("ed25519:{device}"): "AAAA" },
                "signatures": signatures,
            },
            "one_time_keys": {
                "signed_curve25519:AAAA": { "key": "AAAA", "signatures": signatures },
            },
        });
        self.post("keys/upload", &keys).await;
    }

    async fn claim_key_of(&self, other: &Self) {
        let wanted = json!({ &other.user: { &other.device: "signed_curve25519" } });
        let answer = self
            .post("keys/claim", &json!({ "one_time_keys": wanted }))
            .await;
        let key = &answer["one_time_keys"][&other.user][&other.device];
        assert!(key.is_object(), "{answer}");
    }
}
