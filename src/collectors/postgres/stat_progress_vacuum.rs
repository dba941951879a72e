//! Vacuums that are running.

use crate::query::{Collector, Merge, Query, Role, before, since};

macro_rules! vacuums {
    ($dead:literal) => {
        concat!(
            "SELECT d.datname, coalesce(n.relname, v.relid::text) AS relname, p.phase,
                    v.phase = p.number AS is_in_phase,
                    v.heap_blks_total AS heap_blks, v.heap_blks_scanned,
                    v.heap_blks_vacuumed, v.index_vacuum_count AS index_vacuums,
                    ",
            $dead,
            ",
                    CASE WHEN h.hidden THEN 'setting_off' END AS reason
               FROM (SELECT EXISTS (SELECT FROM {pg_stat_activity} AS a
                                     WHERE a.state = 'disabled' AND NOT (
                                           a.usename = current_user AND a.application_name
                                           = current_setting('application_name')))
                        AS hidden) AS h
               LEFT JOIN {pg_stat_progress_vacuum} AS v ON true
               LEFT JOIN pg_catalog.pg_database AS d ON d.oid = v.datid
               LEFT JOIN (SELECT c.oid,
                                 CASE WHEN s.nspname IN ('public', 'pg_catalog') THEN ''
                                      ELSE s.nspname || '.' END || c.relname AS relname
                            FROM pg_catalog.pg_class AS c
                            JOIN pg_catalog.pg_namespace AS s
                              ON s.oid = c.relnamespace) AS n
                 ON n.oid = v.relid AND d.datname = current_database()
              CROSS JOIN (VALUES (0, 'initializing'), (1, 'scanning heap'),
                                 (2, 'vacuuming indexes'), (3, 'vacuuming heap'),
                                 (4, 'cleaning up indexes'), (5, 'truncating heap'),
                                 (6, 'performing final cleanup')) AS p (number, phase)"
        )
    };
}

/// Progress of each running vacuum, from the function under `pg_stat_progress_vacuum`.
///
/// The phase is a set of seven, of which one is 1, so that each vacuum has seven rows. The table's
/// name is known only in the database that the query runs in; elsewhere it is the oid. Since 17 a
/// vacuum counts the memory that dead rows take, which is not a number of rows. There is a row
/// without a vacuum, too, since that of a session with `track_activities` off is not seen.
pub fn collector() -> Collector {
    Collector::new(
        "stat_progress_vacuum",
        "Progress of running vacuums, from pg_stat_progress_vacuum",
    )
    .prefix("pg_stat_progress_vacuum")
    .query(
        Query::new()
            .merge(Merge::Max)
            .on(Role::Primary)
            .needs("track_activities")
            .sql(
                before(17),
                vacuums!("v.dead_used AS num_dead_tuples, v.dead_limit AS max_dead_tuples"),
            )
            .sql(
                since(17),
                vacuums!(
                    "v.dead_items AS num_dead_tuples, v.dead_limit AS max_dead_tuple_bytes,
                     v.dead_used AS dead_tuple_bytes"
                ),
            )
            .label("datname")
            .label("relname")
            .label("phase")
            .gauge(
                "is_in_phase",
                "Whether the vacuum is in this phase (1) or not (0)",
            )
            .named("pg_stat_progress_vacuum_phase")
            .gauge("heap_blks", "Blocks of the table")
            .with_labels(TABLE)
            .gauge("heap_blks_scanned", "Blocks of the table that were scanned")
            .with_labels(TABLE)
            .gauge(
                "heap_blks_vacuumed",
                "Blocks of the table that were vacuumed",
            )
            .with_labels(TABLE)
            .gauge("index_vacuums", "Index vacuum cycles completed")
            .with_labels(TABLE)
            .gauge(
                "num_dead_tuples",
                "Dead row versions collected since the last index vacuum cycle",
            )
            .with_labels(TABLE)
            .gauge(
                "max_dead_tuples",
                "Dead row versions that fit in memory before an index vacuum cycle is needed",
            )
            .with_labels(TABLE)
            .gauge(
                "max_dead_tuple_bytes",
                "Memory for dead row versions before an index vacuum cycle is needed, in bytes",
            )
            .with_labels(TABLE)
            .gauge(
                "dead_tuple_bytes",
                "Memory used by dead row versions since the last index vacuum cycle, in bytes",
            )
            .with_labels(TABLE)
            .reason(),
    )
}

const TABLE: &[&str] = &["datname", "relname"];
