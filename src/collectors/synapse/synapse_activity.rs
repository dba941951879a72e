//! Who is there.

use crate::query::{ALL, Collector, Query, Scope};

/// From `user_ips`, `users` and `presence_stream`. Each span is a query of its own, so that the
/// long one costs no other.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_activity",
        "Users of Synapse that were active, came, and are online",
    )
    .ttl(300)
    .query(active!("1h", "3600"))
    .query(active!("24h", "86400"))
    .query(active!("7d", "604800"))
    .query(registered())
    .query(presence())
}

/// The time is a bigint like its column, and only so is the index of use.
macro_rules! active {
    ($within:literal, $seconds:literal) => {
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("user_ips", &["user_id", "last_seen"])
            .sql(
                ALL,
                concat!(
                    "SELECT current_database() AS datname, '",
                    $within,
                    "' AS within, count(DISTINCT user_id) AS users_active
                       FROM {schema}.user_ips
                      WHERE last_seen > (extract(epoch FROM now())::bigint - ",
                    $seconds,
                    ") * 1000"
                ),
            )
            .label("datname")
            .label("within")
            .gauge(
                "users_active",
                "Users who sent a request within this time, guests and bridged ones too",
            )
    };
}
use active;

/// Alone among all times of Synapse, this one is in seconds.
fn registered() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("users", &["creation_ts"])
        .sql(
            ALL,
            "SELECT current_database() AS datname, count(*) AS users_registered_24h
               FROM {schema}.users
              WHERE creation_ts > extract(epoch FROM now())::bigint - 86400",
        )
        .label("datname")
        .gauge(
            "users_registered_24h",
            "Accounts made within 24 hours, of every kind",
        )
}

/// Other servers may say what they like, so what is not known is `other`.
fn presence() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("presence_stream", &["state"])
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    CASE WHEN state IN ('online', 'unavailable') THEN state
                         WHEN state IN ('busy', 'org.matrix.msc3026.busy') THEN 'busy'
                         ELSE 'other' END AS presence,
                    count(*) AS users_present
               FROM {schema}.presence_stream
              WHERE state <> 'offline'
              GROUP BY 2",
        )
        .label("datname")
        .label("presence")
        .gauge(
            "users_present",
            "Users who are not offline, of this server and of others",
        )
}
