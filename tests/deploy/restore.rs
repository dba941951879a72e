//! The owner of Synapse's database dumps it and restores it into itself, by the tools of PostgreSQL
//! and under constant scraping: nothing of the exporter is in the way.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::attack::takes_over;
use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::{run, scratch, wait_for};
use super::support::roles::{Role, grant};
use super::support::synapse::{Made, NEW, OLD, Synapse};
use super::{major_of_tools, tool, with_server};

/// A statement of ours takes a second at most; the rest is for a machine with much else to do.
const BOUND: Duration = Duration::from_secs(3);

const MISSING: &str = "pg_exporter_privileges_missing";

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_while_the_exporter_looks() {
    let server = Postgres::start(major_of_tools()).await;
    let (synapse, made) = Synapse::start(&server, NEW).await;
    drop(synapse);
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    nothing_depends_on_us(&server).await;
    let exporter = Exporter::without_memory(&server.dsn("synapse", "exporter")).await;
    seen(&exporter, &made).await;

    let folder = scratch();
    let dump = folder.path().join("synapse.dump").display().to_string();
    let restore = [
        "--clean",
        "--if-exists",
        "--exit-on-error",
        "--single-transaction",
        "-d",
        "synapse",
    ];
    let over = AtomicBool::new(false);
    let owner = async {
        let as_owner = async |name: &'static str, args: &[&str]| {
            let mut command = of_owner(name, &server, &made);
            command.args(args).arg(&dump);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap());
            succeeded(name, &output.await.unwrap());
        };
        as_owner("pg_dump", &["-Fc", "synapse", "-f"]).await;
        as_owner("pg_restore", &restore).await;
        // Its privileges were in the dump.
        seen(&exporter, &made).await;
        as_owner("pg_restore", &[&restore[..], &["--no-privileges"]].concat()).await;
        over.store(true, Ordering::Relaxed);
    };
    let scrapes = async {
        while !over.load(Ordering::Relaxed) {
            let page = exporter.scrape_within(Duration::from_secs(10)).await;
            assert_eq!(page.value("pg_up", &[]), Some(1.0));
        }
    };
    let ((), (), longest) =
        tokio::join!(owner, scrapes, server.longest_wait_for_us("synapse", &over));
    assert!(longest < BOUND, "somebody waited {longest:?} for us");
    for harm in ["canceling autovacuum", "deadlock"] {
        assert!(!server.log().contains(harm), "{}", server.log());
    }

    wait_for("what was not restored is missing", || async {
        let page = exporter.scrape().await;
        page.value(MISSING, &[("datname", "synapse")]) > Some(100.0)
    })
    .await;
    grant(&server, "exporter", &["synapse"], &[]).await;
    seen(&exporter, &made).await;
    nothing_depends_on_us(&server).await;
}

/// A dump of 14 brings along that everybody may create in `public`.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_14_is_no_open_door() {
    let old = Postgres::start(14).await;
    let (synapse, made) = Synapse::start(&old, OLD).await;
    synapse.stop().await;
    let folder = scratch();
    let dump = folder.path().join("synapse.sql").display().to_string();
    let mut command = with_server(tool("pg_dump"), &old);
    run(command.args(["--create", "synapse", "-f", &dump]));
    drop(old);

    let server = Postgres::start(18).await;
    Role::Plain.create(&server, &made.role, &[]).await;
    let mut command = with_server(tool("psql"), &server);
    run(command.args([
        "--no-psqlrc",
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        &dump,
        "postgres",
    ]));
    let acl = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'";
    let before = server.value("synapse", acl).await;
    assert_eq!(
        before.as_deref(),
        Some("{postgres=UC/postgres,=UC/postgres}")
    );
    Role::Plain.create(&server, "exporter", &[]).await;
    assert!(takes_over(&server, "synapse", &made.role).await);

    grant(&server, "exporter", &["synapse"], &[]).await;
    assert!(!takes_over(&server, "synapse", &made.role).await);
    let (synapse, again) = synapse.upgrade_on(&server, NEW).await;
    assert_eq!(again.users, made.users, "it goes on where it was");
    let updates = "SELECT count(*) FROM background_updates";
    wait_for("its background updates have ended", || async {
        server.value("synapse", updates).await.as_deref() == Some("0")
    })
    .await;
    synapse.talk().await;
    let talked = synapse.hush().await;
    assert!(talked.messages > made.messages, "{}", talked.messages);
    drop(synapse);
    assert!(!takes_over(&server, "synapse", &made.role).await);
    grant(&server, "exporter", &["synapse"], &["--revoke"]).await;
    assert_eq!(server.value("synapse", acl).await, before);
}

/// What `--revoke` has to restore goes with a dump into another cluster, where oids mean something else.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_goes_with_a_dump() {
    let old = Postgres::start(14).await;
    make_roles(&old, &["synapse", "writer"]).await;
    old.sql("postgres", "CREATE DATABASE synapse OWNER synapse")
        .await;
    let tables = "SET ROLE synapse; CREATE TABLE events (); CREATE TABLE state_groups_state ();
                  CREATE TABLE schema_version (); CREATE TABLE applied_schema_deltas ();
                  CREATE TABLE background_updates (); GRANT TRIGGER ON events TO PUBLIC;
                  GRANT INSERT ON events TO writer; RESET ROLE;
                  CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO PUBLIC";
    old.sql("synapse", tables).await;
    let open = rights(&old).await;
    Role::Strict.create(&old, "exporter", &["synapse"]).await;
    let closed = rights(&old).await;
    assert_ne!(closed, open);

    let folder = scratch();
    let dump = folder.path().join("dump.sql").display().to_string();
    for whole in [true, false] {
        for major in [15, 18] {
            let (name, args) = match whole {
                true => ("pg_dumpall", vec!["-f", &dump]),
                false => ("pg_dump", vec!["--create", "synapse", "-f", &dump]),
            };
            run(with_server(tool(name), &old).args(args));
            let new = Postgres::builder(major).fresh().start().await;
            if !whole {
                let owner = "matrix_postgres_exporter_owner";
                make_roles(&new, &["synapse", "writer", "exporter", owner]).await;
            }
            let mut psql = with_server(tool("psql"), &new);
            run(psql.args(["--no-psqlrc", "-f", &dump, "postgres"]));
            assert_eq!(rights(&new).await, closed, "{name} {major}");
            // At once, or after `grants` has written what it means there.
            if major == 18 {
                grant(&new, "exporter", &["synapse"], &[]).await;
                assert_eq!(rights(&new).await, closed, "{name} {major}");
            }
            grant(&new, "exporter", &["synapse"], &["--revoke"]).await;
            assert_eq!(rights(&new).await, open, "{name} {major}");
        }
    }
}

async fn make_roles(server: &Postgres, names: &[&str]) {
    for name in names {
        server
            .sql("postgres", &format!("CREATE ROLE {name} LOGIN"))
            .await;
    }
}

/// Who may do what in the database's schemas and tables, but for the exporter's role and owners.
async fn rights(server: &Postgres) -> Vec<Vec<Option<String>>> {
    let rights = "
        SELECT p.name, a.grantee::regrole::text, a.privilege_type
          FROM (SELECT nspname::text, nspacl, nspowner
                  FROM pg_namespace WHERE nspname IN ('public', 'app')
                UNION ALL
                SELECT relname, relacl, relowner
                  FROM pg_class WHERE relnamespace = 'public'::regnamespace)
               AS p (name, acl, owner), aclexplode(p.acl) AS a
         WHERE a.grantee::regrole::text <> 'exporter' AND a.grantee <> p.owner
         ORDER BY 1, 2, 3";
    server.sql("synapse", rights).await
}

/// Waits until everything is seen as it was made.
async fn seen(exporter: &Exporter, made: &Made) {
    wait_for("Synapse is seen", || async {
        let page = exporter.scrape().await;
        let users = page.samples("synapse_db_users").map(|sample| sample.value);
        page.value(MISSING, &[("datname", "synapse")]) == Some(0.0)
            && users.sum::<f64>() == made.users.total as f64
            && page.value("synapse_db_rooms", &[]) == Some(made.rooms.total as f64)
    })
    .await;
}

/// In the application's database the roles of ours own nothing, and nothing needs them but what
/// they may read.
async fn nothing_depends_on_us(server: &Postgres) {
    let dependencies = "
        SELECT DISTINCT d.deptype, d.classid::regclass
          FROM pg_shdepend d
          JOIN pg_roles r ON r.oid = d.refobjid AND r.rolname ~ 'exporter'
         WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
         ORDER BY 2";
    let found = server.sql("synapse", dependencies).await;
    let found: Vec<Vec<_>> = found
        .iter()
        .map(|row| row.iter().flatten().map(String::as_str).collect())
        .collect();
    assert_eq!(found, [["a", "pg_class"], ["a", "pg_namespace"]]);
}

/// A tool of PostgreSQL, run as the owner of the database.
fn of_owner(name: &str, server: &Postgres, made: &Made) -> Command {
    let mut command = tool(name);
    command
        .env("PGHOST", server.socket_dir())
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", &made.role);
    command
}

fn succeeded(name: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    assert!(!said.contains("error"), "{name}: {said}");
}
