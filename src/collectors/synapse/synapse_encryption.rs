//! Keys for encryption between users. What they are is never read.

use super::counted;
use crate::query::{ALL, Collector, Query};

/// From `e2e_device_keys_json` and its like, and from `e2e_room_keys_versions`, where each backup
/// has one row; the keys in it are many, and elsewhere.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_encryption",
        "Devices of Synapse's users that can encrypt, keys they ran out of, and backups of keys",
    )
    .ttl(3600)
    .query(devices())
    .query(cross_signing())
    .query(backups())
    .query(counted!(
        "dehydrated_devices",
        "dehydrated_devices",
        "Users with a dehydrated device, which takes keys for them while they are logged out"
    ))
}

/// The subqueries have a LIMIT, so that each device costs two looks into an index, and no plan
/// reads all keys. Which devices there are stands in an index, far smaller than the table.
fn devices() -> Query {
    Query::new()
        .reads("e2e_device_keys_json", &["user_id", "device_id"])
        .by_key(
            "user_id, device_id",
            "SELECT user_id, device_id FROM {schema}.e2e_device_keys_json",
        )
        .reads(
            "e2e_one_time_keys_json",
            &["user_id", "device_id", "algorithm"],
        )
        .reads(
            "e2e_fallback_keys_json",
            &["user_id", "device_id", "algorithm"],
        )
        .sql(
            ALL,
            "SELECT count(*) AS e2e_devices,
                    count(*) FILTER (WHERE one_time IS NULL)
                        AS e2e_devices_without_one_time_keys,
                    count(*) FILTER (WHERE one_time IS NULL AND fallback IS NULL)
                        AS e2e_devices_exhausted
               FROM (SELECT (SELECT 1 FROM {schema}.e2e_one_time_keys_json AS o
                              WHERE o.user_id = d.user_id AND o.device_id = d.device_id
                                AND o.algorithm = 'signed_curve25519' LIMIT 1) AS one_time,
                            (SELECT 1 FROM {schema}.e2e_fallback_keys_json AS f
                              WHERE f.user_id = d.user_id AND f.device_id = d.device_id
                                AND f.algorithm = 'signed_curve25519' LIMIT 1) AS fallback
                       FROM {piece} AS d) AS k",
        )
        .gauge(
            "e2e_devices",
            "Devices of this server's users that can encrypt",
        )
        .gauge(
            "e2e_devices_without_one_time_keys",
            "Such devices whose one-time keys are all used up; they live on a fallback key, if any",
        )
        .gauge(
            "e2e_devices_exhausted",
            "Such devices without one-time and fallback keys: nobody new can write to them",
        )
}

/// The keys of other servers' users are in the same table.
fn cross_signing() -> Query {
    Query::new()
        .reads("users", &["name", "deactivated"])
        .reads("e2e_cross_signing_keys", &["user_id", "keytype"])
        .by_pages("users")
        .sql(
            ALL,
            "SELECT count((SELECT 1 FROM {schema}.e2e_cross_signing_keys AS k
                            WHERE k.user_id = u.name AND k.keytype = 'master' LIMIT 1))
                        AS users_cross_signing
               FROM (SELECT name FROM {schema}.users WHERE {pages} AND deactivated = 0) AS u",
        )
        .gauge(
            "users_cross_signing",
            "Users of this server with keys for cross-signing, deactivated ones not counted",
        )
}

/// A user is counted at the first version that is not deleted; most have no other. So that a walk by
/// pages does, and only later versions cost a look into the index.
fn backups() -> Query {
    Query::new()
        .reads("e2e_room_keys_versions", &["user_id", "version", "deleted"])
        .by_pages("e2e_room_keys_versions")
        .sql(
            ALL,
            "SELECT count(*) AS key_backups,
                    count(*) FILTER (
                        WHERE b.version = 1
                           OR NOT EXISTS (SELECT FROM {schema}.e2e_room_keys_versions AS former
                                           WHERE former.user_id = b.user_id
                                             AND former.version < b.version
                                             AND former.deleted = 0)) AS users_with_key_backup
               FROM (SELECT user_id, version FROM {schema}.e2e_room_keys_versions
                      WHERE {pages} AND deleted = 0) AS b",
        )
        .gauge(
            "key_backups",
            "Backups of keys, former versions too, deleted ones not counted",
        )
        .gauge("users_with_key_backup", "Users who have such a backup")
}
