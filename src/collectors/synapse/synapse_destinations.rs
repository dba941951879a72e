//! The servers of others.

use crate::query::{ALL, Collector, Query};

/// From `destinations`. A server that answers again has no time of failure any more.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_destinations",
        "Other servers that Synapse knows, and those that it cannot reach",
    )
    .ttl(60)
    .query(
        Query::new()
            .reads(
                "destinations",
                &["failure_ts", "retry_last_ts", "retry_interval"],
            )
            .by_pages("destinations")
            // The inner SELECT runs once; without it, the time would be computed for each row.
            .sql(
                ALL,
                "SELECT count(*) AS federation_destinations,
                    count(failure_ts) AS federation_destinations_failing,
                    count(*) FILTER (
                        WHERE failure_ts > (SELECT (extract(epoch FROM now())::bigint - 3600)
                                                   * 1000))
                        AS federation_destinations_failing_since_1h,
                    count(*) FILTER (
                        WHERE retry_last_ts + retry_interval
                              > (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS federation_destinations_backing_off
               FROM {schema}.destinations
              WHERE {pages}",
            )
            .gauge("federation_destinations", "Other servers that are known")
            .gauge(
                "federation_destinations_failing",
                "Other servers that could not be reached when last tried",
            )
            .gauge(
                "federation_destinations_failing_since_1h",
                "Other servers that began to fail within the last hour",
            )
            .gauge(
                "federation_destinations_backing_off",
                "Other servers to which nothing is sent until their time of waiting is over",
            ),
    )
}
