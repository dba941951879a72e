//! The background writer, and before 17 the checkpointer.

use crate::query::{Collector, Query, before, since};

/// From `pg_stat_bgwriter`; what 17 took out of it is in `stat_checkpointer`.
pub fn collector() -> Collector {
    Collector::new(
        "stat_bgwriter",
        "Background writer, and before 17 the checkpointer, from pg_stat_bgwriter",
    )
    .prefix("pg_stat_bgwriter")
    .query(
        Query::new()
            .sql(
                before(17),
                "SELECT checkpoints_timed AS checkpoints_timed_total,
                        checkpoints_req AS checkpoints_req_total,
                        checkpoint_write_time AS checkpoint_write_time_total,
                        checkpoint_sync_time AS checkpoint_sync_time_total,
                        buffers_checkpoint AS buffers_checkpoint_total,
                        buffers_clean AS buffers_clean_total,
                        maxwritten_clean AS maxwritten_clean_total,
                        buffers_backend AS buffers_backend_total,
                        buffers_backend_fsync AS buffers_backend_fsync_total,
                        buffers_alloc AS buffers_alloc_total,
                        extract(epoch FROM stats_reset) AS stats_reset_total
                   FROM pg_catalog.pg_stat_bgwriter",
            )
            .sql(
                since(17),
                "SELECT buffers_clean AS buffers_clean_total,
                        maxwritten_clean AS maxwritten_clean_total,
                        buffers_alloc AS buffers_alloc_total,
                        extract(epoch FROM stats_reset) AS stats_reset_total
                   FROM pg_catalog.pg_stat_bgwriter",
            )
            .counter(
                "checkpoints_timed_total",
                "Checkpoints started by checkpoint_timeout",
            )
            .counter(
                "checkpoints_req_total",
                "Checkpoints requested (by max_wal_size, CHECKPOINT and others)",
            )
            .counter(
                "checkpoint_write_time_total",
                "Time that checkpoints spent writing files, in milliseconds",
            )
            .counter(
                "checkpoint_sync_time_total",
                "Time that checkpoints spent syncing files, in milliseconds",
            )
            .counter("buffers_checkpoint_total", "Buffers written by checkpoints")
            .counter(
                "buffers_clean_total",
                "Buffers written by the background writer",
            )
            .counter(
                "maxwritten_clean_total",
                "Times the background writer stopped because it had written bgwriter_lru_maxpages \
                 buffers",
            )
            .counter(
                "buffers_backend_total",
                "Buffers written by backends themselves",
            )
            .counter(
                "buffers_backend_fsync_total",
                "fsync calls by backends themselves",
            )
            .counter("buffers_alloc_total", "Buffers allocated")
            .counter(
                "stats_reset_total",
                "When these statistics were last reset, as Unix time in seconds",
            ),
    )
}
