//! The graphs of events, one for each room.

use crate::query::{ALL, Collector, Query, Scope};

/// From `event_forward_extremities`, `event_failed_pull_attempts` and
/// `event_auth_chain_to_calculate`. A new event joins the ends of its room's graph; where they
/// stay many, each event is slow to send, and where there is none, no event can be sent.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_event_graph",
        "Ends of rooms' graphs of events, and what is missing in these graphs",
    )
    .ttl(300)
    .query(ends())
    .query(without_state())
    .query(without_ends())
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

/// The subquery has a LIMIT, so that each event costs a look into an index.
fn without_state() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("event_forward_extremities", &["room_id", "event_id"])
        .reads("event_to_state_groups", &["event_id"])
        .in_pieces("event_forward_extremities", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) FILTER (WHERE s.state IS NULL)
                        AS forward_extremities_without_state
               FROM (SELECT (SELECT 1 FROM {schema}.event_to_state_groups AS g
                              WHERE g.event_id = e.event_id LIMIT 1) AS state
                       FROM (SELECT event_id FROM {schema}.event_forward_extremities
                              WHERE {piece}) AS e) AS s",
        )
        .label("datname")
        .gauge(
            "forward_extremities_without_state",
            "Forward extremities whose state is not stored: nobody can write in such a room, nor \
             synchronize it. For a moment so while a room is made",
        )
}

/// Rooms that everybody here has left may have none. The subqueries as above.
fn without_ends() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("rooms", &["room_id"])
        .reads("event_forward_extremities", &["room_id"])
        .reads("local_current_membership", &["room_id", "membership"])
        .in_pieces("rooms", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count((SELECT 1 FROM {schema}.local_current_membership AS m
                            WHERE m.room_id = s.room_id AND m.membership = 'join' LIMIT 1))
                        AS rooms_without_forward_extremities
               FROM (SELECT r.room_id,
                            (SELECT 1 FROM {schema}.event_forward_extremities AS e
                              WHERE e.room_id = r.room_id LIMIT 1) AS extremity
                       FROM (SELECT room_id FROM {schema}.rooms WHERE {piece}) AS r) AS s
              WHERE s.extremity IS NULL",
        )
        .label("datname")
        .gauge(
            "rooms_without_forward_extremities",
            "Rooms with users of this server and without forward extremity: nobody can write in \
             them. For a moment so while a room is made",
        )
}

/// A row goes when its event comes, unless that comes as an outlier only.
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
