//! Blocks of each table that were read.

use crate::query::{ALL, Collector, Query, Scope};

/// From `pg_statio_user_tables` of every database, but for temporary tables.
pub fn collector() -> Collector {
    Collector::new(
        "statio_user_tables",
        "Blocks of tables and their indexes read from disk or found in shared buffers, from \
         pg_statio_user_tables",
    )
    .scope(Scope::Database)
    .prefix("pg_statio_user_tables")
    .query(
        Query::new()
            .needs("track_counts")
            .sql(
                ALL,
                "SELECT schemaname, relname,
                        coalesce(heap_blks_read, 0) AS heap_blocks_read,
                        coalesce(heap_blks_hit, 0) AS heap_blocks_hit,
                        coalesce(idx_blks_read, 0) AS idx_blocks_read,
                        coalesce(idx_blks_hit, 0) AS idx_blocks_hit,
                        coalesce(toast_blks_read, 0) AS toast_blocks_read,
                        coalesce(toast_blks_hit, 0) AS toast_blocks_hit,
                        coalesce(tidx_blks_read, 0) AS tidx_blocks_read,
                        coalesce(tidx_blks_hit, 0) AS tidx_blocks_hit
                   FROM pg_catalog.pg_statio_user_tables
                  WHERE schemaname !~ '^pg_temp_'",
            )
            .label("schemaname")
            .label("relname")
            .counter("heap_blocks_read", "Blocks of the table read from disk")
            .counter(
                "heap_blocks_hit",
                "Blocks of the table found in shared buffers",
            )
            .counter(
                "idx_blocks_read",
                "Blocks of the table's indexes read from disk",
            )
            .counter(
                "idx_blocks_hit",
                "Blocks of the table's indexes found in shared buffers",
            )
            .counter(
                "toast_blocks_read",
                "Blocks of the table's TOAST table read from disk",
            )
            .counter(
                "toast_blocks_hit",
                "Blocks of the table's TOAST table found in shared buffers",
            )
            .counter(
                "tidx_blocks_read",
                "Blocks of the table's TOAST index read from disk",
            )
            .counter(
                "tidx_blocks_hit",
                "Blocks of the table's TOAST index found in shared buffers",
            ),
    )
}
