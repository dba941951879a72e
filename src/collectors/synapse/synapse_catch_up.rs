//! Other servers that have missed something.

use crate::query::{ALL, Collector, Query};

/// From `destination_rooms` and `destinations`. A server to which nothing was ever sent has
/// nothing to catch up on, as Synapse sees it.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_catch_up",
        "Remote homeservers that have not received the newest events of their rooms",
    )
    .ttl(3600)
    .query(
        Query::new()
            .reads("destination_rooms", &["destination", "stream_ordering"])
            .reads(
                "destinations",
                &["destination", "last_successful_stream_ordering"],
            )
            .by_unique_key(
                "destination",
                "SELECT s.destination, r.rooms
                   FROM {schema}.destinations AS s
                  CROSS JOIN LATERAL (
                        SELECT count(*) AS rooms
                          FROM {schema}.destination_rooms AS r
                         WHERE r.destination = s.destination
                           AND r.stream_ordering > s.last_successful_stream_ordering) AS r",
            )
            .sql(
                ALL,
                "SELECT count(*) FILTER (WHERE rooms > 0) AS federation_destinations_behind,
                        coalesce(sum(rooms), 0) AS federation_destination_rooms_behind
                   FROM {piece} AS p",
            )
            .gauge(
                "federation_destinations_behind",
                "Remote homeservers to which events of local users are still to be sent, those \
                 being sent at the moment included",
            )
            .gauge(
                "federation_destination_rooms_behind",
                "Rooms whose newest event is still to be sent to a remote homeserver, counted \
                 once for each homeserver",
            ),
    )
}
