//! The exporters.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use matrix_postgres_exporter::collectors;

use super::servers::DATABASE;
use super::support::exporter::Exporter;
use super::support::postgres::{Postgres, password};
use super::support::process::{User, command, start_on_free_port};
use super::support::roles::Role;
use super::table::Column;

/// An exporter.
pub struct Program {
    pub name: &'static str,
    pub version: String,
    kind: Kind,
    path: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    PostgresExporter,
    PgExporter,
}

/// Which collectors are on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Collectors {
    Default,
    All,
}

impl fmt::Display for Collectors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Default => "with defaults",
            Self::All => "with all collectors",
        })
    }
}

/// Ours, and those whose paths are given; a sentence about those that are not.
pub fn given() -> (Vec<Program>, String) {
    let mut programs = vec![Program {
        name: "ours",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kind: Kind::Ours,
        path: env!("CARGO_BIN_EXE_matrix-postgres-exporter").to_owned(),
    }];
    let mut missing = String::new();
    for (variable, name, kind) in [
        ("PE", "postgres_exporter", Kind::PostgresExporter),
        ("NB", "pg_exporter", Kind::PgExporter),
    ] {
        match std::env::var(variable).ok().filter(|path| !path.is_empty()) {
            Some(path) => {
                assert!(Path::new(&path).exists(), "{variable}: there is no {path}");
                let version = version(&said_by(&path, "--version"));
                programs.push(Program {
                    name,
                    version,
                    kind,
                    path,
                });
            }
            None => missing += &format!(" {name} is not among them: {variable} was not given."),
        }
    }
    (programs, missing)
}

impl Program {
    /// The role that it logs in with.
    pub fn role(&self) -> &'static str {
        self.name
    }

    /// Its place in the table.
    pub fn column(&self) -> Column {
        Column {
            name: self.name,
            version: self.version.clone(),
            turns: Vec::new(),
        }
    }

    /// Whether it is the one of this repository.
    pub fn is_ours(&self) -> bool {
        self.kind == Kind::Ours
    }

    /// Makes its role, with what its documentation says that it needs.
    pub async fn create_role(&self, server: &Postgres, databases: &[&str]) {
        match self.kind {
            Kind::Ours => Role::PgMonitor.create(server, self.role(), databases).await,
            Kind::PostgresExporter | Kind::PgExporter => {
                Role::Plain.create(server, self.role(), databases).await;
                let grant = format!("GRANT pg_monitor TO {}", self.role());
                server.sql("postgres", &grant).await;
            }
        }
    }

    /// Starts it.
    pub async fn start(&self, server: &Postgres, on: Collectors) -> Exporter {
        let role = self.role();
        let dsn = format!(
            "postgresql://{role}:{}@127.0.0.1:{}/{DATABASE}?sslmode=disable",
            password(role),
            server.port()
        );
        let flags = match on {
            Collectors::Default => Vec::new(),
            Collectors::All => self.collectors(),
        };
        let listen = |port: u16| {
            let mut command = command(User::Same, &self.path);
            match self.kind {
                Kind::PgExporter => command.env("PG_EXPORTER_DSN", &dsn).args([
                    "--listen",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                ]),
                _ => command
                    .env("DATA_SOURCE_NAME", &dsn)
                    .arg(format!("--web.listen-address=127.0.0.1:{port}")),
            };
            command.args(&flags);
            command
        };
        let ready = match self.kind {
            Kind::Ours => "listening",
            _ => "Listening on",
        };
        let started = start_on_free_port(ready, listen).await;
        let (process, port) =
            started.unwrap_or_else(|said| panic!("{} does not start:\n{said}", self.path));
        Exporter::of_other_program(process, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The flags that switch every collector on.
    fn collectors(&self) -> Vec<String> {
        let flag = |name: &str| format!("--collector.{name}");
        if self.is_ours() {
            let all = collectors::all().into_iter();
            return all.map(|collector| flag(&collector.name)).collect();
        }
        let help = said_by(&self.path, "--help");
        let names = help.split_whitespace().filter_map(|word| {
            let word = word.replace("[no-]", "");
            let name = word.strip_prefix("--collector.")?;
            // With a dot or a value it is a setting of one.
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            is_name.then(|| flag(name))
        });
        names.collect()
    }
}

/// What a program says when it is asked for this and ends.
fn said_by(path: &str, flag: &str) -> String {
    let output = Command::new(path).arg(flag).output();
    let output = output.unwrap_or_else(|error| panic!("{path} {flag}: {error}"));
    [output.stdout, output.stderr]
        .map(|said| String::from_utf8_lossy(&said).into_owned())
        .concat()
}

fn version(said: &str) -> String {
    let numbers =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let word = said
        .lines()
        .next()
        .and_then(|line| line.split([' ', ',']).find(numbers));
    word.unwrap_or("of unknown version").to_owned()
}
