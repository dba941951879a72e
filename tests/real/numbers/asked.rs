//! What the database says of what real traffic has made, when it is asked otherwise: from the
//! events themselves, or by a plain count.

use super::Asked;

/// Of each origin, those of which this holds.
macro_rules! events {
    ($condition:literal) => {
        concat!(
            "SELECT origin, count(event_id) FILTER (WHERE ",
            $condition,
            ") FROM (VALUES ('live', 1), ('backfill', -1)) AS origins (origin, sign)
               LEFT JOIN events ON sign(stream_ordering) = sign
              GROUP BY 1"
        )
    };
}

/// Of each consumer, by the newest position of its stream.
macro_rules! consumers {
    ($value:literal, $rest:literal) => {
        concat!(
            "SELECT consumer, instance_name, ",
            $value,
            " FROM (SELECT 'stats' AS consumer, '' AS instance_name, stream_id AS position
                      FROM stats_incremental_position
                    UNION ALL SELECT 'user_directory', '', stream_id
                                FROM user_directory_stream_pos
                    UNION ALL SELECT 'appservice', '', stream_ordering
                                FROM appservice_stream_position
                    UNION ALL SELECT 'push_summary', '', stream_ordering
                                FROM event_push_summary_stream_ordering
                    UNION ALL SELECT 'room_forgetter', '', stream_id
                                FROM room_forgetter_stream_pos
                    UNION ALL SELECT 'delayed_events', '', stream_id
                                FROM delayed_events_stream_pos
                    UNION ALL SELECT 'push_receipts', '', stream_id
                                FROM event_push_summary_last_receipt_stream_id
                    UNION ALL SELECT 'device_lists', '', stream_id
                                FROM device_lists_changes_converted_stream_position
                    UNION ALL SELECT 'federation_sender', instance_name, stream_id
                                FROM federation_stream_position WHERE type = 'events')
                   AS consumers
             CROSS JOIN LATERAL (
                    SELECT CASE consumer
                             WHEN 'push_receipts'
                             THEN (SELECT max(stream_id) FROM stream_positions
                                    WHERE stream_name = 'receipts')
                             WHEN 'device_lists'
                             THEN (SELECT max(stream_id) FROM stream_positions
                                    WHERE stream_name = 'device_lists_stream')
                             ELSE (SELECT max(stream_ordering) FROM events) END) AS s (newest) ",
            $rest
        )
    };
}

/// Of the memberships that are the last word in the history of each user in each room; all users
/// are of this server.
macro_rules! memberships {
    ($values:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $values,
            " FROM (SELECT DISTINCT ON (user_id, room_id) room_id, membership
                      FROM room_memberships
                     ORDER BY user_id, room_id, event_stream_ordering DESC) AS last ",
            $rest
        )
    };
}

/// The room has somebody in it.
macro_rules! joined {
    () => {
        "room_id IN (SELECT room_id FROM local_current_membership WHERE membership = 'join')"
    };
}

/// Rooms by what their state of this type says; a room that everybody has left has none.
macro_rules! state {
    ($type:literal, $key:literal) => {
        concat!(
            "SELECT coalesce(json::json #>> '{content,",
            $key,
            "}', 'unset'), count(*)
               FROM rooms
               LEFT JOIN current_state_events AS s ON s.room_id = rooms.room_id AND type = '",
            $type,
            "' LEFT JOIN event_json USING (event_id) GROUP BY 1"
        )
    };
}

/// A metric that no row tells of has no series.
pub const ASKED: &[Asked] = &[
    // the schema
    (
        "synapse_db_schema_version",
        &[],
        "SELECT version FROM schema_version",
    ),
    (
        "synapse_db_schema_compat_version",
        &[],
        "SELECT compat_version FROM schema_compat_version",
    ),
    (
        "synapse_db_background_updates_pending",
        &[],
        "SELECT count(*) FROM background_updates",
    ),
    (
        "synapse_db_background_updates_progress_hash",
        &[],
        "SELECT hashtext(coalesce(string_agg(update_name || progress_json, E'\\n'), ''))
           FROM (SELECT update_name, progress_json FROM background_updates ORDER BY 1) AS updates",
    ),
    (
        "synapse_db_stream_position",
        &["stream_name"],
        "SELECT stream_name, max(stream_id) FROM stream_positions GROUP BY 1",
    ),
    (
        "synapse_db_stream_writer_position",
        &["stream_name", "instance_name"],
        "SELECT stream_name, instance_name, stream_id FROM stream_positions",
    ),
    (
        "synapse_db_consumer_behind_positions",
        &["consumer", "instance_name"],
        consumers!(
            "newest - position",
            "WHERE consumer <> 'device_lists' AND position >= 0"
        ),
    ),
    (
        "synapse_db_consumer_ahead_positions",
        &["consumer", "instance_name"],
        consumers!("greatest(position - newest, 0)", "WHERE newest IS NOT NULL"),
    ),
    (
        "synapse_db_consumer_position_missing",
        &["consumer", "instance_name"],
        consumers!("0", ""),
    ),
    // events
    ("synapse_db_events", &["origin"], events!("true")),
    (
        "synapse_db_events_unencrypted_messages",
        &["origin"],
        events!("type = 'm.room.message'"),
    ),
    (
        "synapse_db_events_encrypted",
        &["origin"],
        events!("type = 'm.room.encrypted'"),
    ),
    (
        "synapse_db_events_state",
        &["origin"],
        events!("state_key IS NOT NULL"),
    ),
    (
        "synapse_db_events_redactions",
        &["origin"],
        events!("type = 'm.room.redaction'"),
    ),
    (
        "synapse_db_events_rejected",
        &["origin"],
        events!("rejection_reason IS NOT NULL"),
    ),
    ("synapse_db_events_exact", &[], "SELECT 1"),
    ("synapse_db_events_counted_ratio", &[], "SELECT 1"),
    ("synapse_db_events_remaining_seconds", &[], "SELECT 0"),
    ("synapse_db_events_ranges_pending_recount", &[], "SELECT 0"),
    // users
    (
        "synapse_db_users",
        &["kind", "deactivated"],
        "SELECT CASE WHEN name LIKE '@bridge%' THEN 'bridged'
                     WHEN name ~ '^@[0-9]' THEN 'guest' ELSE 'native' END,
                (deactivated = 1)::text, count(*)
           FROM users GROUP BY 1, 2",
    ),
    (
        "synapse_db_users_registered_24h",
        &[],
        "SELECT count(*) FROM users WHERE to_timestamp(creation_ts) > now() - interval '1 day'",
    ),
    (
        "synapse_db_users_active",
        &["within"],
        "SELECT span, count(DISTINCT user_id)
           FROM user_ips, (VALUES ('1h', interval '1 hour'), ('24h', '1 day'), ('7d', '7 days'),
                                  ('30d', '30 days')) AS spans (span, length)
          WHERE to_timestamp(last_seen / 1000.0) > now() - length
          GROUP BY 1",
    ),
    (
        "synapse_db_users_by_presence",
        &["presence"],
        "SELECT state, count(*) FROM presence_stream WHERE state <> 'offline' GROUP BY 1",
    ),
    (
        "synapse_db_user_directory_users",
        &[],
        "SELECT count(*) FROM user_directory",
    ),
    (
        "synapse_db_access_tokens",
        &[],
        "SELECT count(*) FROM access_tokens",
    ),
    (
        "synapse_db_devices",
        &[],
        "SELECT count(*) FROM devices WHERE NOT hidden",
    ),
    (
        "synapse_db_devices_hidden",
        &[],
        "SELECT count(*) FROM devices WHERE hidden",
    ),
    (
        "synapse_db_devices_active_30d",
        &[],
        "SELECT count(*) FROM devices
          WHERE NOT hidden AND to_timestamp(last_seen / 1000.0) > now() - interval '30 days'",
    ),
    (
        "synapse_db_media_files",
        &["origin"],
        "SELECT 'local', count(*) FROM local_media_repository WHERE media_length IS NOT NULL
         UNION ALL SELECT 'remote', count(*) FROM remote_media_cache",
    ),
    (
        "synapse_db_media_bytes",
        &["origin"],
        "SELECT 'local', sum(media_length) FROM local_media_repository
         UNION ALL SELECT 'remote', 0",
    ),
    (
        "synapse_db_media_files_quarantined",
        &["origin"],
        "SELECT 'local', count(*) FROM local_media_repository WHERE quarantined_by IS NOT NULL
         UNION ALL SELECT 'remote', 0",
    ),
    // rooms
    (
        "synapse_db_rooms",
        &["room_version"],
        "SELECT json::json #>> '{content,room_version}', count(*)
           FROM event_json JOIN events USING (event_id)
          WHERE type = 'm.room.create'
          GROUP BY 1",
    ),
    (
        "synapse_db_rooms_published",
        &["room_version"],
        "SELECT room_version, count(*) FILTER (WHERE is_public) FROM rooms GROUP BY 1",
    ),
    (
        "synapse_db_rooms_encrypted",
        &[],
        "SELECT count(*) FROM current_state_events WHERE type = 'm.room.encryption'",
    ),
    (
        "synapse_db_rooms_encrypted_with_local_users",
        &[],
        "SELECT count(DISTINCT room_id)
           FROM current_state_events JOIN local_current_membership USING (room_id)
          WHERE type = 'm.room.encryption' AND local_current_membership.membership = 'join'",
    ),
    (
        "synapse_db_spaces",
        &[],
        "SELECT count(*) FROM events JOIN event_json USING (event_id)
          WHERE type = 'm.room.create' AND json::json #>> '{content,type}' = 'm.space'",
    ),
    (
        "synapse_db_rooms_by_join_rule",
        &["join_rule"],
        state!("m.room.join_rules", "join_rule"),
    ),
    (
        "synapse_db_rooms_by_history_visibility",
        &["history_visibility"],
        state!("m.room.history_visibility", "history_visibility"),
    ),
    (
        "synapse_db_room_state_events",
        &[],
        concat!(
            "SELECT count(DISTINCT (room_id, type, state_key)) FROM events
              WHERE state_key IS NOT NULL AND ",
            joined!()
        ),
    ),
    (
        "synapse_db_room_state_events_max",
        &[],
        concat!(
            "SELECT count(DISTINCT (type, state_key)) FROM events
              WHERE state_key IS NOT NULL AND ",
            joined!(),
            " GROUP BY room_id ORDER BY 1 DESC LIMIT 1"
        ),
    ),
    (
        "synapse_db_rooms_with_local_users",
        &[],
        memberships!(
            "count(DISTINCT room_id) FILTER (WHERE membership = 'join')",
            ""
        ),
    ),
    (
        "synapse_db_room_local_users",
        &[],
        memberships!("count(*) FILTER (WHERE membership = 'join')", ""),
    ),
    (
        "synapse_db_rooms_empty",
        &[],
        memberships!(
            "count(DISTINCT room_id) - count(DISTINCT room_id) FILTER (WHERE membership = 'join')",
            ""
        ),
    ),
    (
        "synapse_db_room_members",
        &["membership"],
        memberships!(
            "membership, count(*)",
            "WHERE room_id IN (SELECT room_id FROM local_current_membership
                                WHERE membership = 'join')
              GROUP BY 1"
        ),
    ),
    (
        "synapse_db_local_memberships",
        &["membership"],
        memberships!("membership, count(*)", "GROUP BY 1"),
    ),
    (
        "synapse_db_forward_extremities",
        &[],
        "SELECT count(*) FROM events AS e
          WHERE NOT outlier
            AND NOT EXISTS (SELECT FROM event_edges AS n WHERE n.prev_event_id = e.event_id)",
    ),
    (
        "synapse_db_rooms_without_forward_extremities",
        &[],
        "SELECT 0",
    ),
    (
        "synapse_db_forward_extremities_without_state",
        &[],
        "SELECT 0",
    ),
    ("synapse_db_rooms_without_statistics", &[], "SELECT 0"),
    (
        "synapse_db_forward_extremities_max",
        &[],
        "SELECT count(*) FROM event_forward_extremities GROUP BY room_id ORDER BY 1 DESC LIMIT 1",
    ),
];
