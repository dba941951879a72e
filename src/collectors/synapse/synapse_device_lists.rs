//! Changes of users' devices that others have yet to hear of.

use super::oldest_age;
use crate::query::{ALL, Collector, Query};

/// From `device_lists_changes_in_room`, `device_lists_outbound_pokes` and
/// `device_lists_remote_resync`. A change is noted for each room of its user, and then turned into
/// one poke for each server in these rooms.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_device_lists",
        "Device list updates that Synapse has not sent to remote homeservers yet, and users whose \
         device list is to be fetched again",
    )
    .ttl(60)
    .query(backlog())
    .query(backlog_age())
    .query(oldest_change())
    .query(oldest_poke())
    .query(resyncs())
}

/// What is beyond the position of conversion; the rest is done, whatever its flag says, since Synapse
/// leaves the flag as it is.
macro_rules! beyond_position {
    () => {
        "(c.stream_id, c.room_id)
             > (SELECT p.stream_id, p.room_id
                  FROM {schema}.device_lists_changes_converted_stream_position AS p)"
    };
}

/// Without a position nobody knows.
macro_rules! position {
    () => {
        "(SELECT count(*) AS known
            FROM {schema}.device_lists_changes_converted_stream_position) AS p"
    };
}

/// The order makes sure of the index in a table that may be huge, and the limit keeps the count
/// short when it matters most.
fn backlog() -> Query {
    Query::new()
        .reads(
            "device_lists_changes_in_room",
            &["converted_to_destinations", "stream_id", "room_id"],
        )
        .reads(
            "device_lists_changes_converted_stream_position",
            &["stream_id", "room_id"],
        )
        .sql(
            ALL,
            concat!(
                "SELECT CASE WHEN p.known > 0 THEN u.changes END AS device_list_changes_unconverted
                   FROM (SELECT count(*) FILTER (WHERE NOT converted_to_destinations) AS changes
                           FROM (SELECT converted_to_destinations
                                   FROM {schema}.device_lists_changes_in_room AS c
                                  WHERE ",
                beyond_position!(),
                "                 ORDER BY c.stream_id LIMIT 100000) AS c) AS u
                  CROSS JOIN ",
                position!()
            ),
        )
        .gauge(
            "device_list_changes_unconverted",
            "Device list updates that are not queued for remote homeservers yet, once for each \
             room, counted up to 100000",
        )
}

/// A query of its own, as the time of a change came with a later release.
fn backlog_age() -> Query {
    Query::new()
        .reads(
            "device_lists_changes_in_room",
            &[
                "converted_to_destinations",
                "stream_id",
                "room_id",
                "inserted_ts",
            ],
        )
        .reads(
            "device_lists_changes_converted_stream_position",
            &["stream_id", "room_id"],
        )
        .sql(
            ALL,
            concat!(
                "SELECT CASE WHEN p.known > 0 THEN u.age END
                            AS device_list_changes_unconverted_oldest_age_seconds
                   FROM (SELECT ",
                oldest_age!("c.inserted_ts"),
                "                 AS age
                           FROM (SELECT c.inserted_ts
                                   FROM {schema}.device_lists_changes_in_room AS c
                                  WHERE NOT c.converted_to_destinations AND ",
                beyond_position!(),
                "                 ORDER BY c.stream_id LIMIT 1) AS c) AS u
                  CROSS JOIN ",
                position!()
            ),
        )
        .gauge(
            "device_list_changes_unconverted_oldest_age_seconds",
            "Age of the oldest device list update that is not queued for remote homeservers yet, \
             in seconds; 0 if there is none",
        )
}

fn oldest_change() -> Query {
    Query::new()
        .reads(
            "device_lists_changes_in_room",
            &["stream_id", "inserted_ts"],
        )
        .sql(
            ALL,
            concat!(
                "SELECT ",
                oldest_age!("c.inserted_ts"),
                "       AS device_list_changes_oldest_age_seconds
                   FROM (SELECT inserted_ts FROM {schema}.device_lists_changes_in_room
                          ORDER BY stream_id LIMIT 1) AS c"
            ),
        )
        .gauge(
            "device_list_changes_oldest_age_seconds",
            "Age of the oldest device list update that is stored, queued or not, in seconds; \
             Synapse deletes them after 30 days; 0 if there is none",
        )
}

fn oldest_poke() -> Query {
    Query::new()
        .reads("device_lists_outbound_pokes", &["stream_id", "ts"])
        .sql(
            ALL,
            concat!(
                "SELECT ",
                oldest_age!("p.ts"),
                "       AS device_list_pokes_oldest_age_seconds
                   FROM (SELECT ts FROM {schema}.device_lists_outbound_pokes
                          ORDER BY stream_id LIMIT 1) AS p"
            ),
        )
        .gauge(
            "device_list_pokes_oldest_age_seconds",
            "Age of the oldest device list update that is queued for a remote homeserver, in \
             seconds; it stays high while that homeserver is gone; 0 if there is none",
        )
}

fn resyncs() -> Query {
    Query::new()
        .reads("device_lists_remote_resync", &["added_ts"])
        .sql(
            ALL,
            concat!(
                "SELECT count(*) AS device_list_resyncs,
                        ",
                oldest_age!("r.added_ts"),
                "       AS device_list_resyncs_oldest_age_seconds
                   FROM (SELECT added_ts FROM {schema}.device_lists_remote_resync
                          ORDER BY added_ts LIMIT 100000) AS r"
            ),
        )
        .gauge(
            "device_list_resyncs",
            "Remote users whose device list is to be fetched again, counted up to 100000",
        )
        .gauge(
            "device_list_resyncs_oldest_age_seconds",
            "Time since the first of the device lists to be fetched again was marked, in seconds; \
             0 if there is none",
        )
}
