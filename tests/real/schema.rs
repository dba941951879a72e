//! What is served of the schema under Synapse: how much room its tables take, whether its locale is
//! safe, whether what is published can be written, and which indexes are of no use.

use std::collections::BTreeMap;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

const WITHOUT_IDENTITY: &str = "pg_publication_tables_without_replica_identity";

const SOON: &str = "{ servers: { main: { databases: { interval: 1s } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn families_of_tables_on_13() {
    families_of_tables(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn families_of_tables_on_18() {
    families_of_tables(18, NEW).await;
}

async fn families_of_tables(major: u32, version: &str) {
    let server = Postgres::builder(major).setting("autovacuum", "off");
    let (server, _) = Synapse::leave(server, version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let of_nothing = "synapse_db_table_group_estimated_rows";

    // As after a restore: nothing is known yet of most tables.
    server
        .sql(
            "synapse",
            "CREATE TABLE receipts_new AS SELECT generate_series(1, 9)",
        )
        .await;
    for command in ["VACUUM", "ANALYZE"] {
        server.sql("synapse", command).await;
    }
    server
        .sql(
            "synapse",
            "CREATE TABLE receipts_unknown AS SELECT generate_series(1, 99)",
        )
        .await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    wait_for("sizes are there", || async {
        exporter.scrape().await.samples(of_nothing).next().is_some()
    })
    .await;
    let page = exporter.scrape().await;

    for (group, tables) in [
        (
            "receipts",
            "receipts_linearized receipts_graph receipts_new",
        ),
        ("caches", "cache_invalidation_stream_by_instance"),
        (
            "auth_chains",
            "event_auth_chains event_auth_chain_links event_auth_chain_to_calculate",
        ),
        (
            "search",
            "event_search user_directory user_directory_search user_directory_stream_pos \
                    user_directory_stale_remote_users users_in_public_rooms \
                    users_who_share_private_rooms",
        ),
        ("media", "local_media_repository"),
    ] {
        let count = tables
            .split_whitespace()
            .map(|table| format!("(SELECT count(*) FROM {table})"));
        let count = format!("SELECT {}", count.collect::<Vec<_>>().join(" + "));
        let wanted = server.value("synapse", &count).await.unwrap().parse().ok();
        let labels = [("datname", "synapse"), ("table_group", group)];
        let found = page.value("synapse_db_table_group_estimated_rows", &labels);
        assert_eq!(found, wanted, "{major}: {group}");
    }
    let bytes = "SELECT sum(pg_relation_size(o))
                   FROM (SELECT indexrelid FROM pg_index
                          WHERE indrelid = 'cache_invalidation_stream_by_instance'::regclass
                         UNION ALL
                         SELECT reltoastrelid FROM pg_class
                          WHERE oid = 'cache_invalidation_stream_by_instance'::regclass
                         UNION ALL
                         SELECT indexrelid FROM pg_index, pg_class c
                          WHERE c.oid = 'cache_invalidation_stream_by_instance'::regclass
                            AND indrelid = reltoastrelid
                         UNION ALL
                         SELECT 'cache_invalidation_stream_by_instance'::regclass) AS all_of_it (o)
                  WHERE o <> 0";
    let wanted = server.value("synapse", bytes).await.unwrap().parse().ok();
    let found = page.value(
        "synapse_db_table_group_estimated_bytes",
        &[("table_group", "caches")],
    );
    assert_eq!(found, wanted, "{major}");
    assert!(found > Some(16_384.0));
    // Of the table that nobody has looked at, and of no other.
    let unknown = |metric: &str| page.value(metric, &[("datname", "synapse")]);
    let bytes = "SELECT pg_relation_size('receipts_unknown')";
    let bytes = server.value("synapse", bytes).await.unwrap().parse().ok();
    assert_eq!(unknown("synapse_db_tables_without_statistics"), Some(1.0));
    assert_eq!(unknown("synapse_db_tables_without_statistics_bytes"), bytes);
    // What is in no group is little.
    let rows = |group: &str| {
        page.value(
            "synapse_db_table_group_estimated_rows",
            &[("table_group", group)],
        )
    };
    assert!(rows("other") < rows("events"), "{:?}", rows("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_breaks_writes_is_told_on_13() {
    a_publication_that_breaks_writes_is_told(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_breaks_writes_is_told_on_18() {
    a_publication_that_breaks_writes_is_told(18, NEW).await;
}

async fn a_publication_that_breaks_writes_is_told(major: u32, version: &str) {
    let server = Postgres::builder(major).setting("wal_level", "logical");
    let (server, made) = Synapse::leave(server, version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), SOON).await;
    let owner = server.client("synapse", &made.role).await;
    let superuser = server.client("synapse", "postgres").await;
    let broken = async |change: &str| {
        rows(&superuser, change).await;
        let broken = tables_that_cannot_be_updated(&server).await;
        wait_for(
            &format!("after {change}, {broken} tables are broken"),
            || async {
                let page = exporter.scrape().await;
                page.value(WITHOUT_IDENTITY, &[("datname", "synapse")]) == Some(broken)
            },
        )
        .await;
        broken
    };

    assert_eq!(broken("SELECT").await, 0.0);
    let all = broken("CREATE PUBLICATION copy FOR ALL TABLES").await;
    assert!(all > 50.0, "{all}");
    let update = "UPDATE devices SET last_seen = last_seen";
    let refused = owner.batch_execute(update).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55000", "{refused}");
    let whole = "ALTER TABLE devices REPLICA IDENTITY FULL";
    assert_eq!(broken(whole).await, all - 1.0);
    owner.batch_execute(update).await.unwrap();
    assert!(broken("ALTER TABLE devices REPLICA IDENTITY NOTHING").await == all);
    let index = "CREATE UNIQUE INDEX one ON devices (user_id, device_id);
                 ALTER TABLE devices REPLICA IDENTITY USING INDEX one";
    assert_eq!(broken(index).await, all - 1.0);
    assert_eq!(broken("DROP INDEX one").await, all);
    let inserts = "ALTER PUBLICATION copy SET (publish = 'insert')";
    assert_eq!(broken(inserts).await, 0.0);
    // An update would go through, a delete does not.
    let few = "CREATE PUBLICATION few FOR TABLE devices WITH (publish = 'insert, delete')";
    rows(&superuser, few).await;
    let delete = "DELETE FROM devices WHERE false";
    let refused = owner.batch_execute(delete).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55000", "{refused}");
    wait_for("a table without deletes is told", || async {
        let page = exporter.scrape().await;
        page.value(WITHOUT_IDENTITY, &[("datname", "synapse")]) == Some(1.0)
    })
    .await;
    rows(&superuser, "DROP PUBLICATION few").await;
    let parts = "CREATE TABLE parts (n int) PARTITION BY LIST (n);
                 CREATE TABLE part PARTITION OF parts FOR VALUES IN (1);
                 CREATE PUBLICATION few FOR TABLE parts";
    assert_eq!(broken(parts).await, 1.0);
    if major >= 15 {
        let schema = "DROP PUBLICATION few; CREATE PUBLICATION few FOR TABLES IN SCHEMA public";
        assert_eq!(broken(schema).await, all + 1.0);
    }
}

/// Whether a table can be updated is known when an UPDATE begins, though it may change nothing. Of
/// partitioned tables, the partitions count.
async fn tables_that_cannot_be_updated(server: &Postgres) -> f64 {
    let client = server.client("synapse", "postgres").await;
    let try_each = "
        CREATE FUNCTION pg_temp.broken() RETURNS int LANGUAGE plpgsql AS $$
        DECLARE
          statement text;
          broken int := 0;
        BEGIN
          FOR statement IN
            SELECT format('UPDATE %s SET %I = DEFAULT WHERE false', c.oid::regclass, a.attname)
              FROM pg_class c
              JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
          LOOP
            BEGIN
              EXECUTE statement;
            EXCEPTION WHEN object_not_in_prerequisite_state THEN
              broken := broken + 1;
            END;
          END LOOP;
          RETURN broken;
        END $$;
        SELECT pg_temp.broken()";
    rows(&client, try_each).await[0][0]
        .as_ref()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn locales_and_invalid_indexes() {
    for major in [13, 14, 15, 18] {
        let server = Postgres::start(major).await;
        let mut databases = BTreeMap::from([
            ("well", ("LC_COLLATE 'C' LC_CTYPE 'C'", 0.0)),
            ("utf", ("LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'", 1.0)),
        ]);
        if major >= 15 {
            let icu = "LOCALE_PROVIDER icu ICU_LOCALE 'und' LC_COLLATE 'C' LC_CTYPE 'C'";
            databases.insert("icu", (icu, 1.0));
        }
        for (name, (locale, _)) in &databases {
            let create = format!("CREATE DATABASE {name} TEMPLATE template0 {locale}");
            server.sql("postgres", &create).await;
            let marks = "CREATE TABLE events (event_id text); CREATE TABLE schema_version ();
                         CREATE TABLE applied_schema_deltas (); CREATE TABLE background_updates ()";
            server.sql(name, marks).await;
        }
        let names: Vec<_> = databases.keys().copied().collect();
        Role::Strict.create(&server, "exporter", &names).await;
        let exporter = Exporter::configured(&server.dsn("well", "exporter"), SOON).await;
        wait_for("every database is seen", || async {
            let page = exporter.scrape().await;
            page.samples("synapse_db_locale_not_c").count() == databases.len()
        })
        .await;
        let page = exporter.scrape().await;
        for (name, (_, unsafe_)) in &databases {
            let found = page.value("synapse_db_locale_not_c", &[("datname", name)]);
            assert_eq!(found, Some(*unsafe_), "{major}: {name}");
        }
        let changed = |page: &Page| {
            page.value(
                "synapse_db_collation_version_mismatch",
                &[("datname", "icu")],
            )
        };
        if major >= 15 {
            assert_eq!(changed(&page), Some(0.0));
            // As after an upgrade of the library.
            let older = "UPDATE pg_database SET datcollversion = '1.1' WHERE datname = 'icu'";
            server.sql("postgres", older).await;
            let becomes = async |known| {
                wait_for("the change of the library is seen", async || {
                    changed(&exporter.scrape().await) == Some(known)
                })
                .await;
            };
            becomes(1.0).await;
            server
                .sql("postgres", "ALTER DATABASE icu REFRESH COLLATION VERSION")
                .await;
            becomes(0.0).await;
        }

        let invalid = async || {
            let page = exporter.scrape().await;
            page.value("pg_indexes_invalid", &[("datname", "well")])
        };
        assert_eq!(invalid().await, Some(0.0));
        server
            .sql("well", "INSERT INTO events VALUES ('twice'), ('twice')")
            .await;
        let unique = "CREATE UNIQUE INDEX CONCURRENTLY ON events (event_id)";
        let client = server.client("well", "postgres").await;
        client.simple_query(unique).await.unwrap_err();
        wait_for("the invalid index is seen", async || {
            invalid().await == Some(1.0)
        })
        .await;
    }
}
