//! Each line of the log says of which server it is, and of which database.

use std::collections::BTreeMap;

use serde_json::Value;

use super::support::exporter::Exporter;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;

/// The modules that work on one server at a time.
const OF_A_SERVER: [&str; 4] = ["scrape", "server", "events", "query"];

const BARRED: &str = "could not read the database";
const BACK: &str = "the server answers again";

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_logfmt_name_server_and_database() {
    lines_name_server_and_database("logfmt", "debug", fields_of_logfmt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_name_server_and_database() {
    lines_name_server_and_database("json", "debug", fields_of_json).await;
}

/// A level that lets fewer lines through takes nothing from them.
#[tokio::test(flavor = "multi_thread")]
async fn warnings_alone_name_server_and_database() {
    let level = "warn,matrix_postgres_exporter::cli=info";
    lines_name_server_and_database("logfmt", level, fields_of_logfmt).await;
}

/// Of one that may not be connected to, and of a server that goes down and comes back.
async fn lines_name_server_and_database(format: &str, level: &str, fields: fn(&str) -> Fields) {
    let mut server = Postgres::builder(18)
        .hba("local barred exporter reject")
        .start()
        .await;
    server.sql("postgres", "CREATE DATABASE barred").await;
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    let yaml = format!("log: {{ level: '{level}', format: {format} }}");
    let exporter = Exporter::configured(&server.dsn("postgres", "exporter"), &yaml).await;
    wait_for("the database is refused", async || {
        exporter.scrape().await;
        exporter.output().contains(BARRED)
    })
    .await;
    server.stop_immediate().await;
    let down = exporter.is_down("refused").await;
    assert!(!down.up());
    server.restart().await;
    exporter.is_whole().await;

    let (_, output) = exporter.stop().await;
    let lines: Vec<_> = output.lines().map(fields).collect();
    let line = |of: &str, is: &str| {
        let mut lines = lines.iter();
        let found = lines.find(|line| line.get(of).is_some_and(|value| value.contains(is)));
        found.unwrap_or_else(|| panic!("no {of} {is}:\n{output}"))
    };
    let names = |line: &Fields| ["server", "database"].map(|name| line.get(name).cloned());
    let main = || Some("main".to_owned());
    let barred = Some("barred".to_owned());
    assert_eq!(names(line("message", BARRED)), [main(), barred]);
    assert_eq!(names(line("reason", "refused")), [main(), None]);
    if level == "debug" {
        assert_eq!(names(line("message", BACK)), [main(), None]);
        let postgres = Some("postgres".to_owned());
        let broke = line("message", "a connection broke");
        assert_eq!(names(broke), [main(), postgres]);
    }
    for line in &lines {
        let module = line["target"].strip_prefix("matrix_postgres_exporter::");
        let room = module.and_then(|module| module.split("::").next());
        if room.is_some_and(|room| OF_A_SERVER.contains(&room)) {
            assert_eq!(line.get("server"), main().as_ref(), "{line:?}");
        }
    }
}

type Fields = BTreeMap<String, String>;

/// Each field once, those of the span among them.
fn fields_of_json(line: &str) -> Fields {
    let line: Value = serde_json::from_str(line).unwrap();
    let mut fields = Fields::new();
    let span = line["span"].as_object().into_iter().flatten();
    for (name, value) in line.as_object().unwrap().iter().chain(span) {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let twice = fields.insert(name.clone(), text);
        assert_eq!(twice, None, "{line}");
    }
    fields
}

/// Each field once.
fn fields_of_logfmt(line: &str) -> Fields {
    let mut fields = Fields::new();
    let mut rest = line;
    while let Some((name, value)) = rest.split_once('=') {
        let end = match value.strip_prefix('"') {
            None => value.find(' ').unwrap_or(value.len()),
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                end.unwrap() + 2
            }
        };
        let text = value[..end].trim_matches('"').to_owned();
        let twice = fields.insert(name.trim().to_owned(), text);
        assert_eq!(twice, None, "{line}");
        rest = &value[end..];
    }
    fields
}
