//! Somebody who uses a Synapse with traffic.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::send;
use super::postgres::Postgres;
use super::synapse::Made;

/// Of everybody in the traffic.
const PASSWORD: &str = "correct horse battery staple";

/// A user, on one device.
pub struct Person {
    homeserver: SocketAddr,
    /// The whole name.
    pub name: String,
    /// The device.
    pub device: String,
    token: String,
}

impl Person {
    /// Logs in somebody of the traffic, by the first part of the name.
    pub async fn log_in(made: &Made, name: &str) -> Self {
        let nobody = Self {
            homeserver: homeserver(made),
            name: String::new(),
            device: String::new(),
            token: String::new(),
        };
        let login = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": PASSWORD,
        });
        let login = nobody
            .asks("POST", "/_matrix/client/v3/login", &login)
            .await;
        let [name, device, token] =
            ["user_id", "device_id", "access_token"].map(|key| login[key].as_str().unwrap().into());
        Self {
            name,
            device,
            token,
            ..nobody
        }
    }

    /// Goes on with the device that somebody of the traffic has, which may have keys.
    pub async fn on_device(server: &Postgres, made: &Made, name: &str) -> Self {
        let name = format!("@{name}:{}", made.server_name);
        let device = format!(
            "SELECT device_id, token FROM access_tokens \
             WHERE user_id = '{name}' AND puppets_user_id IS NULL"
        );
        let mut devices = server.sql(&made.database, &device).await;
        let mut device = devices.remove(0).into_iter().flatten();
        Self {
            homeserver: homeserver(made),
            name,
            device: device.next().unwrap(),
            token: device.next().unwrap(),
        }
    }

    /// Sends a request, with this body unless it is null; the answer.
    pub async fn asks(&self, method: &str, path: &str, body: &Value) -> Value {
        let token = format!("Bearer {}", self.token);
        let mut headers = vec![("Content-Type", "application/json")];
        if !self.token.is_empty() {
            headers.push(("Authorization", &token));
        }
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let answer = send(self.homeserver, method, path, &headers, &body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

fn homeserver(made: &Made) -> SocketAddr {
    made.url.strip_prefix("http://").unwrap().parse().unwrap()
}
