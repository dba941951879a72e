//! Queries of a collector that share a message stay apart where one of them fails.

use super::support::exporter::{Exporter, failures};
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

const STAGED: &str = "synapse_db_federation_inbound_staged";
const PARTIAL: &str = "synapse_db_rooms_partial_state";

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_locked_costs_itself_on_13() {
    one_that_is_locked_costs_itself(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_locked_costs_itself_on_18() {
    one_that_is_locked_costs_itself(18, NEW).await;
}

async fn one_that_is_locked_costs_itself(major: u32, version: &str) {
    let server = Postgres::builder(major)
        .setting("log_min_duration_statement", "0")
        .setting("log_line_prefix", "'|%a|'");
    let (server, _) = Synapse::leave(server, version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let both = |page: &Page| [STAGED, PARTIAL].map(|metric| page.value(metric, &[]));

    let page = exporter.complete().await;
    assert_eq!(failures(&page), [""; 0]);
    assert_eq!(both(&page), [Some(0.0), Some(0.0)]);
    let before = messages(&server);
    exporter.scrape().await;
    let after = messages(&server);
    assert_eq!(after.shared, before.shared + 1, "{before:?} {after:?}");
    assert_eq!(after.alone, before.alone, "{before:?} {after:?}");

    let client = server.client("synapse", "postgres").await;
    let lock = "BEGIN; LOCK TABLE federation_inbound_events_staging IN ACCESS EXCLUSIVE MODE";
    rows(&client, lock).await;
    // A busy machine may be too slow for a page as a whole.
    wait_for("one is skipped, and the other one is there", || async {
        let page = exporter.scrape().await;
        let skipped = page.skipped();
        let of_federation = skipped.iter().filter(|skip| skip.0 == "synapse_federation");
        let reasons: Vec<_> = of_federation.map(|skip| skip.1).collect();
        both(&page) == [None, Some(0.0)] && reasons == ["lock_timeout"]
    })
    .await;
    assert!(messages(&server).alone > after.alone);

    rows(&client, "COMMIT").await;
    wait_for("both are there again", || async {
        both(&exporter.scrape().await) == [Some(0.0), Some(0.0)]
    })
    .await;
}

#[derive(Debug)]
struct Messages {
    shared: usize,
    alone: usize,
}

/// The messages that read either of the tables, as the server logged them.
fn messages(server: &Postgres) -> Messages {
    let log = server.log();
    let ours = log.split("|matrix-postgres-exporter|");
    let with =
        |text: &str, table: &str| text.contains(&format!("FROM ONLY \"public\".\"{table}\""));
    let (mut shared, mut alone) = (0, 0);
    for text in ours.filter(|text| text.starts_with("LOG:  duration: ")) {
        let tables = ["federation_inbound_events_staging", "partial_state_rooms"];
        match tables.map(|table| with(text, table)) {
            [true, true] => shared += 1,
            [false, false] => {}
            _ => alone += 1,
        }
    }
    Messages { shared, alone }
}
