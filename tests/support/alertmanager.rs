//! A real Alertmanager, and the messages that it sends.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::process::{Process, User, command, daemon, scratch, start_on_free_port};

/// A running Alertmanager. It ends when this is dropped.
pub struct Alertmanager {
    _process: Process,
    _dir: TempDir,
    address: SocketAddr,
}

impl Alertmanager {
    /// Starts one with this configuration.
    pub async fn start(config: &str) -> Self {
        let dir = scratch();
        let file = dir.path().join("alertmanager.yml");
        fs::write(&file, config).unwrap();
        let started = start_on_free_port("Listening on", |port| {
            let mut command = command(User::Nobody, daemon("prometheus-alertmanager"));
            command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.path={}/data", dir.path().display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                // No others to talk to.
                .arg("--cluster.listen-address=");
            command
        });
        let (process, port) = started
            .await
            .unwrap_or_else(|log| panic!("Alertmanager: {log}"));
        Self {
            _process: process,
            _dir: dir,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Alertmanager's own checker.
pub fn amtool() -> Command {
    command(User::Same, daemon("amtool"))
}

/// A web server that keeps what is sent to it.
pub struct Inbox {
    address: SocketAddr,
    alerts: Arc<Mutex<Vec<Alert>>>,
    task: JoinHandle<()>,
}

/// One alert of a message.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// The path that it was sent to.
    #[serde(skip)]
    pub to: String,
    /// The group of the message: another one is news to whoever is paged.
    #[serde(skip)]
    pub group: String,
    /// `firing` or `resolved`.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Inbox {
    /// Opens one.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let alerts = Arc::default();
        let app = Router::new()
            .route("/{to}", post(receive))
            .with_state(Arc::clone(&alerts));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            alerts,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come so far.
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.lock().unwrap().clone()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    State(alerts): State<Arc<Mutex<Vec<Alert>>>>,
    Path(to): Path<String>,
    body: Bytes,
) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        group_key: String,
        alerts: Vec<Alert>,
    }
    let message: Message = serde_json::from_slice(&body).unwrap();
    let sent = message.alerts.into_iter();
    let sent = sent.map(|alert| Alert {
        to: to.clone(),
        group: message.group_key.clone(),
        ..alert
    });
    alerts.lock().unwrap().extend(sent);
}
