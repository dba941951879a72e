//! Limits of each database.

use crate::query::{ALL, Collector, Query};

/// Connection limits, from `pg_database`.
pub fn collector() -> Collector {
    Collector::new(
        "database",
        "Connection limits of databases, from pg_database",
    )
    .prefix("pg_database")
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT datname, datconnlimit AS connection_limit FROM pg_catalog.pg_database",
            )
            .label("datname")
            .gauge(
                "connection_limit",
                "Connection limit of the database (datconnlimit); -1 means no limit",
            ),
    )
}
