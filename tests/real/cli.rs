//! The program as a person meets it: commands, messages, exit codes. No server is needed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::process::{self, Process, User};

/// A password that must not be seen anywhere.
const MARKER: &str = "s3cr3t-marker";

/// Nothing listens there.
const NOWHERE: &str = "host=127.0.0.1 port=1 user=exporter";

// Bad input.

#[test]
fn every_error_of_a_file_is_told_with_its_line() {
    let file = File::new(
        "web:\n  lisen: [\":9187\"]\nservers:\n  main:\n    dsn: host=/run user=u\n    connections: 1\n\
         scrape: { timeout: 10 seconds or so }\ncollectors: { disable: [stat_archivr] }\n",
    );
    let path = file.path.display();
    refused(
        &exporter()
            .arg("--config.file")
            .arg(&file.path)
            .output()
            .unwrap(),
        &format!(
            "{path}:2: web.lisen: there is no such key; did you mean \"listen\"?\n\
             {path}:6: servers.main.connections: must be a whole number from 2 to 100\n\
             {path}:7: scrape.timeout: must be a duration; write one like 500ms, 60s, 1m30s or 2h\n\
             {path}:8: collectors.disable: there is no such collector; did you mean \"stat_archiver\"?; `matrix-postgres-exporter metrics` lists them\n"
        ),
    );
}

#[test]
fn what_is_wrong_in_a_file_is_told_in_the_order_of_its_lines() {
    let file = File::new(
        "openmetrics: maybe\n\
         log: { level: loud }\n\
         collectors:\n  enable: [wal, locks]\n  disable: wal\n\
         scrape: { timeout: 10, statement_cap: 0.5 }\n\
         servers:\n  main:\n    labels: { __name__: x, 'a-b': y, ok: \"a\\0b\" }\n\
         \x20   databases: { exclude: scratch, include: [], interval: 60 }\n\
         cluster: blue\n\
         listen: [\":1\"]\n\
         tls: {}\n\
         web: { listen: ':9187' }\n",
    );
    let path = file.path.display();
    refused(
        &exporter()
            .arg("--config.file")
            .arg(&file.path)
            .output()
            .unwrap(),
        &format!(
            "{path}:1: openmetrics: must be true or false\n\
             {path}:2: log.level: must be one of off, error, warn, info, debug, trace\n\
             {path}:5: collectors.disable: must be a list, like [\"value\"]\n\
             {path}:6: scrape.timeout: 10 has no unit; write 10s\n\
             {path}:6: scrape.statement_cap: 0.5 has no unit; write 500ms\n\
             {path}:9: servers.main.labels: a label's name consists of letters, digits and _, and begins neither with a digit nor with __\n\
             {path}:9: servers.main.labels: a label's name consists of letters, digits and _, and begins neither with a digit nor with __\n\
             {path}:9: servers.main.labels.ok: a label's value cannot hold the character U+0000\n\
             {path}:10: servers.main.databases.exclude: must be a list, like [\"value\"]\n\
             {path}:10: servers.main.databases.interval: 60 has no unit; write 60s\n\
             {path}:11: cluster: there is no such key here; it belongs to servers.NAME.cluster\n\
             {path}:12: listen: there is no such key here; it belongs to web.listen\n\
             {path}:13: tls: TLS and basic auth are not supported yet, and the exporter does not start without them when they are configured; remove the setting, and put a reverse proxy in front\n\
             {path}:14: web.listen: must be a list, like [\"value\"]\n"
        ),
    );

    let file = File::new("collectors: { enable: [wal, locks], disable: [stat_archiver, wal] }\n");
    let path = file.path.display();
    refused(
        &exporter()
            .arg("--config.file")
            .arg(&file.path)
            .output()
            .unwrap(),
        &format!(
            "{path}:1: collectors.disable: wal is in collectors.enable too; remove it from one of the two\n"
        ),
    );
}

#[test]
fn a_duration_without_a_unit_is_refused_wherever_it_is_said() {
    refused(
        &exporter()
            .args(["--scrape.timeout=10", "--dsn", NOWHERE])
            .output()
            .unwrap(),
        "--scrape.timeout: 10 has no unit; write 10s\n",
    );
    refused(
        &exporter()
            .args(["--dsn", NOWHERE])
            .env("PG_EXPORTER_COLLECTION_TIMEOUT", "1.5")
            .output()
            .unwrap(),
        "PG_EXPORTER_COLLECTION_TIMEOUT: 1.5 has no unit; write 1500ms\n",
    );
}

#[test]
fn a_file_that_is_missing_or_no_yaml_is_told() {
    let missing = exporter()
        .arg("--config.file=/nonexistent.yml")
        .output()
        .unwrap();
    refused(
        &missing,
        "/nonexistent.yml: cannot be read: No such file or directory (os error 2)\n",
    );
    for theirs in [
        "/etc/nowhere/postgres_exporter.yml",
        "postgres_exporter.yml",
    ] {
        let output = exporter()
            .args(["check", "--dsn", NOWHERE, "--config.file", theirs])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stdout) + &text(&output.stderr);
        let warning = format!("{theirs} does not exist and is ignored");
        assert!(said.contains(&warning), "{said}");
    }

    let file = File::new(&format!(
        "servers:\n  main:\n    password: \"{MARKER}\n    user: x\n"
    ));
    let output = exporter()
        .arg("--config.file")
        .arg(&file.path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.starts_with(&format!("{}:", file.path.display())),
        "{said}"
    );
    assert!(!said.contains(MARKER), "{said}");
}

#[test]
fn bad_flags_and_variables_are_told() {
    let output = exporter()
        .args(["--scrape.timeout=soon", "--web.listen-address", "9187"])
        .args(["--dsn", NOWHERE, "--web.config.file=web.yml"])
        .env("PG_EXPORTER_CONNECTIONS", "1")
        .output()
        .unwrap();
    refused(
        &output,
        "--web.listen-address: must be an address to listen on; write one like :9187, 127.0.0.1:9187 or [::1]:9187\n\
         --web.config.file: TLS and basic auth are not supported yet, and the exporter does not start without them when they are configured; remove the setting, and put a reverse proxy in front\n\
         PG_EXPORTER_CONNECTIONS: must be a whole number from 2 to 100\n\
         --scrape.timeout: must be a duration; write one like 500ms, 60s, 1m30s or 2h\n",
    );

    let output = exporter()
        .args([
            "check",
            "--collector.stat_archivr",
            "--no-collector.nosuch",
            "--colour",
            "red",
        ])
        .args(["--web.listen-adress=:1", "-x"])
        .output()
        .unwrap();
    refused(
        &output,
        "there is no collector \"stat_archivr\"; did you mean \"stat_archiver\"?; `matrix-postgres-exporter metrics` lists them\n\
         there is no collector \"nosuch\"; `matrix-postgres-exporter metrics` lists them\n\
         there is no flag --colour; `matrix-postgres-exporter --help` lists them\n\
         there is no flag --web.listen-adress; did you mean --web.listen-address?\n\
         there is no flag -x; `matrix-postgres-exporter --help` lists them\n",
    );
}

#[test]
fn a_flag_of_another_command_is_told() {
    for (args, message) in [
        (
            &["metrics", "--dsn", "x"][..],
            "the command metrics takes no --dsn\n",
        ),
        (
            &["check", "--role=x", "--foramt"],
            "the command check takes no --role\nthere is no flag --foramt; `matrix-postgres-exporter --help` lists them\n",
        ),
        (
            &["grants", "--databse", "x"],
            "there is no flag --databse; did you mean --database?\n",
        ),
    ] {
        refused(&exporter().args(args).output().unwrap(), message);
    }
}

#[test]
fn flags_may_stand_before_the_command() {
    let file = File::new("servers: { blue: { dsn: host=127.0.0.1 port=2, user: exporter } }\n");
    let path = file.path.to_str().unwrap();
    for args in [
        ["--config.file", path, "check"],
        ["check", "--config.file", path],
        ["-config.file", path, "check"],
    ] {
        let output = exporter().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stdout);
        assert!(
            said.contains("Server blue at 127.0.0.1:2 does not answer (refused)"),
            "{said}"
        );
    }
    // What is said after the command wins, and what has no meaning for a command is refused.
    let output = exporter()
        .args([
            "--dsn",
            "host=127.0.0.1 port=3 user=u",
            "check",
            "--dsn",
            NOWHERE,
        ])
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("127.0.0.1:1 does not answer"), "{said}");
    refused(
        &exporter()
            .args(["--dsn", NOWHERE, "metrics"])
            .output()
            .unwrap(),
        "the command metrics takes no --dsn\n",
    );
}

#[test]
fn misspelt_variables_are_named_and_those_of_kubernetes_are_not() {
    let said = |pairs: &[(&str, &str)]| {
        let output = exporter()
            .args(["check", "--dsn", NOWHERE])
            .envs(pairs.iter().copied())
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        let warnings = said.lines().filter(|line| line.contains("no effect"));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    for (wrong, right) in [
        (
            "PG_EXPORTER_WEB_LISTEN_ADRESS",
            "PG_EXPORTER_WEB_LISTEN_ADDRESS",
        ),
        ("PG_EXPORTER_COLECTOR_WAL", "PG_EXPORTER_COLLECTOR_WAL"),
        ("DATA_SOURCE_URL", "DATA_SOURCE_URI"),
        ("DATASOURCE_NAME", "DATA_SOURCE_NAME"),
        ("DATA_SOURCE_PASSWORD_FILE", "DATA_SOURCE_PASS_FILE"),
        ("DATA_SOURCE_PASSWORD", "DATA_SOURCE_PASS"),
        ("PGEXPORTER_CONFIG_FILE", "PG_EXPORTER_CONFIG_FILE"),
        (
            "MATRIX_POSTGRES_EXPORTER_LOG_LEVEL",
            "PG_EXPORTER_LOG_LEVEL",
        ),
    ] {
        let warnings = said(&[(wrong, MARKER)]);
        assert_eq!(warnings.len(), 1, "{wrong}: {warnings:?}");
        let expected = format!("{wrong} has no effect; did you mean {right}?");
        assert!(warnings[0].contains(&expected), "{warnings:?}");
        assert!(!warnings[0].contains(MARKER), "{warnings:?}");
    }
    let odd = said(&[("PG_EXPORTER_COLOUR_OF_THE_SKY", "blue")]);
    assert!(
        odd[0].contains("PG_EXPORTER_COLOUR_OF_THE_SKY has no effect"),
        "{odd:?}"
    );
    let kubernetes = [
        ("MATRIX_POSTGRES_EXPORTER_SERVICE_HOST", "10.0.0.1"),
        ("MATRIX_POSTGRES_EXPORTER_SERVICE_PORT", "9187"),
        ("MATRIX_POSTGRES_EXPORTER_SERVICE_PORT_METRICS", "9187"),
        ("MATRIX_POSTGRES_EXPORTER_PORT", "tcp://10.0.0.1:9187"),
        (
            "MATRIX_POSTGRES_EXPORTER_PORT_9187_TCP",
            "tcp://10.0.0.1:9187",
        ),
        ("MATRIX_POSTGRES_EXPORTER_PORT_9187_TCP_ADDR", "10.0.0.1"),
        ("PG_EXPORTER_SERVICE_HOST", "10.0.0.1"),
        ("PG_EXPORTER_PORT_9187_TCP_PROTO", "tcp"),
        ("MATRIX_DOMAIN", "example.org"),
        ("PG_MAJOR", "18"),
    ];
    assert_eq!(said(&kubernetes), [""; 0]);
}

#[test]
fn a_password_that_breaks_a_uri_is_diagnosed_and_not_shown() {
    for (variable, uri) in [
        (
            "DATA_SOURCE_NAME",
            format!("postgresql://exporter:{MARKER}@x@db/matrix"),
        ),
        ("DATA_SOURCE_URI", format!("exporter:{MARKER}@x@db/matrix")),
    ] {
        refused(
            &exporter().env(variable, uri).output().unwrap(),
            &format!(
                "{variable}: the user or password before the host holds an unescaped \"@\": write it as %40; \
                 or leave the password out and name a file that holds it in password_file (DATA_SOURCE_PASS_FILE)\n"
            ),
        );
    }
}

#[test]
fn of_several_servers_the_first_is_watched() {
    for (variable, servers) in [
        (
            "DATA_SOURCE_NAME",
            "host=127.0.0.1 port=1 user=u,host=b user=u",
        ),
        (
            "DATA_SOURCE_NAME",
            "postgresql://u:p@127.0.0.1:1/x,postgresql://u:p@b/x",
        ),
        ("DATA_SOURCE_URI", "127.0.0.1:1/x?sslmode=disable,b:5432/x"),
        ("DATA_SOURCE_URI", "u:p@127.0.0.1:1/x,u:p@b/x"),
    ] {
        let output = exporter()
            .arg("check")
            .env(variable, servers)
            .env("PGUSER", "u")
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(
            said.contains("Server main at 127.0.0.1:1 does not answer"),
            "{said}"
        );
        let warning = format!(
            "{variable}: names 2 servers; only the first is monitored: run an exporter for each"
        );
        assert!(said.contains(&warning), "{said}");
    }
}

#[test]
fn what_is_wrong_with_a_connection_string_is_told_at_once_and_says_what_to_write() {
    for (variable, value, message) in [
        (
            "DATA_SOURCE_URI",
            "postgresql://u:s3cr3t-marker@db/x",
            "DATA_SOURCE_URI: must be an address without a scheme; remove \"postgresql://\", or put the whole address into DATA_SOURCE_NAME\n",
        ),
        (
            "DATA_SOURCE_URI",
            "postgres://db/x",
            "DATA_SOURCE_URI: must be an address without a scheme; remove \"postgres://\", or put the whole address into DATA_SOURCE_NAME\n",
        ),
        (
            "DATA_SOURCE_NAME",
            "hots=db user=u port=0 sslmode=full pasword=s3cr3t-marker",
            "DATA_SOURCE_NAME: there is no key \"hots\"; did you mean host?\n\
             DATA_SOURCE_NAME: port must be a number from 1 to 65535\n\
             DATA_SOURCE_NAME: sslmode must be disable, allow, prefer, require, verify-ca or verify-full\n\
             DATA_SOURCE_NAME: there is no key \"pasword\"; did you mean password?\n",
        ),
        (
            "PGSERVICE",
            "main",
            "PGSERVICE: service files are not supported yet; remove it, and set host, port, dbname and user (PGHOST, PGPORT, PGDATABASE and PGUSER)\n",
        ),
        (
            "PGSSLMODE",
            "always",
            "PGSSLMODE: must be disable, allow, prefer, require, verify-ca or verify-full\n",
        ),
        (
            "DATA_SOURCE_NAME",
            "host=db user=u sslkey='-----BEGIN PRIVATE KEY-----\ns3cr3t-marker' sslinline=true",
            "DATA_SOURCE_NAME: sslkey must be the path of a file; write the certificate or key into one, and remove sslinline\n\
             DATA_SOURCE_NAME: sslinline must be false: certificates and keys are read from files; name these in sslcert, sslkey and sslrootcert\n",
        ),
    ] {
        let output = exporter()
            .env("PGUSER", "u")
            .env(variable, value)
            .output()
            .unwrap();
        refused(&output, message);
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_told() {
    refused(
        &exporter()
            .arg("--dsn=host=db user=u sslmode=verify-full sslrootcert=/nonexistent/ca.crt")
            .output()
            .unwrap(),
        "--dsn: /nonexistent/ca.crt cannot be read: No such file or directory (os error 2)\n",
    );
}

#[test]
fn a_port_in_use_is_told_and_is_no_usage_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = exporter()
        .args(["--dsn", NOWHERE, &format!("--web.listen-address={address}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!(
            "cannot listen on {address}: another program listens there; stop it, or choose another --web.listen-address\n"
        )
    );
}

// Commands.

#[test]
fn help_and_version_are_there() {
    let help = exporter().arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    assert!(help.contains("Exit codes: 0 success, 1 failure, 2 wrong usage or configuration."));
    assert!(help.lines().count() < 60, "{help}");
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    let version = exporter().arg("--version").output().unwrap();
    assert_eq!(
        text(&version.stdout),
        concat!("matrix-postgres-exporter ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn help_is_a_command_and_every_form_of_it_is_known() {
    for (args, expected) in [
        (&["help"][..], "Exit codes"),
        (&["help", "check"], "Usage: matrix-postgres-exporter check"),
        (&["--help-long"], "Exit codes"),
        (&["--help-man"], "Exit codes"),
        (&["-help"], "Exit codes"),
        (&["--dumpmaps"], "pg_stat_archiver_archived_count"),
        (&["-version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = exporter().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(
            text(&output.stdout).contains(expected),
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn a_reader_who_has_seen_enough_ends_any_command() {
    for args in [
        &["metrics"][..],
        &["metrics", "--format=json"],
        &["grants", "--database=x"],
        &["scrape", "--log.level=off", "--dsn", NOWHERE],
        &["check", "--log.level=off", "--dsn", NOWHERE],
        &["help"],
        &["--version"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = exporter().args(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut command = process::command(User::Same, exporter().get_program());
    command
        .args(["--web.listen-address", &address, "--dsn", NOWHERE])
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let mut server = command.spawn().unwrap();
    drop(command);
    drop(reader);
    process::wait_for("it listens", || async {
        tokio::net::TcpStream::connect(&address).await.is_ok()
    })
    .await;
    for _ in 0..2 {
        let page = get(&address, "/metrics").await;
        assert!(page.contains("pg_up 0"), "{page}");
    }
    assert!(server.try_wait().unwrap().is_none());
    server.kill().unwrap();
    server.wait().unwrap();
}

#[tokio::test]
async fn a_hangup_is_survived_with_a_warning() {
    let (server, address) = serving(&["--dsn", NOWHERE], &[]).await;
    server.signal(Signal::HUP);
    let line = server.wait_for_line("SIGHUP").await.unwrap();
    assert!(line.contains("level=warn"), "{line}");
    let answer = get(&address, "/-/healthy").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_end().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_not_served_yet_is_said_at_its_address() {
    let (_server, address) = serving(&["--dsn", NOWHERE], &[]).await;
    for (path, sentence) in [
        ("/probe?target=db:5432", "/probe is not implemented yet"),
        ("/-/reload", "/-/reload is not implemented yet"),
        ("/nowhere", "There is no page at this address"),
    ] {
        let answer = get(&address, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found"), "{answer}");
        assert!(answer.contains(sentence), "{answer}");
    }
    let posted =
        crate::support::http::request(address.parse().unwrap(), "POST", "/-/reload", &[]).await;
    assert_eq!(posted.status, 404);
    assert!(
        posted.text().contains("/-/reload is not implemented yet"),
        "{}",
        posted.text()
    );
}

#[tokio::test]
async fn logfmt_escapes_what_logfmt_knows() {
    let (server, _) = serving(&["--dsn", NOWHERE, "--collector.xlog_location"], &[]).await;
    let output = server.output();
    assert!(output.contains("postgres_exporter's"), "{output}");
    assert!(!output.contains("\\'"), "{output}");
}

#[test]
fn the_levels_of_other_programs_are_known() {
    for level in [
        "--log.level=warning",
        "--log.level=WARN",
        "--log.level=fatal",
    ] {
        let output = exporter()
            .args(["check", level, "--dsn", NOWHERE])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    let output = exporter()
        .args([
            "check",
            "--dsn",
            NOWHERE,
            "--log.format=logger:stderr?json=true",
        ])
        .output()
        .unwrap();
    assert!(text(&output.stderr).starts_with('{'), "{output:?}");
}

#[test]
fn a_scrape_of_a_server_that_is_down_says_so_and_fails() {
    let output = exporter()
        .args(["scrape", "--dsn", NOWHERE])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let page = text(&output.stdout);
    assert!(page.lines().any(|line| line == "pg_up 0"), "{page}");
}

#[test]
fn a_check_finds_the_server_through_every_door() {
    let down = |command: &mut Command| {
        let output = command.arg("check").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stdout)
            .lines()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    let file = File::new("servers: { blue: { dsn: host=127.0.0.1 port=2, user: exporter } }\n");
    for (expected, said) in [
        (
            "Server main at 127.0.0.1:1 does not answer (refused)",
            down(
                exporter()
                    .env("PGHOST", "127.0.0.1")
                    .env("PGPORT", "1")
                    .env("PGUSER", "u"),
            ),
        ),
        (
            "Server main at 127.0.0.1:1 does not answer (refused)",
            down(
                exporter()
                    .env("DATA_SOURCE_URI", "127.0.0.1:1/x")
                    .env("DATA_SOURCE_USER", "u"),
            ),
        ),
        (
            "Server blue at 127.0.0.1:2 does not answer (refused)",
            down(exporter().env("PG_EXPORTER_CONFIG_FILE", &file.path)),
        ),
        (
            "Server blue at 127.0.0.1:1 does not answer (refused)",
            down(
                exporter()
                    .env("PG_EXPORTER_CONFIG_FILE", &file.path)
                    .env("DATA_SOURCE_NAME", NOWHERE),
            ),
        ),
    ] {
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test]
async fn it_serves_is_healthy_and_stops_when_told() {
    let (server, address) = serving(&["--dsn", NOWHERE], &[]).await;
    let healthy = |address: &str| {
        let listen = format!("--web.listen-address={address}");
        exporter().args(["healthcheck", &listen]).output().unwrap()
    };
    assert_eq!(healthy(&address).status.code(), Some(0));
    let url = format!("http://{address}/nowhere");
    let lost = exporter()
        .args(["healthcheck", "--url", &url])
        .output()
        .unwrap();
    assert_eq!(lost.status.code(), Some(1));
    assert_eq!(text(&lost.stderr), format!("{url} answers 404 Not Found\n"));

    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_end().await.code(), Some(0));
    let gone = healthy(&address);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(
        text(&gone.stderr),
        format!("http://{address}/-/healthy does not answer: Connection refused (os error 111)\n")
    );
}

#[tokio::test]
async fn a_port_alone_is_every_address_and_systemd_hears_of_it() {
    let folder = process::scratch();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let heard = || {
        let mut message = [0; 64];
        let length = systemd.recv(&mut message).unwrap();
        text(&message[..length])
    };
    let (server, address) = serving_on(
        ":0",
        &["--dsn", NOWHERE],
        &[("NOTIFY_SOCKET", path.to_str().unwrap())],
    )
    .await;
    assert_eq!(heard(), "READY=1\n");
    let (_, port) = address.rsplit_once(':').unwrap();
    let answer = get(&format!("127.0.0.1:{port}"), "/-/healthy").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    server.signal(Signal::INT);
    assert_eq!(heard(), "STOPPING=1\n");
    assert_eq!(server.wait_for_end().await.code(), Some(0));
}

#[tokio::test]
async fn what_has_no_effect_is_logged() {
    let flags = [
        "--dsn",
        NOWHERE,
        "--disable-default-metrics",
        "--auto-discover-databases",
    ];
    let (server, _) = serving(&flags, &[]).await;
    let output = server.output();
    let warnings: Vec<_> = output
        .lines()
        .filter(|line| line.contains("level=warn"))
        .collect();
    assert_eq!(warnings.len(), 1, "{output}");
    assert!(
        warnings[0].contains("--disable-default-metrics switches stat_database_conflicts off"),
        "{output}"
    );
}

#[test]
fn grants_are_printed_for_the_databases_named() {
    let output = exporter()
        .args([
            "grants",
            "--role=watcher",
            "--database=matrix",
            "--database",
            "mas",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let script = text(&output.stdout);
    for line in [
        "\\connect \"matrix\"",
        "\\connect \"mas\"",
        "    CREATE ROLE \"watcher\" LOGIN;",
    ] {
        assert!(script.lines().any(|said| said == line), "{line}: {script}");
    }
    let long = "a".repeat(64);
    for (flag, name, why) in [
        ("--database", "", "must not be empty"),
        ("--role", "", "must not be empty"),
        ("--role", &long, "must not be longer than 63 bytes"),
        ("--database", &long, "must not be longer than 63 bytes"),
    ] {
        let output = exporter()
            .args(["grants", "--database=matrix", flag, name])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag} {name:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(text(&output.stderr).contains(why), "{output:?}");
    }
    let nowhere = exporter().arg("grants").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text(&nowhere.stderr).contains("--database <NAME>"));
    let both = ["--database=matrix", "--revoke", "--keep-public-create"];
    let both = exporter().arg("grants").args(both).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn the_catalogue_is_printed_in_every_format() {
    for (format, expected) in [
        ("text", "stat_archiver"),
        ("json", "\"stat_archiver\""),
        ("markdown", "stat_archiver"),
    ] {
        let output = exporter()
            .args(["metrics", "--format", format])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let catalogue = text(&output.stdout);
        assert!(catalogue.contains(expected), "{catalogue}");
        assert!(
            catalogue.contains("pg_stat_archiver_archived_count"),
            "{catalogue}"
        );
    }
}

// Secrets.

#[tokio::test]
async fn no_secret_is_ever_printed() {
    let file = File::new(&format!(
        "servers: {{ main: {{ dsn: '{NOWHERE}', password: {MARKER} }} }}\n"
    ));
    let password = File::new(MARKER);
    let dsn = format!("{NOWHERE} password={MARKER}");
    let uri = format!("postgresql://exporter:{MARKER}@127.0.0.1:1/x");
    let config = format!("--config.file={}", file.path.display());
    let password_file = password.path.to_str().unwrap();
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let cases: [Case; 5] = [
        (&["--dsn", &dsn], &[]),
        (&[&config], &[]),
        (&[], &[("DATA_SOURCE_NAME", &uri)]),
        (&["--dsn", NOWHERE], &[("PGPASSWORD", MARKER)]),
        (
            &["--dsn", NOWHERE],
            &[("DATA_SOURCE_PASS_FILE", password_file)],
        ),
    ];
    for (flags, environment) in cases {
        for command in ["check", "scrape"] {
            let output = exporter()
                .arg(command)
                .args(flags)
                .arg("--log.level=trace,tokio_postgres=trace")
                .envs(environment.iter().copied())
                .output()
                .unwrap();
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                !said.contains(MARKER),
                "{command} {flags:?} {environment:?}: {said}"
            );
        }
        let flags = [flags, &["--log.level=trace,tokio_postgres=trace"]].concat();
        let (server, address) = serving(&flags, environment).await;
        for path in ["/", "/metrics", "/-/ready"] {
            let page = get(&address, path).await;
            assert!(page.contains("200 OK"), "{page}");
            assert!(
                !page.contains(MARKER),
                "{path} {flags:?} {environment:?}: {page}"
            );
        }
        server.signal(Signal::TERM);
        server.wait_for_end().await;
        let said = server.output();
        assert!(
            said.contains("level=debug") || said.contains("level=trace"),
            "{said}"
        );
        assert!(!said.contains(MARKER), "{flags:?} {environment:?}: {said}");
    }
}

/// The program, seeing nothing of this environment.
fn exporter() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("matrix-postgres-exporter"));
    command.env_clear();
    command
}

/// The program serving, and the address that it chose.
async fn serving(flags: &[&str], environment: &[(&str, &str)]) -> (Process, String) {
    serving_on("127.0.0.1:0", flags, environment).await
}

async fn serving_on(
    listen: &str,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> (Process, String) {
    let mut command = process::command(User::Same, exporter().get_program());
    command
        .args(["--web.listen-address", listen])
        .args(flags)
        .envs(environment.iter().copied());
    let server = Process::start(command);
    let line = server.wait_for_line("message=listening").await.unwrap();
    let address = line.split("address=").nth(1).unwrap();
    let address = address.split(' ').next().unwrap().to_owned();
    (server, address)
}

/// A whole answer, headers first.
async fn get(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// It ends with this message, as a usage error, before anything else is said.
fn refused(output: &Output, message: &str) {
    assert_eq!(text(&output.stderr), message);
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(2));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file that lasts as long as the test.
struct File {
    path: PathBuf,
    _folder: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = process::scratch();
        let path = Path::new(folder.path()).join("file");
        fs::write(&path, text).unwrap();
        Self {
            path,
            _folder: folder,
        }
    }
}
