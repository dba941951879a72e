//! Locks between Synapse's workers.

use crate::query::{ALL, Collector, Query, Role};

/// From `worker_locks` and `worker_read_write_locks`. A row goes with its lock; one that is not
/// renewed for two minutes is stale, as its worker died, and Synapse takes it for free.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_locks",
        "Rows in worker_locks and worker_read_write_locks: locks between Synapse's workers, not \
         PostgreSQL's locks",
    )
    .query(
        locks(
            "SELECT lock_name, 'exclusive' AS mode,
                    count(*) AS worker_locks,
                    count(*) FILTER (
                        WHERE last_renewed_ts < (extract(epoch FROM now())::bigint - 120) * 1000)
                        AS worker_locks_stale
               FROM (SELECT lock_name, last_renewed_ts FROM {schema}.worker_locks
                      LIMIT 100000) AS l
              GROUP BY 1",
        )
        .reads("worker_locks", &["lock_name", "last_renewed_ts"]),
    )
    .query(
        locks(
            "SELECT lock_name,
                    CASE WHEN write_lock THEN 'write' ELSE 'read' END AS mode,
                    count(*) AS worker_locks,
                    count(*) FILTER (
                        WHERE last_renewed_ts < (extract(epoch FROM now())::bigint - 120) * 1000)
                        AS worker_locks_stale
               FROM (SELECT lock_name, write_lock, last_renewed_ts
                       FROM {schema}.worker_read_write_locks
                      LIMIT 100000) AS l
              GROUP BY 1, 2",
        )
        // Unlogged: a standby has no such rows, and refuses to look for them.
        .on(Role::Primary)
        .reads(
            "worker_read_write_locks",
            &["lock_name", "write_lock", "last_renewed_ts"],
        ),
    )
}

fn locks(sql: &'static str) -> Query {
    Query::new()
        .sql(ALL, sql)
        .label("lock_name")
        .label("mode")
        .gauge(
            "worker_locks",
            "Locks held by Synapse's workers, counted up to 100000",
        )
        .gauge(
            "worker_locks_stale",
            "Locks of Synapse's workers that were not renewed for two minutes: their worker has \
             died or is stuck",
        )
}
