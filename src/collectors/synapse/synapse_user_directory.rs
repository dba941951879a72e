//! Whom people can find.

use super::counted;
use crate::query::Collector;

/// From `user_directory` and `user_directory_stale_remote_users`. How far it is behind, the
/// consumer `user_directory` says.
pub fn collector() -> Collector {
    Collector::synapse("synapse_user_directory", "User directory")
        .ttl(3600)
        .query(counted!(
            "user_directory",
            "user_directory_users",
            "Users in the user directory, local and remote"
        ))
        .query(counted!(
            "user_directory_stale_remote_users",
            "user_directory_stale_users",
            "Remote users whose profile is to be fetched again"
        ))
}
