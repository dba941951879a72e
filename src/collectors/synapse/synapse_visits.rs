//! Who comes, who comes again, and who counts against the limit.

use crate::query::{ALL, Collector, Query};

/// From `user_daily_visits`, which holds the start of each day (UTC) on which a device was used,
/// guests and bridged users left out, and from `monthly_active_users`.
pub fn collector() -> Collector {
    Collector::synapse("synapse_visits", "Daily, retained and monthly active users")
        .ttl(3600)
        .query(visitors())
        .query(monthly())
}

/// Who came back, as Synapse counts it for its own report. The inner SELECTs of the time run once.
fn visitors() -> Query {
    Query::new()
        .reads("user_daily_visits", &["user_id", "timestamp"])
        .by_unique_key(
            "user_id",
            "SELECT user_id, max(timestamp) - min(timestamp) AS longest,
                    bool_or(timestamp = (SELECT (floor(extract(epoch FROM now()) / 86400)::bigint
                                                 - 1) * 86400000)) AS yesterday
               FROM {schema}.user_daily_visits
              WHERE timestamp > (extract(epoch FROM now())::bigint - 5184000) * 1000
                AND timestamp < (extract(epoch FROM now())::bigint + 86400) * 1000
              GROUP BY user_id",
        )
        .sql(
            ALL,
            "SELECT count(*) FILTER (WHERE yesterday) AS users_active_yesterday,
                    count(*) FILTER (WHERE longest > 2592000000) AS users_retained_30d
               FROM {piece} AS p",
        )
        .gauge(
            "users_active_yesterday",
            "Daily active users of the last whole day (UTC), without guests and users of \
             application services",
        )
        .gauge(
            "users_retained_30d",
            "Retained users (R30v2): active twice within 60 days, more than 30 days apart, \
             without guests and users of application services",
        )
}

/// Synapse fills this table only where it limits the active users, or was told to count them. The
/// subquery looks each user up; a join may read all users for each piece.
fn monthly() -> Query {
    Query::new()
        .reads("monthly_active_users", &["user_id"])
        .reads("users", &["name", "appservice_id"])
        .by_pages("monthly_active_users")
        .sql(
            ALL,
            "SELECT CASE WHEN (SELECT u.appservice_id FROM {schema}.users AS u
                                WHERE u.name = m.user_id) <> '' THEN 'bridged'
                         ELSE 'native' END AS kind,
                    count(*) AS users_monthly_active
               FROM (SELECT user_id FROM {schema}.monthly_active_users WHERE {pages}) AS m
              GROUP BY 1",
        )
        .label("kind")
        .gauge(
            "users_monthly_active",
            "Monthly active users (MAU); max_mau_value limits native ones. No sample unless \
             Synapse has limit_usage_by_mau or mau_stats_only",
        )
}
