//! Who streams WAL from this server.

use crate::query::{ALL, Collector, Merge, Query};

/// Of each walsender `r`, beside the WAL position `w` of this server.
macro_rules! walsenders {
    ($values:literal) => {
        Query::new()
            .merge(Merge::Max)
            .sql(
                ALL,
                concat!(
                    "SELECT r.application_name, r.client_addr, r.state, s.slot_name, ",
                    $values,
                    " FROM {pg_stat_replication} AS r
                      LEFT JOIN pg_catalog.pg_replication_slots AS s ON s.active_pid = r.pid
                     CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery()
                                             THEN greatest(pg_last_wal_receive_lsn(),
                                                           pg_last_wal_replay_lsn())
                                             ELSE pg_current_wal_lsn()
                                        END AS lsn) AS w"
                ),
            )
            .label("application_name")
            .label("client_addr")
            .label("state")
            .label("slot_name")
    };
}

/// From `pg_stat_replication`. Of two walsenders with the same labels the one further behind
/// counts. A standby that has restarted says that it has received less than it has replayed, until
/// something new comes.
pub fn collector() -> Collector {
    Collector::new(
        "stat_replication",
        "Walsenders and how far their receivers are behind, from pg_stat_replication",
    )
    .prefix("pg_stat_replication")
    .query(
        walsenders!(
            "pg_wal_lsn_diff(w.lsn, '0/0') AS pg_current_wal_lsn_bytes,
             greatest(w.lsn, r.replay_lsn) - r.replay_lsn AS pg_wal_lsn_diff"
        )
        .gauge(
            "pg_current_wal_lsn_bytes",
            "Current WAL position of this server, in bytes",
        )
        .gauge(
            "pg_wal_lsn_diff",
            "WAL not yet replayed by the receiver, in bytes",
        ),
    )
    // The function of an older program does not return flush_lsn.
    .query(
        walsenders!("greatest(w.lsn, r.flush_lsn) - r.flush_lsn AS flush_lag_bytes").gauge(
            "flush_lag_bytes",
            "WAL not yet on the receiver's disk, in bytes",
        ),
    )
}
