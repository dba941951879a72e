//! Who follows Synapse's stream of events, and how far behind it is.

use crate::query::{ALL, Collector, Query, Scope};

/// How far each consumer of the event stream is behind its newest position.
///
/// Synapse's own metrics of this kind vanish with the worker that exports them; the tables stay. A
/// consumer that never ran, because nothing needs it, has no sample.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_consumers",
        "How far each consumer of Synapse's event stream is behind",
    )
    .query(consumer!("stats", "stats_incremental_position", "stream_id"))
    .query(consumer!(
        "user_directory",
        "user_directory_stream_pos",
        "stream_id"
    ))
    .query(consumer!(
        "appservice",
        "appservice_stream_position",
        "stream_ordering"
    ))
    .query(consumer!(
        "push_summary",
        "event_push_summary_stream_ordering",
        "stream_ordering"
    ))
    .query(consumer!(
        "room_forgetter",
        "room_forgetter_stream_pos",
        "stream_id"
    ))
    .query(consumer!(
        "delayed_events",
        "delayed_events_stream_pos",
        "stream_id"
    ))
    .query(federation_senders())
}

/// A consumer whose position is the only row of a table.
macro_rules! consumer {
    ($name:literal, $table:literal, $position:literal) => {
        behind(concat!(
            "SELECT current_database() AS datname, '",
            $name,
            "' AS consumer, '' AS instance_name,
                    greatest(p.newest - c.",
            $position,
            ", 0) AS behind
               FROM {schema}.",
            $table,
            " AS c
              CROSS JOIN (SELECT max(stream_id) AS newest FROM {schema}.stream_positions
                           WHERE stream_name = 'events') AS p
              WHERE c.",
            $position,
            " > 0"
        ))
        .reads($table, &[$position])
    };
}
use consumer;

/// Each worker that sends to other servers has a position of its own.
fn federation_senders() -> Query {
    behind(
        "SELECT current_database() AS datname, 'federation_sender' AS consumer,
                c.instance_name, greatest(p.newest - c.stream_id, 0) AS behind
           FROM {schema}.federation_stream_position AS c
          CROSS JOIN (SELECT max(stream_id) AS newest FROM {schema}.stream_positions
                       WHERE stream_name = 'events') AS p
          WHERE c.type = 'events' AND c.stream_id > 0",
    )
    .reads(
        "federation_stream_position",
        &["type", "instance_name", "stream_id"],
    )
}

fn behind(sql: &'static str) -> Query {
    Query::new("synapse_db_consumer")
        .scope(Scope::Synapse)
        .reads("stream_positions", &["stream_name", "stream_id"])
        .sql(ALL, sql)
        .label("datname")
        .label("consumer")
        .label("instance_name")
        .gauge("behind", "Stream positions that the consumer has yet to see")
}
