//! What is planted in the place of a table of Synapse's, or on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn, spawn_blocking};
use tokio::time::timeout;

use super::super::support::answers::wait_until;
use super::super::support::exporter::exporter_command;
use super::super::support::postgres::MAJORS;
use super::*;

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
        "many_objects",
        "it has more than 64 indexes and extended statistics",
        "DO $$BEGIN FOR n IN 1 .. 65 LOOP
             EXECUTE format('CREATE STATISTICS s%s ON room_id, user_id FROM blocked_rooms', n);
         END LOOP; END$$",
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
    plant(
        "typed",
        "it is a table of the type public.odd",
        "CREATE TYPE public.odd AS (room_id text, user_id text);
         DROP TABLE blocked_rooms;
         CREATE TABLE blocked_rooms OF public.odd;
         INSERT INTO blocked_rooms SELECT i, 'x' FROM generate_series(1, 3) AS i",
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
        "rule",
        "",
        "CREATE RULE odd AS ON INSERT TO blocked_rooms
             DO ALSO SELECT public.planted(NEW.room_id);
         ALTER TABLE blocked_rooms ADD odd text DEFAULT public.planted('missing')",
    ),
    plant(
        "encodings",
        "",
        "CREATE COLLATION public.odd FROM \"C\";
         ALTER TABLE blocked_rooms ALTER room_id TYPE text COLLATE public.odd;
         CREATE DEFAULT CONVERSION public.odd FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
         CREATE DEFAULT CONVERSION public.ddo FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
         ALTER DATABASE encodings SET search_path = public, app;
         ALTER DATABASE encodings SET client_encoding = 'LATIN1'",
    ),
    plant(
        "chatty",
        "",
        "ALTER DATABASE chatty SET client_min_messages = 'debug5';
         ALTER DATABASE chatty SET debug_print_parse = on;
         ALTER DATABASE chatty SET debug_print_rewritten = on;
         ALTER DATABASE chatty SET debug_print_plan = on",
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

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nothing_planted_runs_on_13() {
    nothing_planted_runs(13).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nothing_planted_runs_on_14() {
    nothing_planted_runs(14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nothing_planted_runs_on_15() {
    nothing_planted_runs(15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nothing_planted_runs_on_16() {
    nothing_planted_runs(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nothing_planted_runs_on_17() {
    nothing_planted_runs(17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
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
    // Each is a task of its own, with a thread to spare: while one looks through a page, another may read one.
    let server = Arc::new(server);
    let told = ROLES.map(|role| spawn(assert_told(server.clone(), role)));
    for told in told {
        told.await.unwrap();
    }
    assert_eq!(planted(&server).len(), seen, "{:?}", planted(&server));
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

/// What is planted is not read by an exporter with this role, and everybody is told why.
async fn assert_told(server: Arc<Postgres>, role: &'static str) {
    let plants = || PLANTS.iter().filter(|plant| plant.since <= server.major());
    let dsn = server.dsn("postgres", role);
    let exporter = Exporter::watch(&dsn, &[]).await;
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
    exporter.scrape_until(PATIENCE, role, said).await;
    // As long as many databases take on a busy machine.
    let mut check = exporter_command(&["check", "--scrape.timeout=2m"]);
    check.env("DATA_SOURCE_NAME", dsn);
    let output = spawn_blocking(move || check.output().unwrap())
        .await
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
                exporter.scrape_until(PATIENCE, role, read).await;
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
            exporter.scrape_until(PATIENCE, role, read).await;

            let owner = server.client("predicate", "mallory").await;
            let plant = "BEGIN; LOCK TABLE app.blocked_rooms IN ACCESS EXCLUSIVE MODE;
                         CREATE INDEX late ON app.blocked_rooms (room_id)
                          WHERE room_id > public.planted('predicate')";
            let mut met = false;
            for _ in 0..10 {
                owner.batch_execute(plant).await.unwrap();
                let watch = async {
                    // It may have waited for too long before that was seen.
                    let waiting = wait_until(&server, "predicate", waits);
                    let _ = timeout(Duration::from_secs(20), waiting).await;
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

/// Anybody who may connect can make temporary tables, with the names of Synapse's.
#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_are_no_synapse() {
    for major in [13, 18] {
        let server = hostile(major).await;
        create_roles(&server, &["model"]).await;
        server.sql("postgres", "CREATE ROLE lowly LOGIN").await;
        let lowly = server.client("model", "lowly").await;
        let marks = [
            "applied_schema_deltas",
            "background_updates",
            "blocked_rooms",
            "events",
            "schema_version",
            "state_groups_state",
        ];
        for mark in marks {
            rows(&lowly, &format!("CREATE TEMPORARY TABLE {mark} ()")).await;
        }
        for role in ROLES {
            let exporter = Exporter::watch(&server.dsn("model", role), &[]).await;
            let read = |page: &Page| {
                page.value(BLOCKED, &[("datname", "model")]) == Some(ROWS) && counted(page, "model")
            };
            exporter.scrape_until(PATIENCE, role, read).await;
        }
    }
}
