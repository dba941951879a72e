//! A real Prometheus, and promtool.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::http::request;
use super::process::{Process, User, command, daemon, scratch, start_on_free_port};

/// A running Prometheus, nothing in its store. It ends when this is dropped.
pub struct Prometheus {
    _process: Process,
    _dir: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes an address every three seconds, as `job="postgres"`.
    pub async fn scrape(target: SocketAddr) -> Self {
        Self::start(&format!(
            "global: {{ scrape_interval: 3s, scrape_timeout: 3s }}\n\
             scrape_configs:\n\
             - job_name: postgres\n  \
               static_configs: [ {{ targets: [ \"{target}\" ] }} ]\n"
        ))
        .await
    }

    /// Starts one with this configuration.
    pub async fn start(text: &str) -> Self {
        let dir = scratch();
        let config = dir.path().join("prometheus.yml");
        fs::write(&config, text).unwrap();
        let started = start_on_free_port("ready to receive web requests", |port| {
            let mut command = command(User::Nobody, daemon("prometheus"));
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}/data", dir.path().display()))
                // Alertmanager hears of an end at once.
                .arg("--rules.alert.resend-delay=1s")
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        });
        let (process, port) = started
            .await
            .unwrap_or_else(|log| panic!("Prometheus: {log}"));
        Self {
            _process: process,
            _dir: dir,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    /// What an expression gives now: labels and value of each series.
    pub async fn query(&self, expression: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let escaped: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let answer = self.api(&format!("query?query={escaped}")).await;
        let series = answer["result"].as_array().cloned().unwrap_or_default();
        let series = series.into_iter().map(|series| {
            let labels = serde_json::from_value(series["metric"].clone()).unwrap();
            (
                labels,
                series["value"][1].as_str().unwrap().parse().unwrap(),
            )
        });
        series.collect()
    }

    /// The data of an answer of the API, by the path after `/api/v1/`.
    pub async fn api(&self, path: &str) -> Value {
        let response = request(self.address, "GET", &format!("/api/v1/{path}"), &[]).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        let mut answer: Value = serde_json::from_slice(&response.body).unwrap();
        answer["data"].take()
    }
}

/// Prometheus' own checker, or the one that PROMTOOL names.
pub fn promtool() -> Command {
    let chosen = env::var_os("PROMTOOL").map(PathBuf::from);
    command(User::Same, chosen.unwrap_or_else(|| daemon("promtool")))
}
