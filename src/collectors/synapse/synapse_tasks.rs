//! What Synapse does behind the scenes, once: purges, shutdowns of rooms, deletions of devices.

use crate::query::{ALL, Collector, Query};

/// From `scheduled_tasks`, where a task stays for a week after its end. A task's time is that of
/// its last sign of life, or the one it waits for.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_tasks",
        "Scheduled tasks of Synapse, such as purges, by status",
    )
    .query(begun_and_waiting())
    .query(failed())
}

/// Those of a status, as a range in the order of the index on it: whatever the planner knows of the
/// table, it does not look for a few among the many that are complete.
macro_rules! of_status {
    ($status:literal) => {
        concat!(
            "(SELECT action, status, timestamp FROM {schema}.scheduled_tasks
               WHERE (status, action) >= ('",
            $status,
            "', '') AND status <= '",
            $status,
            "'
               ORDER BY status LIMIT 10000)"
        )
    };
}

fn begun_and_waiting() -> Query {
    tasks(concat!(
        "SELECT t.action, t.status, count(*) AS scheduled_tasks,
                extract(epoch FROM now())
                    - min(t.timestamp) FILTER (WHERE t.status = 'active') / 1000.0
                    AS scheduled_tasks_active_oldest_age_seconds,
                extract(epoch FROM now())
                    - min(t.timestamp) FILTER (
                        WHERE t.status = 'scheduled'
                          AND t.timestamp <= extract(epoch FROM now())::bigint * 1000) / 1000.0
                    AS scheduled_tasks_due_oldest_age_seconds
           FROM (",
        of_status!("active"),
        " UNION ALL ",
        of_status!("scheduled"),
        ") AS t
          GROUP BY 1, 2"
    ))
    .gauge(
        "scheduled_tasks_active_oldest_age_seconds",
        "Time since the last update of the active task that was not updated for longest, in \
         seconds",
    )
    .with_labels(&["action"])
    .gauge(
        "scheduled_tasks_due_oldest_age_seconds",
        "Time since the most overdue scheduled task should have started, in seconds; no sample if \
         none is overdue",
    )
    .with_labels(&["action"])
}

/// Where more have failed than are counted, the newest failure is looked for among the newest tasks.
fn failed() -> Query {
    tasks(concat!(
        "SELECT t.action, t.status,
                sum(t.counted) AS scheduled_tasks,
                extract(epoch FROM now()) - max(t.timestamp) / 1000.0
                    AS scheduled_tasks_failed_newest_age_seconds
           FROM (SELECT f.action, f.status, f.timestamp, 1 AS counted FROM ",
        of_status!("failed"),
        " AS f
                  UNION ALL
                 SELECT n.action, n.status, n.timestamp, 0
                   FROM (SELECT action, status, timestamp FROM {schema}.scheduled_tasks
                          WHERE timestamp <= extract(epoch FROM now())::bigint * 1000
                          ORDER BY timestamp DESC LIMIT 10000) AS n
                  WHERE n.status = 'failed') AS t
          GROUP BY 1, 2"
    ))
    .gauge(
        "scheduled_tasks_failed_newest_age_seconds",
        "Time since the last task failed, in seconds; no sample if none is stored",
    )
    .with_labels(&["action"])
}

fn tasks(sql: &'static str) -> Query {
    Query::new()
        .reads("scheduled_tasks", &["action", "status", "timestamp"])
        .sql(ALL, sql)
        .label("action")
        .label("status")
        .gauge(
            "scheduled_tasks",
            "Scheduled tasks by action and status (scheduled, active or failed), counted up to \
             10000 for each status; Synapse keeps failed ones for a week",
        )
}
