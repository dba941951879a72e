//! Synapse's users.

use crate::query::{ALL, Collector, Query, Scope};

/// Users by kind, and those with a flag, from `users`, and what other tables add.
pub fn collector() -> Collector {
    Collector::new("synapse_users", "Users of Synapse by kind and flags")
        .ttl(300)
        .query(kinds())
        .query(flagged!("admin", "admin", "admin = 1"))
        .query(flagged!("shadow_banned", "shadow_banned", "shadow_banned"))
        .query(flagged!("unapproved", "approved", "NOT approved"))
        .query(flagged!("locked", "locked", "locked"))
        .query(flagged!("suspended", "suspended", "suspended"))
        .query(bridged())
        .query(expiring())
        .query(counted!(
            "erased_users",
            "users_erased",
            "Users who asked that what they wrote be hidden from newcomers"
        ))
        .query(counted!(
            "users_pending_deactivation",
            "users_pending_deactivation",
            "Users who are deactivated and have yet to leave their rooms"
        ))
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

/// What does not come from an application service has NULL here, or nothing.
fn bridged() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("users", &["appservice_id", "deactivated"])
        .sql(
            ALL,
            "SELECT current_database() AS datname, appservice_id AS as_id,
                    count(*) AS appservice_users
               FROM {schema}.users
              WHERE appservice_id <> '' AND deactivated = 0
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
        .reads("account_validity", &["expiration_ts_ms"])
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS users_expiring,
                    count(*) FILTER (
                        WHERE expiration_ts_ms <= (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS users_expired
               FROM {schema}.account_validity",
        )
        .label("datname")
        .gauge("users_expiring", "Accounts that expire one day, or have expired")
        .gauge("users_expired", "Accounts that have expired")
}

/// Tables with nothing but users, few of them.
macro_rules! counted {
    ($table:literal, $metric:literal, $help:literal) => {
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads($table, &["user_id"])
            .sql(
                ALL,
                concat!(
                    "SELECT current_database() AS datname, count(user_id) AS ",
                    $metric,
                    " FROM {schema}.",
                    $table
                ),
            )
            .label("datname")
            .gauge($metric, $help)
    };
}
use counted;
