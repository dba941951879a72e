//! Synapse's own tables.
//!
//! Synapse adds tables and columns within one schema version, so nothing here asks for a version:
//! what an older Synapse does not have stands in a query of its own, and costs only itself.
//! `users.creation_ts` is in seconds, every other time in milliseconds.

super::collectors! {
    synapse_activity,
    synapse_appservices,
    synapse_background_updates,
    synapse_catch_up,
    synapse_cleanup,
    synapse_consumers,
    synapse_delayed_events,
    synapse_destinations,
    synapse_device_lists,
    synapse_devices,
    synapse_encryption,
    synapse_event_graph,
    synapse_events,
    synapse_federation,
    synapse_identities,
    synapse_locale,
    synapse_locks,
    synapse_media,
    synapse_memberships,
    synapse_push,
    synapse_pushers,
    synapse_queues,
    synapse_registration,
    synapse_reports,
    synapse_rooms,
    synapse_schema,
    synapse_sliding_sync,
    synapse_streams,
    synapse_tables,
    synapse_tasks,
    synapse_to_device,
    synapse_tokens,
    synapse_user_directory,
    synapse_users,
    synapse_visits,
}

use crate::query::{Application, Collector, Part, Scope};

/// Its main part has the table `events`; the state of rooms may live in a database of its own.
pub static SYNAPSE: Application = Application {
    key: "synapse",
    name: "Synapse",
    marks: &[
        "schema_version",
        "applied_schema_deltas",
        "background_updates",
    ],
    parts: &[
        Part {
            name: "main",
            mark: "events",
            prefix: "",
        },
        Part {
            name: "state",
            mark: "state_groups_state",
            prefix: "state_group",
        },
    ],
    schema: "public",
    former: &[
        ("access_tokens", "id"),
        ("account_validity", "user_id"),
        ("blocked_rooms", "room_id"),
        ("dehydrated_devices", "user_id"),
        ("erased_users", "user_id"),
        ("event_auth_chain_to_calculate", "event_id"),
        ("local_current_membership", "user_id"),
        ("local_media_repository", "media_id"),
        ("local_media_repository_thumbnails", "media_id"),
        ("pushers", "id"),
        ("refresh_tokens", "id"),
        ("remote_media_cache", "media_id"),
        ("remote_media_cache", "media_origin"),
        ("remote_media_cache_thumbnails", "media_id"),
        ("remote_media_cache_thumbnails", "media_origin"),
        ("sliding_sync_connection_positions", "connection_position"),
        ("sliding_sync_connections", "connection_key"),
        ("sliding_sync_joined_rooms_to_recalculate", "room_id"),
        ("state_groups_pending_deletion", "state_group"),
        ("user_directory", "user_id"),
        ("user_directory_stale_remote_users", "user_id"),
        ("user_external_ids", "user_id"),
        ("user_threepids", "user_id"),
    ],
};

impl Collector {
    /// One that reads Synapse's tables.
    fn synapse(name: &'static str, about: &'static str) -> Self {
        Self::new(name, about)
            .scope(Scope::Application(&SYNAPSE))
            .prefix("synapse_db")
    }
}

/// How many rows a table has.
macro_rules! counted {
    ($table:literal, $metric:literal, $help:literal) => {
        $crate::query::Query::new()
            .reads($table, &[])
            .by_pages($table)
            .sql(
                $crate::query::ALL,
                concat!(
                    "SELECT count(*) AS ",
                    $metric,
                    " FROM {schema}.",
                    $table,
                    " WHERE {pages}"
                ),
            )
            .gauge($metric, $help)
    };
}
use counted;

/// Seconds since the earliest of these times: 0 while there is no row, and nothing where there are
/// rows and none has a time.
macro_rules! oldest_age {
    ($time:literal) => {
        concat!(
            "CASE WHEN count(*) = 0 THEN 0
                  WHEN count(",
            $time,
            ") > 0 THEN greatest(extract(epoch FROM now()) - min(",
            $time,
            ") / 1000.0, 0) END"
        )
    };
}
use oldest_age;

/// Names the services for which transactions wait, one after the other: `services (as_id)`, and NULL
/// at the end. The table may hold millions of one service, and has no index on anything else.
macro_rules! services_waiting {
    () => {
        "WITH RECURSIVE services AS (
             SELECT min(as_id) AS as_id FROM {schema}.application_services_txns
              UNION ALL
             SELECT (SELECT min(t.as_id) FROM {schema}.application_services_txns AS t
                      WHERE t.as_id > s.as_id)
               FROM services AS s
              WHERE s.as_id IS NOT NULL) "
    };
}
use services_waiting;
