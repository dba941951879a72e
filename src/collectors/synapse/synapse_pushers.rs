//! How people are told of messages.

use crate::query::{ALL, Collector, Query};

/// From `pushers`. One that is disabled is not tried, so it neither fails nor gets well.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_pushers",
        "Pushers of Synapse, which notify phones and send mails, and those that fail",
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
            .gauge("pushers", "Pushers, disabled ones too")
            .gauge(
                "pushers_disabled",
                "Pushers that their user has switched off",
            )
            .gauge(
                "pushers_failing",
                "Pushers in use whose last notification was refused",
            )
            .gauge(
                "pushers_failing_oldest_age_seconds",
                "Seconds for which the pusher that fails longest has failed, 0 while none does; after a \
                 day Synapse drops what it could not send and starts over",
            )
            .largest(),
    )
}
