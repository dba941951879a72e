//! Activity of each table.

use crate::query::{ALL, Collector, Query, Role, Scope};

/// From `pg_stat_user_tables` of every database. What is written, vacuumed and analyzed is counted
/// where that is done: a standby counts reads alone, and what a former primary has counted before is
/// of the past. Temporary tables are left out: their schemas come
/// and go with sessions.
pub fn collector() -> Collector {
    Collector::new(
        "stat_user_tables",
        "Scans, rows, dead rows, vacuums and analyzes of tables, from pg_stat_user_tables",
    )
    .scope(Scope::Database)
    .prefix("pg_stat_user_tables")
    .query(
        Query::new()
            .needs("track_counts")
            .sql(
                ALL,
                "SELECT schemaname, relname,
                        seq_scan, seq_tup_read, coalesce(idx_scan, 0) AS idx_scan,
                        coalesce(idx_tup_fetch, 0) AS idx_tup_fetch,
                        n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd,
                        n_live_tup, n_dead_tup, n_mod_since_analyze,
                        coalesce(extract(epoch FROM last_vacuum), 0) AS last_vacuum,
                        coalesce(extract(epoch FROM last_autovacuum), 0) AS last_autovacuum,
                        coalesce(extract(epoch FROM last_analyze), 0) AS last_analyze,
                        coalesce(extract(epoch FROM last_autoanalyze), 0) AS last_autoanalyze,
                        vacuum_count, autovacuum_count, analyze_count, autoanalyze_count
                   FROM pg_catalog.pg_stat_user_tables
                  WHERE schemaname !~ '^pg_temp_'",
            )
            .label("schemaname")
            .label("relname")
            .counter("seq_scan", "Sequential scans")
            .counter("seq_tup_read", "Live rows that sequential scans read")
            .counter("idx_scan", "Index scans")
            .counter("idx_tup_fetch", "Live rows that index scans fetched")
            .counter("n_tup_ins", "Rows inserted")
            .on_role(Role::Primary)
            .counter("n_tup_upd", "Rows updated")
            .on_role(Role::Primary)
            .counter("n_tup_del", "Rows deleted")
            .on_role(Role::Primary)
            .counter(
                "n_tup_hot_upd",
                "Rows updated without a new index entry (HOT)",
            )
            .on_role(Role::Primary)
            .gauge("n_live_tup", "Live rows, estimated")
            .on_role(Role::Primary)
            .gauge("n_dead_tup", "Dead rows, estimated")
            .on_role(Role::Primary)
            .gauge(
                "n_mod_since_analyze",
                "Rows changed since the last analyze, estimated",
            )
            .on_role(Role::Primary)
            .gauge(
                "last_vacuum",
                "Last manual VACUUM, as Unix time in seconds; 0 for never",
            )
            .on_role(Role::Primary)
            .gauge(
                "last_autovacuum",
                "Last autovacuum, as Unix time in seconds; 0 for never",
            )
            .on_role(Role::Primary)
            .gauge(
                "last_analyze",
                "Last manual ANALYZE, as Unix time in seconds; 0 for never",
            )
            .on_role(Role::Primary)
            .gauge(
                "last_autoanalyze",
                "Last autoanalyze, as Unix time in seconds; 0 for never",
            )
            .on_role(Role::Primary)
            .counter("vacuum_count", "Manual VACUUMs, without VACUUM FULL")
            .on_role(Role::Primary)
            .counter("autovacuum_count", "Autovacuums")
            .on_role(Role::Primary)
            .counter("analyze_count", "Manual ANALYZEs")
            .on_role(Role::Primary)
            .counter("autoanalyze_count", "Autoanalyzes")
            .on_role(Role::Primary),
    )
}
