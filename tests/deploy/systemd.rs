//! The unit for systemd, and the configuration beside it.

use std::fs;

use super::support::postgres::{Postgres, password};
use super::support::process::{User, command, run, scratch};
use super::support::roles::Role;
use super::{assert_sees_everything, moved, project};

const UNIT: &str = "matrix-postgres-exporter.service";

#[test]
fn systemd_knows_every_setting_of_the_unit() {
    let folder = scratch();
    let file = folder.path().join(UNIT);
    // A program that is there on every machine.
    let program = ("/usr/local/bin/matrix-postgres-exporter", "/bin/true");
    fs::write(&file, moved(&format!("systemd/{UNIT}"), &[program])).unwrap();
    let mut verify = command(User::Same, "systemd-analyze");
    let said = run(verify.args(["verify", "--man=no"]).arg(&file)).stderr;
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn the_unit_is_exposed_to_little() {
    let mut security = command(User::Same, "systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=13"]);
    run(security.arg(project("deploy/systemd").join(UNIT)));
}

#[tokio::test]
async fn its_configuration_is_enough() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let secrets = scratch();
    fs::write(secrets.path().join("password"), password("exporter")).unwrap();
    let state = scratch();
    let credentials = format!("/run/credentials/{UNIT}");
    let address = format!("host=localhost hostaddr=127.0.0.1 port={}", server.port());
    assert_sees_everything(&moved(
        "systemd/exporter.yaml",
        &[
            ("host=localhost", &address),
            (&credentials, &secrets.path().display().to_string()),
            (
                "/var/lib/matrix-postgres-exporter",
                &state.path().display().to_string(),
            ),
        ],
    ));
}
