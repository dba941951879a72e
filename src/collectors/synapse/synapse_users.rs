//! Synapse's users.

use super::counted;
use crate::query::{ALL, Collector, Query};

/// Users by kind, and those with a flag, from `users`, and what other tables add.
pub fn collector() -> Collector {
    Collector::synapse("synapse_users", "Users of Synapse by kind and flag")
        .ttl(300)
        .query(accounts())
        .query(expiring())
        .query(counted!(
            "erased_users",
            "users_erased",
            "Users who were erased (GDPR): their messages are hidden from users who join later"
        ))
        .query(leaving())
}

/// What does not come from an application service has NULL in `appservice_id`, or nothing. The flags
/// came with releases of Synapse. Before there is a row, none has a flag.
fn accounts() -> Query {
    Query::new()
        .reads(
            "users",
            &[
                "appservice_id",
                "is_guest",
                "user_type",
                "deactivated",
                "admin",
                "shadow_banned",
            ],
        )
        .by_pages("users")
        .sql(
            ALL,
            "SELECT g.kind, g.deactivated, g.as_id, g.users,
                    CASE WHEN g.as_id <> '' AND g.deactivated = 'false' THEN g.users END
                        AS appservice_users,
                    coalesce(g.admin, 0) AS admin,
                    coalesce(g.shadow_banned, 0) AS shadow_banned,
                    coalesce(g.unapproved, 0) AS unapproved,
                    coalesce(g.locked, 0) AS locked,
                    coalesce(g.suspended, 0) AS suspended
               FROM (VALUES (1)) AS one
               LEFT JOIN (
                    SELECT CASE WHEN appservice_id <> '' THEN 'bridged'
                                WHEN is_guest = 1 THEN 'guest'
                                ELSE coalesce(nullif(user_type, ''), 'native') END AS kind,
                           CASE WHEN deactivated = 0 THEN 'false' ELSE 'true' END AS deactivated,
                           coalesce(appservice_id, '') AS as_id,
                           count(*) AS users,
                           count(*) FILTER (WHERE deactivated = 0 AND admin = 1) AS admin,
                           count(*) FILTER (WHERE deactivated = 0 AND shadow_banned)
                               AS shadow_banned,
                           count(*) FILTER (WHERE deactivated = 0 AND NOT {users.approved})
                               AS unapproved,
                           count(*) FILTER (WHERE deactivated = 0 AND {users.locked}) AS locked,
                           count(*) FILTER (WHERE deactivated = 0 AND {users.suspended})
                               AS suspended
                      FROM {schema}.users
                     WHERE {pages}
                     GROUP BY 1, 2, 3) AS g ON true",
        )
        .label("kind")
        .label("deactivated")
        .label("as_id")
        .gauge(
            "users",
            "Local accounts by kind: native, guest, bridged (of an application service), or a \
             special user type",
        )
        .with_labels(&["kind", "deactivated"])
        .gauge(
            "appservice_users",
            "Accounts of the application service, without deactivated ones",
        )
        .with_labels(&["as_id"])
        .flag("admin")
        .flag("shadow_banned")
        .flag("unapproved")
        .if_there("users", "approved")
        .flag("locked")
        .if_there("users", "locked")
        .flag("suspended")
        .if_there("users", "suspended")
}

impl Query {
    /// How many users have a flag.
    fn flag(self, flag: &'static str) -> Self {
        self.gauge(flag, "Accounts with this flag, without deactivated ones")
            .named("synapse_db_users_flagged")
            .without_labels()
            .with_label("flag", flag)
    }
}

/// Empty unless Synapse is configured to let accounts expire.
fn expiring() -> Query {
    Query::new()
        .reads("account_validity", &["expiration_ts_ms"])
        .by_pages("account_validity")
        .sql(
            ALL,
            "SELECT count(*) AS users_expiring,
                    count(*) FILTER (
                        WHERE expiration_ts_ms <= (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS users_expired
               FROM {schema}.account_validity
              WHERE {pages}",
        )
        .gauge(
            "users_expiring",
            "Accounts with an expiry time (account_validity), expired ones included",
        )
        .gauge("users_expired", "Accounts that have expired")
}

/// A table without an index, and with few rows.
fn leaving() -> Query {
    Query::new()
        .reads("users_pending_deactivation", &["user_id"])
        .sql(
            ALL,
            "SELECT count(*) AS users_pending_deactivation
               FROM (SELECT user_id FROM {schema}.users_pending_deactivation LIMIT 100000) AS u",
        )
        .gauge(
            "users_pending_deactivation",
            "Users who are deactivated and still in rooms, counted up to 100000",
        )
}
