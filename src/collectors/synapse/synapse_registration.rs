//! How people come in.

use crate::query::{ALL, Collector, Query};

/// From `registration_tokens`, without what they are, and `ui_auth_sessions`.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_registration",
        "Registration tokens, and user-interactive authentication (UIA)",
    )
    .ttl(300)
    .query(tokens())
    .query(sessions())
}

/// A token is valid as long as Synapse takes it: to it, a limit of 0 is none.
fn tokens() -> Query {
    Query::new()
        .reads(
            "registration_tokens",
            &["uses_allowed", "pending", "completed", "expiry_time"],
        )
        .sql(
            ALL,
            "SELECT count(*) AS registration_tokens,
                    count(*) FILTER (
                        WHERE (coalesce(uses_allowed, 0) = 0 OR pending + completed < uses_allowed)
                          AND (coalesce(expiry_time, 0) = 0
                               OR expiry_time >= extract(epoch FROM now())::bigint * 1000))
                        AS registration_tokens_valid,
                    coalesce(sum(pending), 0) AS registration_token_uses_pending,
                    coalesce(sum(completed), 0) AS registration_token_uses_completed
               FROM (SELECT uses_allowed, pending, completed, expiry_time
                       FROM {schema}.registration_tokens LIMIT 100000) AS t",
        )
        .gauge(
            "registration_tokens",
            "Registration tokens, used up and expired ones included, counted up to 100000",
        )
        .gauge(
            "registration_tokens_valid",
            "Registration tokens that can still be used",
        )
        .gauge(
            "registration_token_uses_pending",
            "Registrations that were started with a registration token and are not completed",
        )
        .gauge(
            "registration_token_uses_completed",
            "Registrations that were completed with a registration token",
        )
}

fn sessions() -> Query {
    Query::new()
        .reads("ui_auth_sessions", &["creation_time"])
        .sql(
            ALL,
            "SELECT count(*) AS ui_auth_sessions
               FROM (SELECT creation_time FROM {schema}.ui_auth_sessions LIMIT 100000) AS s",
        )
        .gauge(
            "ui_auth_sessions",
            "User-interactive authentication (UIA) sessions of the last 48 hours, as for a \
             registration, completed ones included, counted up to 100000",
        )
}
