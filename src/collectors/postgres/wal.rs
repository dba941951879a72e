//! WAL on disk.

use crate::query::{ALL, Collector, Query};

/// Segments and their size, from the directory `pg_wal`.
pub fn collector() -> Collector {
    Collector::new("wal", "WAL segments on disk, from the directory pg_wal")
        .prefix("pg_wal")
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT count(*) AS segments, coalesce(sum(f.size), 0) AS size_bytes
                   FROM {pg_ls_waldir} AS f
                  WHERE f.name ~ '^[0-9A-F]{24}$'",
                )
                .gauge("segments", "WAL segments on disk")
                .gauge("size_bytes", "Size of the WAL segments on disk, in bytes"),
        )
}
