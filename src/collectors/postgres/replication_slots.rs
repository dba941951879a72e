//! Replication slots and the WAL that they hold back.

use crate::query::{ALL, Collector, Query};

/// From `pg_replication_slots`. A standby that has restarted says that it has received less than it
/// has replayed, until something new comes; and a slot can be further than what was read a moment
/// before.
pub fn collector() -> Collector {
    Collector::new(
        "replication_slots",
        "Replication slots and the WAL that they hold back, from pg_replication_slots",
    )
    .prefix("pg_replication_slots")
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT s.slot_name, s.database, s.slot_type, s.wal_status, s.active,
                        greatest(w.lsn, s.restart_lsn) - s.restart_lsn AS pg_wal_lsn_diff,
                        w.lsn - '0/0' AS slot_current_wal_lsn,
                        CASE WHEN s.active
                             THEN coalesce(s.confirmed_flush_lsn, '0/0') - '0/0'
                        END AS slot_confirmed_flush_lsn,
                        s.active AS slot_is_active,
                        s.safe_wal_size AS safe_wal_size_bytes,
                        CASE WHEN s.wal_status IS NOT NULL THEN 1 END AS has_wal_status
                   FROM pg_catalog.pg_replication_slots AS s
                  CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery()
                                          THEN greatest(pg_last_wal_receive_lsn(),
                                                        pg_last_wal_replay_lsn())
                                          ELSE pg_current_wal_lsn()
                                     END AS lsn) AS w",
            )
            .label("slot_name")
            .label("database")
            .label("slot_type")
            .label("wal_status")
            .gauge(
                "active",
                "Whether the slot has a connected consumer (1) or not (0)",
            )
            .with_labels(&["slot_name", "database"])
            .gauge("pg_wal_lsn_diff", "WAL that the slot keeps, in bytes")
            .with_labels(&["slot_name", "database"])
            .gauge(
                "slot_current_wal_lsn",
                "Current WAL position of the server, in bytes",
            )
            .with_labels(&["slot_name", "slot_type"])
            .gauge(
                "slot_confirmed_flush_lsn",
                "WAL position confirmed by the consumer of a logical slot, in bytes; only while \
                 it is connected",
            )
            .with_labels(&["slot_name", "slot_type"])
            .gauge(
                "slot_is_active",
                "Whether the slot has a connected consumer (1) or not (0); the same as \
                 pg_replication_slots_active",
            )
            .with_labels(&["slot_name", "slot_type"])
            .gauge(
                "safe_wal_size_bytes",
                "WAL that can still be written before the slot may be invalidated \
                 (max_slot_wal_keep_size), in bytes",
            )
            .with_labels(&["slot_name", "slot_type"])
            .gauge(
                "has_wal_status",
                "Always 1; the label wal_status says whether the slot's WAL is reserved, \
                 extended, unreserved or lost",
            )
            .named("pg_replication_slots_wal_status")
            .with_labels(&["slot_name", "slot_type", "wal_status"]),
    )
}
