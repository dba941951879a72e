//! What else the exporter's role may make others run, or change: triggers on tables, objects in a
//! template, functions with the rights of their owner. `grants` closes what it safely can, and the rest
//! is told.

use std::collections::BTreeSet;

use super::creation::{SOON, as_of_old, check, create_as, synapse_like};
use super::support::attack::refusal;
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{MAJORS, Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::{Role, grant, try_grant};
use tokio_postgres::NoTls;

/// A temporary function is enough for a trigger.
const FUNCTION: &str = "CREATE FUNCTION pg_temp.takes() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        GRANT SELECT ON public.event_json TO exporter; RETURN NEW; END$$";
const TRIGGER: &str = "CREATE TRIGGER takes BEFORE INSERT ON public.events
                       FOR EACH ROW EXECUTE FUNCTION pg_temp.takes()";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_runs_a_trigger_of_the_role_on_every_version() {
    let servers = MAJORS.map(|major| tokio::spawn(nobody_runs_a_trigger_of_the_role(major)));
    for server in servers {
        server.await.unwrap();
    }
}

async fn nobody_runs_a_trigger_of_the_role(major: u32) {
    let server = synapse_like(major).await;
    Role::Plain.create(&server, "exporter", &[]).await;
    let mut privileges = vec!["TRIGGER", "REFERENCES"];
    if major >= 17 {
        privileges.push("MAINTAIN");
    }
    for sql in [
        "CREATE ROLE writer; GRANT INSERT ON events TO writer; CREATE ROLE helper".to_owned(),
        format!(
            "GRANT {} ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT TRIGGER ON events TO exporter",
            privileges.join(", ")
        ),
        "CREATE VIEW \"a view\" AS SELECT 1 AS a; GRANT TRIGGER ON \"a view\" TO PUBLIC".to_owned(),
        "GRANT TRIGGER ON events TO helper WITH GRANT OPTION; SET ROLE helper; \
         GRANT TRIGGER ON events TO PUBLIC"
            .to_owned(),
    ] {
        server.sql("matrix", &sql).await;
    }
    let of_tables = "SELECT c.relname, a.*
                       FROM pg_class c, aclexplode(c.relacl) a
                      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
                        AND a.grantee::regrole::text <> 'exporter'
                      ORDER BY 1, 2, 3, 4, 5";
    let before = server.sql("matrix", of_tables).await;
    assert!(takes_over(&server).await, "{major}");

    for _ in 0..2 {
        grant(&server, "exporter", &["matrix"], &[]).await;
        assert!(!takes_over(&server).await, "{major}");
        let client = server.client("matrix", "exporter").await;
        for privilege in &privileges {
            let may = format!(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
                    AND relkind IN ('r', 'v') AND has_table_privilege(oid, '{privilege}')"
            );
            assert_eq!(rows(&client, &may).await.len(), 0, "{major}: {privilege}");
        }
        create_as(&server, "synapse").await;
        let writer = "SELECT has_table_privilege('writer', 'event_json', 'TRIGGER')::text";
        assert_eq!(
            server.value("matrix", writer).await.as_deref(),
            Some("true")
        );
    }
    grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
    assert_eq!(server.sql("matrix", of_tables).await, before, "{major}");
}

/// Whether the role can read messages after Synapse has written an event.
async fn takes_over(server: &Postgres) -> bool {
    let exporter = server.client("matrix", "exporter").await;
    rows(&exporter, FUNCTION).await;
    if exporter.batch_execute(TRIGGER).await.is_err() {
        assert_eq!(refusal(&exporter, TRIGGER).await, "42501");
    }
    let synapse = server.client("matrix", "synapse").await;
    rows(&synapse, "INSERT INTO events VALUES ('$2')").await;
    let read = "SELECT json FROM public.event_json";
    let taken = exporter.simple_query(read).await.is_ok();
    let undo = "DROP TRIGGER IF EXISTS takes ON events; REVOKE SELECT ON event_json FROM exporter";
    server.sql("matrix", undo).await;
    taken
}

/// Each new database begins with what is in its template.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_planted_in_a_template() {
    for major in [13, 18] {
        let server = synapse_like(major).await;
        for sql in [
            "CREATE DATABASE own",
            "ALTER DATABASE own IS_TEMPLATE true",
            "CREATE DATABASE closed",
            "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
            "ALTER DATABASE closed IS_TEMPLATE true",
        ] {
            server.sql("postgres", sql).await;
        }
        let templates = ["template1", "own"];
        for template in templates {
            as_of_old(&server, template).await;
        }
        Role::Plain.create(&server, "exporter", &[]).await;
        let acl = "SELECT datname, a.*
                     FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a
                    WHERE a.grantee::regrole::text <> 'exporter' ORDER BY 1, 2, 3, 4, 5";
        let before = server.sql("postgres", acl).await;
        let plant = "CREATE FUNCTION public.planted() RETURNS int LANGUAGE sql AS 'SELECT 1'";
        for template in templates {
            let client = server.client(template, "exporter").await;
            rows(&client, &format!("BEGIN; {plant}; ROLLBACK")).await;
        }
        for _ in 0..2 {
            grant(&server, "exporter", &["matrix"], &[]).await;
            for template in templates {
                let refused =
                    tokio_postgres::connect(&server.dsn(template, "exporter"), NoTls).await;
                let code = refused.err().and_then(|error| error.code().cloned());
                let code = code.as_ref().map(|code| code.code());
                assert_eq!(code, Some("42501"), "{major}: {template}");
            }
        }
        // Owners make databases of them as before.
        for sql in ["CREATE DATABASE fresh", "CREATE DATABASE copy TEMPLATE own"] {
            server.sql("postgres", sql).await;
        }
        for sql in ["DROP DATABASE fresh", "DROP DATABASE copy"] {
            server.sql("postgres", sql).await;
        }
        grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
        assert_eq!(server.sql("postgres", acl).await, before, "{major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_may_change_or_call_is_told() {
    for major in [14, 18] {
        let server = synapse_like(major).await;
        for sql in ["CREATE DATABASE other", "CREATE ROLE team"] {
            server.sql("postgres", sql).await;
        }
        Role::Plain.create(&server, "exporter", &[]).await;
        let of_synapse = "GRANT INSERT ON events TO PUBLIC; GRANT UPDATE (version) ON schema_version TO team;
                          GRANT USAGE ON SEQUENCE events_stream_seq TO PUBLIC; GRANT team TO exporter;
                          GRANT DELETE ON background_updates TO exporter;
                          GRANT UPDATE (json) ON event_json TO exporter;
                          CREATE FUNCTION power() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
                          CREATE FUNCTION of_one() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
                          REVOKE EXECUTE ON FUNCTION of_one() FROM PUBLIC";
        server.sql("matrix", of_synapse).await;
        let of_others = "DO $$BEGIN FOR i IN 11..60 LOOP
                             EXECUTE format('CREATE TABLE t%s (); GRANT TRUNCATE ON t%1$s TO PUBLIC', i);
                         END LOOP; END$$";
        server.sql("other", of_others).await;
        let said = try_grant(&server, "exporter", &["matrix"], &[])
            .await
            .unwrap();
        let left = "Role exporter may change, lock or make triggers on in database matrix: \
                    public.events, public.events_stream_seq, public.schema_version.";
        assert!(said.contains(left), "{said}");
        assert!(said.contains("in database matrix: public.power."), "{said}");

        let dsn = server.dsn("matrix", "exporter");
        let exporter = Exporter::configured(&dsn, SOON).await;
        let expected = ["events", "events_stream_seq", "schema_version"];
        wait_for("what may be changed is told", || async {
            let page = exporter.scrape().await;
            named(&page, "write", "matrix") == BTreeSet::from(expected)
                && named(&page, "call", "matrix") == BTreeSet::from(["power"])
                && named(&page, "write", "other").len() == 10
        })
        .await;
        let check = check(&dsn);
        let landing = exporter.get("/").await.text().replace("&quot;", "\"");
        for sentence in [
            "database \"matrix\" (public.events, public.events_stream_seq, public.schema_version)",
            "database \"other\" (public.t11, public.t12, ",
            "public.t20, and 40 more)",
            "may call functions of database \"matrix\" (public.power)",
        ] {
            assert!(check.contains(sentence), "{sentence}: {check}");
            assert!(landing.contains(sentence), "{sentence}: {landing}");
        }
        let close = "REVOKE INSERT ON events FROM PUBLIC; REVOKE team FROM exporter;
                     REVOKE USAGE ON SEQUENCE events_stream_seq FROM PUBLIC;
                     REVOKE EXECUTE ON FUNCTION power() FROM PUBLIC";
        server.sql("matrix", close).await;
        wait_for("it is told no more", || async {
            let page = exporter.scrape().await;
            named(&page, "write", "matrix").is_empty() && named(&page, "call", "matrix").is_empty()
        })
        .await;
    }
}

/// The tables or functions of a database that are told.
fn named<'a>(page: &'a Page, what: &str, database: &str) -> BTreeSet<&'a str> {
    let (name, label) = match what {
        "write" => ("pg_exporter_role_can_write", "table"),
        _ => ("pg_exporter_role_can_call", "function"),
    };
    let samples = page.samples(name);
    let of_it = samples.filter(|one| one.labels["datname"] == database && one.value == 1.0);
    of_it.map(|one| one.labels[label].as_str()).collect()
}
