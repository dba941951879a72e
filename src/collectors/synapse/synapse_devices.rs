//! Devices of Synapse's users.

use crate::query::{ALL, Collector, Query};

/// From `devices`. Hidden rows hold cross-signing keys and are nobody's device.
pub fn collector() -> Collector {
    Collector::synapse("synapse_devices", "Devices of local users")
        .ttl(300)
        .query(
            Query::new()
                .reads("devices", &["hidden", "last_seen"])
                .by_pages("devices")
                // The inner SELECT runs once; without it, the time would be computed for each row.
                .sql(
                    ALL,
                    "SELECT count(*) FILTER (WHERE hidden IS NOT TRUE) AS devices,
                            count(*) FILTER (WHERE hidden) AS devices_hidden,
                            count(*) FILTER (
                                WHERE hidden IS NOT TRUE
                                  AND last_seen > (SELECT (extract(epoch FROM now()) * 1000)::bigint
                                                          - 30::bigint * 86400000))
                                AS devices_active_30d
                       FROM {schema}.devices
                      WHERE {pages}",
                )
                .gauge("devices", "Devices of local users, hidden ones not counted")
                .gauge(
                    "devices_hidden",
                    "Hidden devices, which hold cross-signing keys",
                )
                .gauge(
                    "devices_active_30d",
                    "Devices of local users seen within 30 days",
                ),
        )
}
