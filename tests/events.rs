//! The numbers of events are those of a full count, whatever happens to the database.

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn synapses_events_are_counted_on_13() {
    synapses_events_are_counted(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synapses_events_are_counted_on_18() {
    synapses_events_are_counted(18, NEW).await;
}

async fn synapses_events_are_counted(major: u32, version: &str) {
    let server = Postgres::start(major).await;
    let (synapse, _) = Synapse::start(&server, version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    is_exact(&exporter).await;

    synapse.talk().await;
    for _ in 0..20 {
        exporter.scrape().await;
    }
    synapse.hush().await;
    assert_exact(&exporter, &server).await;
}

/// A page on which the numbers are exact.
async fn is_exact(exporter: &Exporter) -> Page {
    wait_for("the events are counted", || async {
        let page = exporter.scrape().await;
        page.value("synapse_db_events_exact", &[("datname", "synapse")]) == Some(1.0)
    })
    .await;
    exporter.scrape().await
}

/// Once nothing happens any more, what is served is what a full count gives.
async fn assert_exact(exporter: &Exporter, server: &Postgres) {
    let page = is_exact(exporter).await;
    let counted = server.sql("synapse", FULL_COUNT).await;
    for row in counted {
        let [origin, metric, wanted] = [0, 1, 2].map(|column| row[column].clone().unwrap());
        let labels = [("datname", "synapse"), ("origin", origin.as_str())];
        let found = page.value(&metric, &labels);
        assert_eq!(found, wanted.parse().ok(), "{metric} {origin}");
    }
}

const FULL_COUNT: &str = "
    SELECT o.origin, k.metric, count(*) FILTER (WHERE k.counts)
      FROM (VALUES ('live', 1), ('backfill', -1)) AS o (origin, sign)
      LEFT JOIN events AS e ON sign(e.stream_ordering) = o.sign
     CROSS JOIN LATERAL (VALUES
           ('synapse_db_events', e.event_id IS NOT NULL),
           ('synapse_db_events_messages', e.type = 'm.room.message'),
           ('synapse_db_events_encrypted', e.type = 'm.room.encrypted'),
           ('synapse_db_events_state', e.state_key IS NOT NULL),
           ('synapse_db_events_redactions', e.type = 'm.room.redaction'),
           ('synapse_db_events_rejected', e.rejection_reason IS NOT NULL)) AS k (metric, counts)
     GROUP BY 1, 2";
