//! Who is there.

use crate::query::{ALL, Collector, Query};

/// From `user_ips`, `users` and `presence_stream`.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_activity",
        "Active and newly registered users of Synapse, and users by presence state",
    )
    .ttl(300)
    .query(active())
    .query(registered())
    .query(presence())
}

/// Synapse forgets what is older than `user_ips_max_age`, 28 days unless set otherwise. The inner
/// SELECT of the time runs once; without it, the time would be calculated for each user.
fn active() -> Query {
    Query::new()
        .reads("user_ips", &["user_id", "last_seen"])
        .by_unique_key(
            "user_id",
            "SELECT user_id, max(last_seen) AS last_seen FROM {schema}.user_ips GROUP BY user_id",
        )
        .sql(
            ALL,
            "SELECT spans.within, spans.users_active
               FROM (SELECT count(*) FILTER (WHERE age < 3600000) AS hour,
                            count(*) FILTER (WHERE age < 86400000) AS day,
                            count(*) FILTER (WHERE age < 604800000) AS week,
                            count(*) FILTER (WHERE age < 2592000000) AS month
                       FROM (SELECT (SELECT (extract(epoch FROM now()) * 1000)::bigint)
                                        - last_seen AS age
                               FROM {piece} AS p) AS users) AS counts
              CROSS JOIN LATERAL (VALUES ('1h', hour), ('24h', day), ('7d', week), ('30d', month))
                              AS spans (within, users_active)",
        )
        .label("within")
        .gauge(
            "users_active",
            "Local users who sent a request within this time (1h, 24h, 7d or 30d), guests and \
             users of application services included; Synapse deletes older requests after \
             user_ips_max_age (28 days by default)",
        )
}

/// Alone among all times of Synapse, this one is in seconds.
fn registered() -> Query {
    Query::new()
        .reads("users", &["creation_ts"])
        .sql(
            ALL,
            "SELECT count(*) AS users_registered_24h
               FROM {schema}.users
              WHERE creation_ts > extract(epoch FROM now())::bigint - 86400",
        )
        .gauge(
            "users_registered_24h",
            "Accounts created within 24 hours, of every kind",
        )
}

/// Other servers may say what they like, so what is not known is `other`.
fn presence() -> Query {
    Query::new()
        .reads("presence_stream", &["state"])
        .sql(
            ALL,
            "SELECT CASE WHEN state IN ('online', 'unavailable') THEN state
                         WHEN state IN ('busy', 'org.matrix.msc3026.busy') THEN 'busy'
                         ELSE 'other' END AS presence,
                    count(*) AS users_by_presence
               FROM {schema}.presence_stream
              WHERE state <> 'offline'
              GROUP BY 1",
        )
        .label("presence")
        .gauge(
            "users_by_presence",
            "Users by presence state, local and remote; offline ones are not counted",
        )
}
