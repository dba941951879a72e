//! The README's quick start, line by line, on a server that admits as Debian's does: roles over the
//! socket by the name of the operating system's user (`peer`), over TCP by a password.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::project;
use super::support::exposition::Page;
use super::support::http::request;
use super::support::postgres::Postgres;
use super::support::process::{Process, User, command, scratch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_matrix-postgres-exporter");

#[tokio::test]
async fn the_quick_start_works_word_for_word() {
    let server = Postgres::builder(18)
        .hba("local all postgres trust")
        .hba("local all all peer")
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .start()
        .await;
    server.sql("postgres", "CREATE DATABASE synapse").await;

    let home = scratch();
    let tools = scratch();
    // The administrator: whoever runs psql as postgres gets in.
    script(
        &tools.path().join("sudo"),
        &format!(
            "[ \"$1 $2\" = '-u postgres' ] || exit 9\nshift 2\nexport PGHOST='{}' PGPORT={} \
             PGUSER=postgres\nexec \"$@\"",
            server.socket_dir().display(),
            server.port()
        ),
    );
    std::os::unix::fs::symlink(PROGRAM, tools.path().join("matrix-postgres-exporter")).unwrap();

    let mut lines = quick_start();
    assert!(
        lines
            .remove(0)
            .starts_with("cargo build --release && sudo install ")
    );
    assert_eq!(lines.pop().as_deref(), Some("matrix-postgres-exporter"));

    let shell = |line: &str| {
        let mut shell = command(User::Same, "bash");
        let path = std::env::var("PATH").unwrap_or_default();
        shell
            .args(["-c", line])
            .current_dir(home.path())
            .env("PATH", format!("{}:{path}", tools.path().display()))
            // Word for word, but for the port.
            .env("PGPORT", server.port().to_string());
        shell
    };
    let mut exports = String::new();
    for line in lines {
        if line.starts_with("export ") {
            exports += &format!("{line}\n");
            continue;
        }
        let typed = match () {
            () if line.contains("\\password") => "secret of 1\nsecret of 1\n",
            () if line.starts_with("(umask 077; cat >") => "secret of 1\n",
            () => "",
        };
        let output = run(shell(&format!("set -o pipefail; {exports}{line}")), typed);
        assert!(output.status.success(), "{line}\n{output:?}");
    }
    let password = fs::metadata(home.path().join("exporter.password")).unwrap();
    assert_eq!(password.permissions().mode() & 0o077, 0);

    let serve = format!("{exports}exec matrix-postgres-exporter --web.listen-address=127.0.0.1:0");
    let exporter = Process::start(shell(&serve));
    let listening = exporter.wait_for_line("listening").await.unwrap();
    let address = listening
        .split_whitespace()
        .find_map(|word| word.strip_prefix("address=")?.parse().ok())
        .unwrap_or_else(|| panic!("{listening}"));
    let page: Page = request(address, "GET", "/metrics", &[]).await.page();
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
}

/// The lines of the first block of shell in the section, without their comments.
fn quick_start() -> Vec<String> {
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Quick start\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("\n```").unwrap();
    let lines = block.lines().map(|line| match line.split_once(" # ") {
        Some((line, _)) => line.trim_end().to_owned(),
        None => line.to_owned(),
    });
    lines.collect()
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Runs a command in a session of its own, where psql reads a password from standard input.
fn run(shell: Command, typed: &str) -> Output {
    let mut command = Command::new("setsid");
    command
        .arg("--wait")
        .arg(shell.get_program())
        .args(shell.get_args());
    command.env_clear().envs(
        shell
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    if let Some(dir) = shell.get_current_dir() {
        command.current_dir(dir);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}
