//! Synapse's streams and the sequences that number them.

use super::services_waiting;
use crate::query::{ALL, Collector, Query, Role};

/// Positions of the streams, and sequences that are behind their stream.
///
/// Synapse refuses to start when a sequence is behind its stream, as happens after a restore, a
/// fail-over or on a logical copy; until the next start nothing else tells. The sequences came
/// with different releases, so each generation is a query of its own.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_streams",
        "Positions of Synapse's streams, and sequences that are behind their stream",
    )
    .query(positions())
    .query(writers())
    .query(sequences!(
        "events" => "events_stream_seq",
        "receipts" => "receipts_sequence",
        "presence_stream" => "presence_stream_sequence",
        "to_device" => "device_inbox_sequence",
        "account_data" => "account_data_sequence",
        "caches" => "cache_invalidation_stream_seq",
    ))
    .query(sequences!(
        "un_partial_stated_room_stream" => "un_partial_stated_room_stream_sequence",
        "un_partial_stated_event_stream" => "un_partial_stated_event_stream_sequence",
    ))
    .query(sequences!(
        "device_lists_stream" => "device_lists_sequence",
        "e2e_cross_signing_keys" => "e2e_cross_signing_keys_sequence",
        "push_rules_stream" => "push_rules_stream_sequence",
        "pushers" => "pushers_sequence",
    ))
    .query(sequences!("thread_subscriptions" => "thread_subscriptions_sequence"))
    .query(sequences!("sticky_events" => "sticky_events_sequence"))
    .query(sequences!("quarantined_media" => "quarantined_media_id_seq"))
    .query(sequences!("profile_updates" => "profile_updates_sequence"))
    .query(
        numbered!(
            "",
            "state_group_id_seq",
            "(SELECT max(id) AS newest FROM {schema}.state_groups)"
        )
        .reads("state_groups", &["id"]),
    )
    .query(
        numbered!(
            "",
            "event_auth_chain_id",
            "(SELECT max(chain_id) AS newest FROM {schema}.event_auth_chains)"
        )
        .reads("event_auth_chains", &["chain_id"]),
    )
    .query(transactions())
    .query(
        numbered!(
            "backfill",
            "events_backfill_stream_seq",
            "(SELECT -min(stream_ordering) AS newest FROM {schema}.events)"
        )
        .reads("events", &["stream_ordering"]),
    )
}

fn positions() -> Query {
    Query::new()
        .reads("stream_positions", &["stream_name", "stream_id"])
        .sql(
            ALL,
            "SELECT stream_name, max(stream_id) AS stream_position
               FROM {schema}.stream_positions
              GROUP BY stream_name",
        )
        .label("stream_name")
        .gauge(
            "stream_position",
            "Newest position of the stream; negative for backfill",
        )
}

fn writers() -> Query {
    Query::new()
        .reads(
            "stream_positions",
            &["stream_name", "instance_name", "stream_id"],
        )
        .sql(
            ALL,
            "SELECT stream_name, instance_name,
                    stream_id AS stream_writer_position
               FROM {schema}.stream_positions",
        )
        .label("stream_name")
        .label("instance_name")
        .gauge(
            "stream_writer_position",
            "Last position that the writer has published for the stream",
        )
}

/// Streams and their sequences, which one release of Synapse brought. A sequence that was never
/// called will give its `last_value` next. On a standby it may read up to 32 too high. A stream
/// without a position, as that of a writer that was taken away, has nothing to be behind of.
macro_rules! sequences {
    ($($stream:literal => $sequence:literal),+ $(,)?) => {
        behind(concat!(
            "SELECT s.stream_name, s.sequence_name,
                    greatest(max(p.stream_id) - s.last, 0) AS sequence_behind_positions,
                    CASE WHEN count(p.stream_id) > 0
                         THEN greatest(s.last - max(p.stream_id), 0) END
                            AS stream_unpublished_positions
               FROM (SELECT NULL AS stream_name, NULL AS sequence_name, 0 AS last
                      WHERE false",
            $(
                " UNION ALL SELECT '", $stream, "', '", $sequence, "',
                                   last_value - (NOT is_called)::int
                              FROM {schema}.", $sequence,
            )+
            ") AS s
               LEFT JOIN {schema}.stream_positions AS p ON p.stream_name = s.stream_name
              GROUP BY s.stream_name, s.sequence_name, s.last"
        ))
        .reads("stream_positions", &["stream_name", "stream_id"])
        $(.reads($sequence, &["last_value", "is_called"]))+
        .gauge(
            "stream_unpublished_positions",
            "Positions that the sequence has given out and that no writer has published; if the \
             number stays high, other workers are not told of these writes",
        )
    };
}
use sequences;

/// A sequence that numbers the rows of a table, and has no row of its own in `stream_positions`.
macro_rules! numbered {
    ($stream:literal, $sequence:literal, $($newest:expr),+) => {
        behind(concat!(
            "SELECT '",
            $stream,
            "' AS stream_name, '",
            $sequence,
            "' AS sequence_name,
                    greatest(t.newest - s.last, 0) AS sequence_behind_positions
               FROM (SELECT last_value - (NOT is_called)::int AS last FROM {schema}.",
            $sequence,
            ") AS s
              CROSS JOIN ",
            $($newest,)+
            " AS t"
        ))
        .reads($sequence, &["last_value", "is_called"])
    };
}
use numbered;

/// Their index begins with the service.
fn transactions() -> Query {
    numbered!(
        "",
        "application_services_txn_id_seq",
        "(",
        services_waiting!(),
        "SELECT max((SELECT max(t.txn_id) FROM {schema}.application_services_txns AS t
                      WHERE t.as_id = s.as_id)) AS newest
           FROM services AS s)"
    )
    .reads("application_services_txns", &["as_id", "txn_id"])
}

fn behind(sql: &'static str) -> Query {
    Query::new()
        .on(Role::Primary)
        .sql(ALL, sql)
        .label("stream_name")
        .label("sequence_name")
        .gauge(
            "sequence_behind_positions",
            "Positions by which a sequence is behind its stream, or behind its table where it has \
             no stream. Above 0 Synapse cannot write, and refuses to start; from Synapse 1.110 \
             on, a start corrects a sequence that is behind a table",
        )
}
