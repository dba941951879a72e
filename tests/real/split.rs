//! A Synapse that keeps the state of rooms in a database of its own.

use std::collections::BTreeSet;

use super::support::exporter::{Exporter, exporter_command};
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_known_on_13() {
    each_part_is_known(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_known_on_18() {
    each_part_is_known(18, NEW).await;
}

async fn each_part_is_known(major: u32, version: &str) {
    let server = Postgres::start(major).await;
    let (synapse, made) = Synapse::start_split(&server, version).await;
    drop(synapse);
    Role::Strict
        .create(&server, "exporter", &["synapse", "state"])
        .await;
    let begun = "INSERT INTO background_updates (update_name, progress_json) VALUES ('one', '{}')";
    server.sql("state", begun).await;
    for database in ["synapse", "state"] {
        server.sql(database, "ANALYZE").await;
    }
    let dsn = server.dsn("synapse", "exporter");
    let exporter = Exporter::watch(&dsn, &[]).await;
    wait_for("everything has been read", || async {
        let page = exporter.scrape().await;
        let skipped = page.skipped();
        !skipped.iter().any(|(_, reason, _)| *reason == "deadline")
    })
    .await;
    let page = exporter.scrape().await;
    assert_eq!(page.failed(), BTreeSet::new(), "{:?}", page.skipped());

    let parts: BTreeSet<_> = page
        .samples("synapse_db_data_store_info")
        .map(|sample| {
            (
                sample.labels["datname"].as_str(),
                sample.labels["store"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        parts,
        BTreeSet::from([("synapse", "main"), ("state", "state")])
    );
    let rooms = page.value("synapse_db_rooms", &[("datname", "synapse")]);
    assert_eq!(rooms, Some(made.rooms.total as f64));
    for database in ["synapse", "state"] {
        let schema = "SELECT version FROM schema_version";
        let wanted = server.value(database, schema).await.unwrap().parse().ok();
        let found = page.value("synapse_db_schema_version", &[("datname", database)]);
        assert_eq!(found, wanted, "{database}");
    }
    let pending = [("datname", "state"), ("update_name", "one")];
    assert_eq!(
        page.value("synapse_db_background_update_info", &pending),
        Some(1.0)
    );
    let rows = |database| {
        let labels = [("datname", database), ("table_group", "state_groups")];
        page.value("synapse_db_table_group_estimated_rows", &labels)
    };
    let count =
        "SELECT (SELECT count(*) FROM state_groups) + (SELECT count(*) FROM state_groups_state)
                        + (SELECT count(*) FROM state_group_edges)";
    let count = server.value("state", count).await.unwrap().parse().ok();
    assert_eq!(rows("state"), count);

    // What is in another database is not missed.
    let about_state: BTreeSet<_> = page
        .readings()
        .into_iter()
        .filter(|name| name.starts_with("synapse_db_"))
        .filter(|name| {
            page.samples(name)
                .any(|sample| sample.labels["datname"] == "state")
        })
        .map(|name| name.trim_start_matches("synapse_db_"))
        .collect();
    assert!(!about_state.contains("users"), "{about_state:?}");
    let skipped = page.skipped().into_iter();
    let missed: Vec<_> = skipped
        // The old one does not have some tables, whichever part they are of.
        .filter(|(_, reason, _)| version == NEW || *reason != "unsupported_version")
        .filter(|(.., database)| ["synapse", "state"].contains(database))
        .collect();
    assert_eq!(missed, []);
    for database in ["synapse", "state"] {
        let missing = page.value("pg_exporter_privileges_missing", &[("datname", database)]);
        assert_eq!(missing, Some(0.0), "{database}");
    }

    let output = exporter_command(&["check", "--dsn", &dsn])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let landing = exporter.get("/").await;
    for (database, part) in [("synapse", "Synapse (main)"), ("state", "Synapse (state)")] {
        let line = format!("Database {database} is monitored; it contains the tables of {part}.");
        assert!(said.contains(&line), "{said}");
        assert!(landing.text().contains(part), "{}", landing.text());
    }
}

/// Three of them on one server, and connections for one and the server itself: the others take
/// turns, and no scrape logs in.
#[tokio::test(flavor = "multi_thread")]
async fn databases_beyond_the_budget_take_turns() {
    let server = Postgres::builder(18)
        .setting("log_connections", "on")
        .start()
        .await;
    for name in ["one", "two", "three"] {
        let create = format!("CREATE DATABASE {name}");
        server.sql("postgres", &create).await;
        let marks = "CREATE TABLE events (); CREATE TABLE schema_version (version int); \
                     CREATE TABLE applied_schema_deltas (); CREATE TABLE background_updates ();";
        server.sql(name, marks).await;
    }
    let dsn = server.dsn("postgres", "postgres");
    let exporter = Exporter::watch(&dsn, &["--log.level=debug"]).await;
    let beyond = "pg_exporter_databases_without_connection";
    wait_for("each is known", async || {
        exporter.complete().await.value(beyond, &[]) == Some(2.0)
    })
    .await;
    let page = exporter.complete().await;
    // Of those that take turns even what is read in every scrape elsewhere has an age.
    let aged: BTreeSet<_> = page
        .samples("pg_exporter_collector_age_seconds")
        .filter(|sample| sample.labels["collector"] == "stat_user_tables")
        .map(|sample| sample.labels["datname"].as_str())
        .collect();
    assert_eq!(aged, BTreeSet::from(["three", "two"]));
    let logins = || server.log().matches("connection authorized").count();
    let before = logins();
    for _ in 0..10 {
        exporter.scrape().await.assert_whole();
    }
    // A visit that came due, or a connection that was renewed meanwhile.
    assert!(
        logins() <= before + 3,
        "{} in 10 scrapes",
        logins() - before
    );

    let output = exporter_command(&["check", "--dsn", &dsn])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    // The one that was made first has one.
    let says = "Warning: databases \"two\" and \"three\" have no connection of their own";
    assert!(said.contains(says), "{said}");

    // With enough of them each has its own.
    let yaml = "servers: { main: { connections: 5 } }";
    let exporter = Exporter::configured(&dsn, yaml).await;
    wait_for("each is known", async || {
        let page = exporter.complete().await;
        let known = page.samples("synapse_db_data_store_info").count();
        known == 3 && page.value(beyond, &[]) == Some(0.0)
    })
    .await;
}

/// The one that was made first keeps its connection, also where another one has more tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_alike_takes_no_connection() {
    let server = Postgres::start(18).await;
    for (name, more) in [
        ("synapse", ""),
        ("alike", "CREATE TABLE state_groups_state ();"),
    ] {
        let create = format!("CREATE DATABASE {name}");
        server.sql("postgres", &create).await;
        let marks = "CREATE TABLE events (); CREATE TABLE schema_version (version int); \
                     CREATE TABLE applied_schema_deltas (); CREATE TABLE background_updates ();";
        server.sql(name, &format!("{marks} {more}")).await;
    }
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    let beyond = "pg_exporter_databases_without_connection";
    wait_for("both are known", async || {
        exporter.complete().await.value(beyond, &[]) == Some(1.0)
    })
    .await;
    let landing = exporter.get("/").await;
    let says = "database &quot;alike&quot; has no connection";
    assert!(landing.text().contains(says), "{}", landing.text());
}

/// Where everybody may create in `public`, that is not the place where a Synapse of another schema is
/// looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_alike_in_public_is_not_read() {
    let server = Postgres::start(15).await;
    let roles = "CREATE ROLE owner; CREATE ROLE guest; CREATE DATABASE synapse OWNER owner";
    for statement in roles.split(';') {
        server.sql("postgres", statement).await;
    }
    let both = "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE SCHEMA matrix AUTHORIZATION owner";
    server.sql("synapse", both).await;
    for (role, schema, version) in [("guest", "public", 1), ("owner", "matrix", 92)] {
        let tables = format!(
            "SET ROLE {role}; SET search_path = {schema};
             CREATE TABLE events (); CREATE TABLE schema_version (version int);
             CREATE TABLE applied_schema_deltas (); CREATE TABLE background_updates ();
             INSERT INTO schema_version VALUES ({version}); GRANT ALL ON schema_version TO PUBLIC"
        );
        server.sql("synapse", &tables).await;
    }
    let exporter = Exporter::watch(&server.dsn("synapse", "postgres"), &[]).await;
    let version = "synapse_db_schema_version";
    wait_for("the version is that of the owner's tables", async || {
        exporter.complete().await.value(version, &[]) == Some(92.0)
    })
    .await;
}
