//! What `grants` has changed, `--revoke` restores: once no role of an exporter relies on it, where it
//! was, whatever is called otherwise by then, and nowhere else.

use super::creation::{acl, as_of_old, create_as, make_synapse_like, synapse_like};
use super::support::attack::refusal;
use super::support::postgres::{Postgres, rows};
use super::support::roles::{Role, grant, try_grant};

const CREATE: &str = "CREATE TABLE public.mine ()";
const OWNER: &str = "matrix_postgres_exporter_owner";
const SETTING: &str = "matrix_postgres_exporter.remembered";
const FORMER: &str = "matrix_postgres_exporter.revoked_create";

/// Two exporters of different scope, in each order, of each kind.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_two_exporters_restores_what_was() {
    for (major, kinds) in [
        (13, [&[][..], &[]]),
        (14, [&[], &["--pg-monitor"]]),
        (18, [&["--pg-monitor"], &[]]),
    ] {
        let server = synapse_like(major).await;
        server.sql("postgres", "CREATE DATABASE mas").await;
        as_of_old(&server, "mas").await;
        let all = ["matrix", "mas", "postgres"];
        let before = acl(&server, &all).await;
        for ((first, its), (last, of_last)) in [
            (
                ("wide", &["matrix", "mas"][..]),
                ("narrow", &["matrix"][..]),
            ),
            (
                ("narrow", &["matrix"][..]),
                ("wide", &["matrix", "mas"][..]),
            ),
        ] {
            Role::Plain.create(&server, first, &[]).await;
            for _ in 0..2 {
                grant(&server, first, its, kinds[0]).await;
                grant(&server, last, of_last, kinds[1]).await;
            }
            let said = try_grant(&server, first, its, &["--revoke"]).await.unwrap();
            assert!(said.contains(&format!("rely on that: {last}")), "{said}");
            let client = server.client("matrix", last).await;
            assert_eq!(refusal(&client, CREATE).await, "42501", "{major}");
            let open = first == "wide";
            let client = server.client("mas", last).await;
            let created = client.simple_query(CREATE).await.is_ok();
            assert_eq!(created, open, "{major}: only {last} counts");
            server.sql("mas", "DROP TABLE IF EXISTS public.mine").await;
            if kinds[1].is_empty() {
                let client = server.client("postgres", last).await;
                let call = "SELECT count(*) > 0 FROM matrix_postgres_exporter.pg_stat_activity()";
                assert_eq!(rows(&client, call).await[0][0].as_deref(), Some("t"));
            }
            grant(&server, last, of_last, &["--revoke"]).await;
            assert_eq!(acl(&server, &all).await, before, "{major}");
            nothing_is_left(&server).await;
            server.sql("postgres", &format!("DROP ROLE {first}")).await;
        }
    }
}

/// An earlier version did not remember for whom, and by names alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_remembers_goes_on() {
    for rerun in [true, false] {
        let server = synapse_like(14).await;
        let before = acl(&server, &["matrix", "postgres"]).await;
        for role in ["one", "other"] {
            Role::Plain.create(&server, role, &[]).await;
            grant(&server, role, &["matrix"], &[]).await;
        }
        for database in ["matrix", "postgres"] {
            let earlier = format!(
                "ALTER ROLE {OWNER} IN DATABASE {database} RESET {SETTING};
                 ALTER ROLE {OWNER} IN DATABASE {database} SET {FORMER} =
                 '[{{\"schema\": \"public\", \"grantor\": null}}, {{\"schema\": \"public\", \"role\": \"synapse\"}}]'"
            );
            server.sql(database, &earlier).await;
        }
        if rerun {
            grant(&server, "other", &["matrix"], &[]).await;
            let rename = "ALTER SCHEMA public RENAME TO renamed; CREATE SCHEMA public";
            server.sql("matrix", rename).await;
        }
        let said = try_grant(&server, "one", &["matrix"], &["--revoke"]).await;
        assert!(said.unwrap().contains("rely on that: other"));
        grant(&server, "other", &["matrix"], &["--revoke"]).await;
        if rerun {
            let back = "DROP SCHEMA public; ALTER SCHEMA renamed RENAME TO public";
            server.sql("matrix", back).await;
        }
        assert_eq!(acl(&server, &["matrix", "postgres"]).await, before);
        nothing_is_left(&server).await;
    }
}

/// Whatever is called otherwise meanwhile, and has another owner.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_renamed_is_restored() {
    for major in [13, 18] {
        let server = synapse_like(major).await;
        for sql in [
            "CREATE ROLE helper; CREATE ROLE writer; CREATE ROLE late",
            "CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC;
             GRANT CREATE ON SCHEMA app TO helper WITH GRANT OPTION;
             SET ROLE helper; GRANT CREATE ON SCHEMA app TO PUBLIC",
            "GRANT INSERT ON events TO writer; GRANT TRIGGER ON events TO PUBLIC",
            "GRANT CREATE ON DATABASE matrix TO PUBLIC",
        ] {
            server.sql("matrix", sql).await;
        }
        let before = acl(&server, &["matrix"]).await;
        let of_database = "SELECT array_agg(a ORDER BY a::text)::text
                             FROM pg_database, unnest(datacl) AS a WHERE datdba::regrole::text = 'synapse'";
        let of_table = "SELECT relacl::text FROM pg_class WHERE relname IN ('events', 'moved')";
        let database_before = server.value("matrix", of_database).await;
        let table_before = server.value("matrix", of_table).await;
        grant(&server, "exporter", &["matrix"], &[]).await;
        assert_ne!(server.value("matrix", of_table).await, table_before);
        let rename = "ALTER SCHEMA app RENAME TO app2; ALTER TABLE events RENAME TO moved;
                      ALTER ROLE helper RENAME TO helper2; ALTER ROLE writer RENAME TO writer2;
                      CREATE ROLE helper; CREATE ROLE writer; CREATE SCHEMA app";
        server.sql("matrix", rename).await;
        server
            .sql("postgres", "ALTER DATABASE matrix RENAME TO moved")
            .await;
        let said = try_grant(&server, "exporter", &["moved"], &["--revoke"]).await;
        let said = said.unwrap();
        assert!(!said.contains("not found"), "{said}");
        let undo = "DROP SCHEMA app; ALTER SCHEMA app2 RENAME TO app;
                    DROP ROLE helper; DROP ROLE writer;
                    ALTER ROLE helper2 RENAME TO helper; ALTER ROLE writer2 RENAME TO writer";
        server.sql("moved", undo).await;
        assert_eq!(acl(&server, &["moved"]).await, before, "{major}");
        assert_eq!(server.value("moved", of_table).await, table_before);
        assert_eq!(server.value("moved", of_database).await, database_before);
        nothing_is_left(&server).await;
    }
}

/// What has the name of something that is gone stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_again_is_another() {
    for major in [14, 18] {
        let server = synapse_like(major).await;
        for sql in [
            "CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO PUBLIC",
            "CREATE TABLE app.t (); GRANT TRIGGER ON app.t TO PUBLIC; CREATE ROLE keeper; GRANT INSERT ON app.t TO keeper",
        ] {
            server.sql("matrix", sql).await;
        }
        server.sql("postgres", "CREATE DATABASE gone").await;
        as_of_old(&server, "gone").await;
        grant(&server, "exporter", &["matrix", "gone"], &[]).await;
        let again = "DROP SCHEMA app CASCADE; CREATE SCHEMA app; CREATE TABLE app.t ();
                     DROP OWNED BY keeper; DROP ROLE keeper; CREATE ROLE keeper;
                     GRANT CREATE ON SCHEMA public TO keeper";
        server.sql("matrix", again).await;
        for sql in ["DROP DATABASE gone", "CREATE DATABASE gone"] {
            server.sql("postgres", sql).await;
        }
        server
            .sql("gone", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
            .await;
        let before = acl(&server, &["gone"]).await;
        let said = try_grant(&server, "exporter", &["matrix", "gone"], &["--revoke"]).await;
        let said = said.unwrap();
        for sentence in [
            "restored there: schema app (oid",
            "restored there: table app.t (oid",
        ] {
            assert!(said.contains(sentence), "{sentence}: {said}");
        }
        let app = "SELECT coalesce(nspacl::text, '') || coalesce(relacl::text, '')
                     FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                    WHERE nspname = 'app'";
        assert_eq!(server.value("matrix", app).await.as_deref(), Some(""));
        let keeper = "SELECT has_schema_privilege('keeper', 'public', 'CREATE')::text";
        assert_eq!(
            server.value("matrix", keeper).await.as_deref(),
            Some("true")
        );
        assert_eq!(acl(&server, &["gone"]).await, before);
        nothing_is_left(&server).await;
    }
}

/// Somebody has edited it, or it is torn.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_told_and_nothing_is_done() {
    let server = synapse_like(14).await;
    grant(&server, "exporter", &["matrix"], &[]).await;
    let read = format!(
        "SELECT o.option_value FROM pg_db_role_setting s, pg_options_to_table(s.setconfig) o
          WHERE o.option_name = '{SETTING}'
            AND s.setdatabase = (SELECT oid FROM pg_database WHERE datname = 'matrix')"
    );
    let whole = server.value("matrix", &read).await.unwrap();
    let changes = server
        .value(
            "matrix",
            &format!("SELECT ('{whole}'::jsonb -> 'changes')::text"),
        )
        .await
        .unwrap();
    let before = acl(&server, &["matrix"]).await;
    for (name, value) in [
        (SETTING, String::new()),
        (SETTING, "yes".to_owned()),
        (SETTING, whole[..whole.len() / 2].to_owned()),
        (SETTING, "{}".to_owned()),
        (SETTING, "[]".to_owned()),
        (SETTING, "null".to_owned()),
        (SETTING, changes.clone()),
        (SETTING, whole.replace(&changes, "[{}]")),
        (SETTING, whole.replace(&changes, "[1]")),
        (SETTING, whole.replace(&changes, "{}")),
        (SETTING, whole.replace("\"public\"", "null")),
        (SETTING, whole.replace("\"public\"", "{}")),
        (SETTING, whole.replace("\"schema\"", "\"shema\"")),
        (SETTING, whole.replace("\"CREATE\"", "\"ALL\"")),
        (
            SETTING,
            whole.replace("\"CREATE\"", "\"CREATE ON SCHEMA public TO PUBLIC; --\""),
        ),
        (SETTING, whole.replace("2200", "\"abc\"")),
        (SETTING, whole.replace("2200", "99999999999")),
        (SETTING, whole.replace("\"roles\"", "\"rolls\"")),
        (FORMER, "[{}]".to_owned()),
        (FORMER, "[{\"role\": \"synapse\"}]".to_owned()),
        (FORMER, "{\"schema\": \"public\"}".to_owned()),
    ] {
        assert_ne!(value, whole);
        let damage = format!(
            "ALTER ROLE {OWNER} IN DATABASE matrix RESET {SETTING};
             ALTER ROLE {OWNER} IN DATABASE matrix SET {name} = '{}'",
            value.replace('\'', "''")
        );
        server.sql("matrix", &damage).await;
        for flags in [&[][..], &["--revoke"]] {
            let said = try_grant(&server, "exporter", &["matrix"], flags).await;
            let said = said.expect_err(&value);
            assert!(said.contains(name), "{value}: {said}");
            assert!(
                said.contains("has to restore cannot be read"),
                "{value}: {said}"
            );
            assert_eq!(acl(&server, &["matrix"]).await, before, "{value}");
        }
        let undo = format!("ALTER ROLE {OWNER} IN DATABASE matrix RESET {name}");
        server.sql("matrix", &undo).await;
    }
}

/// A dump brings along what was remembered, and oids that mean something else.
#[tokio::test(flavor = "multi_thread")]
async fn in_another_cluster_names_count() {
    let server = synapse_like(18).await;
    let open = "CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO PUBLIC;
                GRANT TRIGGER ON events TO PUBLIC";
    server.sql("matrix", open).await;
    grant(&server, "exporter", &["matrix"], &[]).await;
    let read = format!(
        "SELECT o.option_value FROM pg_db_role_setting s, pg_options_to_table(s.setconfig) o
          WHERE o.option_name = '{SETTING}'
            AND s.setdatabase = (SELECT oid FROM pg_database WHERE datname = 'matrix')"
    );
    let remembered = server.value("matrix", &read).await.unwrap();
    drop(server);

    let server = Postgres::builder(18).fresh().start().await;
    let server = make_synapse_like(server).await;
    let as_restored = format!(
        "CREATE ROLE {OWNER}; CREATE SCHEMA first; CREATE SCHEMA app;
         REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO synapse;
         ALTER ROLE {OWNER} IN DATABASE matrix SET {SETTING} = '{remembered}'"
    );
    server.sql("matrix", &as_restored).await;
    grant(&server, "exporter", &["matrix"], &[]).await;
    create_as(&server, "synapse").await;
    let said = try_grant(&server, "exporter", &["matrix"], &["--revoke"]).await;
    assert_eq!(
        said.as_deref()
            .unwrap_or_default()
            .matches("not found")
            .count(),
        0,
        "{said:?}"
    );
    let open =
        "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace, aclexplode(nspacl) a
                 WHERE a.grantee = 0 AND a.privilege_type = 'CREATE'";
    let open = server.value("matrix", open).await;
    assert_eq!(open.as_deref(), Some("app public"), "{said:?} {remembered}");
    let trigger = "SELECT has_table_privilege('public', 'events', 'TRIGGER')::text";
    assert_eq!(
        server.value("matrix", trigger).await.as_deref(),
        Some("true")
    );
}

/// Nothing remembers anything, and no role of ours is there.
async fn nothing_is_left(server: &Postgres) {
    for left in [
        "SELECT count(*) FROM pg_roles WHERE rolname ~ 'exporter'",
        "SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text ~ 'exporter'",
        "SELECT count(*) FROM pg_namespace WHERE nspname ~ 'exporter'",
    ] {
        assert_eq!(server.value("postgres", left).await.unwrap(), "0", "{left}");
    }
}
