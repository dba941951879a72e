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
        .query(encrypted())
        .query(by_attribute!(
            "rooms_by_join_rule",
            "join_rule",
            "join_rules",
            "'public', 'invite', 'knock', 'private', 'restricted', 'knock_restricted'",
            "Rooms by who may join; other is a rule that Synapse does not know, and unset are those \
             that every user of this server has left, too"
        ))
        .query(by_attribute!(
            "rooms_by_history_visibility",
            "history_visibility",
            "history_visibility",
            "'invited', 'joined', 'shared', 'world_readable'",
            "Rooms by who may read what was written before; unset are those that every user of this \
             server has left, too"
        ))
        .query(created_here())
        .query(blocked())
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
        .gauge(
            "rooms_encrypted",
            "Rooms that are encrypted; not those that every user of this server has left, as Synapse \
             forgets their state",
        )
        .gauge("rooms_spaces", "Rooms that are spaces")
}

/// What people still write in, of all that are encrypted.
fn encrypted() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("room_stats_state", &["room_id", "encryption"])
        .reads("room_stats_current", &["room_id", "local_users_in_room"])
        .in_pieces("room_stats_state", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS rooms_encrypted_with_local_users
               FROM (SELECT room_id
                       FROM {schema}.room_stats_state
                      WHERE {piece} AND encryption IS NOT NULL) AS s
               JOIN (SELECT room_id
                       FROM {schema}.room_stats_current
                      WHERE {piece} AND local_users_in_room > 0) AS c ON c.room_id = s.room_id",
        )
        .label("datname")
        .gauge(
            "rooms_encrypted_with_local_users",
            "Encrypted rooms with users of this server",
        )
}

/// Rooms come from everywhere and may say anything, so the values are a closed set.
macro_rules! by_attribute {
    ($metric:literal, $label:literal, $column:literal, $known:literal, $help:literal) => {
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("room_stats_state", &["room_id", $column])
            .in_pieces("room_stats_state", "room_id")
            .sql(
                ALL,
                concat!(
                    "SELECT current_database() AS datname,
                            CASE WHEN ",
                    $column,
                    " IN (",
                    $known,
                    ") THEN ",
                    $column,
                    "    WHEN ",
                    $column,
                    " IS NULL THEN 'unset'
                                 ELSE 'other' END AS ",
                    $label,
                    ",
                            count(*) AS ",
                    $metric,
                    "  FROM {schema}.room_stats_state
                      WHERE {piece}
                      GROUP BY 2"
                ),
            )
            .label("datname")
            .label($label)
            .gauge($metric, $help)
    };
}
use by_attribute;

/// The id of a room does not tell: from room version 12 on it names no server. Each user of the
/// table is one of this server.
fn created_here() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("rooms", &["room_id", "creator"])
        .reads("users", &["name"])
        .in_pieces("rooms", "room_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) FILTER (WHERE right(r.creator, length(s.server)) = s.server)
                        AS rooms_created_here
               FROM {schema}.rooms AS r
              CROSS JOIN (SELECT substr(name, strpos(name, ':')) AS server
                            FROM {schema}.users LIMIT 1) AS s
              WHERE {piece}
              GROUP BY s.server",
        )
        .label("datname")
        .gauge(
            "rooms_created_here",
            "Rooms that a user of this server has made, left ones too",
        )
}

fn blocked() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("blocked_rooms", &["room_id"])
        .sql(
            ALL,
            "SELECT current_database() AS datname, count(room_id) AS rooms_blocked
               FROM {schema}.blocked_rooms",
        )
        .label("datname")
        .gauge(
            "rooms_blocked",
            "Rooms that an administrator has blocked: nobody here can join them",
        )
}
