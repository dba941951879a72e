//! The parts of a script for psql.

use crate::query::sql::identifier;

/// One transaction in one database, whose owner decides how a session there begins. Functions of his
/// own on the search path must not be called by a superuser. psql reads the script in the encoding of
/// the session: in another one, a name could end its quotes, and psql's own commands begin. A name with
/// a line break would end its command, too.
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
SET client_encoding = 'UTF8';
BEGIN READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
{}{sql}COMMIT;
",
        connect(database),
        run(AS_ONESELF)
    )
}

/// Where sessions begin as another role because of the database, this one goes on as who has logged
/// in. What a role has set for itself stays.
const AS_ONESELF: &str = "BEGIN
  IF EXISTS (SELECT
               FROM pg_db_role_setting s
               JOIN pg_database d ON d.oid = s.setdatabase,
                    unnest(s.setconfig) AS c (setting)
              WHERE d.datname = current_database() AND s.setrole = 0
                AND starts_with(c.setting, 'role=')) THEN
    SET LOCAL role = none;
  END IF;
END";

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
