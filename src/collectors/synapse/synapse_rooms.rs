//! Rooms that Synapse knows.

use super::counted;
use crate::query::{ALL, Collector, Query};

/// From `rooms` and the statistics that Synapse keeps of each room. Those follow the event stream:
/// how far behind they are, the consumer `stats` says. Synapse may be told to keep none, and fills
/// them again after some upgrades; what comes from them is served while they cover the rooms.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_rooms",
        "Rooms that Synapse knows, by attribute, and their members",
    )
    .ttl(300)
    .query(rooms())
    .query(statistics())
    .query(states())
    .query(counted!(
        "blocked_rooms",
        "rooms_blocked",
        "Rooms that an administrator has blocked: no local user can join them"
    ))
}

/// Whether a user of this server is in the room, by one look into an index.
macro_rules! joined {
    () => {
        "(SELECT 1 FROM {schema}.local_current_membership AS m
           WHERE m.room_id = r.room_id AND m.membership = 'join' LIMIT 1)"
    };
}

/// Who is in a room comes from the memberships, which Synapse keeps in any case. The id of a room
/// does not tell who made it: from room version 12 on it names no server. Each user of the table is
/// one of this server. Subqueries with a LIMIT are one look into an index for each room, and with
/// OFFSET what they found is not looked up again.
fn rooms() -> Query {
    Query::new()
        .reads(
            "rooms",
            &["room_id", "room_version", "is_public", "creator"],
        )
        .reads("local_current_membership", &["room_id", "membership"])
        .reads("room_stats_current", &["room_id"])
        .reads("room_stats_state", &["room_id"])
        .reads("event_forward_extremities", &["room_id"])
        .reads("users", &["name"])
        .by_pages("rooms")
        .sql(
            ALL,
            concat!(
                "SELECT g.room_version, g.rooms, g.rooms_published,
                        coalesce(g.joined, 0) AS rooms_with_local_users,
                        coalesce(g.uncovered, 0) AS rooms_without_statistics,
                        coalesce(g.endless, 0) AS rooms_without_forward_extremities,
                        CASE WHEN s.server IS NOT NULL THEN coalesce(g.created_here, 0) END
                            AS rooms_created_here
                   FROM (VALUES (1)) AS one
                   LEFT JOIN (SELECT substr(name, strpos(name, ':')) AS server
                                FROM {schema}.users LIMIT 1) AS s ON true
                   LEFT JOIN LATERAL (
                        SELECT coalesce(room_version, 'unknown') AS room_version,
                               count(*) AS rooms,
                               count(*) FILTER (WHERE is_public) AS rooms_published,
                               count(joined) AS joined,
                               count(joined) FILTER (WHERE current IS NULL OR state IS NULL)
                                   AS uncovered,
                               count(joined) FILTER (WHERE extremity IS NULL) AS endless,
                               count(*) FILTER (WHERE right(creator, length(s.server)) = s.server)
                                   AS created_here
                          FROM (SELECT room_version, is_public, creator, joined,
                                       CASE WHEN joined = 1 THEN
                                       (SELECT 1 FROM {schema}.room_stats_current AS c
                                         WHERE c.room_id = j.room_id LIMIT 1) END AS current,
                                       CASE WHEN joined = 1 THEN
                                       (SELECT 1 FROM {schema}.room_stats_state AS t
                                         WHERE t.room_id = j.room_id LIMIT 1) END AS state,
                                       CASE WHEN joined = 1 THEN
                                       (SELECT 1 FROM {schema}.event_forward_extremities AS e
                                         WHERE e.room_id = j.room_id LIMIT 1) END AS extremity
                                  FROM (SELECT room_id, room_version, is_public, creator, ",
                joined!(),
                "                                  AS joined
                                          FROM {schema}.rooms AS r
                                         WHERE {pages}
                                        OFFSET 0) AS j) AS k
                         GROUP BY 1) AS g ON true"
            ),
        )
        .label("room_version")
        .gauge(
            "rooms",
            "Rooms that the homeserver knows, rooms that all local users have left included",
        )
        .gauge(
            "rooms_published",
            "Rooms that are published in the room directory",
        )
        .gauge("rooms_with_local_users", "Rooms with local users")
        .without_labels()
        .gauge(
            "rooms_without_statistics",
            "Rooms with local users without a row in Synapse's room statistics, which are \
             disabled or not filled yet. While these are more than 1 % of the rooms, metrics from \
             those statistics have no samples",
        )
        .without_labels()
        .gauge(
            "rooms_without_forward_extremities",
            "Rooms with local users and without forward extremity: nobody can send to them. For a \
             moment also while a room is created",
        )
        .without_labels()
        .gauge(
            "rooms_created_here",
            "Rooms created by a local user, rooms that all local users have left included",
        )
        .without_labels()
}

fn from_statistics(table: &'static str, sql: &'static str) -> Query {
    Query::new()
        .by_pages(table)
        .while_few(
            "synapse_db_rooms_without_statistics",
            "synapse_db_rooms_with_local_users",
        )
        .sql(ALL, sql)
}

/// When its last user here leaves, Synapse takes everybody of the room for gone, banned ones too,
/// and counts the state that it had.
fn statistics() -> Query {
    from_statistics(
        "room_stats_current",
        "SELECT count(*) FILTER (WHERE joined_members = 0) AS rooms_empty,
                coalesce(sum(local_users_in_room), 0) AS room_local_users,
                coalesce(sum(current_state_events) FILTER (WHERE local_users_in_room > 0), 0)
                    AS room_state_events,
                coalesce(max(current_state_events) FILTER (WHERE local_users_in_room > 0), 0)
                    AS room_state_events_max,
                coalesce(sum(joined_members) FILTER (WHERE local_users_in_room > 0), 0) AS joined,
                coalesce(sum(invited_members) FILTER (WHERE local_users_in_room > 0), 0)
                    AS invited,
                coalesce(sum(knocked_members) FILTER (WHERE local_users_in_room > 0), 0)
                    AS knocked,
                coalesce(sum(left_members) FILTER (WHERE local_users_in_room > 0), 0) AS gone,
                coalesce(sum(banned_members) FILTER (WHERE local_users_in_room > 0), 0) AS banned
           FROM {schema}.room_stats_current
          WHERE {pages}",
    )
    .reads(
        "room_stats_current",
        &[
            "joined_members",
            "invited_members",
            "knocked_members",
            "left_members",
            "banned_members",
            "local_users_in_room",
            "current_state_events",
        ],
    )
    .gauge(
        "rooms_empty",
        "Rooms that all local users have left; remote users may be in them",
    )
    .gauge(
        "room_local_users",
        "Local users in rooms, counted once for each room",
    )
    .gauge(
        "room_state_events",
        "Current state events of the rooms with local users",
    )
    .gauge(
        "room_state_events_max",
        "Current state events of the room with the most, of the rooms with local users",
    )
    .largest()
    .members("joined", "join")
    .members("invited", "invite")
    .members("knocked", "knock")
    .members("gone", "leave")
    .members("banned", "ban")
}

impl Query {
    /// How many users have a membership.
    fn members(self, column: &'static str, membership: &'static str) -> Self {
        self.gauge(
            column,
            "Users by membership in the rooms with local users, local and remote, counted once for each \
             room",
        )
        .named("synapse_db_room_members")
        .with_label("membership", membership)
    }
}

/// Rooms come from everywhere and may say anything, so the values are a closed set.
macro_rules! one_of {
    ($column:literal, [$($known:literal),+]) => {
        concat!(
            "CASE WHEN ", $column, " IS NULL THEN 'unset' ",
            $("WHEN ", $column, " = '", $known, "' THEN '", $known, "' ",)+
            "     ELSE 'other' END"
        )
    };
}

/// What the state of rooms says; what people still write in, of all that are encrypted.
fn states() -> Query {
    from_statistics(
        "room_stats_state",
        concat!(
            "SELECT g.join_rule, g.history_visibility,
                    g.rooms AS rooms_by_join_rule, g.rooms AS rooms_by_history_visibility,
                    coalesce(g.encrypted, 0) AS rooms_encrypted,
                    coalesce(g.encrypted_joined, 0) AS rooms_encrypted_with_local_users,
                    coalesce(g.spaces, 0) AS spaces
               FROM (VALUES (1)) AS one
               LEFT JOIN (
                    SELECT ",
            one_of!(
                "r.join_rules",
                [
                    "public",
                    "invite",
                    "knock",
                    "private",
                    "restricted",
                    "knock_restricted"
                ]
            ),
            " AS join_rule, ",
            one_of!(
                "r.history_visibility",
                ["invited", "joined", "shared", "world_readable"]
            ),
            " AS history_visibility,
                           count(*) AS rooms, count(r.encryption) AS encrypted,
                           count(CASE WHEN r.encryption IS NOT NULL THEN ",
            joined!(),
            "                    END) AS encrypted_joined,
                           count(*) FILTER (WHERE r.room_type = 'm.space') AS spaces
                      FROM {schema}.room_stats_state AS r
                     WHERE {pages}
                     GROUP BY 1, 2) AS g ON true"
        ),
    )
    .reads(
        "room_stats_state",
        &[
            "room_id",
            "encryption",
            "room_type",
            "join_rules",
            "history_visibility",
        ],
    )
    .reads("local_current_membership", &["room_id", "membership"])
    .label("join_rule")
    .label("history_visibility")
    .gauge(
        "rooms_by_join_rule",
        "Rooms by join rule; other is a rule that Synapse does not know, unset includes rooms \
         that all local users have left",
    )
    .with_labels(&["join_rule"])
    .gauge(
        "rooms_by_history_visibility",
        "Rooms by history visibility; unset includes rooms that all local users have left",
    )
    .with_labels(&["history_visibility"])
    .gauge(
        "rooms_encrypted",
        "Encrypted rooms, without rooms that all local users have left, whose state Synapse \
         forgets",
    )
    .without_labels()
    .gauge(
        "rooms_encrypted_with_local_users",
        "Encrypted rooms with local users",
    )
    .without_labels()
    .gauge("spaces", "Rooms that are spaces")
    .without_labels()
}
