//! Size of each database.

use crate::query::{ALL, Collector, Query};

/// Sizes on disk, from `pg_database_size()`, which looks at every file.
pub fn collector() -> Collector {
    Collector::new(
        "database_size",
        "Sizes of databases on disk, from pg_database_size()",
    )
    .prefix("pg_database")
    .ttl(60)
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT s.datname, s.size AS size_bytes FROM {pg_database_size} AS s",
            )
            .label("datname")
            .gauge("size_bytes", "Size of the database, in bytes"),
    )
}
