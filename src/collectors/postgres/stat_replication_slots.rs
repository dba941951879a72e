//! What logical replication slots have decoded.

use crate::query::{Collector, Query, since};

/// From `pg_stat_replication_slots`, which has no physical slots. What is spilled or streamed before
/// its commit is counted each time, and a transaction that is decoded again is counted again.
pub fn collector() -> Collector {
    Collector::new(
        "stat_replication_slots",
        "What logical replication slots have decoded, from pg_stat_replication_slots",
    )
    .prefix("pg_stat_replication_slots")
    .query(
        Query::new()
            .sql(
                since(14),
                "SELECT slot_name, spill_txns AS spill_txns_total,
                        spill_bytes AS spill_bytes_total, stream_txns AS stream_txns_total,
                        stream_bytes AS stream_bytes_total, total_txns AS decoded_txns_total,
                        total_bytes AS decoded_bytes_total
                   FROM pg_catalog.pg_stat_replication_slots",
            )
            .label("slot_name")
            .counter(
                "spill_txns_total",
                "Transactions spilled to disk, since they did not fit in \
                 logical_decoding_work_mem",
            )
            .counter(
                "spill_bytes_total",
                "Decoded changes spilled to disk, in bytes",
            )
            .counter(
                "stream_txns_total",
                "Transactions sent while they were in progress, since they did not fit in \
                 logical_decoding_work_mem",
            )
            .counter(
                "stream_bytes_total",
                "Decoded changes sent while their transactions were in progress, in bytes",
            )
            .counter(
                "decoded_txns_total",
                "Transactions decoded and handed to the output plugin",
            )
            .counter(
                "decoded_bytes_total",
                "Decoded changes handed to the output plugin, in bytes",
            ),
    )
}
