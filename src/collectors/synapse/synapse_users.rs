//! Synapse's users.

use crate::query::{ALL, Collector, Query, Scope};

/// Users by kind, and those with a flag, from `users`.
pub fn collector() -> Collector {
    Collector::new("synapse_users", "Users of Synapse by kind and flags")
        .ttl(300)
        .query(kinds())
        .query(flagged())
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

fn flagged() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(
            "users",
            &[
                "name",
                "deactivated",
                "admin",
                "shadow_banned",
                "approved",
                "locked",
                "suspended",
            ],
        )
        .in_pieces("users", "name")
        .sql(
            ALL,
            "SELECT current_database() AS datname, flags.flag, flags.users_flagged
               FROM (SELECT count(*) FILTER (WHERE admin = 1) AS admin,
                            count(*) FILTER (WHERE shadow_banned) AS shadow_banned,
                            count(*) FILTER (WHERE NOT approved) AS unapproved,
                            count(*) FILTER (WHERE locked) AS locked,
                            count(*) FILTER (WHERE suspended) AS suspended
                       FROM {schema}.users
                      WHERE {piece} AND deactivated = 0) AS counts
              CROSS JOIN LATERAL (VALUES ('admin', admin), ('shadow_banned', shadow_banned),
                                         ('unapproved', unapproved), ('locked', locked),
                                         ('suspended', suspended)) AS flags (flag, users_flagged)",
        )
        .label("datname")
        .label("flag")
        .gauge(
            "users_flagged",
            "Accounts with this flag, deactivated ones not counted",
        )
}
