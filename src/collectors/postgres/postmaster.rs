//! When the server was started.

use crate::query::{ALL, Collector, Query};

/// The server's start, from `pg_postmaster_start_time()`.
pub fn collector() -> Collector {
    Collector::new("postmaster", "Start time of the server")
        .prefix("pg_postmaster")
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT extract(epoch FROM pg_postmaster_start_time()) AS start_time_seconds",
                )
                .gauge(
                    "start_time_seconds",
                    "Start of the server, as Unix time in seconds",
                ),
        )
}
