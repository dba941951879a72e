//! Somebody who uses a Synapse with traffic.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::send;
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
        let homeserver = made.url.strip_prefix("http://").unwrap();
        let nobody = Self {
            homeserver: homeserver.parse().unwrap(),
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
