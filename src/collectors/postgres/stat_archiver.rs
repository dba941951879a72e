//! WAL archiving.

use crate::query::{ALL, Collector, Query, Role};

/// WAL archiving, from `pg_stat_archiver`.
pub fn collector() -> Collector {
    Collector::new("stat_archiver", "WAL archiving, from pg_stat_archiver")
        .prefix("pg_stat_archiver")
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT archived_count, failed_count,
                        extract(epoch FROM now() - last_archived_time) AS last_archive_age
                   FROM pg_catalog.pg_stat_archiver",
                )
                .counter("archived_count", "WAL files archived successfully")
                .counter("failed_count", "Failed attempts to archive a WAL file")
                .gauge(
                    "last_archive_age",
                    "Seconds since the last WAL file was archived",
                )
                .on_role(Role::Archiver)
                .with_setting("archive_mode"),
        )
}
