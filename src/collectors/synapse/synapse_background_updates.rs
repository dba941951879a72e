//! Synapse's background updates.

use crate::query::{ALL, Collector, Query};

/// Updates that are queued or running, from `background_updates`. When one was begun, the table
/// does not say.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_background_updates",
        "Background updates of Synapse that are queued or running",
    )
    .query(
        Query::new()
            .reads("background_updates", &["update_name"])
            .sql(
                ALL,
                "SELECT count(u.update_name) AS background_updates_pending
                   FROM {schema}.background_updates AS u",
            )
            .gauge(
                "background_updates_pending",
                "Background updates that are queued or running",
            ),
    )
    .query(
        Query::new()
            .reads("background_updates", &["update_name"])
            .sql(
                ALL,
                "SELECT u.update_name,
                        1 AS background_update_info
                   FROM {schema}.background_updates AS u",
            )
            .label("update_name")
            .gauge(
                "background_update_info",
                "Always 1: a background update that is queued or running, by name",
            ),
    )
    .query(waiting())
    .query(progress())
}

fn waiting() -> Query {
    Query::new()
        .reads("background_updates", &["update_name", "depends_on"])
        .sql(
            ALL,
            "SELECT count(u.update_name) AS background_updates_waiting
               FROM {schema}.background_updates AS u
               JOIN {schema}.background_updates AS d ON d.update_name = u.depends_on",
        )
        .gauge(
            "background_updates_waiting",
            "Background updates that wait for another one to complete",
        )
}

/// A query of its own, so that a role without the column misses nothing else.
fn progress() -> Query {
    Query::new()
        .reads("background_updates", &["update_name", "progress_json"])
        .sql(
            ALL,
            "SELECT hashtext(coalesce(string_agg(u.update_name || u.progress_json, '\n'
                                                 ORDER BY u.update_name), ''))
                        AS background_updates_progress_hash
               FROM {schema}.background_updates AS u",
        )
        .gauge(
            "background_updates_progress_hash",
            "Hash of the progress of all background updates: it changes when one makes progress, \
             and its value has no other meaning",
        )
}
