//! Who follows Synapse's streams, and how far behind it is.

use crate::query::{ALL, Collector, Query};

/// How far each consumer is behind the newest position of its stream, nearly always that of events.
///
/// Synapse's own metrics of this kind vanish with the worker that exports them; the tables stay.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_consumers",
        "How far each consumer of Synapse's streams is behind, and consumers whose position is \
         missing",
    )
    .prefix("synapse_db_consumer")
    .query(consumer!(
        "stats",
        "stats_incremental_position",
        "stream_id"
    ))
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
    .query(consumer!(
        "push_receipts",
        "event_push_summary_last_receipt_stream_id",
        "stream_id",
        of "receipts",
        behind "p.newest - c.position"
    ))
    // Changes of other servers' devices move the stream and not this position: what waits, the
    // collector of device lists says.
    .query(consumer!(
        "device_lists",
        "device_lists_changes_converted_stream_position",
        "stream_id",
        of "device_lists_stream",
        behind "NULL"
    ))
    .query(federation_senders())
}

/// A consumer whose position is the only row of a table, so that there is a sample for it, row or
/// not. While a background update fills what it keeps, Synapse knows no position and does without.
macro_rules! consumer {
    ($name:literal, $table:literal, $position:literal) => {
        consumer!($name, $table, $position, of "events", behind "p.newest - c.position")
    };
    ($name:literal, $table:literal, $position:literal,
     of $stream:literal, behind $behind:literal) => {
        positions(concat!(
            "SELECT '",
            $name,
            "' AS consumer, '' AS instance_name,
                    ",
            $behind,
            " AS behind_positions,
                    CASE WHEN c.position <= p.newest THEN 0 ELSE c.position - p.newest END AS ahead_positions,
                    c.rows = 0 OR c.position IS NULL AND NOT EXISTS (
                        SELECT 1 FROM {schema}.background_updates
                         WHERE starts_with(update_name, 'populate_",
            $name,
            "')) AS position_missing
               FROM (SELECT count(*) AS rows, max(",
            $position,
            ") AS position FROM {schema}.",
            $table,
            ") AS c
              CROSS JOIN (SELECT max(stream_id) AS newest FROM {schema}.stream_positions
                           WHERE stream_name = '",
            $stream,
            "') AS p"
        ))
        .reads($table, &[$position])
        .reads("background_updates", &["update_name"])
    };
}
use consumer;

/// Each worker that sends to other servers has a position of its own; -1 is what a database begins
/// with, and stays where nothing is ever sent.
fn federation_senders() -> Query {
    positions(
        "SELECT 'federation_sender' AS consumer, c.instance_name,
                CASE WHEN c.stream_id >= 0 THEN p.newest - c.stream_id END AS behind_positions,
                CASE WHEN c.stream_id <= p.newest THEN 0 ELSE c.stream_id - p.newest END AS ahead_positions,
                c.stream_id IS NULL AS position_missing
           FROM (SELECT max(stream_id) AS newest FROM {schema}.stream_positions
                  WHERE stream_name = 'events') AS p
           LEFT JOIN {schema}.federation_stream_position AS c ON c.type = 'events'",
    )
    .reads(
        "federation_stream_position",
        &["type", "instance_name", "stream_id"],
    )
}

fn positions(sql: &'static str) -> Query {
    Query::new()
        .reads("stream_positions", &["stream_name", "stream_id"])
        .sql(ALL, sql)
        .label("consumer")
        .label("instance_name")
        .gauge(
            "behind_positions",
            "Stream positions that the consumer has not processed; negative if its position is \
             ahead of the stream",
        )
        .gauge(
            "ahead_positions",
            "Stream positions by which the consumer is ahead of its stream: until the stream \
             reaches its position, it processes nothing",
        )
        .gauge(
            "position_missing",
            "Whether the consumer's stored position is missing (1), which Synapse treats as an \
             error, or not (0)",
        )
}
