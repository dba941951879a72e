//! Indexes that are of no use.

use crate::query::{ALL, Collector, Query, Scope};

/// From `pg_index`. A CREATE INDEX CONCURRENTLY that fails leaves one that every write maintains
/// and no query uses; if it was to be unique, nothing is unique.
pub fn collector() -> Collector {
    Collector::new("indexes", "Invalid indexes, from pg_index").scope(Scope::Database).prefix("pg_indexes").query(
        Query::new()
            .sql(
                ALL,
                "SELECT count(*) AS invalid
                   FROM pg_catalog.pg_index AS x
                   JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
                  WHERE NOT x.indisvalid AND i.relkind = 'i'",
            )
            .gauge(
                "invalid",
                "Invalid indexes: CREATE or REINDEX INDEX CONCURRENTLY failed, or is still running",
            ),
    )
}
