//! The owner of a database that is visited plants names and objects; none of his code runs.
//!
//! What is planted calls a function that writes a line into the server's log, whoever calls it and
//! in whatever transaction. That such a line would be seen is tried in each test.

use std::time::Duration;

use super::support::answers::wait_until;
use super::support::exporter::{Exporter, exporter_command};
use super::support::exposition::Page;
use super::support::postgres::{MAJORS, Postgres, rows};
use super::support::process::{wait_at_most, wait_for};
use super::support::roles::{Role, in_dsn, run_script};
use matrix_postgres_exporter::query::sql::{identifier, literal};
use matrix_postgres_exporter::query::view::{SCHEMA, VIEWS};

/// The metric of the table in whose place things are planted, and its rows.
const BLOCKED: &str = "synapse_db_rooms_blocked";
const ROWS: f64 = 3.0;

/// Everything of Synapse that these tests need: its marks, and tables that are read whole, in
/// pieces, by the count of events.
const SYNAPSE: &str = "
    CREATE SCHEMA app;
    GRANT ALL ON SCHEMA app, public TO PUBLIC;
    SET search_path = app;
    CREATE TABLE applied_schema_deltas ();
    CREATE TABLE background_updates (update_name text, ordering int, depends_on text,
                                     progress_json text);
    CREATE TABLE schema_version (version int);
    CREATE TABLE state_groups_state ();
    CREATE TABLE events (stream_ordering bigint UNIQUE, type text, state_key text,
                         rejection_reason text, received_ts bigint);
    CREATE TABLE stream_positions (stream_name text, instance_name text, stream_id bigint);
    CREATE TABLE blocked_rooms (room_id text PRIMARY KEY, user_id text);
    CREATE TABLE rooms (room_id text PRIMARY KEY, room_version text, is_public boolean);
    CREATE SEQUENCE events_stream_seq;
    INSERT INTO schema_version VALUES (88);
    INSERT INTO events SELECT i, 'm.room.message', NULL, NULL, 1 FROM generate_series(1, 5) AS i;
    INSERT INTO stream_positions VALUES ('events', 'master', 5);
    INSERT INTO rooms SELECT 'a' || lpad(i::text, 5, '0') FROM generate_series(1, 10000) AS i;
    INSERT INTO blocked_rooms SELECT i, 'x' FROM generate_series(1, 3) AS i;
    ANALYZE";

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
    owner.batch_execute(SYNAPSE).await.unwrap();
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

/// The page of when this is true of it.
async fn page_when(exporter: &Exporter, what: &str, is: impl Fn(&Page) -> bool) -> Page {
    wait_at_most(PATIENCE, what, || async { is(&exporter.scrape().await) }).await;
    exporter.scrape().await
}

/// Whether the events are counted, of each kind.
fn counted(page: &Page, database: &str) -> bool {
    let mut events = page.samples("synapse_db_events");
    events.any(|sample| sample.labels["datname"] == database && sample.value == 5.0)
}

/// Names that could get out of where they stand, or have something else put into them.
fn names() -> Vec<String> {
    let placeholders = [
        "{schema}",
        "{schema_name}",
        "{piece}",
        "{range}",
        "{pg_stat_activity}",
    ];
    let call = ";commit;select public.f()--";
    let mut names: Vec<_> = placeholders
        .iter()
        .flat_map(|placeholder| {
            [
                format!("{placeholder}\".x{call}"),
                format!("E'{placeholder}'{call}"),
            ]
        })
        .collect();
    names.extend([
        format!("'{call}"),
        format!("\\'{call}"),
        format!("\\\\'{call}"),
        format!("\"{call}"),
        format!("\"\"{call}"),
        format!("'){call}"),
        format!("$$,$do${call}"),
        format!("*/{call}"),
        format!("/*{call}"),
        format!("\n{call}\n"),
        format!("--\n{call}"),
        format!("%s%I%1$s:'x':\"x\":x{call}"),
        format!("é\u{1f600}\u{2028}'\"{call}"),
        format!("{}\\", "x".repeat(62)),
        format!("{}'", "é".repeat(31)),
        format!("{}\"", "\"".repeat(62)),
    ]);
    assert!(names.iter().all(|name| name.len() <= 63));
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_any_name_on_13() {
    a_schema_may_have_any_name(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_any_name_on_18() {
    a_schema_may_have_any_name(18).await;
}

/// The name is a room's, too, right where a piece ends.
async fn a_schema_may_have_any_name(major: u32) {
    let server = hostile(major).await;
    create_roles(&server, &["model"]).await;
    let seen = assert_would_be_seen(&server, "model").await;
    // The owner also sets how a session begins.
    let owner = server.client("model", "mallory").await;
    let as_of_old = "ALTER DATABASE model SET standard_conforming_strings = off";
    owner.batch_execute(as_of_old).await.unwrap();
    let mut last = "app".to_owned();
    for (at, name) in names().into_iter().enumerate() {
        let rename = format!(
            "DELETE FROM {old}.rooms WHERE room_id > 'b';
             INSERT INTO {old}.rooms VALUES ({}), ('z');
             ALTER SCHEMA {old} RENAME TO {}",
            literal(&format!("b{name}")),
            identifier(&name),
            old = identifier(&last),
        );
        owner.batch_execute(&rename).await.unwrap();
        last = name;
        let role = ROLES[at % ROLES.len()];
        let exporter = Exporter::watch(&server.dsn("model", role), &[]).await;
        let complete = |page: &Page| {
            let mut rooms = page.samples("synapse_db_rooms");
            page.value(BLOCKED, &[("datname", "model")]) == Some(ROWS)
                && rooms.any(|rooms| rooms.value == 10_002.0)
                && counted(page, "model")
        };
        page_when(&exporter, &format!("{role}: {last}"), complete).await;
        let found = planted(&server);
        assert_eq!(found.len(), seen, "{role}: {last}: {found:?}");
    }
    assert!(!server.log().contains("syntax error"), "{}", server.log());
}

/// Bytes that are no UTF-8 cannot be said in a statement of ours: what has such a name is told, and
/// left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_whose_name_is_not_utf_8_is_told() {
    let server = hostile(18).await;
    let create = "CREATE DATABASE ascii TEMPLATE template0 OWNER mallory ENCODING 'SQL_ASCII' \
                  LC_COLLATE 'C' LC_CTYPE 'C'";
    server.sql("postgres", create).await;
    let owner = server.client("ascii", "mallory").await;
    let name = r"convert_from('\xe922', 'SQL_ASCII') || ';commit;select public.f()--'";
    let rename = format!(
        "{PLANTED}; {SYNAPSE};
         DO $$ BEGIN EXECUTE format('ALTER SCHEMA app RENAME TO %I', {name}); END $$"
    );
    owner.batch_execute(&rename).await.unwrap();
    create_roles(&server, &["ascii"]).await;
    let seen = assert_would_be_seen(&server, "ascii").await;
    for role in ROLES {
        let exporter = Exporter::watch(&server.dsn("postgres", role), &[]).await;
        let told = |page: &Page| {
            let skip = ("synapse_rooms", "not_a_plain_table", "ascii");
            page.skipped().contains(&skip)
        };
        let page = page_when(&exporter, role, told).await;
        assert_eq!(page.value(BLOCKED, &[("datname", "ascii")]), None);
        // The other database is seen as ever.
        let blocked = |page: &Page| page.value(BLOCKED, &[("datname", "model")]).is_some();
        if role == "admin" {
            page_when(&exporter, role, blocked).await;
        }
    }
    assert_eq!(planted(&server).len(), seen);
}

/// Every string of three pieces that mean something in SQL comes back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_literal_is_what_it_stands_for() {
    let pieces = [
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "\\x27",
        "{schema}",
        "{piece}",
        ";",
        "--",
        "/*",
        "*/",
        "$$",
        "\n",
        "\r",
        "\t",
        "é",
        "\u{1f600}",
        "%s",
        ":'a'",
        "a",
    ];
    let mut strings = Vec::new();
    for first in pieces {
        for second in pieces {
            strings.extend(pieces.map(|third| format!("{first}{second}{third}")));
        }
    }
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        for conforming in ["on", "off"] {
            let literals: Vec<_> = strings.iter().map(|string| literal(string)).collect();
            let sql = format!(
                "SET standard_conforming_strings = {conforming}; SET escape_string_warning = off;
                 SELECT unnest(ARRAY[{}])",
                literals.join(", ")
            );
            let found = server.sql("postgres", &sql).await;
            let found: Vec<_> = found.into_iter().flatten().flatten().collect();
            assert_eq!(found, strings, "{major} {conforming}");
            let columns: Vec<_> = strings
                .iter()
                .take(1_600)
                .map(|string| format!("1 AS {}", identifier(string)))
                .collect();
            let client = server.client("postgres", "postgres").await;
            let sql = format!("SELECT {}", columns.join(", "));
            let statement = client.prepare(&sql).await.unwrap();
            let found: Vec<_> = statement.columns().iter().map(|one| one.name()).collect();
            assert_eq!(found, strings[..columns.len()], "{major} {conforming}");
        }
    }
}

/// What is planted in the place of `blocked_rooms`, or on it.
struct Plant {
    database: &'static str,
    since: u32,
    sql: &'static str,
    /// What is said of it; nothing where the table is read as ever.
    told: &'static str,
}

impl Plant {
    /// Does as its owner says.
    async fn put(&self, server: &Postgres) {
        let owner = server.client(self.database, "mallory").await;
        let sql = format!(
            "SET search_path = app, public; {};
             GRANT SELECT ON ALL TABLES IN SCHEMA app TO PUBLIC",
            self.sql
        );
        let done = owner.batch_execute(&sql).await;
        done.unwrap_or_else(|error| panic!("{}: {error:?}", self.database));
    }
}

const fn plant(database: &'static str, told: &'static str, sql: &'static str) -> Plant {
    Plant {
        database,
        since: 13,
        sql,
        told,
    }
}

/// Each in a database of its own. The superuser has made a foreign server that mallory may use.
const PLANTS: &[Plant] = &[
    plant(
        "view",
        "it is a view",
        "ALTER TABLE blocked_rooms RENAME TO hidden;
         CREATE VIEW blocked_rooms AS SELECT public.planted(room_id) AS room_id FROM hidden",
    ),
    plant(
        "materialized",
        "it is a materialized view",
        "ALTER TABLE blocked_rooms RENAME TO hidden;
         CREATE MATERIALIZED VIEW blocked_rooms AS SELECT room_id FROM hidden",
    ),
    plant(
        "foreign_table",
        "it is a foreign table",
        "DROP TABLE blocked_rooms;
         CREATE FOREIGN TABLE blocked_rooms (room_id text) SERVER nowhere",
    ),
    plant(
        "foreign_child",
        "inherits",
        "CREATE FOREIGN TABLE child () INHERITS (blocked_rooms) SERVER nowhere",
    ),
    plant(
        "child",
        "inherits",
        "CREATE TABLE child () INHERITS (blocked_rooms);
         CREATE INDEX ON child (public.planted(room_id))",
    ),
    plant(
        "partitioned",
        "it is a partitioned table",
        "DROP TABLE blocked_rooms;
         CREATE TABLE blocked_rooms (room_id text) PARTITION BY LIST (public.planted(room_id));
         CREATE TABLE part PARTITION OF blocked_rooms DEFAULT",
    ),
    plant(
        "partition",
        "it is a partition",
        "DROP TABLE blocked_rooms;
         CREATE TABLE whole (room_id text) PARTITION BY LIST (public.planted(room_id));
         CREATE TABLE blocked_rooms PARTITION OF whole DEFAULT",
    ),
    plant(
        "policy",
        "it is under row-level security",
        "CREATE POLICY planted ON blocked_rooms USING (public.planted(room_id) <> '');
         ALTER TABLE blocked_rooms ENABLE ROW LEVEL SECURITY",
    ),
    plant(
        "domain",
        "its column room_id has the type public.odd",
        "CREATE DOMAIN public.odd AS text CHECK (public.planted(VALUE) <> '');
         ALTER TABLE blocked_rooms ALTER room_id TYPE public.odd",
    ),
    plant(
        "enum_type",
        "its column room_id has the type public.odd",
        "CREATE TYPE public.odd AS ENUM ('1', '2', '3');
         CREATE FUNCTION public.odd(public.odd) RETURNS text LANGUAGE sql IMMUTABLE AS
         'SELECT public.planted(''cast'')';
         CREATE CAST (public.odd AS text) WITH FUNCTION public.odd(public.odd) AS IMPLICIT;
         ALTER TABLE blocked_rooms ALTER room_id TYPE public.odd USING room_id::public.odd",
    ),
    plant(
        "composite",
        "its column user_id has the type public.odd[]",
        "CREATE TYPE public.odd AS (a int);
         CREATE FUNCTION public.less(public.odd, public.odd) RETURNS boolean
         LANGUAGE sql IMMUTABLE AS 'SELECT public.planted(''operator'') IS NULL';
         CREATE OPERATOR public.< (LEFTARG = public.odd, RIGHTARG = public.odd,
                                   FUNCTION = public.less);
         ALTER TABLE blocked_rooms ALTER user_id TYPE public.odd[] USING NULL",
    ),
    plant(
        "range_type",
        "its column room_id has the type public.odd",
        "CREATE FUNCTION public.less(bigint, bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
         'SELECT length(public.planted(''difference''))::float8';
         CREATE TYPE public.odd AS RANGE (SUBTYPE = bigint, SUBTYPE_DIFF = public.less);
         ALTER TABLE blocked_rooms DROP room_id;
         ALTER TABLE blocked_rooms ADD room_id public.odd;
         CREATE INDEX ON blocked_rooms USING gist (room_id)",
    ),
    plant(
        "expression",
        "uses the function public.planted(pg_catalog.text)",
        "CREATE INDEX ON blocked_rooms ((room_id || public.planted('index')))",
    ),
    plant(
        "predicate",
        "uses the function public.planted(pg_catalog.text)",
        "CREATE INDEX ON blocked_rooms (room_id) WHERE room_id > public.planted('predicate')",
    ),
    plant(
        "exclusion",
        "uses the function public.planted(pg_catalog.text)",
        "TRUNCATE blocked_rooms;
         ALTER TABLE blocked_rooms ADD EXCLUDE USING btree (public.planted('exclusion') WITH =)",
    ),
    plant(
        "operator",
        "uses the operator public.",
        "CREATE FUNCTION public.both(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS
         'SELECT public.planted(''operator'')';
         CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = public.both);
         CREATE INDEX ON blocked_rooms ((room_id || ('a' OPERATOR(public.||) 'b')))",
    ),
    plant(
        "checked",
        "uses the function public.planted(pg_catalog.text)",
        "ALTER TABLE blocked_rooms ADD CHECK (room_id <> public.planted('check'));
         ALTER DATABASE checked SET constraint_exclusion = on",
    ),
    Plant {
        since: 14,
        ..plant(
            "statistics",
            "uses the function public.planted(pg_catalog.text)",
            "CREATE STATISTICS odd ON (room_id || public.planted('statistics')), user_id
               FROM blocked_rooms;
             ANALYZE blocked_rooms",
        )
    },
    Plant {
        since: 18,
        ..plant(
            "computed",
            "its column odd is computed when it is read",
            "ALTER TABLE blocked_rooms ADD odd text GENERATED ALWAYS AS (upper(room_id)) VIRTUAL",
        )
    },
    // What is not evaluated by reading does no harm; Synapse has unlogged tables, too.
    plant("unlogged", "", "ALTER TABLE blocked_rooms SET UNLOGGED"),
    plant(
        "stored",
        "",
        "ALTER TABLE blocked_rooms ADD odd text
             GENERATED ALWAYS AS (public.planted(room_id)) STORED;
         ALTER TABLE blocked_rooms ALTER user_id SET DEFAULT public.planted('default')",
    ),
    plant(
        "same_names",
        "",
        "ALTER DATABASE same_names SET search_path = app, public, pg_catalog;
         CREATE FUNCTION public.count(text) RETURNS bigint LANGUAGE sql AS
         'SELECT length(public.planted(''count''))::bigint';
         CREATE FUNCTION app.lower(text) RETURNS text LANGUAGE sql AS
         'SELECT public.planted(''lower'')';
         CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql AS
         'SELECT public.planted(''setting'')';
         CREATE FUNCTION public.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS
         'SELECT public.planted(''set'')';
         CREATE FUNCTION public.pg_table_size(oid) RETURNS bigint LANGUAGE sql AS
         'SELECT length(public.planted(''size''))::bigint';
         CREATE FUNCTION public.greatest(bigint, bigint) RETURNS bigint LANGUAGE sql AS
         'SELECT length(public.planted(''size''))::bigint';
         CREATE FUNCTION public.same(text, text) RETURNS boolean LANGUAGE sql AS
         'SELECT public.planted(''same'') IS NULL';
         CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
         CREATE OPERATOR app.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
         CREATE VIEW public.pg_class AS SELECT public.planted('class') AS relname, 1::oid AS oid;
         CREATE VIEW app.pg_locks AS SELECT public.planted('locks') AS mode",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_runs_on_13() {
    nothing_planted_runs(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_runs_on_14() {
    nothing_planted_runs(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_runs_on_15() {
    nothing_planted_runs(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_runs_on_16() {
    nothing_planted_runs(16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_runs_on_17() {
    nothing_planted_runs(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_runs_on_18() {
    nothing_planted_runs(18).await;
}

async fn nothing_planted_runs(major: u32) {
    assert!(MAJORS.contains(&major));
    let server = hostile(major).await;
    let foreign = "CREATE EXTENSION postgres_fdw;
                   CREATE SERVER nowhere FOREIGN DATA WRAPPER postgres_fdw
                       OPTIONS (host '127.0.0.1', port '1', dbname 'nowhere');
                   CREATE USER MAPPING FOR PUBLIC SERVER nowhere OPTIONS (user 'x', password 'x');
                   GRANT USAGE ON FOREIGN SERVER nowhere TO mallory";
    server.sql("model", foreign).await;
    let plants = || PLANTS.iter().filter(|plant| plant.since <= major);
    let mut databases = Vec::new();
    for Plant { database, .. } in plants() {
        copy(&server, database).await;
        databases.push(*database);
    }
    create_roles(&server, &databases).await;
    for plant in plants() {
        plant.put(&server).await;
    }
    let seen = assert_would_be_seen(&server, "view").await;
    for role in ROLES {
        let exporter = Exporter::watch(&server.dsn("postgres", role), &[]).await;
        let said = |page: &Page| {
            plants().all(|plant| {
                let read = page.value(BLOCKED, &[("datname", plant.database)]);
                let skip = ("synapse_rooms", "not_a_plain_table", plant.database);
                let refused = page.skipped().contains(&skip);
                let labels = [("datname", plant.database)];
                let count = page.value("pg_exporter_tables_not_plain", &labels);
                match applies(plant, role) {
                    true => read.is_none() && refused && count == Some(1.0),
                    false => read == Some(ROWS) && !refused && count == Some(0.0),
                }
            })
        };
        page_when(&exporter, role, said).await;
        let output = exporter_command(&["check"])
            .env("DATA_SOURCE_NAME", server.dsn("postgres", role))
            .output()
            .unwrap();
        let check = String::from_utf8(output.stdout).unwrap();
        let landing = exporter.get("/").await.text().replace("&quot;", "\"");
        for plant in plants().filter(|plant| applies(plant, role)) {
            let table = format!(
                "in database {:?} the table \"blocked_rooms\"",
                plant.database
            );
            for told in [&check, &landing] {
                let line = told.lines().find(|line| line.contains(&table));
                let line = line.unwrap_or_else(|| panic!("{role}: {table} in {told}"));
                assert!(
                    line.contains(plant.told),
                    "{role}: {} in {line}",
                    plant.told
                );
            }
        }
        assert_eq!(
            planted(&server).len(),
            seen,
            "{role}: {:?}",
            planted(&server)
        );
    }
    let outwards = "could not connect to server \"nowhere\"";
    assert!(!server.log().contains(outwards));
    // That would be seen, too.
    let client = server.client("foreign_table", "admin").await;
    let refused = client
        .batch_execute("SELECT * FROM app.blocked_rooms")
        .await;
    assert!(refused.is_err());
    wait_for("the way outwards is seen", || async {
        server.log().contains(outwards)
    })
    .await;
}

/// Whether the table is not to be read; a policy is nothing to a superuser.
fn applies(plant: &Plant, role: &str) -> bool {
    !plant.told.is_empty() && (plant.database != "policy" || role != "admin")
}

/// What is planted after the database was looked at is found by the statement that would read it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_later_does_not_run_either() {
    let late = [
        "view",
        "expression",
        "predicate",
        "checked",
        "enum_type",
        "statistics",
    ];
    for major in [13, 18] {
        let server = hostile(major).await;
        let plants: Vec<_> = PLANTS
            .iter()
            .filter(|plant| late.contains(&plant.database) && plant.since <= major)
            .collect();
        for plant in &plants {
            copy(&server, plant.database).await;
        }
        let databases: Vec<_> = plants.iter().map(|plant| plant.database).collect();
        create_roles(&server, &databases).await;
        let seen = assert_would_be_seen(&server, "view").await;
        for plant in plants {
            let database = plant.database;
            // It is looked at once, and read in every scrape.
            let yaml = format!(
                "{{ servers: {{ main: {{ databases: {{ include: [{database}], interval: 1h }} }} }},
                    collectors: {{ synapse_rooms: {{ ttl: 0s }} }} }}"
            );
            let mut exporters = Vec::new();
            for role in ROLES {
                let exporter = Exporter::configured(&server.dsn("postgres", role), &yaml).await;
                let labels = [("datname", database)];
                let read = |page: &Page| page.value(BLOCKED, &labels) == Some(ROWS);
                page_when(&exporter, role, read).await;
                exporters.push((role, exporter));
            }
            plant.put(&server).await;
            for (role, exporter) in exporters {
                let page = exporter.scrape().await;
                let skip = ("synapse_rooms", "not_a_plain_table", database);
                let refused = page.skipped().contains(&skip);
                // The planner is told to leave check constraints alone.
                assert_eq!(refused, database != "checked", "{major} {role} {database}");
                let found = planted(&server);
                assert_eq!(found.len(), seen, "{major} {role} {database}: {found:?}");
            }
        }
    }
}

/// An owner who holds the table's lock sees who waits for it, and commits what he likes then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_while_a_statement_waits_does_not_run() {
    for major in [13, 18] {
        let server = hostile(major).await;
        copy(&server, "predicate").await;
        create_roles(&server, &["predicate"]).await;
        let seen = assert_would_be_seen(&server, "predicate").await;
        let waits = "SELECT count(*) > 0 FROM pg_locks
                      WHERE NOT granted AND relation = 'app.blocked_rooms'::regclass";
        for role in ROLES {
            let yaml = "{ servers: { main: { databases: { include: [predicate], interval: 1h } } },
                          collectors: { synapse_rooms: { ttl: 0s } } }";
            let exporter = Exporter::configured(&server.dsn("postgres", role), yaml).await;
            let labels = [("datname", "predicate")];
            let read = |page: &Page| page.value(BLOCKED, &labels) == Some(ROWS);
            page_when(&exporter, role, read).await;

            let owner = server.client("predicate", "mallory").await;
            let plant = "BEGIN; LOCK TABLE app.blocked_rooms IN ACCESS EXCLUSIVE MODE;
                         CREATE INDEX late ON app.blocked_rooms (room_id)
                          WHERE room_id > public.planted('predicate')";
            let mut met = false;
            for _ in 0..10 {
                owner.batch_execute(plant).await.unwrap();
                let watch = async {
                    wait_until(&server, "predicate", waits).await;
                    owner.batch_execute("COMMIT").await.unwrap();
                };
                let (page, ()) = tokio::join!(exporter.scrape(), watch);
                let skip = ("synapse_rooms", "not_a_plain_table", "predicate");
                met = page.skipped().contains(&skip);
                let drop = "DROP INDEX app.late";
                owner.batch_execute(drop).await.unwrap();
                // Else it has waited for too long, and comes again.
                if met {
                    break;
                }
            }
            assert!(
                met,
                "{major} {role}: no statement got the lock after the commit"
            );
            let found = planted(&server);
            assert_eq!(found.len(), seen, "{major} {role}: {found:?}");
        }
    }
}

/// Whoever owns the database that the exporter logs in to can make functions that look like those
/// of the strict set-up.
#[tokio::test(flavor = "multi_thread")]
async fn functions_in_the_place_of_the_strict_set_up_are_not_called() {
    for major in [13, 18] {
        let server = hostile(major).await;
        create_roles(&server, &["model"]).await;
        let seen = assert_would_be_seen(&server, "model").await;
        let functions = VIEWS.iter().map(|view| {
            format!(
                "CREATE FUNCTION {SCHEMA}.{}() RETURNS TABLE({}) LANGUAGE plpgsql SECURITY INVOKER
                 AS 'BEGIN PERFORM public.planted(''function''); RETURN; END';",
                view.name, view.columns
            )
        });
        let functions: Vec<_> = functions.collect();
        let sql = format!(
            "CREATE SCHEMA {SCHEMA}; {} GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC",
            functions.concat()
        );
        let owner = server.client("model", "mallory").await;
        owner.batch_execute(&sql).await.unwrap();
        for role in ROLES {
            let exporter = Exporter::watch(&server.dsn("model", role), &[]).await;
            let page = exporter.complete().await;
            let found = planted(&server);
            assert_eq!(found.len(), seen, "{major} {role}: {found:?}");
            // The true ones are found where they are.
            assert_eq!(
                page.value("pg_exporter_grants_missing", &[("datname", "")]),
                Some(0.0)
            );
            let sessions = [("datname", "model"), ("state", "idle")];
            assert!(
                page.value("pg_activity_sessions", &sessions) >= Some(1.0),
                "{role}"
            );
        }
    }
}

/// A superuser runs what `grants` prints, also where strings are read as of old.
#[tokio::test(flavor = "multi_thread")]
async fn roles_and_databases_of_grants_may_have_any_name() {
    for major in [13, 18] {
        let server = hostile(major).await;
        server.sql("postgres", PLANTED).await;
        let as_of_old = "ALTER DATABASE postgres SET standard_conforming_strings = off";
        server.sql("postgres", as_of_old).await;
        let as_of_old = "ALTER DATABASE model SET standard_conforming_strings = off";
        server.sql("postgres", as_of_old).await;
        let mut last = "model".to_owned();
        // psql cannot go to a name with a line break.
        let names = names().into_iter().filter(|name| !name.contains('\n'));
        for name in names {
            let rename = format!(
                "ALTER DATABASE {} RENAME TO {}",
                identifier(&last),
                identifier(&name)
            );
            server.sql("postgres", &rename).await;
            last.clone_from(&name);
            let database = in_dsn(&name);
            let script = |flags: &[&str]| {
                let (role, database) = (format!("--role={name}"), format!("--database={name}"));
                let mut args = vec!["grants", &role, &database];
                args.extend(flags);
                let output = exporter_command(&args).output().unwrap();
                assert!(output.status.success(), "{name}: {output:?}");
                String::from_utf8(output.stdout).unwrap()
            };
            run_script(&server, &script(&[])).await;
            let granted = format!(
                "SELECT bool_and(pg_catalog.has_column_privilege(r.oid, 'app.blocked_rooms',
                                                                 'room_id', 'SELECT'))
                   FROM pg_catalog.pg_roles AS r WHERE r.rolname = {}",
                literal(&name)
            );
            let granted = server.value(&database, &granted).await;
            assert_eq!(granted.as_deref(), Some("t"), "{name}");
            run_script(&server, &script(&["--revoke"])).await;
            let left = format!(
                "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = {}",
                literal(&name)
            );
            assert_eq!(
                server.value("postgres", &left).await.as_deref(),
                Some("0"),
                "{name}"
            );
        }
        let log = server.log();
        let calls: Vec<_> = log
            .lines()
            .filter(|line| line.contains("PLANTED"))
            .collect();
        assert_eq!(calls, [""; 0], "{major}");
        rows(
            &server.client("postgres", "postgres").await,
            "SELECT public.f()",
        )
        .await;
        wait_for("a call is seen", || async {
            server.log().contains("PLANTED")
        })
        .await;
    }
}
