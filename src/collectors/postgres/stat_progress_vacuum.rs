//! Vacuums that are running.

use crate::query::{ALL, Collector, Merge, Query, before, since};

/// Progress of each running vacuum. The phase is a set of seven, of which one is 1.
///
/// The table's name is known only in the database that the query runs in; elsewhere it is the oid.
pub fn collector() -> Collector {
    Collector::new(
        "stat_progress_vacuum",
        "Progress of running vacuums, from pg_stat_progress_vacuum",
    )
    .query(phase())
    .query(progress())
}

fn phase() -> Query {
    Query::new("pg_stat_progress_vacuum")
        .merge(Merge::Max)
        .sql(
            ALL,
            "SELECT d.datname,
                    coalesce(CASE WHEN n.nspname <> 'public' THEN n.nspname || '.' ELSE '' END
                             || c.relname, v.relid::text) AS relname,
                    p.phase, v.phase = p.number AS is_in_phase
               FROM {pg_stat_progress_vacuum} AS v
               JOIN pg_catalog.pg_database AS d ON d.oid = v.datid
               LEFT JOIN pg_catalog.pg_class AS c
                 ON c.oid = v.relid AND d.datname = current_database()
               LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
              CROSS JOIN (VALUES (0, 'initializing'), (1, 'scanning heap'),
                                 (2, 'vacuuming indexes'), (3, 'vacuuming heap'),
                                 (4, 'cleaning up indexes'), (5, 'truncating heap'),
                                 (6, 'performing final cleanup')) AS p (number, phase)",
        )
        .label("datname")
        .label("relname")
        .label("phase")
        .gauge("is_in_phase", "Whether the vacuum is in this phase")
        .named("pg_stat_progress_vacuum_phase")
}

fn progress() -> Query {
    Query::new("pg_stat_progress_vacuum")
        .merge(Merge::Max)
        .sql(
            before(17),
            "SELECT d.datname,
                    coalesce(CASE WHEN n.nspname <> 'public' THEN n.nspname || '.' ELSE '' END
                             || c.relname, v.relid::text) AS relname,
                    v.heap_blks_total AS heap_blks, v.heap_blks_scanned, v.heap_blks_vacuumed,
                    v.index_vacuum_count AS index_vacuums,
                    v.dead_limit AS max_dead_tuples, v.dead_used AS num_dead_tuples
               FROM {pg_stat_progress_vacuum} AS v
               JOIN pg_catalog.pg_database AS d ON d.oid = v.datid
               LEFT JOIN pg_catalog.pg_class AS c
                 ON c.oid = v.relid AND d.datname = current_database()
               LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace",
        )
        .sql(
            since(17),
            "SELECT d.datname,
                    coalesce(CASE WHEN n.nspname <> 'public' THEN n.nspname || '.' ELSE '' END
                             || c.relname, v.relid::text) AS relname,
                    v.heap_blks_total AS heap_blks, v.heap_blks_scanned, v.heap_blks_vacuumed,
                    v.index_vacuum_count AS index_vacuums,
                    v.dead_items AS num_dead_tuples,
                    v.dead_limit AS max_dead_tuple_bytes, v.dead_used AS dead_tuple_bytes
               FROM {pg_stat_progress_vacuum} AS v
               JOIN pg_catalog.pg_database AS d ON d.oid = v.datid
               LEFT JOIN pg_catalog.pg_class AS c
                 ON c.oid = v.relid AND d.datname = current_database()
               LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace",
        )
        .label("datname")
        .label("relname")
        .gauge("heap_blks", "Blocks of the table")
        .gauge("heap_blks_scanned", "Blocks of the table that were scanned")
        .gauge("heap_blks_vacuumed", "Blocks of the table that were vacuumed")
        .gauge("index_vacuums", "Rounds through the indexes that were completed")
        .gauge("num_dead_tuples", "Dead rows collected since the last round through the indexes")
        .gauge("max_dead_tuples", "Dead rows that fit in memory before the next round")
        .on_versions(before(17))
        .gauge("max_dead_tuple_bytes", "Memory for dead rows before the next round")
        .on_versions(since(17))
        .gauge("dead_tuple_bytes", "Memory taken by dead rows since the last round")
        .on_versions(since(17))
}
