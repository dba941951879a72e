//! Roles for the exporter to log in with.

use std::future::poll_fn;

use tokio_postgres::{AsyncMessage, NoTls};

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
    let done = try_grant(server, role, databases, flags).await;
    done.unwrap_or_else(|error| panic!("{role}, {databases:?}, {flags:?}: {error}"));
}

/// Runs what `grants` prints, up to an error; what the server says meanwhile.
pub async fn try_grant(
    server: &Postgres,
    role: &str,
    databases: &[&str],
    flags: &[&str],
) -> Result<String, String> {
    let mut args = vec!["grants", "--role", role];
    for database in databases {
        args.extend(["--database", database]);
    }
    args.extend(flags);
    let output = exporter_command(&args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    run_script(server, &String::from_utf8(output.stdout).unwrap()).await
}

/// Runs a script as psql does that knows no command but `\connect`, up to an error; what the server
/// says meanwhile.
pub async fn run_script(server: &Postgres, script: &str) -> Result<String, String> {
    let mut sections = vec![("postgres".to_owned(), String::new())];
    for line in script.lines() {
        match (line.strip_prefix(r"\connect "), sections.last_mut()) {
            (Some(argument), _) => sections.push((database(argument), String::new())),
            (None, Some((_, sql))) => *sql += &format!("{line}\n"),
            (None, None) => unreachable!("there is a first section"),
        }
    }
    let mut said = String::new();
    for (db, sql) in sections {
        let dsn = server.dsn(&db, "postgres");
        let (client, mut connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
        let notices = async {
            let mut said = String::new();
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notice(notice) = message {
                    said += &format!("{}: {}\n", notice.severity(), notice.message());
                }
            }
            said
        };
        let answer = async move { client.batch_execute(&sql).await };
        let (answer, notices) = tokio::join!(answer, notices);
        said += &notices;
        answer.map_err(|error| format!("{said}{:?}", error.as_db_error()))?;
    }
    Ok(said)
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
