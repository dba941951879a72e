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
