//! Activity of each database.

use crate::query::{Collector, Query, before, since};

/// From `pg_stat_database`, but for the row of the shared objects.
pub fn collector() -> Collector {
    Collector::new(
        "stat_database",
        "Transactions, blocks, rows, conflicts and deadlocks by database, from pg_stat_database",
    )
    .prefix("pg_stat_database")
    .query(
        Query::new()
            .sql(
                before(14),
                "SELECT datid, datname, numbackends, xact_commit, xact_rollback, blks_read,
                        blks_hit, tup_returned, tup_fetched, tup_inserted, tup_updated,
                        tup_deleted, conflicts, temp_files, temp_bytes, deadlocks,
                        blk_read_time, blk_write_time,
                        coalesce(extract(epoch FROM stats_reset), 0) AS stats_reset
                   FROM pg_catalog.pg_stat_database
                  WHERE datname IS NOT NULL",
            )
            .sql(
                since(14),
                "SELECT datid, datname, numbackends, xact_commit, xact_rollback, blks_read,
                        blks_hit, tup_returned, tup_fetched, tup_inserted, tup_updated,
                        tup_deleted, conflicts, temp_files, temp_bytes, deadlocks,
                        blk_read_time, blk_write_time,
                        coalesce(extract(epoch FROM stats_reset), 0) AS stats_reset,
                        active_time / 1000 AS active_time_seconds_total
                   FROM pg_catalog.pg_stat_database
                  WHERE datname IS NOT NULL",
            )
            .label("datid")
            .label("datname")
            .gauge("numbackends", "Server processes connected to the database")
            .counter("xact_commit", "Transactions committed")
            .with_setting("track_counts")
            .counter("xact_rollback", "Transactions rolled back")
            .with_setting("track_counts")
            .counter("blks_read", "Blocks read that were not in shared buffers")
            .with_setting("track_counts")
            .counter("blks_hit", "Blocks found in shared buffers")
            .with_setting("track_counts")
            .counter("tup_returned", "Rows returned by scans (tup_returned)")
            .with_setting("track_counts")
            .counter("tup_fetched", "Rows fetched by index scans (tup_fetched)")
            .with_setting("track_counts")
            .counter("tup_inserted", "Rows inserted")
            .with_setting("track_counts")
            .counter("tup_updated", "Rows updated")
            .with_setting("track_counts")
            .counter("tup_deleted", "Rows deleted")
            .with_setting("track_counts")
            .counter(
                "conflicts",
                "Queries cancelled by conflicts with recovery; only on a standby",
            )
            .with_setting("track_counts")
            .counter("temp_files", "Temporary files created by queries")
            .with_setting("track_counts")
            .counter("temp_bytes", "Bytes that queries wrote to temporary files")
            .with_setting("track_counts")
            .counter("deadlocks", "Deadlocks")
            .with_setting("track_counts")
            .counter(
                "blk_read_time",
                "Time that sessions spent reading blocks, in milliseconds; needs track_io_timing",
            )
            .with_setting("track_io_timing")
            .counter(
                "blk_write_time",
                "Time that sessions spent writing blocks, in milliseconds; needs track_io_timing",
            )
            .with_setting("track_io_timing")
            .counter(
                "stats_reset",
                "When these statistics were last reset, as Unix time in seconds; 0 for never",
            )
            .counter(
                "active_time_seconds_total",
                "Time that sessions spent executing statements, in seconds",
            )
            .with_setting("track_activities"),
    )
}
