//! Synapse's own tables.
//!
//! Synapse adds tables and columns within one schema version, so nothing here asks for a version:
//! what an older Synapse does not have stands in a query of its own, and costs only itself.
//! `users.creation_ts` is in seconds, every other time in milliseconds.

super::collectors! {
    synapse_activity,
    synapse_appservices,
    synapse_background_updates,
    synapse_consumers,
    synapse_delayed_events,
    synapse_devices,
    synapse_federation,
    synapse_locale,
    synapse_locks,
    synapse_media,
    synapse_push,
    synapse_rooms,
    synapse_schema,
    synapse_streams,
    synapse_tables,
    synapse_tasks,
    synapse_users,
}
