//! Events that users have Synapse send later.

use crate::query::{ALL, Collector, Query};

/// From `delayed_events`; a row goes with its event.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_delayed_events",
        "Delayed events (MSC4140) that are scheduled, and those that are overdue",
    )
    .query(
        Query::new()
            .reads("delayed_events", &["is_processed", "send_ts"])
            .sql(
                ALL,
                "SELECT count(*) AS delayed_events,
                        count(*) FILTER (
                            WHERE send_ts < (extract(epoch FROM now())::bigint - 60) * 1000)
                            AS delayed_events_overdue
                   FROM (SELECT send_ts FROM {schema}.delayed_events
                          WHERE NOT is_processed
                          ORDER BY send_ts LIMIT 100000) AS e",
            )
            .gauge(
                "delayed_events",
                "Delayed events that are not sent yet, counted up to 100000",
            )
            .gauge(
                "delayed_events_overdue",
                "Delayed events that should have been sent at least a minute ago",
            ),
    )
}
