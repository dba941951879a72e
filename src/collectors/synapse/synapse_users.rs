//! Synapse's users.

use crate::query::{ALL, Collector, Query, Scope};

/// Users by kind, and those with a flag, from `users`.
pub fn collector() -> Collector {
    Collector::new("synapse_users", "Users of Synapse by kind and flags")
        .ttl(300)
        .query(kinds())
        .query(flagged!("admin", "admin", "admin = 1"))
        .query(flagged!("shadow_banned", "shadow_banned", "shadow_banned"))
        .query(flagged!("unapproved", "approved", "NOT approved"))
        .query(flagged!("locked", "locked", "locked"))
        .query(flagged!("suspended", "suspended", "suspended"))
}

fn kinds() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "users",
            &["appservice_id", "is_guest", "user_type", "deactivated"],
        )
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    CASE WHEN appservice_id <> '' THEN 'bridged'
                         WHEN is_guest = 1 THEN 'guest'
                         ELSE coalesce(nullif(user_type, ''), 'native') END AS kind,
                    CASE WHEN deactivated = 0 THEN 'false' ELSE 'true' END AS deactivated,
                    count(*) AS users
               FROM {schema}.users
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

/// A flag is a column that came with some release, so each is a query of its own.
macro_rules! flagged {
    ($flag:literal, $column:literal, $condition:literal) => {
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("users", &["deactivated", $column])
            .sql(
                ALL,
                concat!(
                    "SELECT current_database() AS datname, '",
                    $flag,
                    "' AS flag, count(*) AS users_flagged
                       FROM {schema}.users
                      WHERE deactivated = 0 AND ",
                    $condition
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
