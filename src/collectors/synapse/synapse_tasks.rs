//! What Synapse does behind the scenes, once: purges, shutdowns of rooms, deletions of devices.

use crate::query::{ALL, Collector, Query, Scope};

/// From `scheduled_tasks`, where a task stays for a week after its end. A task's time is that of
/// its last sign of life, or the one it waits for.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_tasks",
        "Scheduled tasks of Synapse, such as purges: waiting, running, failed",
    )
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("scheduled_tasks", &["action", "status", "timestamp"])
            .sql(
                ALL,
                "SELECT current_database() AS datname, t.action, t.status,
                        count(*) AS scheduled_tasks,
                        extract(epoch FROM now())
                            - min(t.timestamp) FILTER (WHERE t.status = 'active') / 1000.0
                            AS scheduled_tasks_active_oldest_age_seconds
                   FROM {schema}.scheduled_tasks AS t
                  GROUP BY 2, 3",
            )
            .label("datname")
            .label("action")
            .label("status")
            .gauge(
                "scheduled_tasks",
                "Tasks by what they do and how it goes; ended ones are kept for a week",
            )
            .gauge(
                "scheduled_tasks_active_oldest_age_seconds",
                "Time since the last sign of life of a task that runs, of the one silent longest",
            )
            .with_labels(&["datname", "action"]),
    )
}
