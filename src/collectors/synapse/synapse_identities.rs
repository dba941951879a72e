//! By what else users are known.

use crate::query::{ALL, Collector, Query};

/// From `user_threepids`, without the addresses, and `user_external_ids`, without the ids. Who
/// provides the ids stands in Synapse's configuration, but an administrator can write anything.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_identities",
        "Third-party identifiers and single sign-on identities of local users",
    )
    .ttl(3600)
    .limit(200)
    .query(threepids())
    .query(external())
}

fn threepids() -> Query {
    Query::new()
        .reads("user_threepids", &["medium"])
        .by_pages("user_threepids")
        .sql(
            ALL,
            "SELECT CASE WHEN medium IN ('email', 'msisdn') THEN medium ELSE 'other' END AS medium,
                    count(*) AS user_threepids
               FROM {schema}.user_threepids
              WHERE {pages}
              GROUP BY 1",
        )
        .label("medium")
        .gauge(
            "user_threepids",
            "Third-party identifiers (3PIDs) of users: email addresses or phone numbers (msisdn); \
             a user may have several",
        )
}

fn external() -> Query {
    Query::new()
        .reads("user_external_ids", &["auth_provider"])
        .by_pages("user_external_ids")
        .sql(
            ALL,
            "SELECT auth_provider,
                    count(*) AS user_external_ids
               FROM {schema}.user_external_ids
              WHERE {pages}
              GROUP BY 1",
        )
        .label("auth_provider")
        .gauge(
            "user_external_ids",
            "Single sign-on identities of users, by provider; a user may have several",
        )
}
