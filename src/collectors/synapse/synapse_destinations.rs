//! The servers of others.

use crate::query::{ALL, Collector, Query};

/// From `destinations`. A server that answers again has no time of failure any more.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_destinations",
        "Remote homeservers that Synapse knows, and those that it cannot reach",
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
                        AS federation_destinations_newly_failing_1h,
                    count(*) FILTER (
                        WHERE retry_last_ts + retry_interval
                              > (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS federation_destinations_backing_off
               FROM {schema}.destinations
              WHERE {pages}",
            )
            .gauge(
                "federation_destinations",
                "Remote homeservers in Synapse's table destinations",
            )
            .gauge(
                "federation_destinations_failing",
                "Remote homeservers that could not be reached at the last attempt",
            )
            .gauge(
                "federation_destinations_newly_failing_1h",
                "Remote homeservers that began to fail within the last hour",
            )
            .gauge(
                "federation_destinations_backing_off",
                "Remote homeservers to which Synapse sends nothing until the retry interval is \
                 over",
            ),
    )
}
