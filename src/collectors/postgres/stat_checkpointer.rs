//! The checkpointer, from 17 on.

use crate::query::{Collector, Query, between, since};

/// From `pg_stat_checkpointer`.
pub fn collector() -> Collector {
    Collector::new(
        "stat_checkpointer",
        "Checkpointer, from pg_stat_checkpointer",
    )
    .prefix("pg_stat_checkpointer")
    .query(
        Query::new()
            .sql(
                between(17, 18),
                "SELECT num_timed AS num_timed_total,
                        num_requested AS num_requested_total,
                        restartpoints_timed AS restartpoints_timed_total,
                        restartpoints_req AS restartpoints_req_total,
                        restartpoints_done AS restartpoints_done_total,
                        write_time AS write_time_total,
                        sync_time AS sync_time_total,
                        buffers_written AS buffers_written_total,
                        extract(epoch FROM stats_reset) AS stats_reset_total
                   FROM pg_catalog.pg_stat_checkpointer",
            )
            .sql(
                since(18),
                "SELECT num_timed AS num_timed_total,
                        num_requested AS num_requested_total,
                        num_done AS num_done_total,
                        restartpoints_timed AS restartpoints_timed_total,
                        restartpoints_req AS restartpoints_req_total,
                        restartpoints_done AS restartpoints_done_total,
                        write_time AS write_time_total,
                        sync_time AS sync_time_total,
                        buffers_written AS buffers_written_total,
                        slru_written AS slru_written_total,
                        extract(epoch FROM stats_reset) AS stats_reset_total
                   FROM pg_catalog.pg_stat_checkpointer",
            )
            .counter(
                "num_timed_total",
                "Checkpoints started by checkpoint_timeout, skipped ones included",
            )
            .counter(
                "num_requested_total",
                "Checkpoints requested, skipped ones included",
            )
            .counter("num_done_total", "Checkpoints completed")
            .counter(
                "restartpoints_timed_total",
                "Restartpoints started by checkpoint_timeout",
            )
            .counter("restartpoints_req_total", "Restartpoints requested")
            .counter("restartpoints_done_total", "Restartpoints completed")
            .counter(
                "write_time_total",
                "Time spent writing files, in milliseconds",
            )
            .counter(
                "sync_time_total",
                "Time spent syncing files, in milliseconds",
            )
            .counter("buffers_written_total", "Shared buffers written")
            .counter("slru_written_total", "Buffers of SLRU caches written")
            .counter(
                "stats_reset_total",
                "When these statistics were last reset, as Unix time in seconds",
            ),
    )
}
