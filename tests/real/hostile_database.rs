//! The owner of a database that is visited plants names and objects; none of his code runs.
//!
//! What is planted calls a function that writes a line into the server's log, whoever calls it and
//! in whatever transaction. That such a line would be seen is tried in each test.
//!
//! - [`names`]: of schemas, databases and roles
//! - [`plants`]: views, policies, types and more in the place of a table of Synapse's
//! - [`functions`]: in the place of those of the strict role
//! - [`sessions`]: how sessions begin

use std::time::Duration;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::look_alike::SYNAPSE;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;

mod functions;
mod names;
mod plants;
mod sessions;

/// The metric of the table in whose place things are planted, and its rows.
const BLOCKED: &str = "synapse_db_rooms_blocked";
const ROWS: f64 = 3.0;

/// A Synapse in a schema of its own, with rows to read whole, in pieces and by the count of events.
fn synapse() -> String {
    format!(
        "CREATE SCHEMA app;
         GRANT ALL ON SCHEMA app, public TO PUBLIC;
         SET search_path = app;
         {SYNAPSE};
         CREATE TABLE blocked_rooms (room_id text PRIMARY KEY, user_id text);
         INSERT INTO schema_version VALUES (88);
         INSERT INTO rooms SELECT 'a' || lpad(i::text, 5, '0') FROM generate_series(1, 10000) AS i;
         INSERT INTO blocked_rooms SELECT i, 'x' FROM generate_series(1, 3) AS i;
         ANALYZE"
    )
}

/// Whoever calls these is written into the log.
const PLANTED: &str = "
    CREATE FUNCTION public.planted(what text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RAISE LOG ''PLANTED % runs as %'', what, session_user; RETURN what; END';
    CREATE FUNCTION public.f() RETURNS text LANGUAGE sql IMMUTABLE AS
    'SELECT public.planted(''name'')'";

/// How long a server of many databases may take to be seen.
const PATIENCE: Duration = Duration::from_secs(150);

/// Roles that the exporter logs in as.
const ROLES: [&str; 3] = ["strict", "monitor", "admin"];

/// A server on which `mallory` owns databases, each a copy of `model`.
async fn hostile(major: u32) -> Postgres {
    let server = Postgres::builder(major)
        .setting("max_connections", "60")
        .setting("autovacuum", "off")
        .start()
        .await;
    let create = "CREATE ROLE mallory LOGIN";
    server.sql("postgres", create).await;
    server
        .sql("postgres", "CREATE DATABASE model OWNER mallory")
        .await;
    let owner = server.client("model", "mallory").await;
    owner.batch_execute(&synapse()).await.unwrap();
    owner.batch_execute(PLANTED).await.unwrap();
    server
}

/// The roles, with rights in the databases.
async fn create_roles(server: &Postgres, databases: &[&str]) {
    Role::Strict.create(server, "strict", databases).await;
    Role::PgMonitor.create(server, "monitor", databases).await;
    Role::Superuser.create(server, "admin", &[]).await;
    if server.major() >= 14 {
        server
            .sql("postgres", "GRANT pg_read_all_data TO monitor")
            .await;
    }
}

/// One more database of mallory's.
async fn copy(server: &Postgres, name: &str) {
    let create = format!("CREATE DATABASE {name} TEMPLATE model OWNER mallory");
    server.sql("postgres", &create).await;
}

/// The lines of the log in which something planted has run as one of the exporter's roles.
fn planted(server: &Postgres) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|line| {
        ROLES
            .iter()
            .any(|role| line.contains("PLANTED") && line.contains(&format!("runs as {role}")))
    });
    lines.map(str::to_owned).collect()
}

/// Panics unless what is planted would be seen, of each role, in a transaction like ours. Returns
/// how many lines that made.
async fn assert_would_be_seen(server: &Postgres, database: &str) -> usize {
    let before = planted(server).len();
    for (at, role) in ROLES.iter().enumerate() {
        let client = server.client(database, role).await;
        rows(&client, "SET TRANSACTION READ ONLY; SELECT public.f()").await;
        wait_for("the call is seen", || async {
            planted(server).len() > before + at
        })
        .await;
    }
    planted(server).len()
}

/// Whether the events are counted, of each kind.
fn counted(page: &Page, database: &str) -> bool {
    let mut events = page.samples("synapse_db_events");
    events.any(|sample| sample.labels["datname"] == database && sample.value == 5.0)
}
