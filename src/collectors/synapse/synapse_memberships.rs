//! Users of this server in rooms.

use crate::query::{ALL, Collector, Query, Scope};

/// From `local_current_membership`; `room_memberships` is history.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_memberships",
        "Memberships of this server's users in rooms, by kind",
    )
    .ttl(3600)
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("local_current_membership", &["membership"])
            .by_pages("local_current_membership")
            .sql(
                ALL,
                "SELECT current_database() AS datname, membership,
                        count(*) AS local_memberships
                   FROM {schema}.local_current_membership
                  WHERE {pages}
                  GROUP BY membership",
            )
            .label("datname")
            .label("membership")
            .gauge(
                "local_memberships",
                "Users of this server by their membership as it is now, each counted once per room",
            ),
    )
}
