//! What is counted in pieces, as one plain statement over the whole table.

use std::collections::BTreeSet;

use matrix_postgres_exporter::query::{Query, Sql, Version, Walk, keys, pages};

use super::postgres::{Postgres, rows};

/// The columns of Synapse's tables, as pairs of names.
pub async fn columns(server: &Postgres) -> BTreeSet<(String, String)> {
    let client = server.client("synapse", "postgres").await;
    let columns = "SELECT c.relname, a.attname
                     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                    WHERE c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped";
    let pair = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().flatten();
        Some((row.next()?, row.next()?))
    };
    let found = rows(&client, columns).await;
    found.into_iter().filter_map(pair).collect()
}

/// The statement; none for what is not counted in pieces, or where this Synapse has no such table.
pub fn plain(query: &Query, major: u32, columns: &BTreeSet<(String, String)>) -> Option<Sql> {
    let there =
        |(table, column): (&str, &str)| columns.contains(&(table.to_owned(), column.to_owned()));
    let walk = query.walk.as_ref()?;
    if !there((walk.table(), "ctid")) {
        return None;
    }
    let statement = query.covers(Version(major * 10_000))?;
    let sql = statement.fill(Some("public"), |name| {
        Ok(match (name, walk) {
            (pages::PLACEHOLDER | keys::BEGINS, _) => Some("true".into()),
            (keys::PIECE, Walk::Keys(key)) => {
                let rows = key.rows.fill(Some("public"), |_| Ok(None))?;
                Some(Sql::from("(").with(rows).with(")"))
            }
            _ => name
                .split_once('.')
                .map(|pair| Sql::from(if there(pair) { pair.1 } else { "NULL" })),
        })
    });
    Some(sql.unwrap())
}
