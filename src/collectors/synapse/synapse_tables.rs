//! How much room Synapse's tables take.

use crate::query::{ALL, Collector, Query};

/// By family, from `pg_class` alone: what `VACUUM` and `ANALYZE` found there last. So it takes no
/// lock, however large the tables are; exact sizes of each table are those of `table_size`.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_tables",
        "Estimated sizes of groups of Synapse's tables",
    )
    .ttl(300)
    .query(unknown())
    .query(
        Query::new()
            // Before 14, a table that was never looked at is like an empty one.
            .sql(
                ALL,
                "SELECT t.table_group,
                        sum(t.pages * current_setting('block_size')::bigint) 
                            AS table_group_estimated_bytes,
                        sum(t.reltuples::numeric) AS table_group_estimated_rows
                   FROM (SELECT c.reltuples,
                                c.relpages + coalesce(o.relpages, 0) + (
                                    SELECT coalesce(sum(i.relpages), 0)
                                      FROM pg_catalog.pg_index AS x
                                      JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
                                     WHERE x.indrelid IN (c.oid, o.oid)) AS pages,
                                CASE
                                     WHEN c.relname ~ '^(state_group|event_to_state_groups$)' THEN 'state_groups'
                                     WHEN c.relname ~ '^(event_push_|push|deleted_pushers$)' THEN 'push'
                                     WHEN c.relname ~ '^event_auth_chain' THEN 'auth_chains'
                                     WHEN c.relname ~ '^(event_search$|user_directory|users_in_public_|users_who_share_)' THEN 'search'
                                     WHEN c.relname ~ '^(event|redactions$|rejections$|state_events$|stream_ordering_to_exterm$|threads$)' THEN 'events'
                                     WHEN c.relname ~ '^sliding_sync_' THEN 'sliding_sync'
                                     WHEN c.relname ~ '^(room|current_state_|local_current_membership$)' THEN 'rooms'
                                     WHEN c.relname ~ '^receipts_' THEN 'receipts'
                                     WHEN c.relname ~ '^e2e_room_keys' THEN 'key_backup'
                                     WHEN c.relname ~ '^(e2e_|server_keys_|server_signature_|user_signature_)' THEN 'keys'
                                     WHEN c.relname ~ '^device_lists_' THEN 'device_lists'
                                     WHEN c.relname ~ '^device_(inbox$|federation_)' THEN 'to_device'
                                     WHEN c.relname ~ '^cache_invalidation_' THEN 'caches'
                                     WHEN c.relname ~ '^(received_transactions$|destination|federation_)' THEN 'federation'
                                     WHEN c.relname ~ '^(local|remote|quarantined)_media_' THEN 'media'
                                     WHEN c.relname ~ '^(user|access_tokens$|refresh_tokens$|account|devices$|presence_|profile)' THEN 'users'
                                     ELSE 'other' END AS table_group
                           FROM pg_catalog.pg_class AS c
                           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                           LEFT JOIN pg_catalog.pg_class AS o ON o.oid = c.reltoastrelid
                          WHERE n.nspname = {schema_name} AND c.relkind IN ('r', 'm')
                            AND c.reltuples >= 0
                            AND (c.relpages > 0 OR
                                 current_setting('server_version_num')::int >= 140000)) AS t
                  GROUP BY 1",
            )
            .label("table_group")
            .gauge(
                "table_group_estimated_bytes",
                "Size of a group of tables with indexes and TOAST tables, as of the last VACUUM \
                 or ANALYZE of each table, in bytes; tables never vacuumed or analyzed are not \
                 included",
            )
            .gauge(
                "table_group_estimated_rows",
                "Rows of a group of tables, as of the last VACUUM or ANALYZE of each table; \
                 tables never vacuumed or analyzed are not included",
            ),
    )
}

/// As after an upgrade of the server or a restore. What `VACUUM` and `ANALYZE` find there later
/// looks like growth. Asking for a size takes a lock, so one that somebody holds alone is left out.
fn unknown() -> Query {
    Query::new()
        // Before 14, a table that was never looked at is like an empty one.
        .sql(
            ALL,
            "SELECT count(*) FILTER (WHERE t.bytes > 0) AS tables_without_statistics,
                    coalesce(sum(t.bytes), 0) AS tables_without_statistics_bytes
               FROM (SELECT pg_relation_size(c.oid) AS bytes
                       FROM pg_catalog.pg_class AS c
                       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                      WHERE n.nspname = {schema_name} AND c.relkind IN ('r', 'm')
                        AND (c.reltuples < 0
                             OR c.reltuples = 0 AND c.relpages = 0
                                AND current_setting('server_version_num')::int < 140000)
                        AND NOT EXISTS (
                            SELECT 1 FROM pg_catalog.pg_locks AS l
                             WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock'
                               AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                                                  WHERE d.datname = current_database()))) AS t",
        )
        .gauge(
            "tables_without_statistics",
            "Tables with rows that were never vacuumed or analyzed: the planner and the estimated \
             sizes treat them as empty",
        )
        .gauge(
            "tables_without_statistics_bytes",
            "Size of tables with rows that were never vacuumed or analyzed, without indexes and \
             TOAST tables, in bytes",
        )
}
