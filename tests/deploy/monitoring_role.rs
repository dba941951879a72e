//! The SQL for the role that the exporter logs in as, run by psql on every version.

use std::fs;
use std::path::Path;
use std::process::Command;

use tokio_postgres::NoTls;

use super::support::postgres::{MAJORS, Postgres, password};
use super::support::process::{User, command, run, scratch};
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

async fn sees_texts(server: &Postgres) -> bool {
    let member = "SELECT pg_has_role('exporter', 'pg_read_all_stats', 'USAGE')";
    server.value("postgres", member).await.unwrap() == "t"
}

fn run_file(server: &Postgres, file: &str) {
    let mut psql = with_server(tool("psql"), server);
    psql.args(["--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file"]);
    run(psql.arg(project(file)));
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
