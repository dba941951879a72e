//! What the role may do in a database beside reading.

use std::sync::LazyLock;
use std::time::Duration;

use tokio_postgres::Client;

use crate::grants;
use crate::query::message::{Message, timeout_step};
use crate::query::{QueryError, Sql};

/// What the role may make in a database, and has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The schemas in which it may create, ten at most: `public` first, then those of an application
    /// or of a `search_path`. An empty name: it may make schemas.
    pub create: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// How many tables, functions and so on it owns, if it is no superuser.
    pub owned: usize,
}

/// One row for each place in which the role may create, or one without a place.
static RIGHTS: LazyLock<Sql> = LazyLock::new(|| {
    Sql::from(
        "
    SELECT c.schema, c.places,
           (SELECT count(*)
              FROM pg_catalog.pg_shdepend s
              JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
             WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
               AND s.deptype = 'o' AND s.dbid = d.oid
               AND r.rolname = current_user AND NOT r.rolsuper) AS owned
      FROM pg_catalog.pg_database d
      LEFT JOIN LATERAL (
        SELECT coalesce(p.schema, '') AS schema, count(*) OVER () AS places
          FROM (",
    )
    .with(grants::creatable("current_user"))
    .with(
        ") AS p
         ORDER BY p.schema = 'public' DESC NULLS LAST,
               p.schema IN (SELECT n.nspname
                              FROM (",
    )
    .with(grants::SCHEMAS)
    .with(
        ") AS a
                              JOIN pg_catalog.pg_namespace n ON n.oid = a.oid)
               OR EXISTS (SELECT
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_catalog.pg_options_to_table(s.setconfig) AS o
                           WHERE s.setdatabase IN (0, d.oid) AND o.option_name = 'search_path'
                             AND pg_catalog.strpos(o.option_value, p.schema) > 0) DESC NULLS LAST,
               p.schema
         LIMIT 10
      ) AS c ON true
     WHERE d.datname = pg_catalog.current_database()",
    )
});

impl Rights {
    /// Asks in the database of this connection.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn find(client: &Client, timeout: Duration) -> Result<Self, QueryError> {
        let message = Message {
            sql: &RIGHTS,
            timeout: timeout_step(timeout),
        };
        let mut rights = Self::default();
        let reset = |rights: &mut Self| *rights = Self::default();
        message
            .send_any_text(client, &["schema"], &mut rights, reset, |rights, cells| {
                let position = |column: &'static str| {
                    let position = cells.position(column);
                    position.ok_or(QueryError::MissingColumn(column))
                };
                let count = |column| -> Result<usize, QueryError> {
                    let number = cells.number(position(column)?, column)?;
                    Ok(number.unwrap_or_default() as usize)
                };
                rights.owned = count("owned")?;
                if let Some(schema) = cells.text(position("schema")?)? {
                    rights.create.push(schema.into_owned());
                    rights.more = count("places")?.saturating_sub(rights.create.len());
                }
                Ok(())
            })
            .await?;
        Ok(rights)
    }
}
