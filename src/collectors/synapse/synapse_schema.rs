//! The version of Synapse's schema, and which part of it is in which database.

use crate::query::{ALL, Collector, Query};

/// From `schema_version` and `schema_compat_version`, which each part has. The state of rooms may
/// have a database of its own.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_schema",
        "Version of Synapse's database schema, and which data store is in the database",
    )
    .query(
        Query::new()
            .reads("schema_version", &["version"])
            .sql(
                ALL,
                "SELECT version AS schema_version
                       FROM {schema}.schema_version",
            )
            .gauge("schema_version", "Version of Synapse's database schema"),
    )
    .query(
        Query::new()
            .reads("schema_compat_version", &["compat_version"])
            .sql(
                ALL,
                "SELECT compat_version AS schema_compat_version
                       FROM {schema}.schema_compat_version",
            )
            .gauge(
                "schema_compat_version",
                "Oldest schema version to which Synapse can be rolled back",
            ),
    )
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT CASE c.relname WHEN 'events' THEN 'main' ELSE 'state' END AS store,
                            1 AS data_store_info
                       FROM pg_catalog.pg_class AS c
                       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                      WHERE n.nspname = {schema_name} AND c.relkind IN ('r', 'p')
                        AND c.relname IN ('events', 'state_groups_state')",
            )
            .label("store")
            .gauge(
                "data_store_info",
                "Always 1; store is the Synapse data store in this database, main or state, with \
                 a sample for each where it has both",
            ),
    )
}
