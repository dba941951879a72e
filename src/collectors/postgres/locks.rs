//! Locks held and waited for.

use crate::query::{ALL, Collector, Query};

/// Locks by database and mode, from `pg_locks`; zero for a mode that nobody holds.
pub fn collector() -> Collector {
    Collector::new("locks", "Locks by database and mode, from pg_locks")
        .prefix("pg_locks")
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT d.datname, m.mode, coalesce(l.count, 0) AS count
                   FROM pg_catalog.pg_database AS d
                  CROSS JOIN (VALUES ('accesssharelock'), ('rowsharelock'), ('rowexclusivelock'),
                                     ('shareupdateexclusivelock'), ('sharelock'),
                                     ('sharerowexclusivelock'), ('exclusivelock'),
                                     ('accessexclusivelock'), ('sireadlock')) AS m (mode)
                   LEFT JOIN (SELECT database, mode, count(*) AS count
                                FROM pg_catalog.pg_locks
                               GROUP BY 1, 2) AS l
                     ON l.database = d.oid AND lower(l.mode) = m.mode",
                )
                .label("datname")
                .label("mode")
                .gauge("count", "Locks held or waited for"),
        )
}
