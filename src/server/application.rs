//! What lives in a database.
//!
//! Synapse is known by some of its tables in one schema, whichever it is; its state may live in a
//! database of its own. The catalogue tells, and also which of the columns that the definitions
//! read are there and may be read; no privilege on the tables is needed.

use std::sync::LazyLock;
use std::time::Duration;

use tokio_postgres::Client;

use crate::grants;
use crate::query::message::{Message, timeout_step};
use crate::query::{QueryError, Scope, Tables, Version};

/// An application and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// What it is called, and which part of it lives here.
    pub name: &'static str,
    /// Its tables.
    pub tables: Tables,
    /// Whether the role could write these, or owns them.
    pub writable: bool,
}

/// One row for each column that a definition reads. A sequence has columns, too.
static SYNAPSE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "
    WITH synapse AS MATERIALIZED (
        SELECT s.oid, n.nspname, s.main, s.state,
               (SELECT bool_or(
                           pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                           OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
                  FROM pg_catalog.pg_class c
                 WHERE c.relnamespace = s.oid AND c.relkind IN ('r', 'p')
                   AND c.relname IN ({tables})) AS writable
          FROM ({schemas}) AS s
          JOIN pg_catalog.pg_namespace n ON n.oid = s.oid
         ORDER BY n.nspname <> 'public', n.nspname
         LIMIT 1
    )
    SELECT s.nspname, s.main, s.state, s.writable, r.relname, r.attname,
           a.attnum IS NOT NULL AS present,
           pg_catalog.has_schema_privilege(s.oid, 'USAGE')
           AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable
      FROM synapse s
     CROSS JOIN (VALUES {columns}) AS r (relname, attname)
      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = r.relname
      LEFT JOIN pg_catalog.pg_attribute a
        ON a.attrelid = c.oid AND a.attname = r.attname AND NOT a.attisdropped",
        tables = grants::MARKS,
        schemas = grants::SCHEMAS,
        columns = grants::columns(),
    )
});

impl Application {
    /// Looks for an application in the database of this connection.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn find(
        client: &Client,
        version: Version,
        timeout: Duration,
    ) -> Result<Option<Self>, QueryError> {
        let mut found: Option<Self> = None;
        let message = Message {
            sql: &SYNAPSE,
            timeout: timeout_step(timeout),
            version,
            scope: Scope::Database,
        };
        message
            .send(client, |_, cells| {
                let text = |position| -> Result<String, QueryError> {
                    Ok(cells.raw(position)?.unwrap_or_default().to_owned())
                };
                let (main, state) = (cells.truth(1)?, cells.truth(2)?);
                if found.is_none() {
                    found = Some(Self {
                        name: match (main, state) {
                            (true, true) => "Synapse",
                            (true, false) => "Synapse (main)",
                            (false, _) => "Synapse (state)",
                        },
                        tables: Tables {
                            schema: text(0)?,
                            ..Tables::default()
                        },
                        writable: cells.truth(3)?,
                    });
                }
                let Some(Self { tables, .. }) = &mut found else {
                    return Ok(());
                };
                let (table, column) = (text(4)?, text(5)?);
                let part_is_here = match table.starts_with("state_group") {
                    true => state,
                    false => main,
                };
                let (present, readable) = (cells.truth(6)?, cells.truth(7)?);
                let columns = match (present, readable) {
                    (true, true) => {
                        tables.granted = true;
                        return Ok(());
                    }
                    (true, false) => &mut tables.unreadable,
                    (false, _) if part_is_here => &mut tables.absent,
                    (false, _) => &mut tables.elsewhere,
                };
                columns.entry(table).or_default().insert(column);
                Ok(())
            })
            .await?;
        Ok(found)
    }
}
