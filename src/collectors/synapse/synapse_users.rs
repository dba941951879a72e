//! Synapse's users.

use super::counted;
use crate::query::{ALL, Collector, Query, Scope};

/// Users by kind, and those with a flag, from `users`, and what other tables add.
pub fn collector() -> Collector {
    Collector::new("synapse_users", "Users of Synapse by kind and flags")
        .ttl(300)
        .query(kinds())
        .query(flagged!(
            "admin": "admin" if "admin = 1",
            "shadow_banned": "shadow_banned" if "shadow_banned"
        ))
        .query(flagged!("unapproved": "approved" if "NOT approved"))
        .query(flagged!("locked": "locked" if "locked"))
        .query(flagged!("suspended": "suspended" if "suspended"))
        .query(bridged())
        .query(expiring())
        .query(counted!(
            "erased_users",
            "user_id",
            "users_erased",
            "Users who asked that what they wrote be hidden from newcomers"
        ))
        .query(leaving())
}

fn kinds() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "users",
            &[
                "name",
                "appservice_id",
                "is_guest",
                "user_type",
                "deactivated",
            ],
        )
        .in_pieces("users", "name")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    CASE WHEN appservice_id <> '' THEN 'bridged'
                         WHEN is_guest = 1 THEN 'guest'
                         ELSE coalesce(nullif(user_type, ''), 'native') END AS kind,
                    CASE WHEN deactivated = 0 THEN 'false' ELSE 'true' END AS deactivated,
                    count(*) AS users
               FROM {schema}.users
              WHERE {piece}
              GROUP BY 2, 3",
        )
        .label("datname")
        .label("kind")
        .label("deactivated")
        .gauge(
            "users",
            "Accounts: native, guest, bridged (of an application service), or of a special type",
        )
}

/// Flags that one release of Synapse brought.
macro_rules! flagged {
    ($flag:literal: $column:literal if $condition:literal
     $(, $more:literal: $columns:literal if $conditions:literal)*) => {
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("users", &["name", "deactivated", $column $(, $columns)*])
            .in_pieces("users", "name")
            .sql(
                ALL,
                concat!(
                    "SELECT current_database() AS datname, flags.flag, flags.users_flagged
                       FROM (SELECT count(*) FILTER (WHERE ", $condition, ") AS ", $column,
                             $(", count(*) FILTER (WHERE ", $conditions, ") AS ", $columns,)*
                    "          FROM {schema}.users
                              WHERE {piece} AND deactivated = 0) AS counts
                      CROSS JOIN LATERAL (VALUES ('", $flag, "', ", $column, ")",
                                                 $(", ('", $more, "', ", $columns, ")",)*
                    "                    ) AS flags (flag, users_flagged)"
                ),
            )
            .label("datname")
            .label("flag")
            .gauge(
                "users_flagged",
                "Accounts with this flag, deactivated ones not counted",
            )
    };
}
use flagged;

/// What does not come from an application service has NULL here, or nothing.
fn bridged() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("users", &["name", "appservice_id", "deactivated"])
        .in_pieces("users", "name")
        .sql(
            ALL,
            "SELECT current_database() AS datname, appservice_id AS as_id,
                    count(*) AS appservice_users
               FROM {schema}.users
              WHERE {piece} AND appservice_id <> '' AND deactivated = 0
              GROUP BY 2",
        )
        .label("datname")
        .label("as_id")
        .gauge(
            "appservice_users",
            "Accounts that an application service has made, deactivated ones not counted",
        )
}

/// Empty unless Synapse is configured to let accounts expire.
fn expiring() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("account_validity", &["user_id", "expiration_ts_ms"])
        .in_pieces("account_validity", "user_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS users_expiring,
                    count(*) FILTER (
                        WHERE expiration_ts_ms <= (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS users_expired
               FROM {schema}.account_validity
              WHERE {piece}",
        )
        .label("datname")
        .gauge("users_expiring", "Accounts that expire one day, or have expired")
        .gauge("users_expired", "Accounts that have expired")
}

/// A table without an index, and with few rows.
fn leaving() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("users_pending_deactivation", &["user_id"])
        .sql(
            ALL,
            "SELECT current_database() AS datname, count(*) AS users_pending_deactivation
               FROM (SELECT user_id FROM {schema}.users_pending_deactivation LIMIT 100000) AS u",
        )
        .label("datname")
        .gauge(
            "users_pending_deactivation",
            "Users who are deactivated and have yet to leave their rooms, counted up to 100000",
        )
}
