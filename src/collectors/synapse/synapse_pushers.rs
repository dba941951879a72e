//! How people are told of messages.

use crate::query::{ALL, Collector, Query};

/// From `pushers`. One that is disabled is not tried, so it neither fails nor gets well.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_pushers",
        "Pushers, which send push notifications and emails, and those that fail",
    )
    .ttl(300)
    .query(
        Query::new()
            .reads("pushers", &["kind", "enabled", "failing_since"])
            .by_pages("pushers")
            .sql(
                ALL,
                "SELECT CASE WHEN kind IN ('http', 'email') THEN kind ELSE 'other' END AS kind,
                        count(*) AS pushers,
                        count(*) FILTER (WHERE enabled IS FALSE) AS pushers_disabled,
                        count(failing_since) FILTER (WHERE enabled IS NOT FALSE)
                            AS pushers_failing,
                        CASE WHEN count(failing_since) FILTER (WHERE enabled IS NOT FALSE) = 0
                             THEN 0
                             ELSE greatest(
                                 extract(epoch FROM now())
                                 - min(failing_since) FILTER (WHERE enabled IS NOT FALSE) / 1000.0,
                                 0) END AS pushers_failing_oldest_age_seconds
                   FROM {schema}.pushers
                  WHERE {pages}
                  GROUP BY 1",
            )
            .label("kind")
            .gauge("pushers", "Pushers, disabled ones included")
            .gauge("pushers_disabled", "Pushers that their user has disabled")
            .gauge(
                "pushers_failing",
                "Enabled pushers whose last notification could not be sent",
            )
            .gauge(
                "pushers_failing_oldest_age_seconds",
                "Time since the longest-failing pusher began to fail, in seconds; 0 if none \
                 fails. After a day Synapse drops unsent notifications and starts over",
            )
            .largest(),
    )
}
