//! What users have reported.

use crate::query::{ALL, Collector, Query};

/// From `event_reports`, `room_reports` and `user_reports`, without what they say. Synapse does not
/// know which are dealt with: a report stays until an administrator deletes it. The kinds came with
/// different releases.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_reports",
        "Events, rooms and users that were reported to the administrators",
    )
    .ttl(60)
    .query(reported!("event", "event_reports"))
    .query(reported!("room", "room_reports"))
    .query(reported!("user", "user_reports"))
}

macro_rules! reported {
    ($kind:literal, $table:literal) => {
        Query::new()
            .reads($table, &["id", "received_ts"])
            .sql(
                ALL,
                concat!(
                    "SELECT '",
                    $kind,
                    "' AS kind, count(*) AS reports,
                            extract(epoch FROM now()) - max(received_ts) / 1000.0
                                AS reports_newest_age_seconds
                       FROM (SELECT received_ts FROM {schema}.",
                    $table,
                    " ORDER BY id DESC LIMIT 100000) AS r"
                ),
            )
            .label("kind")
            .gauge(
                "reports",
                "Reports that are not deleted, counted up to 100000; Synapse does not store \
                 whether one is resolved",
            )
            .gauge(
                "reports_newest_age_seconds",
                "Age of the newest report, in seconds; no sample if there are none",
            )
    };
}
use reported;
