//! Functions in the place of those of the strict role.

use matrix_postgres_exporter::query::view::{OWNER, SCHEMA, VIEWS};

use super::super::support::roles::{grant, try_grant};
use super::*;

/// Whoever owns the database that the exporter logs in to can make functions that look like those
/// of the strict role.
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
                page.value("pg_exporter_privileges_missing", &[("datname", "")]),
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

/// From 16 on who may create roles can become one that they have created.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_the_place_of_the_owner_of_the_strict_functions_is_refused() {
    let server = Postgres::start(18).await;
    server
        .sql(
            "postgres",
            "CREATE ROLE mallory LOGIN CREATEROLE; CREATE ROLE exporter LOGIN",
        )
        .await;
    let mallory = server.client("postgres", "mallory").await;
    let create = format!("CREATE ROLE {OWNER}");
    mallory.batch_execute(&create).await.unwrap();
    let refused = try_grant(&server, "exporter", &["postgres"], &[])
        .await
        .unwrap_err();
    assert!(refused.contains("has members (mallory)"), "{refused}");
    let revoke = format!("REVOKE {OWNER} FROM mallory");
    server.sql("postgres", &revoke).await;
    grant(&server, "exporter", &["postgres"], &[]).await;
}

/// Who has created the exporter's role can give it to himself, and what it may read with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_role_of_somebody_else_gets_no_pg_monitor() {
    let server = Postgres::start(18).await;
    server
        .sql("postgres", "CREATE ROLE mallory LOGIN CREATEROLE")
        .await;
    let mallory = server.client("postgres", "mallory").await;
    mallory
        .batch_execute("CREATE ROLE exporter LOGIN")
        .await
        .unwrap();
    let refused = try_grant(&server, "exporter", &["postgres"], &["--pg-monitor"])
        .await
        .unwrap_err();
    assert!(refused.contains("has members (mallory)"), "{refused}");
    let may = "SELECT pg_has_role('exporter', 'pg_monitor', 'MEMBER')";
    assert_eq!(server.value("postgres", may).await.as_deref(), Some("f"));
    server.sql("postgres", "REVOKE exporter FROM mallory").await;
    grant(&server, "exporter", &["postgres"], &["--pg-monitor"]).await;
}

/// What somebody has granted in a schema of theirs would be granted on what `grants` creates there.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_in_the_place_of_the_strict_functions_is_refused() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        server
            .sql(
                "postgres",
                "CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE postgres TO mallory",
            )
            .await;
        let mallory = server.client("postgres", "mallory").await;
        let create = "CREATE SCHEMA matrix_postgres_exporter";
        mallory.batch_execute(create).await.unwrap();
        let refused = try_grant(&server, "exporter", &["postgres"], &[])
            .await
            .unwrap_err();
        assert!(refused.contains("belongs to role mallory"), "{refused}");
        let drop = "DROP SCHEMA matrix_postgres_exporter";
        mallory.batch_execute(drop).await.unwrap();
        grant(&server, "exporter", &["postgres"], &[]).await;
    }
}
