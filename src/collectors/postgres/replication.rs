//! How far a standby is behind.

use crate::query::{ALL, Collector, Query};

/// Role and lag, from the recovery functions.
///
/// A standby that has replayed all it received is only up to date while its receiver runs:
/// without one it knows nothing of the primary. After a restart it says that it has received less
/// than it has replayed, until something new comes. A primary never replays, so a promoted one says 0
/// and not the age of what it replayed before.
pub fn collector() -> Collector {
    Collector::new(
        "replication",
        "Whether the server is a standby, and its replication lag",
    )
    .prefix("pg_replication")
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT CASE
                          WHEN NOT r.standby THEN 0
                          WHEN r.receives AND pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()
                          THEN 0
                          ELSE r.age
                        END AS lag_seconds,
                        r.standby AS is_replica,
                        CASE WHEN r.standby THEN r.age ELSE 0 END AS last_replay_seconds
                   FROM (SELECT pg_is_in_recovery() AS standby,
                                EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) AS receives,
                                extract(epoch FROM clock_timestamp()
                                        - pg_last_xact_replay_timestamp()) AS age) AS r",
            )
            .gauge(
                "lag_seconds",
                "Replication lag of the standby, in seconds; 0 on a primary",
            )
            .gauge(
                "is_replica",
                "Whether the server is a standby (1) or not (0)",
            )
            .gauge(
                "last_replay_seconds",
                "Seconds since the commit of the last replayed transaction; 0 on a primary",
            ),
    )
}
