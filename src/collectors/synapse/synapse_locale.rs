//! How Synapse's database sorts text.

use crate::query::{Collector, Query, before, since};

/// From `pg_database`. Where the order of a locale changes with a library of the system, indexes
/// made before are corrupt: rows are not found, and come twice.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_locale",
        "Locale and collation version of Synapse's database",
    )
    .query(
        Query::new()
            .sql(
                before(15),
                "SELECT d.datcollate <> 'C' OR d.datctype <> 'C' AS locale_not_c
                   FROM pg_catalog.pg_database AS d
                  WHERE d.datname = current_database()",
            )
            .sql(
                since(15),
                "SELECT d.datcollate <> 'C' OR d.datctype <> 'C' OR d.datlocprovider = 'i'
                            AS locale_not_c,
                        d.datcollversion <> pg_database_collation_actual_version(d.oid)
                            AS collation_version_mismatch
                   FROM pg_catalog.pg_database AS d
                  WHERE d.datname = current_database()",
            )
            .gauge(
                "locale_not_c",
                "1 if LC_COLLATE or LC_CTYPE is not C, the only locale that Synapse supports; 0 \
                 if both are C",
            )
            .gauge(
                "collation_version_mismatch",
                "1 if the collation version recorded in the database differs from the operating \
                 system's, so that indexes may be corrupt; 0 if it is the same; no sample for the \
                 locale C",
            ),
    )
}
