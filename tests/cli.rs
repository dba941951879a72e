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
             {path}:6: servers.main.connections: must be a whole number, 2 or more\n\
             {path}:7: scrape.timeout: \"10 seconds or so\" is no duration; write one like 500ms, 60s, 1m30s or 2h\n\
             {path}:8: collectors.disable: there is no collector \"stat_archivr\"; did you mean \"stat_archiver\"?; `matrix-postgres-exporter metrics` lists them\n"
        ),
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
        "--web.listen-address: \"9187\" is no address to listen on; write one like :9187, 127.0.0.1:9187 or [::1]:9187\n\
         --web.config.file: TLS and basic auth are not served yet, and nothing is served without them when they are asked for; take the setting out and put a proxy in front\n\
         PG_EXPORTER_CONNECTIONS: must be a whole number, 2 or more\n\
         --scrape.timeout: \"soon\" is no duration; write one like 500ms, 60s, 1m30s or 2h\n",
    );

    let output = exporter().arg("--collector.stat_archivr").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("--collector.stat_archiver"), "{said}");
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
fn several_servers_are_refused() {
    refused(
        &exporter()
            .env("DATA_SOURCE_NAME", "host=a user=u,host=b user=u")
            .output()
            .unwrap(),
        "DATA_SOURCE_NAME: names several servers; one server is served at present\n",
    );
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
    assert!(help.contains("Exit codes: 0 fine, 1 something failed, 2 usage or configuration."));
    assert!(help.lines().count() < 60, "{help}");
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    let version = exporter().arg("--version").output().unwrap();
    assert_eq!(
        text(&version.stdout),
        concat!("matrix-postgres-exporter ", env!("CARGO_PKG_VERSION"), "\n")
    );
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
        warnings[0].contains("--disable-default-metrics has no effect"),
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
