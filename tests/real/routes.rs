//! Which alerts a real Alertmanager tells, and as how many, with the shipped routes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::support::alertmanager::{Alertmanager, Inbox, amtool};
use super::support::process::{run, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_second_server_is_a_new_page() {
    let inbox = Inbox::open().await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/alertmanager.example.yml");
    let example = fs::read_to_string(example).unwrap();
    let ours = example
        .replace("127.0.0.1:9095", &inbox.address().to_string())
        .replace("group_wait: 30s", "group_wait: 1s")
        .replace("group_interval: 5m", "group_interval: 1s");
    let alertmanager = Alertmanager::start(&ours).await;
    let fire = |labels: &[&str]| {
        let url = format!("--alertmanager.url=http://{}", alertmanager.address());
        run(amtool().arg(url).args(["alert", "add"]).args(labels));
    };
    let groups = |to: &str| {
        let alerts = inbox.alerts().into_iter().filter(|alert| alert.to == to);
        alerts.map(|alert| alert.group).collect::<BTreeSet<_>>()
    };
    let down = "alertname=PostgresServerDown";
    let page = "severity=critical";

    // Two servers without a cluster: two pages.
    fire(&[down, page, "job=postgres", "instance=test-db:9187"]);
    wait_for("the first is told", || async { groups("page").len() == 1 }).await;
    fire(&[down, page, "job=postgres", "instance=prod-db:9187"]);
    wait_for("so is the second", || async { groups("page").len() == 2 }).await;

    // A cluster without a primary, of which two servers are down: one page, and no ticket.
    let cluster = ["namespace=m", "system_identifier=7", "cluster_name=matrix"];
    let with = |labels: &[&'static str]| [&cluster[..], labels].concat();
    fire(&with(&["alertname=PostgresNoPrimary", page]));
    wait_for("the cluster is told", || async {
        groups("page").len() == 3
    })
    .await;
    for instance in ["instance=a:9187", "instance=b:9187"] {
        fire(&with(&[down, "severity=warning", "job=postgres", instance]));
    }
    // Two tickets of one job are one message, which comes after those that are inhibited would.
    for instance in ["instance=c:9187", "instance=d:9187"] {
        fire(&[
            "alertname=PostgresDeadlocks",
            "severity=warning",
            "job=postgres",
            "datname=synapse",
            instance,
        ]);
    }
    wait_for("the tickets are told", || async {
        let alerts = inbox.alerts();
        alerts.iter().filter(|alert| alert.to == "ticket").count() >= 2
    })
    .await;
    assert_eq!(groups("ticket").len(), 1);
    assert_eq!(groups("page").len(), 3);
    let told = inbox.alerts();
    let told = told.iter().filter(|alert| alert.to == "ticket");
    for alert in told {
        assert_eq!(alert.labels["alertname"], "PostgresDeadlocks");
    }
}
