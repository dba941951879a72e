//! The compose file: its schema, what it mounts, and what runs in its containers, run without them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::monitoring_role::make_monitoring_role;
use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::{
    User, command, daemon, deps, run, scratch, start_on_free_port, wait_for,
};
use super::support::prometheus::promtool;
use super::{checker, deployed, moved, project, tool, with_server, yaml};

#[test]
fn the_compose_file_has_the_schema_of_the_specification() {
    let mut check = checker("bin/check-jsonschema");
    check.args(["--builtin-schema", "vendor.compose-spec"]);
    run(check.arg(project("deploy/compose/compose.yaml")));
}

#[test]
fn all_that_is_mounted_is_there() {
    let compose = compose();
    let folder = project("deploy/compose");
    let mut mounted = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (source, _) = volume.as_str().unwrap().split_once(':').unwrap();
            if source.starts_with('.') {
                mounted += 1;
                assert!(folder.join(source).exists(), "{name} mounts {source}");
            } else {
                assert!(compose["volumes"].get(source).is_some(), "{name}: {source}");
            }
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            let secret = secret.as_str().unwrap();
            assert!(compose["secrets"].get(secret).is_some(), "{name}: {secret}");
        }
    }
    assert!(mounted > 8, "{mounted}");
}

#[test]
fn grafana_gets_every_dashboard() {
    let compose = compose();
    let mounts = compose["services"]["grafana"]["volumes"]
        .as_array()
        .unwrap();
    let provider: Value = yaml(&deployed("compose/grafana/dashboards/files.yaml")).remove(0);
    let folder = provider["providers"][0]["options"]["path"]
        .as_str()
        .unwrap();
    let mut dashboards = 0;
    for entry in fs::read_dir(project("dashboards")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".json") {
            dashboards += 1;
            let mount = format!("../../dashboards/{name}:{folder}/{name}:ro");
            assert!(mounts.contains(&mount.clone().into()), "{mount}");
        }
    }
    assert!(dashboards > 0);
}

#[test]
fn images_are_pinned() {
    for (name, service) in compose()["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        let (_, tag) = image.rsplit_once(':').unwrap_or_default();
        assert!(tag.contains('.'), "{name}: {image}");
    }
    let own = concat!("matrix-postgres-exporter:", env!("CARGO_PKG_VERSION"));
    assert_eq!(compose()["services"]["exporter"]["image"], own);
}

#[test]
fn every_secret_is_made_once() {
    let folder = scratch();
    make_secrets(folder.path());
    let read = || -> Vec<_> {
        let compose = compose();
        let secrets = compose["secrets"].as_object().unwrap().values();
        let files = secrets.map(|secret| {
            let file = Path::new(secret["file"].as_str().unwrap());
            fs::read_to_string(folder.path().join(file.file_name().unwrap())).unwrap()
        });
        files.collect()
    };
    let made = read();
    assert_eq!(made.len(), 5);
    for (at, secret) in made.iter().enumerate() {
        assert!(secret.len() >= 48);
        assert!(!made[..at].contains(secret));
    }
    make_secrets(folder.path());
    assert_eq!(read(), made);
}

#[test]
fn prometheus_takes_its_configuration_and_the_rules() {
    let folder = scratch();
    let file = folder.path().join("prometheus.yml");
    let alerts = project("alerts").display().to_string();
    let config = moved(
        "compose/prometheus/prometheus.yml",
        &[("/etc/prometheus/alerts", &alerts)],
    );
    fs::write(&file, config).unwrap();
    let output = run(promtool().args(["check", "config"]).arg(file));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("rules found"), "{said}");
}

#[test]
fn alertmanager_takes_its_configuration() {
    let compose = compose();
    let mounted = compose["services"]["alertmanager"]["volumes"][1].as_str();
    let (source, _) = mounted.unwrap().split_once(':').unwrap();
    let mut amtool = command(User::Same, daemon("amtool"));
    run(amtool
        .arg("check-config")
        .arg(project("deploy/compose").join(source)));
}

/// Everything that the containers up to the exporter's do, done here.
#[tokio::test(flavor = "multi_thread")]
async fn synapse_starts_and_the_exporter_sees_it() {
    let server = Postgres::start(18).await;
    let folder = scratch();
    let secrets = folder.path().join("secrets");
    make_secrets(&secrets);
    // The image makes the superuser with this password; here there is one.
    fs::write(
        secrets.join("postgres_password"),
        super::support::postgres::password("postgres"),
    )
    .unwrap();
    let secrets_text = secrets.display().to_string();

    let file = folder.path().join("synapse.sql");
    let sql = moved(
        "compose/postgres/synapse.sql",
        &[("/run/secrets", &secrets_text)],
    );
    fs::write(&file, sql).unwrap();
    let mut psql = with_server(tool("psql"), &server);
    run(psql.args(["--no-psqlrc", "--file"]).arg(file));

    let database = folder.path().join("synapse_database");
    let config = fs::read_to_string(secrets.join("synapse_database.yaml")).unwrap();
    let address = format!("host: 127.0.0.1\n    port: {}", server.port());
    fs::write(&database, config.replace("host: postgres", &address)).unwrap();
    let synapse = start_on_free_port("now listening on TCP port", |port| {
        synapse(folder.path(), &database, port)
    });
    let _synapse = synapse.await.unwrap_or_else(|log| panic!("Synapse: {log}"));

    run(&mut make_monitoring_role(&server, folder.path(), &secrets));
    let address = format!("host=127.0.0.1 port={}", server.port());
    let config = moved(
        "compose/exporter.yaml",
        &[("host=postgres", &address), ("/run/secrets", &secrets_text)],
    );
    let file = folder.path().join("exporter.yaml");
    fs::write(&file, config).unwrap();
    let exporter = Exporter::start(&["--config.file", &file.display().to_string()], &[]).await;
    wait_for("everything is seen", async || {
        exporter.scrape().await.failed().is_empty()
    })
    .await;
    let page = exporter.scrape().await;
    page.assert_whole();
    let version = page.value("synapse_db_schema_version", &[("datname", "synapse")]);
    assert!(version.is_some_and(|version| version > 90.0), "{version:?}");
}

/// Synapse as its container starts it, with all that it has there in a folder.
fn synapse(folder: &Path, database: &Path, port: u16) -> Command {
    let folder_text = folder.display().to_string();
    let config = moved(
        "compose/synapse/homeserver.yaml",
        &[
            ("/data", &folder_text),
            (
                "/etc/synapse",
                &project("deploy/compose/synapse").display().to_string(),
            ),
            ("0.0.0.0", "127.0.0.1"),
            ("8008", &port.to_string()),
        ],
    );
    let homeserver = folder.join("homeserver.yaml");
    fs::write(&homeserver, config).unwrap();
    let script = moved(
        "compose/synapse/start.sh",
        &[
            (
                "/etc/synapse/homeserver.yaml",
                &homeserver.display().to_string(),
            ),
            (
                "/run/secrets/synapse_database",
                &database.display().to_string(),
            ),
        ],
    );
    let start = folder.join("start.sh");
    fs::write(&start, script).unwrap();
    let mut shell = command(User::Nobody, "sh");
    let python = deps().join("synapse-1.163.2/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{}:{path}", python.display()));
    shell.env("PYTHONDONTWRITEBYTECODE", "1");
    shell.arg(start).current_dir(folder);
    shell
}

fn compose() -> Value {
    yaml(&deployed("compose/compose.yaml")).remove(0)
}

fn make_secrets(folder: &Path) {
    run(command(User::Same, project("deploy/compose/secrets.sh")).arg(folder));
}
