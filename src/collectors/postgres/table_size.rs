//! Size of each table.

use crate::query::{ALL, Collector, Query, Scope};

/// Sizes of tables and of their indexes on disk, a few hundred tables at a time: the functions
/// look at every file and lock what they look at.
pub fn collector() -> Collector {
    Collector::new("table_size", "Sizes of tables and of their indexes on disk")
        .scope(Scope::Database)
        .prefix("pg_stat_user_tables")
        .ttl(300)
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT c.oid AS relid, n.nspname AS schemaname, c.relname,
                            pg_indexes_size(c.oid) AS index_size_bytes,
                            pg_table_size(c.oid) AS table_size_bytes
                       FROM pg_catalog.pg_class AS c
                       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                      WHERE c.oid = ANY ({relations})",
                )
                .label("schemaname")
                .label("relname")
                .gauge("index_size_bytes", "Size of the table's indexes, in bytes")
                .gauge(
                    "table_size_bytes",
                    "Size of the table with its TOAST table, without indexes, in bytes",
                ),
        )
}
