//! Synapse's background updates.

use crate::query::{ALL, Collector, Query, Scope};

/// Updates that are queued or running, from `background_updates`. When one was begun, the table
/// does not say.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_background_updates",
        "Background updates of Synapse that are queued or running",
    )
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("background_updates", &["update_name"])
            .sql(
                ALL,
                "SELECT current_database() AS datname,
                        count(u.update_name) AS background_updates_pending
                   FROM {schema}.background_updates AS u",
            )
            .label("datname")
            .gauge(
                "background_updates_pending",
                "Background updates that are queued or running",
            ),
    )
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("background_updates", &["update_name"])
            .sql(
                ALL,
                "SELECT current_database() AS datname, u.update_name,
                        1 AS background_update_pending
                   FROM {schema}.background_updates AS u",
            )
            .label("datname")
            .label("update_name")
            .gauge(
                "background_update_pending",
                "1 for each background update that is queued or running",
            ),
    )
}
