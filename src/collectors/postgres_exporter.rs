//! The collectors of postgres_exporter, and what became of them here.

/// Those that it has, whether they are here or not.
pub const COLLECTORS: &[&str] = &[
    "buffercache_summary",
    "database",
    "database_wraparound",
    "locks",
    "long_running_transactions",
    "postmaster",
    "process_idle",
    "replication",
    "replication_slots",
    "roles",
    "settings",
    "stat_activity",
    "stat_activity_autovacuum",
    "stat_archiver",
    "stat_bgwriter",
    "stat_checkpointer",
    "stat_database",
    "stat_progress_vacuum",
    "stat_replication",
    "stat_statements",
    "stat_user_tables",
    "stat_wal_receiver",
    "statio_user_indexes",
    "statio_user_tables",
    "wal",
    "xlog_location",
];

/// What they were called in older releases.
pub const RENAMED: &[(&str, &str)] = &[
    ("bgwriter", "stat_bgwriter"),
    ("replication_slot", "replication_slots"),
];

/// Those that are several here: the second goes with the first.
pub const TOGETHER: [(&str, &str); 2] = [
    ("database", "database_size"),
    ("stat_user_tables", "table_size"),
];

/// What a collector of the same name does not give here.
pub const OTHERWISE: [(&str, &str); 1] = [(
    "stat_wal_receiver",
    "the metrics of postgres_exporter's collector of this name are not implemented yet; it serves \
     pg_stat_wal_receiver_streaming, _last_message_age_seconds and _replay_lag_bytes",
)];

/// Where it has counters without `_total`: how their names begin.
pub const WITHOUT_TOTAL: &[&str] = &[
    "pg_stat_archiver_",
    "pg_stat_database_",
    "pg_stat_user_tables_",
    "pg_statio_user_tables_",
];
