//! Roles for the exporter to log in with.

use super::exporter::exporter_command;
use super::postgres::{Postgres, password};

/// What a role may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Log in.
    Plain,
    /// What `grants` gives.
    Strict,
    /// What `grants --pg-monitor` gives.
    PgMonitor,
    /// Everything.
    Superuser,
}

impl Role {
    /// Gives a new role its rights, those of `grants` for these databases.
    pub async fn create(self, server: &Postgres, name: &str, databases: &[&str]) {
        let create = format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{}'", password(name));
        server.sql("postgres", &create).await;
        match self {
            Self::Plain => (),
            Self::Superuser => {
                let alter = format!("ALTER ROLE \"{name}\" SUPERUSER");
                server.sql("postgres", &alter).await;
            }
            Self::Strict => grant(server, name, databases, &[]).await,
            Self::PgMonitor => grant(server, name, databases, &["--pg-monitor"]).await,
        }
    }
}

/// Runs what `grants` prints, with further flags.
pub async fn grant(server: &Postgres, role: &str, databases: &[&str], flags: &[&str]) {
    let mut args = vec!["grants", "--role", role];
    for database in databases {
        args.extend(["--database", database]);
    }
    args.extend(flags);
    let output = exporter_command(&args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    run_script(server, &String::from_utf8(output.stdout).unwrap()).await;
}

/// Runs a script as psql does that knows no command but `\connect`.
pub async fn run_script(server: &Postgres, script: &str) {
    let mut sections = vec![("postgres".to_owned(), String::new())];
    for line in script.lines() {
        match (line.strip_prefix(r"\connect "), sections.last_mut()) {
            (Some(argument), _) => sections.push((database(argument), String::new())),
            (None, Some((_, sql))) => *sql += &format!("{line}\n"),
            (None, None) => unreachable!("there is a first section"),
        }
    }
    for (db, sql) in sections {
        server.sql(&db, &sql).await;
    }
}

/// What `\connect` goes to, as a DSN has it. Within its quotes a quote is written twice.
fn database(argument: &str) -> String {
    let (info, name) = match argument.strip_prefix("-reuse-previous=on ") {
        Some(info) => (true, info),
        None => (false, argument),
    };
    let name = name
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let name = name.unwrap().replace("\"\"", "\"");
    match info {
        true => name.strip_prefix("dbname=").unwrap().to_owned(),
        false => in_dsn(&name),
    }
}

/// A value as a DSN has it.
pub fn in_dsn(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}
