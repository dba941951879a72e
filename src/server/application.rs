//! What lives in a database.
//!
//! Synapse is known by four of its tables in one schema, whichever it is. The catalogue tells; no
//! privilege on the tables is needed.

use std::time::Duration;

use tokio_postgres::Client;

use crate::query::QueryError;
use crate::query::message::{Message, timeout_step};

/// An application and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// What it is called.
    pub name: &'static str,
    /// The schema of its tables.
    pub schema: String,
    /// Whether the role could write its tables, or owns them.
    pub writable: bool,
}

const SYNAPSE: &str = "
    SELECT n.nspname AS schema,
           bool_or(pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                   OR pg_catalog.pg_has_role(c.relowner, 'USAGE')) AS writable
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname IN ('events', 'schema_version', 'applied_schema_deltas', 'background_updates')
       AND c.relkind IN ('r', 'p')
     GROUP BY n.nspname
    HAVING count(*) = 4
     ORDER BY n.nspname <> 'public', n.nspname
     LIMIT 1";

impl Application {
    /// Looks for an application in the database of this connection.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn find(client: &Client, timeout: Duration) -> Result<Option<Self>, QueryError> {
        let mut found = None;
        let message = Message {
            sql: SYNAPSE,
            timeout: timeout_step(timeout),
        };
        message
            .send(client, |_, cells| {
                found = Some(Self {
                    name: "Synapse",
                    schema: cells.raw(0)?.unwrap_or_default().to_owned(),
                    writable: cells.truth(1)?,
                });
                Ok(())
            })
            .await?;
        Ok(found)
    }
}
