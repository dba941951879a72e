//! The graphs of events, one for each room.

use super::counted;
use crate::query::{ALL, Collector, Query};

/// From `event_forward_extremities`, `event_failed_pull_attempts` and
/// `event_auth_chain_to_calculate`. A new event joins the ends of its room's graph; where they
/// stay many, each event is slow to send, and where there is none, no event can be sent.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_event_graph",
        "Ends of rooms' graphs of events, and what is missing in these graphs",
    )
    .ttl(300)
    .query(ends())
    .query(failed_pulls())
    .query(counted!(
        "event_auth_chain_to_calculate",
        "auth_chains_to_calculate",
        "Memberships from outside, such as invites, whose place in their room's graph is \
         calculated when more of the room arrives"
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
                    count(*) FILTER (WHERE r.ends >= 10) AS rooms_forward_extremities_10,
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
            "Forward extremities of all rooms: events that no other event follows yet",
        )
        .gauge(
            "forward_extremities_max",
            "Forward extremities of the room that has most",
        )
        .largest()
        .gauge(
            "rooms_forward_extremities_10",
            "Rooms with ten forward extremities or more",
        )
        .gauge(
            "forward_extremities_without_state",
            "Forward extremities whose state is not stored: nobody can write in such a room, nor \
             synchronize it. For a moment so while a room is made",
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
            "SELECT count(*) AS failed_pulls,
                    count(*) FILTER (
                        WHERE last_attempt_ts > (SELECT (extract(epoch FROM now())::bigint - 86400)
                                                        * 1000))
                        AS failed_pulls_24h,
                    count(DISTINCT room_id) AS failed_pulls_rooms,
                    coalesce(max(num_attempts), 0) AS failed_pulls_attempts_max
               FROM {piece} AS p",
        )
        .gauge(
            "failed_pulls",
            "Events that no other server gave when asked, and that have not come since, or as outliers \
             only",
        )
        .gauge(
            "failed_pulls_24h",
            "Of these, the ones that were last asked for within 24 hours",
        )
        .gauge("failed_pulls_rooms", "Rooms of such events")
        .gauge(
            "failed_pulls_attempts_max",
            "How often the event that was asked for most was asked for",
        )
        .largest()
}
