//! What the runbooks tell people to ask is asked here: every SELECT and SHOW, on Synapse's database, of the
//! oldest and the newest version, on a primary or else on its standby.

use std::fs;
use std::path::Path;

use tokio_postgres::Client;

use super::support::postgres::Postgres;
use super::support::synapse::{NEW, OLD, Synapse};

/// Newer than the oldest version, and said so where it stands.
const SINCE: [(&str, u32); 1] = [("datcollversion", 15)];

/// Functions that change something: only whether they exist is asked.
const ACTIONS: [&str; 7] = [
    "pg_cancel_backend",
    "pg_drop_replication_slot",
    "pg_promote",
    "pg_reload_conf",
    "pg_terminate_backend",
    "pg_wal_replay_resume",
    "setval",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_question_of_the_runbooks_is_answered() {
    let statements = statements();
    assert!(statements.len() > 40, "{}", statements.len());
    for (major, version) in [(13, OLD), (18, NEW)] {
        let primary = Postgres::builder(major).fresh().start().await;
        let (_synapse, made) = Synapse::start(&primary, version).await;
        let standby = primary.standby().start().await;
        let on_primary = primary.client(&made.database, "postgres").await;
        let on_standby = standby.client("postgres", "postgres").await;
        let mut problems = Vec::new();
        for (runbook, statement) in &statements {
            if SINCE
                .iter()
                .any(|(word, since)| statement.contains(word) && major < *since)
            {
                continue;
            }
            let Err(error) = ask(&on_primary, statement).await else {
                continue;
            };
            if ask(&on_standby, statement).await.is_err() {
                problems.push(format!("{runbook}, version {major}: {statement}: {error}"));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

async fn ask(client: &Client, statement: &str) -> Result<(), String> {
    let action = ACTIONS.iter().find(|name| statement.contains(*name));
    let statement = action.map_or(statement.to_owned(), |name| {
        format!(
            "SELECT proname FROM pg_proc WHERE proname = '{name}' GROUP BY 1 HAVING count(*) > 0"
        )
    });
    match client.simple_query(&statement).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error
            .as_db_error()
            .map_or(error.to_string(), |db| db.message().to_owned())),
    }
}

/// Each with the runbook that it is from.
fn statements() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/runbooks");
    let mut statements = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        for (place, code) in text.split("```").enumerate() {
            let found = match code.strip_prefix("sql\n") {
                Some(block) => block.split(';').map(str::to_owned).collect(),
                None if place % 2 == 0 => spans(code),
                None => Vec::new(),
            };
            for statement in found {
                let words: Vec<_> = statement.split_whitespace().collect();
                // A capital word in the place of a name is for the reader to fill in.
                let asks = ["SELECT", "SHOW"].contains(words.first().unwrap_or(&""));
                if asks
                    && !["'INDEX'", "key,", "TABLE_OF"]
                        .iter()
                        .any(|word| statement.contains(word))
                {
                    statements.push((name.clone(), words.join(" ")));
                }
            }
        }
    }
    statements
}

/// The code in a paragraph, and what psql is given there.
fn spans(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let given = spans.map(|span| match span.split_once(" -c ") {
        Some((_, quoted)) => {
            let quote = quoted.chars().next().unwrap_or(' ');
            quoted.trim_matches(quote).to_owned()
        }
        None => span.to_owned(),
    });
    given.collect()
}
