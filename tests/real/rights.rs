//! What a role may see, and may do too much.

use std::collections::BTreeSet;
use std::time::Duration;

use super::creation::{SOON, check};
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_grants_says_what_it_cannot_see() {
    for major in [13, 18] {
        let server = busy(major).await;
        Role::Plain.create(&server, "exporter", &[]).await;
        Role::Superuser.create(&server, "admin", &[]).await;
        let session = server.client("matrix", "synapse").await;
        session
            .batch_execute("BEGIN; LOCK users IN EXCLUSIVE MODE")
            .await
            .unwrap();

        let exporter = Exporter::watch(&server.tcp_dsn("postgres", "exporter"), &[]).await;
        let page = settled(&exporter).await;
        assert_eq!(page.down_reason(), None);
        // What a role may not see is not a failure.
        assert_eq!(page.failed(), BTreeSet::new(), "{:?}", page.skipped());
        assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
        let unseen = [
            ("activity", "no_privilege", ""),
            ("archive_ready", "no_privilege", ""),
            ("stat_activity", "no_privilege", ""),
            ("stat_progress_vacuum", "no_privilege", ""),
            ("stat_replication", "no_privilege", ""),
            ("wal", "no_privilege", ""),
            ("synapse_users", "no_privilege", "matrix"),
            ("stat_user_tables", "database_skipped", "closed"),
        ];
        for skip in unseen {
            assert!(
                page.skipped().contains(&skip),
                "{skip:?} in {:?}",
                page.skipped()
            );
        }
        for prefix in [
            "pg_activity_",
            "pg_stat_activity_",
            "pg_wal_",
            "pg_stat_replication_",
            "pg_stat_progress_",
            "synapse_db_users",
        ] {
            let found: Vec<_> = page
                .names()
                .into_iter()
                .filter(|name| name.starts_with(prefix))
                .collect();
            assert_eq!(found, [""; 0]);
        }
        // Everything else is there, also what needs no more than to be asked.
        assert_eq!(
            page.value(
                "pg_locks_count",
                &[("datname", "matrix"), ("mode", "exclusivelock")]
            ),
            Some(1.0)
        );
        assert_eq!(
            page.value("pg_database_size_bytes", &[("datname", "closed")]),
            None
        );
        assert!(
            page.value("pg_database_size_bytes", &[("datname", "matrix")])
                .unwrap()
                > 1e6
        );
        assert!(
            page.value("pg_prepared_xacts", &[("datname", "matrix")])
                .is_some()
        );

        let seen = Exporter::watch(&server.tcp_dsn("postgres", "admin"), &[]).await;
        let seen = settled(&seen).await;
        seen.assert_whole();
        // Asked after the other: statistics are reported late, and then stay.
        let page = exporter.scrape_within(TIMEOUT).await;
        assert_eq!(wrongly_zero(&page, &seen), BTreeSet::new());
        let sessions = [("datname", "matrix"), ("state", "idle in transaction")];
        assert_eq!(seen.value("pg_activity_sessions", &sessions), Some(1.0));
        assert!(seen.value("pg_wal_segments", &[]).unwrap() >= 1.0);

        let landing = exporter.get("/").await;
        assert!(
            landing
                .text()
                .contains("cannot see other sessions; run what `matrix-postgres-exporter grants"),
            "{}",
            landing.text()
        );
        // The server's log does not fill with refusals: asked once, then not for a while.
        let refusals = |log: &str| log.matches("permission denied").count();
        let before = refusals(&server.log_so_far().await);
        for _ in 0..3 {
            exporter.scrape_within(TIMEOUT).await;
        }
        assert_eq!(refusals(&server.log_so_far().await), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_do_too_much_is_warned_of() {
    let server = busy(18).await;
    Role::Superuser.create(&server, "admin", &[]).await;
    for (role, warnings, says) in [
        (
            "admin",
            vec![("superuser", ""), ("writable", "matrix")],
            "is a superuser; use a monitoring role without that right",
        ),
        (
            "synapse",
            vec![("writable", "matrix")],
            "may write to the application's tables in database",
        ),
    ] {
        let exporter = Exporter::watch(&server.tcp_dsn("postgres", role), &[]).await;
        let page = settled(&exporter).await;
        page.assert_whole();
        let found: BTreeSet<_> = page
            .samples("pg_exporter_role_warning")
            .map(|sample| {
                assert_eq!(sample.value, 1.0);
                (
                    sample.labels["warning"].as_str(),
                    sample.labels["datname"].as_str(),
                )
            })
            .collect();
        assert_eq!(found, BTreeSet::from_iter(warnings));
        let landing = exporter.get("/").await;
        assert!(landing.text().contains(says), "{}", landing.text());
    }
}

/// Each right that does harm, in whatever way the role has come to it.
#[tokio::test(flavor = "multi_thread")]
async fn every_right_to_do_more_than_read_columns_is_warned_of() {
    let server = busy(18).await;
    Role::Strict.create(&server, "exporter", &["matrix"]).await;
    for sql in [
        "CREATE ROLE team",
        // The rights of the other role are there for whoever asks, with SET ROLE.
        "GRANT team TO exporter WITH INHERIT FALSE",
        "SET ROLE synapse; CREATE SEQUENCE synapse.events_stream_seq",
    ] {
        server.sql("matrix", sql).await;
    }
    let dsn = server.tcp_dsn("postgres", "exporter");
    let exporter = Exporter::configured(&dsn, SOON).await;
    let warned = async |expected: &[&str]| {
        wait_for(&format!("{expected:?} is told"), || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            let warnings = page.samples("pg_exporter_role_warning");
            let mut of_matrix = warnings.filter(|one| one.labels["datname"] == "matrix");
            let found: Vec<_> = of_matrix
                .by_ref()
                .map(|one| one.labels["warning"].as_str())
                .collect();
            found == expected
        })
        .await;
    };
    warned(&[]).await;
    for (expected, right, to) in [
        ("writable", "INSERT ON TABLE synapse.events", "exporter"),
        ("writable", "TRIGGER ON TABLE synapse.users", "PUBLIC"),
        ("writable", "MAINTAIN ON TABLE synapse.users", "exporter"),
        (
            "writable",
            "UPDATE (name) ON TABLE synapse.users",
            "exporter",
        ),
        (
            "writable",
            "USAGE ON SEQUENCE synapse.events_stream_seq",
            "team",
        ),
        ("writable", "DELETE ON TABLE synapse.users", "team"),
        ("readable", "SELECT ON TABLE synapse.users", "PUBLIC"),
    ] {
        server
            .sql("matrix", &format!("GRANT {right} TO {to}"))
            .await;
        warned(&[expected]).await;
        server
            .sql("matrix", &format!("REVOKE {right} FROM {to}"))
            .await;
        warned(&[]).await;
    }
    for (expected, role) in [
        ("writable", "synapse"),
        ("writable", "pg_write_all_data"),
        ("readable", "pg_read_all_data"),
    ] {
        server.sql("matrix", &format!("GRANT {role} TO team")).await;
        warned(&[expected]).await;
        server
            .sql("matrix", &format!("REVOKE {role} FROM team"))
            .await;
        warned(&[]).await;
    }
    for (power, give, take) in [
        (
            "createrole",
            "ALTER ROLE exporter CREATEROLE",
            "ALTER ROLE exporter NOCREATEROLE",
        ),
        (
            "replication",
            "ALTER ROLE exporter REPLICATION",
            "ALTER ROLE exporter NOREPLICATION",
        ),
        (
            "server_files",
            "GRANT pg_read_server_files TO team",
            "REVOKE pg_read_server_files FROM team",
        ),
        (
            "bypassrls",
            "ALTER ROLE exporter BYPASSRLS",
            "ALTER ROLE exporter NOBYPASSRLS",
        ),
        (
            "other_sessions",
            "GRANT pg_signal_backend TO team",
            "REVOKE pg_signal_backend FROM team",
        ),
        (
            "alter_system",
            "GRANT ALTER SYSTEM ON PARAMETER work_mem TO PUBLIC",
            "REVOKE ALTER SYSTEM ON PARAMETER work_mem FROM PUBLIC",
        ),
        (
            "alter_system",
            "GRANT ALTER SYSTEM ON PARAMETER work_mem TO team",
            "REVOKE ALTER SYSTEM ON PARAMETER work_mem FROM team",
        ),
        // A power of a role that it may become.
        (
            "superuser",
            "ALTER ROLE team SUPERUSER",
            "ALTER ROLE team NOSUPERUSER",
        ),
        (
            "createrole",
            "ALTER ROLE team CREATEROLE",
            "ALTER ROLE team NOCREATEROLE",
        ),
        (
            "replication",
            "ALTER ROLE team REPLICATION",
            "ALTER ROLE team NOREPLICATION",
        ),
    ] {
        for (sql, told) in [(give, Some(1.0)), (take, None)] {
            server.sql("postgres", sql).await;
            let page = exporter.scrape_within(TIMEOUT).await;
            let labels = [("warning", power), ("datname", "")];
            assert_eq!(
                page.value("pg_exporter_role_warning", &labels),
                told,
                "{sql}"
            );
        }
    }
    let own = "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
               ALTER FUNCTION public.mine() OWNER TO exporter";
    server.sql("matrix", own).await;
    warned(&["owner"]).await;
    let landing = exporter.get("/").await;
    assert!(
        landing
            .text()
            .contains("owns tables, functions or other objects in database"),
        "{}",
        landing.text()
    );
}

/// What cannot be asked is not taken for what it should be.
#[tokio::test(flavor = "multi_thread")]
async fn rights_that_cannot_be_asked_are_told() {
    let server = busy(18).await;
    Role::Strict.create(&server, "exporter", &["matrix"]).await;
    server
        .sql("matrix", "GRANT INSERT ON synapse.events TO PUBLIC")
        .await;
    let dsn = server.tcp_dsn("postgres", "exporter");
    let exporter = Exporter::configured(&dsn, SOON).await;
    let known = async |unknown: f64| {
        wait_for("what may be done is told", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            let writable = [("warning", "writable"), ("datname", "matrix")];
            let of_matrix = [("datname", "matrix")];
            let said = page.value("pg_exporter_role_rights_unknown", &of_matrix);
            // It is known from before, or not yet asked.
            let told = page.value("pg_exporter_role_warning", &writable) == Some(1.0);
            assert!(told || said.is_none(), "{said:?}");
            said == Some(unknown)
        })
        .await;
    };
    known(0.0).await;
    // Nothing else reads it.
    let locker = server.client("matrix", "postgres").await;
    locker
        .batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_shdepend")
        .await
        .unwrap();
    known(1.0).await;
    let says = "the query for the role's privileges in database \"matrix\" failed: ";
    let landing = exporter.get("/").await.text().replace("&quot;", "\"");
    assert!(landing.contains(says), "{landing}");
    let said = check(&dsn);
    assert!(said.contains(says), "{said}");
    locker.batch_execute("ROLLBACK").await.unwrap();
    known(0.0).await;
}

/// A server with something of everything: an application's tables, a backlog of the archiver, a
/// database that others may not enter.
async fn busy(major: u32) -> Postgres {
    let server = Postgres::builder(major)
        .setting("archive_mode", "on")
        .setting("archive_command", "false")
        .setting("max_prepared_transactions", "5")
        .start()
        .await;
    Role::Plain.create(&server, "synapse", &[]).await;
    for sql in [
        "CREATE DATABASE matrix OWNER synapse",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        "SELECT pg_switch_wal()",
    ] {
        server.sql("postgres", sql).await;
    }
    let tables = "SET ROLE synapse; CREATE SCHEMA synapse; SET search_path = synapse;
                  CREATE TABLE events (event_id text); CREATE TABLE applied_schema_deltas ();
                  CREATE TABLE background_updates (update_name text);
                  CREATE TABLE schema_version (version int);
                  CREATE TABLE users (name text, creation_ts bigint, is_guest smallint,
                      admin smallint, deactivated smallint, appservice_id text,
                      user_type text, shadow_banned boolean);
                  INSERT INTO users SELECT i FROM generate_series(1, 7) AS i;
                  INSERT INTO schema_version VALUES (88)";
    server.sql("matrix", tables).await;
    server
        .sql(
            "matrix",
            "ALTER DATABASE matrix SET search_path = synapse, public",
        )
        .await;
    server
}

/// A page of when every database has been seen, and what was seen there is asked in every scrape.
async fn settled(exporter: &Exporter) -> Page {
    exporter.scrape_within(TIMEOUT).await;
    exporter.scrape_within(TIMEOUT).await
}

/// What one page says is zero while another sees that it is not. Counters and locks move between
/// the two.
fn wrongly_zero(page: &Page, seen: &Page) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for name in page.readings() {
        if name == "pg_locks_count" || page.families[name].kind == "counter" {
            continue;
        }
        for sample in page.samples(name).filter(|sample| sample.value == 0.0) {
            let mut others = seen.samples(name);
            let same = others.find(|other| other.labels == sample.labels);
            if same.is_some_and(|same| same.value != 0.0) {
                wrong.insert(format!("{name}{:?}", sample.labels));
            }
        }
    }
    wrong
}
