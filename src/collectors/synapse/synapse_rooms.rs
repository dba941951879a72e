//! Rooms that Synapse knows.

use super::counted;
use crate::query::{ALL, Collector, Query, Scope};

/// From `rooms` and the statistics that Synapse keeps of each room. Those follow the event stream:
/// how far behind they are, the consumer `stats` says. Synapse may be told to keep none, and fills
/// them anew after some upgrades; what comes from them is served while they cover the rooms.
pub fn collector() -> Collector {
    Collector::new("synapse_rooms", "Rooms that Synapse knows, and who is in them")
        .ttl(300)
        .query(known())
        .query(local())
        .query(statistics())
        .query(members())
        .query(attributes())
        .query(encrypted())
        .query(by_attribute!(
            "rooms_by_join_rule",
            "join_rule",
            "join_rules",
            [
                "public",
                "invite",
                "knock",
                "private",
                "restricted",
                "knock_restricted"
            ],
            "Rooms by who may join; other is a rule that Synapse does not know, and unset are those \
             that every user of this server has left, too"
        ))
        .query(by_attribute!(
            "rooms_by_history_visibility",
            "history_visibility",
            "history_visibility",
            ["invited", "joined", "shared", "world_readable"],
            "Rooms by who may read what was written before; unset are those that every user of this \
             server has left, too"
        ))
        .query(created_here())
        .query(counted!(
            "blocked_rooms",
            "room_id",
            "rooms_blocked",
            "Rooms that an administrator has blocked: nobody here can join them"
        ))
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

/// Whether a user of this server is in the room, by one look into an index.
macro_rules! joined {
    () => {
        "(SELECT 1 FROM {schema}.local_current_membership AS m
           WHERE m.room_id = r.room_id AND m.membership = 'join' LIMIT 1)"
    };
}
use joined;

/// From the memberships, which Synapse keeps in any case.
fn local() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("rooms", &["room_id"])
        .reads("local_current_membership", &["room_id", "membership"])
        .reads("room_stats_current", &["room_id"])
        .reads("room_stats_state", &["room_id"])
        .in_pieces("rooms", "room_id")
        .sql(
            ALL,
            concat!(
                "SELECT current_database() AS datname,
                        count(joined) AS rooms_with_local_users,
                        count(joined) FILTER (WHERE NOT covered) AS rooms_without_statistics
                   FROM (SELECT ",
                joined!(),
                "           AS joined,
                                c.room_id IS NOT NULL AND s.room_id IS NOT NULL AS covered
                           FROM (SELECT room_id FROM {schema}.rooms WHERE {piece}) AS r
                           LEFT JOIN (SELECT room_id FROM {schema}.room_stats_current
                                       WHERE {piece}) AS c ON c.room_id = r.room_id
                           LEFT JOIN (SELECT room_id FROM {schema}.room_stats_state
                                       WHERE {piece}) AS s ON s.room_id = r.room_id) AS rooms"
            ),
        )
        .label("datname")
        .gauge("rooms_with_local_users", "Rooms with users of this server")
        .gauge(
            "rooms_without_statistics",
            "Rooms with users of this server of which Synapse keeps no statistics, since it was told \
             not to or is yet to fill them. While these are more than one in a hundred, what the \
             statistics say of all rooms has no samples",
        )
}

/// A number that is unknown where the statistics do not cover the rooms of the piece.
macro_rules! while_covered {
    ($value:literal) => {
        concat!(
            "CASE WHEN u.covered THEN (",
            $value,
            ")::numeric ELSE 'NaN' END"
        )
    };
}
use while_covered;

/// One in a hundred may lack them: while a room is made, it does for a moment.
macro_rules! covered {
    ($statistics:literal) => {
        concat!(
            "(SELECT 100 * count(CASE WHEN c.room_id IS NULL THEN ",
            joined!(),
            "                     END) <= count(c.room_id) AS covered
                FROM (SELECT room_id FROM {schema}.rooms WHERE {piece}) AS r
                LEFT JOIN (SELECT room_id FROM {schema}.",
            $statistics,
            "               WHERE {piece}) AS c ON c.room_id = r.room_id) AS u"
        )
    };
}
use covered;

fn from_statistics(sql: &'static str) -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("rooms", &["room_id"])
        .reads("local_current_membership", &["room_id", "membership"])
        .in_pieces("rooms", "room_id")
        .sql(ALL, sql)
        .label("datname")
}

/// When its last user here leaves, Synapse takes everybody of the room for gone, banned ones too,
/// and counts the state that it had.
fn statistics() -> Query {
    from_statistics(concat!(
        "SELECT current_database() AS datname,
                ",
        while_covered!("s.empty"),
        " AS rooms_empty,
                ",
        while_covered!("s.local_users"),
        " AS room_local_users,
                ",
        while_covered!("s.state_events"),
        " AS room_state_events,
                ",
        while_covered!("s.state_events_max"),
        " AS room_state_events_max
           FROM (SELECT count(*) FILTER (WHERE joined_members = 0) AS empty,
                        coalesce(sum(local_users_in_room), 0) AS local_users,
                        coalesce(sum(current_state_events)
                                     FILTER (WHERE local_users_in_room > 0), 0) AS state_events,
                        coalesce(max(current_state_events)
                                     FILTER (WHERE local_users_in_room > 0), 0)
                            AS state_events_max
                   FROM {schema}.room_stats_current
                  WHERE {piece}) AS s
          CROSS JOIN ",
        covered!("room_stats_current")
    ))
    .reads(
        "room_stats_current",
        &[
            "room_id",
            "joined_members",
            "local_users_in_room",
            "current_state_events",
        ],
    )
    .gauge(
        "rooms_empty",
        "Rooms that every user of this server has left; users of others may be in them",
    )
    .gauge(
        "room_local_users",
        "Users of this server in rooms, each counted once per room",
    )
    .gauge(
        "room_state_events",
        "Current state events of the rooms with users of this server",
    )
    .gauge(
        "room_state_events_max",
        "Current state events of the room with users of this server that has most",
    )
    .largest()
}

fn members() -> Query {
    from_statistics(concat!(
        "SELECT current_database() AS datname, m.membership,
                ",
        while_covered!("m.members"),
        " AS room_members
           FROM (SELECT coalesce(sum(joined_members), 0) AS joined,
                        coalesce(sum(invited_members), 0) AS invited,
                        coalesce(sum(knocked_members), 0) AS knocked,
                        coalesce(sum(left_members), 0) AS gone,
                        coalesce(sum(banned_members), 0) AS banned
                   FROM {schema}.room_stats_current
                  WHERE {piece} AND local_users_in_room > 0) AS s
          CROSS JOIN LATERAL (VALUES ('join', joined), ('invite', invited),
                                     ('knock', knocked), ('leave', gone),
                                     ('ban', banned)) AS m (membership, members)
          CROSS JOIN ",
        covered!("room_stats_current")
    ))
    .reads(
        "room_stats_current",
        &[
            "room_id",
            "joined_members",
            "invited_members",
            "knocked_members",
            "left_members",
            "banned_members",
            "local_users_in_room",
        ],
    )
    .label("membership")
    .gauge(
        "room_members",
        "Users by their membership in the rooms with users of this server, each counted once per \
         room",
    )
}

fn attributes() -> Query {
    from_statistics(concat!(
        "SELECT current_database() AS datname,
                ",
        while_covered!("s.encrypted"),
        " AS rooms_encrypted,
                ",
        while_covered!("s.spaces"),
        " AS rooms_spaces
           FROM (SELECT count(encryption) AS encrypted,
                        count(*) FILTER (WHERE room_type = 'm.space') AS spaces
                   FROM {schema}.room_stats_state
                  WHERE {piece}) AS s
          CROSS JOIN ",
        covered!("room_stats_state")
    ))
    .reads("room_stats_state", &["room_id", "encryption", "room_type"])
    .gauge(
        "rooms_encrypted",
        "Rooms that are encrypted; not those that every user of this server has left, as Synapse \
         forgets their state",
    )
    .gauge("rooms_spaces", "Rooms that are spaces")
}

/// What people still write in, of all that are encrypted.
fn encrypted() -> Query {
    from_statistics(concat!(
        "SELECT current_database() AS datname,
                ",
        while_covered!("s.encrypted"),
        " AS rooms_encrypted_with_local_users
           FROM (SELECT count(",
        joined!(),
        ") AS encrypted
                   FROM (SELECT room_id
                           FROM {schema}.room_stats_state
                          WHERE {piece} AND encryption IS NOT NULL) AS r) AS s
          CROSS JOIN ",
        covered!("room_stats_state")
    ))
    .reads("room_stats_state", &["room_id", "encryption"])
    .gauge(
        "rooms_encrypted_with_local_users",
        "Encrypted rooms with users of this server",
    )
}

/// Rooms come from everywhere and may say anything, so the values are a closed set. Where a piece
/// is not covered, it is so for each of them.
macro_rules! by_attribute {
    ($metric:literal, $label:literal, $column:literal, [$($known:literal),+], $help:literal) => {
        from_statistics(concat!(
            "SELECT current_database() AS datname, v.",
            $label,
            ",      ",
            while_covered!("s.rooms"),
            " AS ",
            $metric,
            "  FROM (VALUES ",
            $("('", $known, "'), ",)+
            "               ('unset'), ('other')) AS v (",
            $label,
            ") LEFT JOIN (SELECT CASE WHEN ",
            $column,
            " IS NULL THEN 'unset' ",
            $("WHEN ", $column, " = '", $known, "' THEN '", $known, "' ",)+
            "                         ELSE 'other' END AS value, count(*) AS rooms
                       FROM {schema}.room_stats_state
                      WHERE {piece}
                      GROUP BY 1) AS s ON s.value = v.",
            $label,
            " CROSS JOIN ",
            covered!("room_stats_state"),
            " WHERE s.rooms > 0 OR NOT u.covered"
        ))
        .reads("room_stats_state", &["room_id", $column])
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
