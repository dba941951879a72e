//! Synapse and the servers of others.

use crate::query::{ALL, Collector, Query, Scope};

/// From `destinations`, and from what came in and is not worked off. A server that answers again
/// has no time of failure any more.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_federation",
        "Other servers that Synapse cannot reach, and what came from them and waits",
    )
    .query(destinations())
    .query(staging())
    .query(partial_state())
    .query(partial_state_age())
}

fn destinations() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "destinations",
            &["failure_ts", "retry_last_ts", "retry_interval"],
        )
        // The inner SELECT runs once; without it, the time would be reckoned for each row.
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS federation_destinations,
                    count(failure_ts) AS federation_destinations_failing,
                    count(*) FILTER (
                        WHERE failure_ts > (SELECT (extract(epoch FROM now())::bigint - 3600)
                                                   * 1000))
                        AS federation_destinations_failing_since_1h,
                    count(*) FILTER (
                        WHERE retry_last_ts + retry_interval
                              > (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS federation_destinations_backing_off
               FROM {schema}.destinations",
        )
        .label("datname")
        .gauge("federation_destinations", "Other servers that are known")
        .gauge(
            "federation_destinations_failing",
            "Other servers that could not be reached when last tried",
        )
        .gauge(
            "federation_destinations_failing_since_1h",
            "Other servers that began to fail within the last hour",
        )
        .gauge(
            "federation_destinations_backing_off",
            "Other servers to which nothing is sent until their time of waiting is over",
        )
}

fn staging() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("federation_inbound_events_staging", &["received_ts"])
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS federation_inbound_staged,
                    greatest(extract(epoch FROM now()) - min(received_ts) / 1000.0, 0)
                        AS federation_inbound_staged_oldest_age_seconds
               FROM {schema}.federation_inbound_events_staging",
        )
        .label("datname")
        .gauge(
            "federation_inbound_staged",
            "Events that came from other servers and are not handled yet",
        )
        .gauge(
            "federation_inbound_staged_oldest_age_seconds",
            "How long the oldest of them has waited; 0 while none waits",
        )
}

fn partial_state() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("partial_state_rooms", &["device_lists_stream_id"])
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(device_lists_stream_id) AS rooms_partial_state
               FROM {schema}.partial_state_rooms",
        )
        .label("datname")
        .gauge(
            "rooms_partial_state",
            "Rooms that were joined quickly and whose state is still being fetched",
        )
}

/// The time is that of the join, which is noted a moment after the room.
fn partial_state_age() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("partial_state_rooms", &["join_event_id"])
        .reads("events", &["event_id", "received_ts"])
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    greatest(extract(epoch FROM now()) - min(e.received_ts) / 1000.0, 0)
                        AS rooms_partial_state_oldest_age_seconds
               FROM {schema}.partial_state_rooms AS p
               JOIN {schema}.events AS e ON e.event_id = p.join_event_id",
        )
        .label("datname")
        .gauge(
            "rooms_partial_state_oldest_age_seconds",
            "Since when the first of these rooms is joined; 0 while there is none",
        )
}
