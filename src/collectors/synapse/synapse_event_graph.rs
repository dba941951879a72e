//! The graphs of events, one for each room.

use super::counted;
use crate::query::{ALL, Collector, Query};

/// From `event_forward_extremities`, `event_failed_pull_attempts` and
/// `event_auth_chain_to_calculate`. A new event joins the ends of its room's graph; where they
/// stay many, each event is slow to send, and where there is none, no event can be sent.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_event_graph",
        "Forward extremities of rooms, and events that could not be fetched from remote \
         homeservers",
    )
    .ttl(300)
    .query(ends())
    .query(failed_pulls())
    .query(counted!(
        "event_auth_chain_to_calculate",
        "auth_chains_to_calculate",
        "Out-of-band memberships, such as invites, whose auth chain is not calculated yet"
    ))
}

/// The subquery has a LIMIT, so that each event costs one look into an index.
fn ends() -> Query {
    Query::new()
        .reads("event_forward_extremities", &["room_id", "event_id"])
        .reads("event_to_state_groups", &["event_id"])
        .by_key(
            "room_id",
            "SELECT room_id, event_id FROM {schema}.event_forward_extremities",
        )
        .sql(
            ALL,
            "SELECT coalesce(sum(r.ends), 0) AS forward_extremities,
                    coalesce(max(r.ends), 0) AS forward_extremities_max,
                    count(*) FILTER (WHERE r.ends >= 10) AS rooms_with_forward_extremities,
                    coalesce(sum(r.ends - r.states), 0) AS forward_extremities_without_state
               FROM (SELECT room_id, count(*) AS ends, count(state) AS states
                       FROM (SELECT p.room_id,
                                    (SELECT 1 FROM {schema}.event_to_state_groups AS g
                                      WHERE g.event_id = p.event_id LIMIT 1) AS state
                               FROM {piece} AS p) AS e
                      GROUP BY room_id) AS r",
        )
        .gauge(
            "forward_extremities",
            "Forward extremities of all rooms: events that no other event refers to yet",
        )
        .gauge(
            "forward_extremities_max",
            "Forward extremities of the room with the most",
        )
        .largest()
        .gauge(
            "rooms_with_forward_extremities",
            "Rooms with at least this many forward extremities",
        )
        .with_label("at_least", "10")
        .gauge(
            "forward_extremities_without_state",
            "Forward extremities without stored state: clients can neither send to such a room \
             nor sync it. For a moment also while a room is created",
        )
}

/// A row goes when its event comes, unless that comes as an outlier only.
fn failed_pulls() -> Query {
    Query::new()
        .reads(
            "event_failed_pull_attempts",
            &["room_id", "num_attempts", "last_attempt_ts"],
        )
        .by_key(
            "room_id",
            "SELECT room_id, num_attempts, last_attempt_ts
               FROM {schema}.event_failed_pull_attempts",
        )
        // The inner SELECT runs once; without it, the time would be calculated for each row.
        .sql(
            ALL,
            "SELECT count(*) AS event_pulls_failed,
                    count(*) FILTER (
                        WHERE last_attempt_ts > (SELECT (extract(epoch FROM now())::bigint - 86400)
                                                        * 1000))
                        AS event_pulls_failed_24h,
                    count(DISTINCT room_id) AS event_pulls_failed_rooms,
                    coalesce(max(num_attempts), 0) AS event_pulls_failed_attempts_max
               FROM {piece} AS p",
        )
        .gauge(
            "event_pulls_failed",
            "Events that could not be fetched from any remote homeserver and that have not \
             arrived since, or as outliers only",
        )
        .gauge(
            "event_pulls_failed_24h",
            "Events that could not be fetched from any remote homeserver, last tried within 24 \
             hours",
        )
        .gauge(
            "event_pulls_failed_rooms",
            "Rooms with events that could not be fetched from any remote homeserver",
        )
        .gauge(
            "event_pulls_failed_attempts_max",
            "Attempts to fetch the event that failed most often",
        )
        .largest()
}
