//! WAL files that wait for the archiver.

use crate::query::{ALL, Collector, Query, Role};

/// The backlog of WAL archiving, from the directory `archive_status`. Files wait only where an
/// archiver runs: those that a primary has left when it became a standby wait for nobody.
pub fn collector() -> Collector {
    Collector::new(
        "archive_ready",
        "WAL files that are ready and wait to be archived, from the directory archive_status",
    )
    .prefix("pg_wal_archive_ready")
    .query(
        Query::new()
            .on(Role::Archiver)
            .needs("archive_mode")
            .sql(
                ALL,
                "SELECT count(*) AS files,
                        coalesce(extract(epoch FROM clock_timestamp() - min(f.modification)), 0)
                            AS oldest_age_seconds
                   FROM {pg_ls_archive_statusdir} AS f
                  WHERE f.name LIKE '%.ready'",
            )
            .gauge("files", "WAL files ready to be archived (.ready files)")
            .gauge(
                "oldest_age_seconds",
                "Age of the oldest .ready file, in seconds; 0 if there is none",
            ),
    )
}
