//! Whom people can find.

use crate::query::{ALL, Collector, Query, Scope};

/// From `user_directory` and `user_directory_stale_remote_users`. How far it is behind, the
/// consumer `user_directory` says.
pub fn collector() -> Collector {
    Collector::new("synapse_user_directory", "The user directory of Synapse")
        .ttl(3600)
        .query(
            Query::new("synapse_db")
                .scope(Scope::Synapse)
                .reads("user_directory", &["user_id"])
                .sql(
                    ALL,
                    "SELECT current_database() AS datname, count(user_id) AS user_directory_users
                       FROM {schema}.user_directory",
                )
                .label("datname")
                .gauge(
                    "user_directory_users",
                    "Users who can be found, of this server and of others",
                ),
        )
        .query(
            Query::new("synapse_db")
                .scope(Scope::Synapse)
                .reads("user_directory_stale_remote_users", &["user_id"])
                .sql(
                    ALL,
                    "SELECT current_database() AS datname,
                            count(user_id) AS user_directory_stale_users
                       FROM {schema}.user_directory_stale_remote_users",
                )
                .label("datname")
                .gauge(
                    "user_directory_stale_users",
                    "Users of other servers whose profile is to be asked for again",
                ),
        )
}
