//! Sessions.

use crate::query::{ALL, Collector, Query};

/// Sessions by everything that tells them apart, from `pg_stat_activity`.
///
/// Each pair of database and state has a row: zero, without the other labels, where no session is.
/// Where sessions are not tracked, their states are not known, and nothing is zero.
pub fn collector() -> Collector {
    Collector::new(
        "stat_activity",
        "Sessions by database, state, user, application and wait event, from pg_stat_activity",
    )
    .prefix("pg_stat_activity")
    .query(
        Query::new()
            .sql(
                ALL,
                "SELECT t.datname, t.state, t.usename, t.application_name, t.backend_type,
                        t.wait_event_type, t.wait_event,
                        CASE WHEN t.sessions > 0 OR t.disabled IS NOT TRUE
                             THEN coalesce(t.sessions, 0) END AS count,
                        CASE WHEN t.state <> 'disabled' AND t.sessions > 0
                                  OR t.disabled IS NOT TRUE
                             THEN coalesce(t.duration, 0) END AS max_tx_duration,
                        CASE WHEN t.disabled THEN 'setting_off' END AS reason
                   FROM (
                 SELECT d.datname, s.state, a.usename, a.application_name, a.backend_type,
                        a.wait_event_type, a.wait_event, a.sessions, a.duration,
                        bool_or(a.state = 'disabled' AND NOT (
                            a.usename = current_user AND a.application_name
                            = current_setting('application_name')))
                            OVER (PARTITION BY d.datname) AS disabled
                   FROM pg_catalog.pg_database AS d
                  CROSS JOIN (VALUES ('active'), ('idle'), ('idle in transaction'),
                                     ('idle in transaction (aborted)'),
                                     ('fastpath function call'), ('disabled')) AS s (state)
                   LEFT JOIN (SELECT datname, state, usename, application_name, backend_type,
                                     wait_event_type, wait_event, count(*) AS sessions,
                                     greatest(max(extract(epoch FROM now() - xact_start)), 0)
                                         AS duration
                                FROM {pg_stat_activity} AS p
                               WHERE pid <> pg_backend_pid()
                               GROUP BY 1, 2, 3, 4, 5, 6, 7) AS a
                     ON a.datname = d.datname AND a.state = s.state) AS t",
            )
            .label("datname")
            .label("state")
            .label("usename")
            .label("application_name")
            .label("backend_type")
            .label("wait_event_type")
            .label("wait_event")
            .gauge("count", "Number of sessions")
            .gauge(
                "max_tx_duration",
                "Age of the oldest transaction of these sessions, in seconds",
            )
            .reason(),
    )
}
