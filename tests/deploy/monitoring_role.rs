//! The SQL for the role that the exporter logs in as, run by psql on every version.

use std::fs;
use std::path::Path;
use std::process::Command;

use tokio_postgres::NoTls;

use super::support::exporter::exporter_command;
use super::support::postgres::{MAJORS, Postgres, password};
use super::support::process::{User, command, run, scratch};
use super::support::roles::in_dsn;
use super::{moved, project, tool, with_server};

#[tokio::test(flavor = "multi_thread")]
async fn the_role_is_made_changed_and_taken_back_on_every_version() {
    let servers = MAJORS.map(|major| tokio::spawn(made_changed_and_taken_back(major)));
    for server in servers {
        server.await.unwrap();
    }
}

async fn made_changed_and_taken_back(major: u32) {
    let server = Postgres::builder(major)
        .setting("log_statement", "all")
        .start()
        .await;
    server.sql("postgres", "CREATE DATABASE synapse").await;

    let folder = scratch();
    let path = folder.path();
    write_secrets(path);
    for _ in 0..2 {
        run(&mut make_monitoring_role(&server, path, path));
    }
    let dsn = server.tcp_dsn("synapse", "exporter");
    drop(tokio_postgres::connect(&dsn, NoTls).await.unwrap());
    assert!(!sees_texts(&server).await);
    assert!(server.log().contains("CREATE ROLE \"exporter\""));
    assert!(
        !server.log().contains(&password("exporter")),
        "{}",
        server.log()
    );

    run_file(&server, "deploy/sql/pg-monitor.sql");
    assert!(sees_texts(&server).await);
    run_file(&server, "deploy/sql/strict.sql");
    assert!(!sees_texts(&server).await);
    run_file(&server, "deploy/sql/revoke.sql");
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname ~ 'exporter'";
    assert_eq!(server.value("postgres", roles).await.unwrap(), "0");
}

/// In the encoding that its owner has set for the database, the name of the database ends its quotes,
/// and the rest of it is a command of psql's.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_sets_for_the_session_of_psql_changes_nothing() {
    const NAME: &str = "€\" \\! touch called #";
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        let name = NAME.replace('"', "\"\"");
        for sql in [
            "CREATE ROLE mallory LOGIN".to_owned(),
            format!("CREATE DATABASE \"{name}\" OWNER mallory"),
            format!("ALTER DATABASE \"{name}\" SET client_encoding = 'GBK'"),
            format!("ALTER DATABASE \"{name}\" SET role = 'mallory'"),
            format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on"),
        ] {
            server.sql("postgres", &sql).await;
        }
        let script = exporter_command(&["grants", "--database", NAME]).output();
        let folder = scratch();
        let file = folder.path().join("grants.sql");
        fs::write(&file, script.unwrap().stdout).unwrap();
        let output = psql(&server, &file).current_dir(folder.path()).output();
        let output = output.unwrap();
        assert!(!folder.path().join("called").exists(), "{output:?}");
        assert!(output.status.success(), "{output:?}");
        let granted = "SELECT datacl::text FROM pg_database WHERE datname = current_database()";
        let granted = server.value(&in_dsn(NAME), granted).await.unwrap();
        assert!(granted.contains("exporter=c/"), "{granted}");
    }
}

async fn sees_texts(server: &Postgres) -> bool {
    let member = "SELECT pg_has_role('exporter', 'pg_read_all_stats', 'USAGE')";
    server.value("postgres", member).await.unwrap() == "t"
}

fn run_file(server: &Postgres, file: &str) {
    run(&mut psql(server, &project(file)));
}

fn psql(server: &Postgres, file: &Path) -> Command {
    let mut psql = with_server(tool("psql"), server);
    psql.args(["--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file"]);
    psql.arg(file);
    psql
}

/// The passwords that the test bed gives, where `make_monitoring_role` looks for them.
pub fn write_secrets(secrets: &Path) {
    for user in ["postgres", "exporter"] {
        fs::write(secrets.join(format!("{user}_password")), password(user)).unwrap();
    }
}

/// What makes the role in `deploy/compose`, for a server of the test bed.
pub fn make_monitoring_role(server: &Postgres, folder: &Path, secrets: &Path) -> Command {
    let script = moved(
        "compose/postgres/monitoring-role.sh",
        &[
            ("PGHOST=postgres", "PGHOST=127.0.0.1"),
            ("/run/secrets", &secrets.display().to_string()),
            (
                "/strict.sql",
                &project("deploy/sql/strict.sql").display().to_string(),
            ),
        ],
    );
    let file = folder.join("monitoring-role.sh");
    fs::write(&file, script).unwrap();
    let mut shell = with_server(command(User::Same, "sh"), server);
    shell.arg(file);
    shell
}
