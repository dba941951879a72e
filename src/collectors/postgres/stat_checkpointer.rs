//! The checkpointer, from 17 on.

use crate::query::{Collector, Query, between, since};

/// From `pg_stat_checkpointer`.
pub fn collector() -> Collector {
    Collector::new("stat_checkpointer", "Checkpointer, from pg_stat_checkpointer").query(
        Query::new("pg_stat_checkpointer")
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
            .counter("num_timed_total", "Checkpoints that came due, skipped ones too")
            .counter("num_requested_total", "Checkpoints that were requested, skipped ones too")
            .counter("num_done_total", "Checkpoints that were done")
            .on_versions(since(18))
            .counter("restartpoints_timed_total", "Restart points that came due")
            .counter("restartpoints_req_total", "Restart points that were requested")
            .counter("restartpoints_done_total", "Restart points that were done")
            .counter("write_time_total", "Milliseconds spent writing files")
            .counter("sync_time_total", "Milliseconds spent syncing files")
            .counter("buffers_written_total", "Shared buffers written")
            .counter("slru_written_total", "Buffers of SLRU caches written")
            .on_versions(since(18))
            .counter("stats_reset_total", "When these statistics were reset, as Unix time"),
    )
}
