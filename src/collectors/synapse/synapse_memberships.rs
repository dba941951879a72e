//! Users of this server in rooms.

use crate::query::{ALL, Collector, Query};

/// From `local_current_membership`; `room_memberships` is history.
pub fn collector() -> Collector {
    Collector::synapse("synapse_memberships", "Memberships of local users in rooms")
        .ttl(3600)
        .query(
            Query::new()
                .reads("local_current_membership", &["membership"])
                .by_pages("local_current_membership")
                .sql(
                    ALL,
                    "SELECT membership,
                        count(*) AS local_memberships
                   FROM {schema}.local_current_membership
                  WHERE {pages}
                  GROUP BY membership",
                )
                .label("membership")
                .gauge(
                    "local_memberships",
                    "Local users by their current membership, counted once for each room",
                ),
        )
}
