//! Tests of what is in `deploy/`: by the checkers that `make deps-deploy` installs, and, as far as
//! that goes without containers, by running it; and what needs PostgreSQL's own tools, which come
//! along. `make test-deploy` runs them.

// A broken expectation is a failed test, in helpers too.
#![allow(clippy::panic, clippy::unwrap_used)]

mod compose;
mod image;
mod kubernetes;
mod monitoring_role;
mod normal_life;
mod readme;
mod restore;
#[path = "../support/mod.rs"]
mod support;
mod systemd;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;

use support::exporter::exporter_command;
use support::postgres::Postgres;
use support::process::{User, command, deps, installed, run, scratch};

#[test]
fn what_is_generated_is_current() {
    let fresh = scratch();
    let mut generate = command(User::Same, project("deploy/generate.sh"));
    generate
        .arg(fresh.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_matrix-postgres-exporter"));
    run(&mut generate);
    for file in [
        "sql/strict.sql",
        "sql/pg-monitor.sql",
        "sql/revoke.sql",
        "kubernetes/prometheusrules.yaml",
    ] {
        assert!(
            fs::read_to_string(fresh.path().join(file)).unwrap() == deployed(file),
            "deploy/{file} is not what `make docs` writes"
        );
    }
}

/// A place in the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file in `deploy/`.
fn deployed(path: &str) -> String {
    let path = project("deploy").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file in `deploy/` for this machine: other places, addresses and users than in a container.
/// Each of them has to be there.
fn moved(path: &str, moves: &[(&str, &str)]) -> String {
    moves.iter().fold(deployed(path), |text, (from, to)| {
        assert!(text.contains(from), "deploy/{path} has no {from}");
        text.replace(from, to)
    })
}

/// The documents of a text in YAML.
fn yaml<T: DeserializeOwned>(text: &str) -> Vec<T> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A checker from PyPI or npm.
fn checker(name: &str) -> Command {
    command(User::Same, installed(&deps().join("deploy").join(name)))
}

/// A program of the system, or, where it has none, one that daemons.sh has unpacked.
fn tool(name: &str) -> Command {
    let mut command = command(User::Same, name);
    let path = env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{}/bin", deps().display()));
    command
}

/// The newest server that the tools know.
fn major_of_tools() -> u32 {
    let output = run(tool("pg_dump").arg("--version"));
    let said = String::from_utf8(output.stdout).unwrap();
    let version = said.split_whitespace().nth(2).unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    major.clamp(14, 18)
}

/// psql, and what calls it, as superuser of a server.
fn with_server(mut command: Command, server: &Postgres) -> Command {
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGPASSWORD", support::postgres::password("postgres"));
    command
}

/// The exporter sees everything with this configuration of its.
fn assert_sees_everything(config: &str) {
    let folder = scratch();
    let file = folder.path().join("exporter.yaml");
    fs::write(&file, config).unwrap();
    let output = exporter_command(&["check", "--config.file", &file.display().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{config}\n{output:?}");
    assert!(said.contains("\nOK: "), "{said}");
}
