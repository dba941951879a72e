//! Notifications on their way.

use super::oldest_age;
use crate::query::{ALL, Collector, Query};

/// From `event_push_actions_staging`, where a row exists only as long as its event is written; one
/// that stays was left by a worker that died. How far the summary is behind, the consumer
/// `push_summary` says.
pub fn collector() -> Collector {
    Collector::synapse("synapse_push", "Push actions that Synapse has staged").query(
        Query::new()
            .reads("event_push_actions_staging", &["inserted_ts"])
            .sql(
                ALL,
                concat!(
                    "SELECT count(*) AS push_actions_staged,
                            ",
                    oldest_age!("s.inserted_ts"),
                    "       AS push_actions_staged_oldest_age_seconds
                       FROM (SELECT inserted_ts FROM {schema}.event_push_actions_staging
                              LIMIT 100000) AS s"
                ),
            )
            .gauge(
                "push_actions_staged",
                "Push actions in event_push_actions_staging, of events that are being stored or \
                 were never stored, counted up to 100000",
            )
            .gauge(
                "push_actions_staged_oldest_age_seconds",
                "Age of the oldest staged push action, of those that are counted, in seconds; 0 \
                 if there is none, no sample if none has a time",
            ),
    )
}
