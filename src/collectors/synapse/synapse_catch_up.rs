//! Other servers that have missed something.

use crate::query::{ALL, Collector, Query, Scope};

/// From `destination_rooms` and `destinations`. A server to which nothing was ever sent has
/// nothing to catch up on, as Synapse sees it. The subquery has a LIMIT, so that each server costs one
/// look into an index.
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
            .by_key(
                "destination",
                "SELECT destination, stream_ordering FROM {schema}.destination_rooms",
            )
            .sql(
                ALL,
                "SELECT current_database() AS datname,
                        count(*) AS federation_destinations_behind,
                        coalesce(sum(b.rooms), 0) AS federation_destination_rooms_behind
                   FROM (SELECT r.destination, count(*) AS rooms
                           FROM (SELECT p.destination,
                                        (SELECT s.last_successful_stream_ordering
                                           FROM {schema}.destinations AS s
                                          WHERE s.destination = p.destination LIMIT 1) AS last
                                   FROM (SELECT DISTINCT destination FROM {piece} AS a) AS p
                                 OFFSET 0) AS d
                           JOIN {piece} AS r ON r.destination = d.destination
                          WHERE r.stream_ordering > d.last
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
