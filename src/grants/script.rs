//! The parts of a script for psql.

use crate::query::sql::identifier;

/// One transaction in one database. A name with a line break would end psql's command. The
/// database's owner may have put functions of his own on the search path, and a superuser must not
/// call these.
pub fn section(database: &str, sql: &str) -> String {
    if database.contains(['\n', '\r']) {
        return format!(
            "\n-- Left out, since psql cannot connect to a name with a line break: {}\n",
            one_line(database)
        );
    }
    format!(
        "
{}
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
{sql}COMMIT;
",
        connect(database)
    )
}

/// Runs a block of PL/pgSQL.
pub fn run(block: &str) -> String {
    format!("DO {};\n", dollar_quoted(block))
}

/// A text between dollar signs, under a tag that it does not hold.
pub fn dollar_quoted(text: &str) -> String {
    let mut tag = String::from("$do$");
    while text.contains(&tag) {
        tag.insert(tag.len() - 1, '_');
    }
    format!("{tag}\n{text}\n{tag}")
}

/// psql's command to go to another database. A name with `=` in it would be taken for a connection
/// string.
fn connect(database: &str) -> String {
    if database.contains('=') || database.contains("://") {
        let value = database.replace('\\', "\\\\").replace('\'', "\\'");
        let info = format!("dbname='{value}'").replace('"', "\"\"");
        return format!("\\connect -reuse-previous=on \"{info}\"");
    }
    format!("\\connect {}", identifier(database))
}

/// A name in a comment.
pub fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
