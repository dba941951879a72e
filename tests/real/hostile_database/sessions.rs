//! How sessions of a database, or of a role, begin.

use super::*;

/// Sessions of a superuser, and of a member, begin as `mallory` there. Before 15 `mallory` makes others
/// members himself.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_begins_as_another_role_reads_as_its_own() {
    for major in [13, 15, 18] {
        let server = hostile(major).await;
        create_roles(&server, &["model"]).await;
        let owner = server.client("model", "mallory").await;
        let plant = "ALTER DATABASE model SET role = 'mallory';
                     REVOKE ALL ON TABLE app.blocked_rooms FROM mallory";
        owner.batch_execute(plant).await.unwrap();
        let members = "GRANT mallory TO strict, monitor";
        server.sql("postgres", members).await;
        for role in ROLES {
            let client = server.client("model", role).await;
            let begins_as = rows(&client, "SELECT current_user").await;
            assert_eq!(begins_as, [[Some("mallory".to_owned())]], "{major} {role}");
            for database in ["postgres", "model"] {
                let exporter = Exporter::watch(&server.dsn(database, role), &[]).await;
                let read = |page: &Page| {
                    page.value(BLOCKED, &[("datname", "model")]) == Some(ROWS)
                        && counted(page, "model")
                };
                let what = format!("{major} {role} by {database}");
                let page = exporter.scrape_until(PATIENCE, &what, read).await;
                let failed = page.failed();
                assert!(failed.is_empty(), "{what}: {failed:?}");
            }
        }
        assert_eq!(planted(&server), [""; 0], "{major}");
        assert_would_be_seen(&server, "model").await;
    }
}

/// Any role may set a path of a hundred megabytes for itself, which all databases share.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_sets_for_itself_costs_others_nothing() {
    const FULL: &str = "DO $$BEGIN
        EXECUTE format('ALTER ROLE mallory SET search_path = %L', repeat('public,', 14000000));
        END$$";
    for major in [13, 18] {
        let server = hostile(major).await;
        server.sql("postgres", "CREATE ROLE honest LOGIN").await;
        let own = "CREATE DATABASE own OWNER honest TEMPLATE model";
        server.sql("postgres", own).await;
        create_roles(&server, &["own"]).await;
        // A schema that the role may create in, whose place on a path is looked for.
        let open = "GRANT CREATE ON SCHEMA public TO PUBLIC";
        server.sql("own", open).await;
        rows(&server.client("model", "mallory").await, FULL).await;
        for role in ROLES {
            let exporter = Exporter::watch(&server.dsn("postgres", role), &[]).await;
            let unknown =
                |page: &Page| page.value("pg_exporter_role_rights_unknown", &[("datname", "own")]);
            let known = |page: &Page| counted(page, "own") && unknown(page).is_some();
            let page = exporter
                .scrape_until(PATIENCE, &format!("{major} {role}"), known)
                .await;
            assert_eq!(unknown(&page), Some(0.0), "{major} {role}");
        }
    }
}
