//! The version of Synapse's schema.

use crate::query::{ALL, Collector, Query, Scope};

/// From `schema_version` and `schema_compat_version`.
pub fn collector() -> Collector {
    Collector::new("synapse_schema", "Version of Synapse's schema")
        .query(
            Query::new("synapse_db")
                .scope(Scope::Synapse)
                .reads("schema_version", &["version"])
                .sql(
                    ALL,
                    "SELECT current_database() AS datname, version AS schema_version
                       FROM {schema}.schema_version",
                )
                .label("datname")
                .gauge("schema_version", "Version of the schema"),
        )
        .query(
            Query::new("synapse_db")
                .scope(Scope::Synapse)
                .reads("schema_compat_version", &["compat_version"])
                .sql(
                    ALL,
                    "SELECT current_database() AS datname,
                            compat_version AS schema_compat_version
                       FROM {schema}.schema_compat_version",
                )
                .label("datname")
                .gauge(
                    "schema_compat_version",
                    "Oldest version of the schema to which Synapse can be rolled back",
                ),
        )
}
