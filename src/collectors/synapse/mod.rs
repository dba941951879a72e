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

use crate::query::{Collector, Scope};

impl Collector {
    /// One that reads Synapse's tables.
    fn synapse(name: &'static str, about: &'static str) -> Self {
        Self::new(name, about)
            .scope(Scope::Synapse)
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
