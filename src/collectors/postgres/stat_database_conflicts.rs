//! Conflicts of queries with recovery, on a standby.

use crate::query::{Collector, Query, before, since};

/// From `pg_stat_database_conflicts`.
pub fn collector() -> Collector {
    Collector::new(
        "stat_database_conflicts",
        "Queries that a standby cancelled, by cause, from pg_stat_database_conflicts",
    )
    .prefix("pg_stat_database_conflicts")
    .query(
        Query::new()
            .needs("track_counts")
            .sql(
                before(16),
                "SELECT datid, datname, confl_tablespace, confl_lock, confl_snapshot,
                        confl_bufferpin, confl_deadlock
                   FROM pg_catalog.pg_stat_database_conflicts",
            )
            .sql(
                since(16),
                "SELECT datid, datname, confl_tablespace, confl_lock, confl_snapshot,
                        confl_bufferpin, confl_deadlock, confl_active_logicalslot
                   FROM pg_catalog.pg_stat_database_conflicts",
            )
            .label("datid")
            .label("datname")
            .counter(
                "confl_tablespace",
                "Queries cancelled because of dropped tablespaces",
            )
            .counter("confl_lock", "Queries cancelled because of lock timeouts")
            .counter(
                "confl_snapshot",
                "Queries cancelled because of old snapshots",
            )
            .counter(
                "confl_bufferpin",
                "Queries cancelled because of pinned buffers",
            )
            .counter("confl_deadlock", "Queries cancelled because of deadlocks")
            .untyped(
                "confl_active_logicalslot",
                "Logical slots invalidated on the standby",
            ),
    )
}
