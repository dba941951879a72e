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
    synapse_device_lists,
    synapse_devices,
    synapse_event_graph,
    synapse_federation,
    synapse_locale,
    synapse_locks,
    synapse_media,
    synapse_memberships,
    synapse_push,
    synapse_queues,
    synapse_rooms,
    synapse_schema,
    synapse_streams,
    synapse_tables,
    synapse_tasks,
    synapse_to_device,
    synapse_users,
}
