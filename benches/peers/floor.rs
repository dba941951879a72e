//! The least that an exporter with our statements could cost: the statements of one scrape alone, one after
//! the other, over open connections of the same driver.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::getpid;
use tokio_postgres::{Client, NoTls};

use super::programs::{Collectors, Program};
use super::support::postgres::Postgres;
use super::turn::{Turn, measure, scrape, warm};

/// The statements of a scrape, each with its database, and a connection to each of these.
pub struct Floor {
    statements: Vec<(String, String)>,
    clients: BTreeMap<String, Client>,
}

/// Begins each line of the log that is not the rest of another.
pub const LOG_LINE_PREFIX: &str = "'> %u@%d '";

impl Floor {
    /// What an exporter sends for a scrape when it is warm, as the server logs it.
    pub async fn of(server: &Postgres, ours: &Program, collectors: Collectors) -> Self {
        let role = ours.role();
        let log_its_statements = format!("ALTER ROLE {role} SET log_statement = 'all'");
        server.sql("postgres", &log_its_statements).await;
        let exporter = ours.start(server, collectors).await;
        let mut prometheus = warm(ours, &exporter).await;
        let before = server.log().len();
        scrape(&mut prometheus).await;
        drop(exporter);
        let reset = format!("ALTER ROLE {role} RESET log_statement");
        server.sql("postgres", &reset).await;

        let log = server.log();
        let statements: Vec<_> = log[before..]
            .split("\n> ")
            .filter_map(|entry| {
                let entry = entry
                    .trim_start_matches("> ")
                    .strip_prefix(role)?
                    .strip_prefix('@')?;
                let (database, statement) = entry.split_once(" LOG:  statement: ")?;
                Some((database.to_owned(), without_settings(statement).to_owned()))
            })
            .collect();
        assert!(!statements.is_empty(), "{}", &log[before..]);
        let mut clients = BTreeMap::new();
        for (database, _) in &statements {
            if !clients.contains_key(database) {
                let dsn = server.tcp_dsn(database, role);
                let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
                tokio::spawn(connection);
                clients.insert(database.clone(), client);
            }
        }
        Self {
            statements,
            clients,
        }
    }

    /// Sends them at an interval, as if they were scrapes.
    pub async fn take(&self, server: &Postgres, ours: &Program, every: Duration) -> Turn {
        let send = async || {
            for (database, statement) in &self.statements {
                self.clients[database]
                    .simple_query(statement)
                    .await
                    .unwrap();
            }
        };
        send().await;
        measure(server, ours, getpid(), every, send).await
    }
}

/// A message of ours begins with all that it sets.
fn without_settings(message: &str) -> &str {
    let mut rest = message.trim_start();
    while rest.starts_with("SET ") {
        let (_, after) = rest.split_once(';').unwrap();
        rest = after.trim_start();
    }
    rest
}
