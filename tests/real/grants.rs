//! What `grants` gave gets lost or too old, is told, and comes back by running it again.

use std::collections::BTreeSet;
use std::time::Instant;

use super::catalogue::Pair;
use super::support::exporter::{Exporter, exporter_command};
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::{PATIENCE, pause, wait_for};
use super::support::roles::{Role, grant, run_script};
use super::support::synapse::{NEW, OLD, Synapse};

/// Looks again every second.
const SOON: &str = "{ servers: { main: { databases: { interval: 1s } } }, \
                      collectors: { synapse_activity: { ttl: 1s } } }";

const MISSING: &str = "pg_exporter_privileges_missing";
const REGISTERED: &str = "synapse_db_users_registered_24h";

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_migration_took_away_are_told_on_13() {
    columns_that_a_migration_took_away_are_told(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_migration_took_away_are_told_on_18() {
    columns_that_a_migration_took_away_are_told(18, NEW).await;
}

async fn columns_that_a_migration_took_away_are_told(major: u32, version: &str) {
    let (server, made) = Synapse::leave(Postgres::builder(major), version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let dsn = server.dsn("synapse", "exporter");
    let exporter = Exporter::configured(&dsn, SOON).await;
    missing(&exporter, "synapse", 0.0).await;
    let counted = |page: &Page| page.value(REGISTERED, &[]).is_some();
    let page = exporter
        .scrape_until(PATIENCE, "all has been read", counted)
        .await;
    assert_eq!(page.value(MISSING, &[("datname", "")]), Some(0.0));
    // Synapse's own tables are what they should be.
    let not_plain = page.value("pg_exporter_tables_not_plain", &[("datname", "synapse")]);
    assert_eq!(not_plain, Some(0.0));
    let registered = page.value(REGISTERED, &[]);
    assert!(registered > Some(0.0), "{registered:?}");
    assert_eq!(refused(&page), [""; 0]);
    let (well, said) = check(&dsn);
    assert!(well, "{said}");

    // As Synapse did to events.stream_ordering.
    let owner = server.client("synapse", &made.role).await;
    let swap = "BEGIN;
                ALTER TABLE users ADD COLUMN creation_ts2 bigint;
                UPDATE users SET creation_ts2 = creation_ts;
                ALTER TABLE users DROP COLUMN creation_ts;
                ALTER TABLE users RENAME COLUMN creation_ts2 TO creation_ts;
                COMMIT";
    owner.batch_execute(swap).await.unwrap();
    missing(&exporter, "synapse", 1.0).await;
    let gone = |page: &Page| {
        page.value(REGISTERED, &[]).is_none() && refused(page) == ["synapse_activity"]
    };
    exporter
        .scrape_until(PATIENCE, "what was read before is gone", gone)
        .await;

    let anew = "BEGIN;
                CREATE TABLE tasks2 (LIKE scheduled_tasks INCLUDING ALL);
                DROP TABLE scheduled_tasks;
                ALTER TABLE tasks2 RENAME TO scheduled_tasks;
                COMMIT";
    owner.batch_execute(anew).await.unwrap();
    missing(&exporter, "synapse", 4.0).await;
    let both = |page: &Page| refused(page) == ["synapse_activity", "synapse_tasks"];
    let page = exporter
        .scrape_until(PATIENCE, "both are refused", both)
        .await;
    // Other columns of the table are still read.
    assert!(page.samples("synapse_db_users").next().is_some());
    assert_eq!(page.failed().len(), 0, "{:?}", page.skipped());

    let told = "in database \"synapse\" the role \"exporter\" may not read \
                scheduled_tasks (action, status, timestamp), users (creation_ts); run what \
                `matrix-postgres-exporter grants --role exporter --database synapse` prints";
    let (well, said) = check(&dsn);
    assert!(!well && said.contains(told), "{said}");
    let landing = exporter.get("/").await;
    let landing = landing.text().replace("&quot;", "\"");
    assert!(landing.contains(told), "{landing}");

    grant(&server, "exporter", &["synapse"], &[]).await;
    missing(&exporter, "synapse", 0.0).await;
    wait_for("it is seen again", || async {
        let page = exporter.scrape().await;
        refused(&page).is_empty() && page.value(REGISTERED, &[]) == registered
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_an_older_program_are_told() {
    let server = Postgres::start(18).await;
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    let exporter = Exporter::configured(&server.dsn("postgres", "exporter"), SOON).await;
    missing(&exporter, "", 0.0).await;

    let schema = "matrix_postgres_exporter";
    let older = format!(
        "DROP FUNCTION {schema}.pg_stat_replication();
         CREATE FUNCTION {schema}.pg_stat_replication() RETURNS TABLE(pid integer) LANGUAGE sql
             AS 'SELECT pid FROM pg_catalog.pg_stat_replication';
         GRANT EXECUTE ON FUNCTION {schema}.pg_stat_replication() TO exporter;
         DROP FUNCTION {schema}.pg_database_size()"
    );
    server.sql("postgres", &older).await;
    let page = missing(&exporter, "", 2.0).await;
    let skip = ("stat_replication", "grants_outdated", "");
    assert!(page.skipped().contains(&skip), "{:?}", page.skipped());
    let landing = exporter.get("/").await;
    let told = "are missing, or older than this program: pg_stat_replication, pg_database_size; \
                run again what `matrix-postgres-exporter grants --role exporter` prints";
    assert!(landing.text().contains(told), "{}", landing.text());

    grant(&server, "exporter", &["postgres"], &[]).await;
    let page = missing(&exporter, "", 0.0).await;
    assert_eq!(refused(&page), [""; 0]);
}

/// What needs no more columns than a function of an older program gives is read through it.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_function_serves_what_needs_no_more() {
    let server = Postgres::start(18).await;
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    let older = "
        DROP FUNCTION matrix_postgres_exporter.pg_stat_activity();
        CREATE FUNCTION matrix_postgres_exporter.pg_stat_activity()
            RETURNS TABLE(pid integer, datname name, usename name, application_name text,
                          backend_type text, state text, wait_event_type text, wait_event text,
                          xact_start timestamp with time zone)
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS 'SELECT pid, datname, usename, application_name, backend_type, state,
                       wait_event_type, wait_event, xact_start FROM pg_catalog.pg_stat_activity';
        ALTER FUNCTION matrix_postgres_exporter.pg_stat_activity()
            OWNER TO matrix_postgres_exporter_owner;
        GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_activity() TO exporter";
    server.sql("postgres", older).await;
    let exporter = Exporter::configured(&server.dsn("postgres", "exporter"), SOON).await;
    let page = missing(&exporter, "", 1.0).await;
    // One of its queries needs query_start and state_change; the other does not, and neither do others.
    assert_eq!(refused(&page), ["activity"]);
    let served = page.readings();
    for (metric, is_served) in [
        ("pg_activity_sessions", true),
        ("pg_stat_activity_count", true),
        ("pg_activity_longest_query_seconds", false),
    ] {
        assert_eq!(served.contains(metric), is_served, "{metric}");
    }
    grant(&server, "exporter", &["postgres"], &[]).await;
    let page = missing(&exporter, "", 0.0).await;
    assert_eq!(refused(&page), [""; 0]);
    assert!(
        page.readings()
            .contains("pg_activity_longest_query_seconds")
    );
}

/// The same of a function that an older program did give: all that it served is still served.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_without_flush_lsn_serves_what_it_served() {
    let server = Postgres::start(18).await;
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    let _standby = server.standby().start().await;
    let older = "
        DROP FUNCTION matrix_postgres_exporter.pg_stat_replication();
        CREATE FUNCTION matrix_postgres_exporter.pg_stat_replication()
            RETURNS TABLE(pid integer, application_name text, client_addr inet, state text,
                          replay_lsn pg_lsn)
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS 'SELECT pid, application_name, client_addr, state, replay_lsn
                  FROM pg_catalog.pg_stat_replication';
        ALTER FUNCTION matrix_postgres_exporter.pg_stat_replication()
            OWNER TO matrix_postgres_exporter_owner;
        GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_replication() TO exporter";
    server.sql("postgres", older).await;
    let exporter = Exporter::configured(&server.dsn("postgres", "exporter"), SOON).await;
    const LAG: &str = "pg_stat_replication_pg_wal_lsn_diff";
    const FLUSH_LAG: &str = "pg_stat_replication_flush_lag_bytes";
    wait_for("the standby is seen", || async {
        exporter.scrape().await.samples(LAG).count() == 1
    })
    .await;
    let page = missing(&exporter, "", 1.0).await;
    assert_eq!(refused(&page), ["stat_replication"]);
    let names = |page: &Page| page.names().into_iter().map(str::to_owned).collect();
    let before: BTreeSet<String> = names(&page);
    assert!(before.contains("pg_stat_replication_pg_current_wal_lsn_bytes"));
    assert!(!before.contains(FLUSH_LAG));

    grant(&server, "exporter", &["postgres"], &[]).await;
    let page = missing(&exporter, "", 0.0).await;
    assert_eq!(refused(&page), [""; 0]);
    // Nothing else was missing.
    let new: BTreeSet<String> = &names(&page) - &before;
    assert_eq!(new, BTreeSet::from([FLUSH_LAG.to_owned()]));
}

/// What `deploy/sql/strict.sql` of the first release ran in the database `postgres`.
const FIRST_RELEASE: &str = include_str!("../catalog/first_release.sql");

/// What that release served, and on which versions: its `tests/catalog/served.tsv`.
const SERVED_THEN: &str = include_str!("../catalog/first_release.tsv");

/// What is called otherwise now, as CHANGELOG.md says.
const RENAMED: [(&str, &str); 4] = [
    (
        "pg_exporter_collector_rows_cut_total",
        "pg_exporter_collector_rows_dropped_total",
    ),
    (
        "pg_exporter_connection_limit",
        "pg_exporter_max_connections",
    ),
    (
        "pg_exporter_grants_missing",
        "pg_exporter_privileges_missing",
    ),
    (
        "pg_publication_tables_without_identity",
        "pg_publication_tables_without_replica_identity",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_of_the_first_release_serve_what_they_served_on_15() {
    the_functions_of_the_first_release_serve_what_they_served(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_of_the_first_release_serve_what_they_served_on_18() {
    the_functions_of_the_first_release_serve_what_they_served(18).await;
}

/// The program is upgraded first, and `grants` run later: meanwhile no dashboard loses a series.
async fn the_functions_of_the_first_release_serve_what_they_served(major: u32) {
    let pair = Pair::start(major).await;
    let today = "DROP SCHEMA matrix_postgres_exporter CASCADE";
    pair.primary.sql("postgres", today).await;
    run_script(&pair.primary, FIRST_RELEASE).await.unwrap();
    let dsn = pair.primary.dsn("matrix", "exporter");
    let exporter = Exporter::watch(&dsn, &[]).await;
    let start = Instant::now();
    let page = loop {
        let page = exporter.scrape().await;
        let skipped = page.skipped();
        let late = skipped.iter().any(|(_, reason, _)| *reason == "deadline");
        if page.up() && !late {
            break page;
        }
        let patient = start.elapsed() < PATIENCE;
        assert!(patient, "{:?}, {skipped:?}", page.down_reason());
        pause(start).await;
    };
    let now = page.names();
    let then: Vec<_> = served_then(major).collect();
    assert!(then.len() > 300, "{then:?}");
    let missing = then.into_iter().filter(|name| {
        let renamed = RENAMED.iter().find(|(before, _)| before == name);
        !now.contains(renamed.map_or(*name, |(_, after)| after))
    });
    let missing: Vec<_> = missing.collect();
    assert_eq!(missing, [""; 0], "{:?}", page.skipped());
    assert!(page.value(MISSING, &[("datname", "")]) > Some(0.0));
}

/// The names of what the first release served on a primary of this version.
fn served_then(major: u32) -> impl Iterator<Item = &'static str> {
    let on = move |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&major)
    };
    let lines = SERVED_THEN.lines().skip(1);
    lines.filter_map(move |line| {
        let fields: Vec<_> = line.split('\t').collect();
        let mut places = fields[3]
            .split(", ")
            .filter(|place| !place.starts_with("standby"));
        let is_there = places.any(|place| on(place.trim_start_matches("primary ")));
        is_there.then_some(fields[0])
    })
}

/// An older program read files by their ids.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_program_was_given_is_taken_back() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    let tables = "CREATE TABLE events (); CREATE TABLE state_groups_state ();
                  CREATE TABLE schema_version (); CREATE TABLE applied_schema_deltas ();
                  CREATE TABLE background_updates ();
                  CREATE TABLE remote_media_cache (media_origin text, media_id text, other text)";
    server.sql("synapse", tables).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let older = "GRANT SELECT (media_origin, media_id, other) ON remote_media_cache TO exporter";
    server.sql("synapse", older).await;
    grant(&server, "exporter", &["synapse"], &[]).await;
    let readable = "SELECT string_agg(a.attname, ' ' ORDER BY a.attname) FROM pg_attribute AS a
                     WHERE a.attrelid = 'remote_media_cache'::regclass
                       AND has_column_privilege('exporter', a.attrelid, a.attnum, 'SELECT')";
    let readable = server.value("synapse", readable).await;
    // What somebody else has granted stays.
    assert_eq!(readable.as_deref(), Some("ctid other"));
}

/// The page that says so.
async fn missing(exporter: &Exporter, database: &str, count: f64) -> Page {
    let question = format!("{count} grants are missing");
    let are_missing = |page: &Page| page.value(MISSING, &[("datname", database)]) == Some(count);
    exporter
        .scrape_until(PATIENCE, &question, are_missing)
        .await
}

/// The collectors that miss a privilege.
fn refused(page: &Page) -> Vec<&str> {
    let skipped = page.skipped().into_iter();
    let refused =
        skipped.filter(|(_, reason, _)| ["no_privilege", "grants_outdated"].contains(reason));
    refused.map(|(collector, ..)| collector).collect()
}

/// Whether `check` finds everything well, and what it says.
fn check(dsn: &str) -> (bool, String) {
    let output = exporter_command(&["check", "--dsn", dsn]).output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}
