//! How Synapse's database sorts text.

use crate::query::{Collector, Query, before, since};

/// From `pg_database`. Where the order of a locale changes with a library of the system, indexes
/// made before are corrupt: rows are not found, and come twice.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_locale",
        "Whether Synapse's database has the locale that Synapse wants",
    )
    .prefix("synapse_db_locale")
    .query(
        Query::new()
            .sql(
                before(15),
                "SELECT d.datcollate <> 'C' OR d.datctype <> 'C' AS unsafe
                   FROM pg_catalog.pg_database AS d
                  WHERE d.datname = current_database()",
            )
            .sql(
                since(15),
                "SELECT d.datcollate <> 'C' OR d.datctype <> 'C' OR d.datlocprovider = 'i'
                            AS unsafe,
                        d.datcollversion <> pg_database_collation_actual_version(d.oid)
                            AS changed
                   FROM pg_catalog.pg_database AS d
                  WHERE d.datname = current_database()",
            )
            .gauge(
                "unsafe",
                "Whether the locale is other than C (1), the only one that Synapse supports, or C (0)",
            )
            .gauge(
                "changed",
                "Whether the system sorts this locale otherwise than when the database was made \
                 (1), so that indexes may be corrupt, or as it did (0); no sample for C",
            ),
    )
}
