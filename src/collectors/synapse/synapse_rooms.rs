//! Rooms that Synapse knows.

use crate::query::{ALL, Collector, Query, Scope};

/// From `rooms` and the statistics that Synapse keeps of each room. Those follow the event stream:
/// how far behind they are, the consumer `stats` says.
pub fn collector() -> Collector {
    Collector::new("synapse_rooms", "Rooms that Synapse knows, and who is in them")
        .ttl(300)
        .query(known())
        .query(statistics())
        .query(members())
        .query(attributes())
}

fn known() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("rooms", &["room_id", "room_version", "is_public"])
        .in_pieces("rooms", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    coalesce(room_version, 'unknown') AS room_version,
                    count(*) AS rooms,
                    count(*) FILTER (WHERE is_public) AS rooms_published
               FROM {schema}.rooms
              WHERE {piece}
              GROUP BY 2",
        )
        .label("datname")
        .label("room_version")
        .gauge("rooms", "Rooms that the server knows, left ones too")
        .gauge("rooms_published", "Rooms that are listed in the room directory")
}

fn statistics() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "room_stats_current",
            &[
                "room_id",
                "joined_members",
                "local_users_in_room",
                "current_state_events",
            ],
        )
        .in_pieces("room_stats_current", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) FILTER (WHERE local_users_in_room > 0) AS rooms_with_local_users,
                    count(*) FILTER (WHERE joined_members = 0) AS rooms_empty,
                    coalesce(sum(local_users_in_room), 0) AS room_local_users,
                    coalesce(sum(current_state_events), 0) AS room_state_events,
                    coalesce(max(current_state_events), 0) AS room_state_events_max
               FROM {schema}.room_stats_current
              WHERE {piece}",
        )
        .label("datname")
        .gauge("rooms_with_local_users", "Rooms with users of this server")
        .gauge("rooms_empty", "Rooms that everybody has left")
        .gauge(
            "room_local_users",
            "Users of this server in rooms, each counted once per room",
        )
        .gauge("room_state_events", "State events of all rooms")
        .gauge("room_state_events_max", "State events of the room that has most")
        .largest()
}

fn members() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "room_stats_current",
            &[
                "room_id",
                "joined_members",
                "invited_members",
                "knocked_members",
                "left_members",
                "banned_members",
            ],
        )
        .in_pieces("room_stats_current", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname, m.membership, m.room_members
               FROM (SELECT coalesce(sum(joined_members), 0) AS joined,
                            coalesce(sum(invited_members), 0) AS invited,
                            coalesce(sum(knocked_members), 0) AS knocked,
                            coalesce(sum(left_members), 0) AS gone,
                            coalesce(sum(banned_members), 0) AS banned
                       FROM {schema}.room_stats_current
                      WHERE {piece}) AS s
              CROSS JOIN LATERAL (VALUES ('join', joined), ('invite', invited),
                                         ('knock', knocked), ('leave', gone),
                                         ('ban', banned)) AS m (membership, room_members)",
        )
        .label("datname")
        .label("membership")
        .gauge(
            "room_members",
            "Members of rooms by membership, each counted once per room",
        )
}

fn attributes() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("room_stats_state", &["room_id", "encryption", "room_type"])
        .in_pieces("room_stats_state", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(encryption) AS rooms_encrypted,
                    count(*) FILTER (WHERE room_type = 'm.space') AS rooms_spaces
               FROM {schema}.room_stats_state
              WHERE {piece}",
        )
        .label("datname")
        .gauge("rooms_encrypted", "Rooms that are encrypted")
        .gauge("rooms_spaces", "Rooms that are spaces")
}
