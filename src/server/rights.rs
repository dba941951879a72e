//! What the role may do in a database beside reading.

use std::time::Duration;

use tokio_postgres::Client;

use crate::bounds::LABEL;
use crate::collectors::Registry;
use crate::grants;
use crate::query::message::{Message, timeout_step};
use crate::query::{QueryError, Scope, Sql, Version};
use crate::text::cut;

/// Schemas, tables and functions that are named at most, of each.
const NAMED: usize = 10;

/// What the role may do, make and has made in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The schemas in which it may create: `public` first, then those of an application or of a
    /// `search_path`. An empty name: it may make schemas.
    pub create: Listed,
    /// The tables and sequences that it may change, lock or make triggers on, those of an application
    /// first.
    pub write: Listed,
    /// The functions of others that it may call, and that run with the rights of their owner.
    pub call: Listed,
    /// Whether it owns a table or a function there, or anything else; a superuser may.
    pub owner: bool,
    /// Whether it may write to an application's tables, or use their sequences, or owns them.
    pub writable: bool,
    /// Whether it may read whole tables of an application, what people write among them.
    pub readable: bool,
}

/// Some of what there is, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// A schema each, and the name of what is meant in it; empty if that is the schema itself.
    pub named: Vec<[String; 2]>,
    /// How many more there are.
    pub more: usize,
}

/// Asks what the role may do, where applications that collectors read are looked at more closely.
#[derive(Debug)]
pub struct RightsQuery(Sql);

/// One row for each place in which the role may do something, or one without a place. Any role may
/// set a path of many megabytes for itself, which is not read.
fn rights(schemas: &Sql) -> Sql {
    Sql::from(
        "
    WITH mine AS MATERIALIZED (
        SELECT r.oid, r.rolname
          FROM pg_catalog.pg_roles r
         WHERE pg_catalog.pg_has_role(r.oid, 'MEMBER')
        UNION ALL
        SELECT 0, 'public'
    ), application AS MATERIALIZED (
        SELECT n.oid, n.nspname
          FROM (",
    )
    .with(schemas.clone())
    .with(
        ") AS a
          JOIN pg_catalog.pg_namespace n ON n.oid = a.oid
    ), relation AS MATERIALIZED (
        SELECT c.oid, c.relowner, c.relacl, c.relkind
          FROM application a
          JOIN pg_catalog.pg_class c ON c.relnamespace = a.oid AND c.relkind IN ('r', 'p', 'S')
    ), granted AS MATERIALIZED (
        SELECT a.privilege_type, t.whole
          FROM (SELECT r.relacl AS acl, r.relkind <> 'S' AS whole
                  FROM relation r
                 WHERE r.relacl IS NOT NULL
                UNION ALL
                SELECT t.attacl, false
                  FROM relation r
                  JOIN pg_catalog.pg_attribute t ON t.attrelid = r.oid
                 WHERE t.attacl IS NOT NULL) AS t,
               pg_catalog.aclexplode(t.acl) AS a
         WHERE a.grantee IN (SELECT mine.oid FROM mine)
    ), path AS MATERIALIZED (
        SELECT o.option_value AS schemas
          FROM pg_catalog.pg_db_role_setting s
          JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database(),
               pg_catalog.pg_options_to_table(s.setconfig) AS o
         WHERE s.setdatabase IN (0, d.oid) AND o.option_name = 'search_path'
           AND pg_catalog.pg_column_size(s.setconfig) < 2000
    )
    SELECT c.kind, c.schema, c.name, c.total,
           EXISTS (SELECT
                     FROM pg_catalog.pg_shdepend s
                     JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
                    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                      AND s.deptype = 'o' AND s.dbid = d.oid
                      AND r.rolname = current_user AND NOT r.rolsuper) AS owner,
           EXISTS (SELECT FROM application)
           AND (EXISTS (SELECT FROM mine
                         WHERE mine.rolname IN ('pg_write_all_data', 'pg_maintain'))
                OR EXISTS (SELECT FROM relation r WHERE r.relowner IN (SELECT oid FROM mine))
                OR EXISTS (SELECT FROM granted g WHERE g.privilege_type <> 'SELECT')) AS writable,
           EXISTS (SELECT FROM application)
           AND (EXISTS (SELECT FROM mine WHERE mine.rolname = 'pg_read_all_data')
                OR EXISTS (SELECT FROM granted g
                            WHERE g.privilege_type = 'SELECT' AND g.whole)) AS readable
      FROM pg_catalog.pg_database d
      LEFT JOIN LATERAL (
        (SELECT 'create' AS kind, coalesce(p.schema, '')::text AS schema, ''::text AS name,
                count(*) OVER () AS total
           FROM (",
    )
    .with(grants::creatable("current_user"))
    .with(
        ") AS p
          ORDER BY p.schema = 'public' DESC NULLS LAST,
                p.schema IN (SELECT a.nspname FROM application a)
                OR EXISTS (SELECT FROM path WHERE pg_catalog.strpos(path.schemas, p.schema) > 0)
                DESC NULLS LAST,
                p.schema
          LIMIT 10)
        UNION ALL
        (SELECT 'write', p.schema, p.name, count(*) OVER ()
           FROM (",
    )
    .with(grants::writable("current_user", schemas))
    .with(
        ") AS p
          ORDER BY p.schema IN (SELECT a.nspname FROM application a) DESC, p.schema, p.name
          LIMIT 10)
        UNION ALL
        (SELECT 'call', p.schema, p.name, count(*) OVER ()
           FROM (",
    )
    .with(grants::callable("current_user"))
    .with(
        ") AS p
          ORDER BY p.schema, p.name
          LIMIT 10)
      ) AS c ON true
     WHERE d.datname = pg_catalog.current_database()",
    )
}

impl RightsQuery {
    /// For the applications of these collectors.
    pub fn new(registry: &Registry) -> Self {
        Self(rights(&registry.schemas()))
    }

    /// Asks in the database of this connection.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn run(
        &self,
        client: &Client,
        version: Version,
        timeout: Duration,
    ) -> Result<Rights, QueryError> {
        let message = Message {
            sql: &self.0,
            timeout: timeout_step(timeout),
            version,
            scope: Scope::Database,
        };
        let mut rights = Rights::default();
        let reset = |rights: &mut Rights| *rights = Rights::default();
        message
            .send_any_text(
                client,
                &["schema", "name"],
                &mut rights,
                reset,
                |rights, cells| {
                    let position = |column: &'static str| {
                        let position = cells.position(column);
                        position.ok_or(QueryError::MissingColumn(column))
                    };
                    let truth = |column| cells.truth(position(column)?);
                    rights.owner = truth("owner")?;
                    rights.writable = truth("writable")?;
                    rights.readable = truth("readable")?;
                    let text = |column| cells.text(position(column)?);
                    let listed = match text("kind")?.as_deref() {
                        Some("create") => &mut rights.create,
                        Some("write") => &mut rights.write,
                        Some(_) => &mut rights.call,
                        None => return Ok(()),
                    };
                    if listed.named.len() < NAMED {
                        let name = |column| {
                            let name = text(column)?.unwrap_or_default();
                            Ok::<String, QueryError>(cut(&name, LABEL).into())
                        };
                        listed.named.push([name("schema")?, name("name")?]);
                    }
                    let total = cells.number(position("total")?, "total")?;
                    let total = total.unwrap_or_default() as usize;
                    listed.more = total.saturating_sub(listed.named.len());
                    Ok(())
                },
            )
            .await?;
        Ok(rights)
    }
}
