//! What `check` says of servers, roles and databases that are there.

use super::support::exporter::exporter_command;
use super::support::postgres::Postgres;
use super::support::roles::Role;

/// The exit code, all that was said, and its last line.
fn check(dsn: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = exporter_command(&["check"]);
    let output = command
        .args(args)
        .env("DATA_SOURCE_NAME", dsn)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let last = said.lines().last().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), said, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_says_how_many_and_what() {
    let server = Postgres::start(18).await;
    Role::Strict.create(&server, "strict", &["postgres"]).await;
    server
        .sql("postgres", "CREATE ROLE plain LOGIN; CREATE ROLE closed")
        .await;

    let (code, said, last) = check(&server.dsn("postgres", "strict"), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(last.starts_with("OK: "), "{said}");
    assert!(last.contains(" collectors complete"), "{said}");
    assert!(
        last.ends_with("no Synapse found in the monitored databases."),
        "{said}"
    );

    let nothing = ["--include-databases", "nope*"];
    let (code, said, last) = check(&server.dsn("postgres", "strict"), &nothing);
    assert_eq!(
        (code, last.as_str()),
        (1, "FAILED: no database is monitored."),
        "{said}"
    );

    let (code, said, last) = check(&server.dsn("postgres", "plain"), &[]);
    assert_eq!(code, 1, "{said}");
    assert!(last.starts_with("FAILED: "), "{said}");
    assert!(last.contains(" collectors (grants_outdated)"), "{said}");

    let down = "host=127.0.0.1 port=1 user=u";
    let (code, said, last) = check(down, &[]);
    assert_eq!(
        (code, last.as_str()),
        (1, "FAILED: server main does not answer (refused)."),
        "{said}"
    );

    let (_, said, _) = check(&server.dsn("postgres", "nosuch"), &[]);
    assert!(
        said.contains("role \"nosuch\" does not exist; create it with what"),
        "{said}"
    );
    assert!(!said.contains("sslmode"), "{said}");
    let (_, said, _) = check(&server.dsn("postgres", "closed"), &[]);
    assert!(said.contains("ALTER ROLE \"closed\" LOGIN"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_authentication_has_its_own_advice() {
    let server = Postgres::builder(18)
        .hba("local all exporter peer")
        .start()
        .await;
    server.sql("postgres", "CREATE ROLE exporter LOGIN").await;
    let (code, said, _) = check(&server.dsn("postgres", "exporter"), &[]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("run the exporter as that user, or connect over TCP with a password"),
        "{said}"
    );
    assert!(!said.contains("sslmode"), "{said}");
}

/// What has the marks of Synapse, and nothing else of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_hardly_synapse_is_no_success() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE matrix").await;
    for table in [
        "events",
        "state_groups_state",
        "schema_version",
        "applied_schema_deltas",
        "background_updates",
    ] {
        server
            .sql("matrix", &format!("CREATE TABLE {table} (version int)"))
            .await;
    }
    let (code, said, last) = check(&server.dsn("matrix", "postgres"), &[]);
    assert_eq!(code, 1, "{said}");
    assert!(last.contains("in database matrix, "), "{said}");
    assert!(
        last.contains("do not find the tables or columns that they need"),
        "{said}"
    );
}

/// Every parameter that a session can set may stand in a connection string.
#[tokio::test(flavor = "multi_thread")]
async fn the_parameters_of_every_version_are_known() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        let names = server
            .sql(
                "postgres",
                "SELECT name FROM pg_settings
                  WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')",
            )
            .await;
        let words: Vec<_> = names.iter().flatten().flatten().collect();
        let dsn: Vec<_> = words
            .iter()
            .filter(|name| {
                !["application_name", "client_encoding", "tcp_user_timeout"]
                    .contains(&name.as_str())
            })
            .map(|name| format!("{name}=1"))
            .collect();
        assert!(dsn.len() > 150, "{}", dsn.len());
        let dsn = format!("{} {}", server.dsn("postgres", "postgres"), dsn.join(" "));
        let (code, said, _) = check(&dsn, &[]);
        assert_eq!(code, 0, "{major}: {said}");
        assert_eq!(said.matches("level=warn").count(), 1, "{said}");
    }
}
