//! What a standby knows of its stream.

use crate::query::{ALL, Collector, Query, Role};

/// From `pg_stat_wal_receiver`; one row, also where nothing is received.
pub fn collector() -> Collector {
    Collector::new(
        "stat_wal_receiver",
        "WAL that a standby receives, from pg_stat_wal_receiver",
    )
    .prefix("pg_stat_wal_receiver")
    .query(
        Query::new()
            .on(Role::Standby)
            .sql(
                ALL,
                "SELECT count(*) FILTER (WHERE r.status = 'streaming') AS streaming,
                        max(extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time))
                            AS last_message_age_seconds,
                        max(greatest(r.latest_end_lsn, w.replayed) - w.replayed)
                            AS replay_lag_bytes
                   FROM {pg_stat_wal_receiver} AS r
                  CROSS JOIN (SELECT pg_last_wal_replay_lsn() AS replayed) AS w",
            )
            .gauge(
                "streaming",
                "Whether WAL is streamed from the upstream server (1) or not (0)",
            )
            .gauge(
                "last_message_age_seconds",
                "Time since the last message from the upstream server, in seconds",
            )
            .gauge(
                "replay_lag_bytes",
                "WAL that this standby has not replayed, up to the end of WAL that the upstream \
                 server reported last, in bytes",
            ),
    )
}
