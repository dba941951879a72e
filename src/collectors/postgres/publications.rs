//! What is published for logical replication.

use crate::query::{Collector, Query, Scope, before, since};

/// From `pg_publication`. A table that is published with its updates or deletes needs something to
/// tell its rows apart by: a primary key, or the index or the whole row that is set as its replica
/// identity. Without it, the application's own UPDATE and DELETE fail.
pub fn collector() -> Collector {
    Collector::new(
        "publications",
        "Published tables on which UPDATE and DELETE fail, from pg_publication_tables",
    )
    .scope(Scope::Database)
    .prefix("pg_publication")
    .query(
        Query::new()
            .sql(before(15), without_identity!(""))
            .sql(
                since(15),
                without_identity!(
                    " OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace AS s
                                  WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"
                ),
            )
            .gauge(
                "tables_without_replica_identity",
                "Published tables without a replica identity: every UPDATE and DELETE of them \
                 fails",
            ),
    )
}

/// How a table can be published, beside by its name or with all others. The first oid that is not
/// the system's is 16384.
macro_rules! without_identity {
    ($or_published:literal) => {
        concat!(
            "SELECT count(*) AS tables_without_replica_identity
               FROM pg_catalog.pg_class AS c
              WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384
                AND c.relreplident <> 'f'
                AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_index AS i
                     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                       AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                               WHEN 'i' THEN i.indisreplident END)
                AND EXISTS (
                    SELECT FROM pg_catalog.pg_publication AS p
                     WHERE (p.pubupdate OR p.pubdelete)
                       AND (p.puballtables
                            OR EXISTS (
                               SELECT FROM pg_catalog.pg_publication_rel AS r
                                WHERE r.prpubid = p.oid
                                  AND (r.prrelid = c.oid OR c.relispartition AND r.prrelid IN (
                                       SELECT a.relid FROM
                                              pg_catalog.pg_partition_ancestors(c.oid) AS a)))",
            $or_published,
            "))"
        )
    };
}
use without_identity;
