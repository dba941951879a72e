//! What came from the servers of others.

use super::oldest_age;
use crate::query::{ALL, Collector, Query};

/// From `federation_inbound_events_staging` and `partial_state_rooms`.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_federation",
        "Events received from remote homeservers and not processed yet, and rooms with partial \
         state",
    )
    .query(staging())
    .query(partial_state())
    .query(partial_state_age())
}

fn staging() -> Query {
    Query::new()
        .reads("federation_inbound_events_staging", &["received_ts"])
        .sql(
            ALL,
            concat!(
                "SELECT count(*) AS federation_inbound_staged,
                        ",
                oldest_age!("s.received_ts"),
                "       AS federation_inbound_staged_oldest_age_seconds
                   FROM (SELECT received_ts FROM {schema}.federation_inbound_events_staging
                          LIMIT 100000) AS s"
            ),
        )
        .gauge(
            "federation_inbound_staged",
            "Events received from remote homeservers and not processed yet, counted up to 100000",
        )
        .gauge(
            "federation_inbound_staged_oldest_age_seconds",
            "Age of the oldest event that was received and is not processed yet, of those that \
             are counted, in seconds; 0 if there is none",
        )
}

fn partial_state() -> Query {
    Query::new()
        .reads("partial_state_rooms", &["device_lists_stream_id"])
        .sql(
            ALL,
            "SELECT count(*) AS rooms_partial_state
               FROM (SELECT device_lists_stream_id FROM {schema}.partial_state_rooms
                      LIMIT 100000) AS p",
        )
        .gauge(
            "rooms_partial_state",
            "Rooms with partial state (faster joins), whose full state is still being fetched, \
             counted up to 100000",
        )
}

/// The time is that of the join, which is noted a moment after the room. Each costs a look into the
/// index of events.
fn partial_state_age() -> Query {
    Query::new()
        .reads("partial_state_rooms", &["join_event_id"])
        .reads("events", &["event_id", "received_ts"])
        .sql(
            ALL,
            concat!(
                "SELECT ",
                oldest_age!("r.joined_ts"),
                "       AS rooms_partial_state_oldest_age_seconds
                   FROM (SELECT (SELECT e.received_ts FROM {schema}.events AS e
                                  WHERE e.event_id = p.join_event_id) AS joined_ts
                           FROM (SELECT join_event_id FROM {schema}.partial_state_rooms
                                  LIMIT 10000) AS p) AS r"
            ),
        )
        .gauge(
            "rooms_partial_state_oldest_age_seconds",
            "Time since the first of the rooms with partial state was joined, of 10000 at most, \
             in seconds; 0 if there is none, no sample while no join event is stored",
        )
}
