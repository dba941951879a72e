//! The graphs of events, one for each room.

use crate::query::{ALL, Collector, Query, Scope};

/// From `event_forward_extremities`, `event_failed_pull_attempts` and
/// `event_auth_chain_to_calculate`. A new event joins the ends of its room's graph; where they
/// stay many, each event is dear.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_event_graph",
        "Ends of rooms' graphs of events, and what is missing in these graphs",
    )
    .ttl(300)
    .query(ends())
    .query(failed_pulls())
    .query(auth_chains())
}

fn ends() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("event_forward_extremities", &["room_id"])
        .in_pieces("event_forward_extremities", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    coalesce(sum(r.ends), 0) AS forward_extremities,
                    coalesce(max(r.ends), 0) AS forward_extremities_max,
                    count(*) FILTER (WHERE r.ends >= 10) AS rooms_forward_extremities_10
               FROM (SELECT room_id, count(*) AS ends
                       FROM {schema}.event_forward_extremities
                      WHERE {piece}
                      GROUP BY room_id) AS r",
        )
        .label("datname")
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
}

/// A row stays, even if the event came after all.
fn failed_pulls() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "event_failed_pull_attempts",
            &["room_id", "num_attempts", "last_attempt_ts"],
        )
        .in_pieces("event_failed_pull_attempts", "room_id")
        // The inner SELECT runs once; without it, the time would be reckoned for each row.
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS failed_pulls,
                    count(*) FILTER (
                        WHERE last_attempt_ts > (SELECT (extract(epoch FROM now())::bigint - 86400)
                                                        * 1000))
                        AS failed_pulls_24h,
                    count(DISTINCT room_id) AS failed_pulls_rooms,
                    coalesce(max(num_attempts), 0) AS failed_pulls_attempts_max
               FROM {schema}.event_failed_pull_attempts
              WHERE {piece}",
        )
        .label("datname")
        .gauge(
            "failed_pulls",
            "Events that no other server gave when asked; one that came later is still counted",
        )
        .gauge(
            "failed_pulls_24h",
            "Of these, the ones that were asked for in vain within 24 hours",
        )
        .gauge("failed_pulls_rooms", "Rooms of such events")
        .gauge(
            "failed_pulls_attempts_max",
            "How often the event that was asked for most was asked for in vain",
        )
        .largest()
}

fn auth_chains() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("event_auth_chain_to_calculate", &["event_id"])
        .in_pieces("event_auth_chain_to_calculate", "event_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(event_id) AS auth_chains_to_calculate
               FROM {schema}.event_auth_chain_to_calculate
              WHERE {piece}",
        )
        .label("datname")
        .gauge(
            "auth_chains_to_calculate",
            "Memberships from outside, such as invites, whose place in their room's graph is \
             reckoned when more of the room arrives",
        )
}
