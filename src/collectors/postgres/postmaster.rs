//! When the server was started.

use crate::query::{ALL, Collector, Query};

/// The server's start, from `pg_postmaster_start_time()`.
pub fn collector() -> Collector {
    Collector::new("postmaster", "When the server was started")
        .prefix("pg_postmaster")
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT extract(epoch FROM pg_postmaster_start_time()) AS start_time_seconds",
                )
                .gauge(
                    "start_time_seconds",
                    "When the server was started, as Unix time",
                ),
        )
}
