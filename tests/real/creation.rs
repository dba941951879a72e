//! Nobody runs what the exporter's role makes. `grants` takes away the right to create in schemas
//! that everybody has up to PostgreSQL 14, and in clusters that come from there; it leaves the right
//! to those who use it, and `--revoke` gives it back.

use std::collections::BTreeSet;

use super::support::attack::{PLANT, refusal, takes_over};
use super::support::exporter::{Exporter, exporter_command};
use super::support::postgres::{MAJORS, Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::{Role, grant};

const CAN_CREATE: &str = "pg_exporter_role_can_create";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_runs_what_the_role_makes_on_every_version() {
    let servers = MAJORS.map(|major| tokio::spawn(nobody_runs_what_the_role_makes(major)));
    for server in servers {
        server.await.unwrap();
    }
}

async fn nobody_runs_what_the_role_makes(major: u32) {
    let server = synapse_like(major).await;
    let before = acl(&server, &["matrix", "postgres"]).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    assert!(takes_over(&server, "matrix", "synapse").await, "{major}");

    for _ in 0..2 {
        grant(&server, "exporter", &["matrix"], &[]).await;
        assert!(!takes_over(&server, "matrix", "synapse").await, "{major}");
        for database in ["matrix", "postgres"] {
            let client = server.client(database, "exporter").await;
            for create in CREATE {
                let refusal = refusal(&client, create).await;
                assert_eq!(refusal, "42501", "{major}, {database}: {create}");
            }
        }
        create_as(&server, "synapse").await;
    }
    grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
    assert_eq!(acl(&server, &["matrix", "postgres"]).await, before);
}

/// Whatever way the role may create by, it may no more.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_create_is_closed() {
    for major in [14, 18] {
        let server = synapse_like(major).await;
        Role::Plain.create(&server, "exporter", &[]).await;
        for sql in [
            "CREATE ROLE helper",
            "CREATE SCHEMA \"a \"\"schema\"\"\" AUTHORIZATION synapse",
            "GRANT ALL ON SCHEMA \"a \"\"schema\"\"\" TO PUBLIC",
            // By one who may pass the right on.
            "CREATE SCHEMA passed_on; GRANT USAGE ON SCHEMA passed_on TO PUBLIC;
             GRANT CREATE ON SCHEMA passed_on TO helper WITH GRANT OPTION;
             SET ROLE helper; GRANT CREATE ON SCHEMA passed_on TO PUBLIC",
            "CREATE SCHEMA direct; GRANT ALL ON SCHEMA direct TO exporter",
            // A schema with the name of a role comes first on its search path.
            "GRANT CREATE ON DATABASE matrix TO PUBLIC, exporter",
        ] {
            server.sql("matrix", sql).await;
        }
        let mut creates = vec!["CREATE SCHEMA synapse".to_owned()];
        for schema in ["a \"\"schema\"\"", "passed_on", "public", "direct"] {
            creates.push(format!("CREATE TABLE \"{schema}\".mine ()"));
        }
        let client = server.client("matrix", "exporter").await;
        for create in &creates {
            rows(&client, &format!("BEGIN; {create}; ROLLBACK")).await;
        }
        let before = of_others(&server).await;

        grant(&server, "exporter", &["matrix"], &[]).await;
        for create in &creates {
            assert_eq!(refusal(&client, create).await, "42501", "{create}");
        }
        let owner = server.client("matrix", "synapse").await;
        for create in creates.iter().filter(|create| !create.contains("direct")) {
            rows(&owner, &format!("BEGIN; {create}; ROLLBACK")).await;
        }
        grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
        assert_eq!(of_others(&server).await, before, "{major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_is_remembered_of_each_database() {
    for major in [13, 18] {
        let server = synapse_like(major).await;
        let mas = "mas-own";
        for sql in [
            "CREATE ROLE \"O-Brien\" LOGIN; CREATE ROLE reader LOGIN",
            "CREATE DATABASE \"mas-own\" OWNER \"O-Brien\"",
            "CREATE DATABASE closed OWNER synapse",
            "CREATE DATABASE unnamed OWNER synapse",
        ] {
            for statement in sql.split(';') {
                server.sql("postgres", statement).await;
            }
        }
        for database in [mas, "unnamed"] {
            as_of_old(&server, database).await;
        }
        // Has a right already, and another that is not a matter of ours.
        let usage =
            "GRANT USAGE ON SCHEMA public TO \"O-Brien\"; GRANT ALL ON SCHEMA public TO reader";
        server.sql(mas, usage).await;
        let close = "REVOKE ALL ON SCHEMA public FROM PUBLIC";
        server.sql("closed", close).await;
        let all = ["matrix", "postgres", mas, "closed", "unnamed"];
        let before = acl(&server, &all).await;

        for databases in [
            &["matrix"][..],
            &["matrix", mas],
            &[mas, "closed"],
            &["matrix"],
        ] {
            grant(&server, "exporter", databases, &[]).await;
        }
        let client = server.client(mas, "exporter").await;
        let create = "CREATE TABLE public.mine ()";
        assert_eq!(refusal(&client, create).await, "42501");
        let client = server.client(mas, "O-Brien").await;
        rows(&client, &format!("{create}; DROP TABLE public.mine")).await;
        assert_eq!(
            acl(&server, &["closed", "unnamed"]).await,
            before[3..],
            "what was closed stays as it is, and what was not named"
        );
        // Another one opens it meanwhile, and somebody is let in.
        for sql in [
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "CREATE SCHEMA more; GRANT ALL ON SCHEMA more TO PUBLIC",
        ] {
            server.sql("matrix", sql).await;
        }
        grant(&server, "exporter", &["matrix"], &[]).await;
        assert!(!takes_over(&server, "matrix", "synapse").await, "{major}");

        // One that was not named keeps its memory.
        grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
        let open = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'more'";
        let open = server.value("matrix", open).await.unwrap();
        assert!(open.contains(",=UC/"), "{open}");
        server.sql("matrix", "DROP SCHEMA more").await;
        assert_eq!(acl(&server, &["matrix", "postgres"]).await, before[..2]);
        assert_ne!(acl(&server, &[mas]).await, before[2..3]);
        grant(&server, "exporter", &[mas, "closed"], &["--revoke"]).await;
        assert_eq!(acl(&server, &all).await, before, "{major}");
        let left = "SELECT count(*) FROM pg_roles WHERE rolname ~ 'exporter'";
        assert_eq!(server.value("postgres", left).await.unwrap(), "0");
        let left = "SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text ~ 'exporter'";
        assert_eq!(server.value("postgres", left).await.unwrap(), "0");
    }
}

/// Whoever makes tables in `public`, in whatever way he came to, goes on.
#[tokio::test(flavor = "multi_thread")]
async fn who_creates_there_still_may() {
    for major in [14, 18] {
        let server = Postgres::start(major).await;
        for role in [
            "owner", "group", "member", "migrator", "writer", "allowed", "reader",
        ] {
            server
                .sql("postgres", &format!("CREATE ROLE \"{role}\" LOGIN"))
                .await;
        }
        server
            .sql("postgres", "CREATE DATABASE matrix OWNER owner")
            .await;
        as_of_old(&server, "matrix").await;
        for sql in [
            "GRANT \"group\" TO member",
            "SET ROLE \"group\"; CREATE TABLE of_group (a int)",
            "SET ROLE migrator; CREATE FUNCTION of_migrator() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "GRANT INSERT, UPDATE ON of_group TO writer; GRANT SELECT ON of_group TO reader",
            "GRANT ALL ON DATABASE matrix TO allowed",
        ] {
            server.sql("matrix", sql).await;
        }
        let before = acl(&server, &["matrix"]).await;
        grant(&server, "exporter", &["matrix"], &[]).await;
        for role in ["owner", "group", "member", "migrator", "writer", "allowed"] {
            create_as(&server, role).await;
        }
        let client = server.client("matrix", "reader").await;
        assert_eq!(refusal(&client, "CREATE TABLE mine ()").await, "42501");
        grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
        assert_eq!(acl(&server, &["matrix"]).await, before, "{major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_role_may_create_is_told() {
    for major in [14, 18] {
        let server = synapse_like(major).await;
        for sql in [
            "CREATE DATABASE other",
            "CREATE DATABASE tenants",
            "CREATE DATABASE tidy",
        ] {
            server.sql("postgres", sql).await;
        }
        as_of_old(&server, "other").await;
        let close = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        for database in ["tidy", "tenants"] {
            server.sql(database, close).await;
        }
        let path = "CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO PUBLIC;
                    ALTER ROLE synapse IN DATABASE matrix SET search_path = app, public";
        server.sql("matrix", path).await;
        // Nobody counts schemas without end.
        let many = "DO $$BEGIN FOR i IN 1..50 LOOP
                        EXECUTE format('CREATE SCHEMA s%s; GRANT CREATE ON SCHEMA s%1$s TO PUBLIC', i);
                    END LOOP; END$$";
        server.sql("tenants", many).await;
        let flags = ["--keep-public-create"];
        Role::Plain.create(&server, "exporter", &[]).await;
        grant(&server, "exporter", &["matrix"], &flags).await;
        assert!(
            takes_over(&server, "matrix", "synapse").await,
            "{major}: it was to be left open"
        );

        let dsn = server.dsn("matrix", "exporter");
        let exporter = Exporter::configured(&dsn, SOON).await;
        let places = |names: &[(&str, &str)]| {
            let names = names.iter();
            let names =
                names.map(|(database, schema)| ((*database).to_owned(), (*schema).to_owned()));
            names.collect::<BTreeSet<_>>()
        };
        let expected = places(&[
            ("matrix", "app"),
            ("matrix", "public"),
            ("other", "public"),
            ("postgres", "public"),
        ]);
        wait_for("the open schemas are told", || async {
            let mut found = told(&exporter).await;
            let tenants = found.len();
            found.retain(|(database, _)| database != "tenants");
            found == expected && (1..=20).contains(&(tenants - found.len()))
        })
        .await;
        let says = [
            "database \"matrix\" (public, app)",
            "database \"other\" (public)",
            "database \"postgres\" (public)",
            "and 40 more)",
        ];
        let check = check(&dsn);
        let landing = exporter.get("/").await.text().replace("&quot;", "\"");
        for sentence in says {
            assert!(check.contains(sentence), "{sentence}: {check}");
            assert!(landing.contains(sentence), "{sentence}: {landing}");
        }
        assert!(!check.contains("tidy\" ("), "{check}");
        assert!(check.starts_with("Configuration: OK."), "{check}");

        grant(&server, "exporter", &["matrix"], &[]).await;
        wait_for("the closed schemas are not told", || async {
            let mut found = told(&exporter).await;
            found.retain(|(database, _)| database != "tenants");
            found == places(&[("other", "public")])
        })
        .await;
    }
}

/// What the owner of a database has made there, a superuser does not run.
#[tokio::test(flavor = "multi_thread")]
async fn grants_run_nothing_of_the_owner_of_a_database() {
    let server = synapse_like(14).await;
    let plant = "SET ROLE synapse;
        CREATE FUNCTION public.trap(text) RETURNS text LANGUAGE plpgsql AS
            $$BEGIN ALTER ROLE synapse SUPERUSER; RETURN $1; END$$;
        CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT trap($1)';
        CREATE FUNCTION public.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT trap($1)';
        CREATE FUNCTION public.same(text, text) RETURNS boolean LANGUAGE sql
            AS 'SELECT trap($1) IS NOT NULL';
        CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
        CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
        CREATE TABLE public.pg_namespace (nspname name);
        CREATE SCHEMA \"evil'); ALTER ROLE synapse SUPERUSER; --\";
        GRANT ALL ON SCHEMA \"evil'); ALTER ROLE synapse SUPERUSER; --\" TO PUBLIC";
    server.sql("matrix", plant).await;
    for flags in [&[][..], &["--revoke"]] {
        grant(&server, "exporter", &["matrix"], flags).await;
        let powerful = "SELECT rolsuper FROM pg_roles WHERE rolname = 'synapse'";
        assert_eq!(server.value("postgres", powerful).await.unwrap(), "f");
    }
}

/// Looks again every second.
pub const SOON: &str = "{ servers: { main: { databases: { interval: 1s } } } }";

/// A server with a database in which everybody may create, and in it the tables by which Synapse
/// is known, a message and a sequence.
pub async fn synapse_like(major: u32) -> Postgres {
    make_synapse_like(Postgres::start(major).await).await
}

/// That, on this server.
pub async fn make_synapse_like(server: Postgres) -> Postgres {
    for sql in [
        "CREATE ROLE synapse LOGIN",
        "CREATE DATABASE matrix OWNER synapse",
    ] {
        server.sql("postgres", sql).await;
    }
    for database in ["matrix", "postgres"] {
        as_of_old(&server, database).await;
    }
    let tables = "SET ROLE synapse;
                  CREATE TABLE events (event_id text); CREATE TABLE applied_schema_deltas ();
                  CREATE TABLE background_updates (update_name text);
                  CREATE TABLE schema_version (version int);
                  CREATE TABLE event_json (event_id text, json text);
                  INSERT INTO event_json VALUES ('$1', 'a letter');
                  CREATE SEQUENCE events_stream_seq";
    server.sql("matrix", tables).await;
    server
}

/// The privileges that a dump of 14 brings along, and that 13 and 14 begin with.
pub async fn as_of_old(server: &Postgres, database: &str) {
    if server.major() > 14 {
        let old = "ALTER SCHEMA public OWNER TO postgres; GRANT ALL ON SCHEMA public TO PUBLIC";
        server.sql(database, old).await;
    }
    let acl = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'";
    let acl = server.value(database, acl).await.unwrap();
    assert_eq!(acl, "{postgres=UC/postgres,=UC/postgres}");
}

/// Everything that takes a schema or the database to make it in.
const CREATE: [&str; 17] = [
    PLANT,
    "CREATE TABLE public.mine ()",
    "CREATE UNLOGGED TABLE public.mine AS SELECT 1",
    "CREATE VIEW public.mine AS SELECT 1",
    "CREATE MATERIALIZED VIEW public.mine AS SELECT 1",
    "CREATE SEQUENCE public.mine",
    "CREATE TYPE public.mine AS (a int)",
    "CREATE DOMAIN public.mine AS text",
    "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = int, FUNCTION = pg_catalog.repeat)",
    "CREATE AGGREGATE public.mine(int) (SFUNC = int4pl, STYPE = int)",
    "CREATE PROCEDURE public.mine() LANGUAGE sql AS ''",
    "CREATE COLLATION public.mine FROM \"C\"",
    "CREATE TEXT SEARCH DICTIONARY public.mine (TEMPLATE = simple)",
    "CREATE SCHEMA synapse",
    "CREATE EXTENSION pg_trgm",
    "CREATE PUBLICATION mine",
    "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION pg_catalog.now()",
];

/// What a migration does.
pub async fn create_as(server: &Postgres, role: &str) {
    let client = server.client("matrix", role).await;
    let create = "CREATE TABLE fresh (a int); CREATE INDEX ON fresh (a);
                  CREATE SEQUENCE fresh_seq; CREATE TYPE fresh_type AS (a int);
                  CREATE FUNCTION fresh() RETURNS int LANGUAGE sql AS 'SELECT 1';
                  DROP FUNCTION fresh(); DROP TYPE fresh_type; DROP SEQUENCE fresh_seq;
                  DROP TABLE fresh";
    if let Err(error) = client.batch_execute(create).await {
        panic!("{role}: {error:?}");
    }
}

/// Who may do what in the schemas of these databases, letter by letter.
pub async fn acl(server: &Postgres, databases: &[&str]) -> Vec<Vec<Vec<Option<String>>>> {
    let mut found = Vec::new();
    for database in databases {
        let acl =
            "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname !~ 'temp' ORDER BY 1";
        found.push(server.sql(database, acl).await);
    }
    found
}

/// What everybody but the exporter's role may do in the schemas of the database, and in itself.
async fn of_others(server: &Postgres) -> Vec<Vec<Option<String>>> {
    let acl = "SELECT nspname, a.*
                 FROM pg_namespace, aclexplode(nspacl) a WHERE a.grantee::regrole::text <> 'exporter'
                UNION ALL
               SELECT NULL, a.*
                 FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a
                WHERE datname = 'matrix' AND a.grantee::regrole::text <> 'exporter'
                ORDER BY 1, 2, 3, 4, 5";
    server.sql("matrix", acl).await
}

/// The databases and schemas in which the role may create, as the metric has them.
async fn told(exporter: &Exporter) -> BTreeSet<(String, String)> {
    let page = exporter.scrape().await;
    let samples = page.samples(CAN_CREATE).filter(|one| one.value == 1.0);
    let places = samples.map(|one| (one.labels["datname"].clone(), one.labels["schema"].clone()));
    places.collect()
}

/// Whether `check` finds everything well, and what it says.
pub fn check(dsn: &str) -> String {
    let output = exporter_command(&["check", "--dsn", dsn]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
