//! Who comes, who comes again, and who counts against the licence.

use crate::query::{ALL, Collector, Query, Scope};

/// From `user_daily_visits`, which holds the start of each day (UTC) on which a device was used,
/// guests and bridged users left out.
pub fn collector() -> Collector {
    Collector::new("synapse_visits", "Users of Synapse who came yesterday, and who come back")
        .ttl(3600)
        .query(yesterday())
        .query(retained())
}

fn yesterday() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("user_daily_visits", &["user_id", "timestamp"])
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(DISTINCT user_id) AS users_active_yesterday
               FROM {schema}.user_daily_visits
              WHERE timestamp
                    = (floor(extract(epoch FROM now()) / 86400)::bigint - 1) * 86400000",
        )
        .label("datname")
        .gauge(
            "users_active_yesterday",
            "Users who were there on the last whole day (UTC), without guests and bridged ones",
        )
}

/// As Synapse reckons it for its own report.
fn retained() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("user_daily_visits", &["user_id", "timestamp"])
        .sql(
            ALL,
            "SELECT current_database() AS datname, count(*) AS users_retained_30d
               FROM (SELECT user_id
                       FROM {schema}.user_daily_visits
                      WHERE timestamp > (extract(epoch FROM now())::bigint - 5184000) * 1000
                        AND timestamp < (extract(epoch FROM now())::bigint + 86400) * 1000
                      GROUP BY user_id
                     HAVING max(timestamp) - min(timestamp) > 2592000000) AS retained",
        )
        .label("datname")
        .gauge(
            "users_retained_30d",
            "Users who were there twice within 60 days, and more than 30 days apart (r30v2), \
             without guests and bridged ones",
        )
}
