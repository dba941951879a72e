//! Limits of each role.

use crate::query::{ALL, Collector, Query};

/// Connection limits, from `pg_roles`.
pub fn collector() -> Collector {
    Collector::new("roles", "Connection limits of roles, from pg_roles")
        .prefix("pg_roles")
        .query(
            Query::new()
                .sql(
                    ALL,
                    "SELECT rolname, rolconnlimit AS connection_limit FROM pg_catalog.pg_roles",
                )
                .label("rolname")
                .gauge(
                    "connection_limit",
                    "Connection limit of the role (rolconnlimit); -1 means no limit",
                ),
        )
}
