//! How long sessions, queries and transactions have lasted.

use crate::query::{ALL, Collector, Merge, Query, Role};

/// Client sessions by database, from `pg_stat_activity`, and prepared transactions.
pub fn collector() -> Collector {
    Collector::new(
        "activity",
        "Sessions by state; the longest query, transaction and idle transaction, and how many \
         last longer than 1, 5 and 60 minutes; prepared transactions",
    )
    .prefix("pg_activity")
    .query(sessions())
    .query(durations())
    .query(prepared_transactions())
}

/// Zero for a state that no session is in, so that a rule never compares with nothing. What our own
/// role has set for its sessions hides no others.
fn sessions() -> Query {
    Query::new()
        .sql(
            ALL,
            "SELECT t.datname, t.state,
                    CASE WHEN t.state = 'disabled' OR t.disabled = 0 THEN t.sessions END
                        AS sessions,
                    CASE WHEN t.disabled + t.ageless > 0 THEN 'setting_off' END AS reason
               FROM (SELECT d.datname, s.state, count(a.pid) AS sessions,
                            sum(count(a.pid) FILTER (WHERE s.state = 'disabled' AND NOT (
                                    a.usename = current_user AND a.application_name
                                    = current_setting('application_name'))))
                                OVER (PARTITION BY d.datname) AS disabled,
                            count(a.pid) FILTER (WHERE s.state = 'idle in transaction'
                                                   AND a.xact_start IS NULL) AS ageless
                       FROM pg_catalog.pg_database AS d
                      CROSS JOIN (VALUES ('active'), ('idle'), ('idle in transaction'),
                                         ('idle in transaction (aborted)'),
                                         ('fastpath function call'), ('disabled')) AS s (state)
                       LEFT JOIN {pg_stat_activity} AS a
                         ON a.datname = d.datname AND a.state = s.state
                        AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
                      WHERE d.datallowconn
                      GROUP BY d.datname, s.state) AS t",
        )
        .label("datname")
        .label("state")
        .gauge(
            "sessions",
            "Client sessions by state, without the exporter's own. Sessions with track_activities \
             off have the state disabled; while there are any, the numbers of the other states \
             have no samples",
        )
        .reason()
}

/// Each database has a row per threshold; what does not depend on it is the same in all of them.
/// Where a session is not tracked, or has begun its transaction so, there is none. A transaction
/// that has failed has no beginning in the view, and is known as idle only.
fn durations() -> Query {
    Query::new()
        .merge(Merge::Max)
        .sql(
            ALL,
            "SELECT d.datname, t.threshold_seconds,
                    coalesce(max(extract(epoch FROM a.running)), 0) AS longest_query_seconds,
                    coalesce(max(extract(epoch FROM a.open)), 0) AS longest_transaction_seconds,
                    coalesce(max(extract(epoch FROM a.idle)), 0)
                        AS longest_idle_in_transaction_seconds,
                    count(*) FILTER (WHERE a.running > t.age) AS long_queries,
                    count(*) FILTER (WHERE a.open > t.age) AS long_transactions,
                    count(*) FILTER (WHERE a.idle > t.age) AS long_idle_in_transaction
               FROM pg_catalog.pg_database AS d
              CROSS JOIN (VALUES (60, interval '1 minute'), (300, interval '5 minutes'),
                                 (3600, interval '1 hour')) AS t (threshold_seconds, age)
               LEFT JOIN (SELECT p.datname, p.state = 'disabled' AND NOT (
                                     p.usename = current_user AND p.application_name
                                     = current_setting('application_name'))
                                 OR p.state = 'idle in transaction' AND p.xact_start IS NULL
                                     AS unknown,
                                 clock_timestamp() - p.xact_start AS open,
                                 CASE WHEN p.state = 'active'
                                      THEN clock_timestamp() - p.query_start END AS running,
                                 CASE WHEN p.state LIKE 'idle in transaction%'
                                      THEN clock_timestamp() - p.state_change END AS idle
                            FROM {pg_stat_activity} AS p
                           WHERE p.backend_type = 'client backend'
                             AND p.pid <> pg_backend_pid()) AS a
                 ON a.datname = d.datname
              WHERE d.datallowconn
              GROUP BY d.datname, t.threshold_seconds
             HAVING bool_or(a.unknown) IS NOT TRUE",
        )
        .label("datname")
        .label("threshold_seconds")
        .gauge(
            "longest_query_seconds",
            "Duration of the longest running query, in seconds; 0 if none runs",
        )
        .with_labels(&["datname"])
        .gauge(
            "longest_transaction_seconds",
            "Age of the oldest open transaction, in seconds; 0 if none is open",
        )
        .with_labels(&["datname"])
        .gauge(
            "longest_idle_in_transaction_seconds",
            "Longest time that a session has been idle in a transaction, in seconds; 0 if there \
             is none",
        )
        .with_labels(&["datname"])
        .gauge(
            "long_queries",
            "Queries that have been running for longer than threshold_seconds",
        )
        .gauge(
            "long_transactions",
            "Transactions that have been open for longer than threshold_seconds",
        )
        .gauge(
            "long_idle_in_transaction",
            "Sessions that have been idle in a transaction for longer than threshold_seconds",
        )
}

/// A standby does not show those of its primary.
fn prepared_transactions() -> Query {
    Query::new()
        .on(Role::Primary)
        .sql(
            ALL,
            "SELECT d.datname, count(p.gid) AS count,
                    coalesce(extract(epoch FROM clock_timestamp() - min(p.prepared)), 0)
                        AS oldest_age_seconds
               FROM pg_catalog.pg_database AS d
               LEFT JOIN pg_catalog.pg_prepared_xacts AS p ON p.database = d.datname
              WHERE d.datallowconn
              GROUP BY d.datname",
        )
        .label("datname")
        .gauge(
            "count",
            "Prepared transactions; they hold their locks until COMMIT PREPARED or ROLLBACK \
             PREPARED",
        )
        .named("pg_prepared_xacts")
        .gauge(
            "oldest_age_seconds",
            "Age of the oldest prepared transaction, in seconds; 0 if there is none",
        )
        .named("pg_prepared_xacts_oldest_age_seconds")
}
