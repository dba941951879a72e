//! Constant labels that have the name of another label, and values that are hard to write down.

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::prometheus::Prometheus;

/// Quotes, a line break, an end of a list of labels, and characters of many bytes.
const ODD: &str = "a\"b\\c\nd} 1 é\u{1f980}\u{feff}\t'{x=y}";

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_label_stands_once_and_wins() {
    let server = Postgres::start(18).await;
    let dsn = server.dsn("postgres", "postgres");
    for label in [
        "server",
        "datname",
        "collector",
        "metric",
        "reason",
        "version",
        "mode",
    ] {
        let flag = format!("--constantLabels={label}=prod-db1,team=chat");
        for openmetrics in ["--openmetrics=false", "--openmetrics"] {
            let exporter = Exporter::watch(&dsn, &[&flag, openmetrics]).await;
            let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
            let page = exporter.get_with_headers("/metrics", &accept).await.page();
            let of_process = |name: &str| {
                let others = ["pg_exporter_build_info", "pg_exporter_http_refused_total"];
                name.starts_with("process_") || others.contains(&name)
            };
            for sample in page.families.values().flat_map(|family| &family.samples) {
                let value = sample.labels.get(label).map(String::as_str);
                if !of_process(&sample.name) {
                    assert_eq!(value, Some("prod-db1"), "{sample:?}");
                    assert_eq!(sample.labels["team"], "chat", "{sample:?}");
                }
            }
            assert_eq!(page.value("pg_up", &[]), Some(1.0));
            let output = exporter.output();
            let said: Vec<_> = output
                .lines()
                .filter(|line| line.contains("level=warn") && line.contains("constant label"))
                .collect();
            assert_eq!(said.len(), 1, "{label}: {output}");
            assert!(
                said[0].contains(&format!("{label:?}").replace('"', "\\\"")),
                "{output}"
            );
            if label == "server" {
                assert!(said[0].contains("pg_static"), "{output}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_has_its_labels_once() {
    let down = "host=127.0.0.1 port=1 user=exporter";
    for label in ["reason", "datname", "collector"] {
        let flag = format!("--constantLabels={label}=zz");
        let exporter = Exporter::watch(down, &[&flag]).await;
        let page = exporter.scrape().await;
        assert_eq!(page.value("pg_up", &[(label, "zz")]), Some(0.0));
        for sample in page.samples("pg_exporter_collector_skipped") {
            assert_eq!(sample.labels[label], "zz");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_any_value() {
    let server = Postgres::start(18).await;
    let dsn = server.dsn("postgres", "postgres");
    let file = serde_json::json!({
        "servers": { "main": { "labels": { "server": ODD, "Team_1": "", "cr": "a\rb" } } }
    });
    let exporter = Exporter::configured(&dsn, &file.to_string()).await;
    let prometheus = Prometheus::scrape(exporter.address()).await;
    wait_for("Prometheus has scraped", || async {
        let up = prometheus.query("pg_up").await;
        up.iter().any(|(labels, value)| {
            *value == 1.0 && labels["server"] == ODD && labels["cr"] == "a\rb"
        })
    })
    .await;
    let targets = prometheus.api("targets").await;
    assert_eq!(targets["activeTargets"][0]["lastError"], "", "{targets}");
}
