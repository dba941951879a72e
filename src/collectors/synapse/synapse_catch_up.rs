//! Other servers that have missed something.

use crate::query::{ALL, Collector, Query, Scope};

/// From `destination_rooms` and `destinations`. A server to which nothing was ever sent has
/// nothing to catch up on, as Synapse sees it.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_catch_up",
        "Other servers to which Synapse has yet to send the newest events of their rooms",
    )
    .ttl(3600)
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("destination_rooms", &["destination", "stream_ordering"])
            .reads(
                "destinations",
                &["destination", "last_successful_stream_ordering"],
            )
            .in_pieces("destination_rooms", "destination")
            .sql(
                ALL,
                "SELECT current_database() AS datname,
                        count(*) AS federation_destinations_behind,
                        coalesce(sum(b.rooms), 0) AS federation_destination_rooms_behind
                   FROM (SELECT r.destination, count(*) AS rooms
                           FROM (SELECT destination, stream_ordering
                                   FROM {schema}.destination_rooms
                                  WHERE {piece}) AS r
                           JOIN (SELECT destination, last_successful_stream_ordering
                                   FROM {schema}.destinations
                                  WHERE {piece}) AS d ON d.destination = r.destination
                          WHERE r.stream_ordering > d.last_successful_stream_ordering
                          GROUP BY r.destination) AS b",
            )
            .label("datname")
            .gauge(
                "federation_destinations_behind",
                "Other servers that lack events of ours, those being sent at this moment too",
            )
            .gauge(
                "federation_destination_rooms_behind",
                "Rooms whose newest event they lack, counted once for each server",
            ),
    )
}
