//! The server's settings.

use crate::query::{ALL, Collector, Query};

/// Every numeric and boolean setting, from `pg_settings`, in seconds or bytes where it has a unit.
///
/// What this exporter sets for its own statement shows as the value that it will be reset to. A
/// setting of -1 is a word and not a quantity, so it is never converted.
pub fn collector() -> Collector {
    Collector::new(
        "settings",
        "Numeric and boolean settings, from pg_settings, in seconds or bytes where they have a \
         unit",
    )
    .prefix("pg_settings")
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT regexp_replace(s.name, '[^A-Za-z0-9_]', '_', 'g')
                          || CASE WHEN s.unit IS NULL THEN ''
                                  WHEN s.seconds IS NULL THEN '_bytes'
                                  ELSE '_seconds' END AS name,
                        'Setting ' || s.name
                          || CASE WHEN s.unit IS NULL THEN ''
                                  WHEN s.seconds IS NULL THEN ', in bytes'
                                  ELSE ', in seconds' END AS help,
                        CASE WHEN s.vartype = 'bool' THEN (s.value = 'on')::int::float8
                             WHEN s.unit IS NULL OR s.value::float8 = -1 THEN s.value::float8
                             ELSE s.value::float8 * coalesce(s.seconds, s.bytes) END AS value
                   FROM (SELECT p.name, p.vartype, p.unit,
                                CASE WHEN p.name = 'transaction_read_only'
                                     THEN CASE WHEN pg_is_in_recovery() THEN 'on'
                                               ELSE p.reset_val END
                                     WHEN p.source = 'session' THEN p.reset_val
                                     ELSE p.setting END AS value,
                                CASE WHEN p.unit IN ('ms', 's', 'min', 'h', 'd')
                                     THEN extract(epoch FROM ('1' || p.unit)::interval)::float8
                                END AS seconds,
                                coalesce(substring(p.unit FROM '^[0-9]+')::float8, 1) * b.bytes
                                  AS bytes
                           FROM pg_catalog.pg_settings AS p
                           LEFT JOIN (VALUES ('B', 1), ('kB', 1024), ('MB', 1048576),
                                             ('GB', 1073741824), ('TB', 1099511627776))
                                  AS b (unit, bytes)
                             ON b.unit = ltrim(p.unit, '0123456789')
                          WHERE p.vartype IN ('bool', 'integer', 'real')) AS s",
            )
            .gauge_per_row("value"),
    )
}
