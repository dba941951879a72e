//! Tokens by which Synapse knows who asks. What they are is never read.

use crate::query::{ALL, Collector, Query};

/// From `access_tokens`, `refresh_tokens`, `login_tokens` and `open_id_tokens`. Of the last two,
/// Synapse removes the old ones late or never, so only those are counted that are still good.
pub fn collector() -> Collector {
    Collector::synapse("synapse_tokens", "Access, refresh, login and OpenID tokens")
        .ttl(3600)
        .query(access())
        .query(refresh())
        .query(login())
        .query(openid())
}

/// The inner SELECT runs once; without it, the time would be computed for each row.
fn access() -> Query {
    Query::new()
        .reads("access_tokens", &["valid_until_ms", "puppets_user_id"])
        .by_pages("access_tokens")
        .sql(
            ALL,
            "SELECT count(*) AS access_tokens,
                    count(*) FILTER (
                        WHERE valid_until_ms < (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS access_tokens_expired,
                    count(puppets_user_id) AS access_tokens_puppeting
               FROM {schema}.access_tokens
              WHERE {pages}",
        )
        .gauge("access_tokens", "Access tokens, expired ones included")
        .gauge(
            "access_tokens_expired",
            "Access tokens that have expired; Synapse keeps them until they are refreshed or \
             logged out",
        )
        .gauge(
            "access_tokens_puppeting",
            "Access tokens with which an administrator acts as another user (puppets_user_id)",
        )
}

fn refresh() -> Query {
    Query::new()
        .reads("refresh_tokens", &["next_token_id"])
        .by_pages("refresh_tokens")
        .sql(
            ALL,
            "SELECT count(*) AS refresh_tokens,
                    count(*) FILTER (WHERE next_token_id IS NULL) AS refresh_tokens_unused
               FROM {schema}.refresh_tokens
              WHERE {pages}",
        )
        .gauge(
            "refresh_tokens",
            "Refresh tokens, the previous one of each session included",
        )
        .gauge(
            "refresh_tokens_unused",
            "Refresh tokens that were not used yet: one for each session that has refresh tokens",
        )
}

fn login() -> Query {
    Query::new()
        .reads("login_tokens", &["expiry_ts", "used_ts"])
        .sql(
            ALL,
            "SELECT count(*) AS login_tokens_valid
               FROM {schema}.login_tokens
              WHERE used_ts IS NULL AND expiry_ts >= extract(epoch FROM now())::bigint * 1000",
        )
        .gauge(
            "login_tokens_valid",
            "Valid login tokens, of single sign-on logins that are not completed",
        )
}

fn openid() -> Query {
    Query::new()
        .reads("open_id_tokens", &["ts_valid_until_ms"])
        .sql(
            ALL,
            "SELECT count(*) AS openid_tokens_valid
               FROM {schema}.open_id_tokens
              WHERE ts_valid_until_ms >= extract(epoch FROM now())::bigint * 1000",
        )
        .gauge(
            "openid_tokens_valid",
            "Valid OpenID tokens, with which widgets and other services verify a user",
        )
}
