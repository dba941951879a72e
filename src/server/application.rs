//! Which application a database has.
//!
//! Synapse is known by some of its tables in one schema, whichever it is; its state may be in a
//! database of its own. The catalogue tells, and also which of the columns that the definitions
//! read are there and may be read; no privilege on the tables is needed.
//!
//! Whoever owns the database may have put anything under such a name. What is not an ordinary table, or
//! could make the server evaluate what is not its own, is told here and never read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use tokio_postgres::Client;

use crate::bounds::{LABEL, SHOWN};
use crate::collectors;
use crate::grants;
use crate::query::message::{Cells, Message, timeout_step};
use crate::query::{QueryError, Scope, Sql, Tables, Version};
use crate::text::cut;

/// An application and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Application {
    /// What it is called, and which part of it is here.
    pub name: &'static str,
    /// Its tables.
    pub tables: Tables,
}

/// What is asked for: the columns of each table that a definition reads.
static READS: LazyLock<BTreeMap<&str, BTreeSet<&str>>> = LazyLock::new(collectors::reads);

/// One row for each column that a definition reads. A sequence has columns, too.
static SYNAPSE: LazyLock<Sql> = LazyLock::new(|| {
    Sql::from(
        "
    WITH synapse AS MATERIALIZED (
        SELECT s.oid, n.nspname, s.main, s.state
          FROM (",
    )
    .with(grants::SCHEMAS)
    .with(
        ") AS s
          JOIN pg_catalog.pg_namespace n ON n.oid = s.oid
         ORDER BY n.nspname <> 'public', n.nspname
         LIMIT 1
    ), reads (relname, attname) AS MATERIALIZED (
        VALUES ",
    )
    .with(grants::columns())
    .with(
        "
    ), foreign_code AS MATERIALIZED (
        SELECT d.classid, d.objid, d.refclassid, d.refobjid
          FROM pg_catalog.pg_depend d
         WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
                                'pg_catalog.pg_operator'::pg_catalog.regclass,
                                'pg_catalog.pg_type'::pg_catalog.regclass)
           AND d.refobjid >= 16384
           AND d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass,
                             'pg_catalog.pg_constraint'::pg_catalog.regclass,
                             'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)
    ), found AS MATERIALIZED (
        SELECT c.oid, c.relname,
               ",
    )
    .with(NOT_PLAIN)
    .with(
        " AS not_plain
          FROM synapse s
          JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
         WHERE c.relname IN (SELECT r.relname FROM reads r)
    )
    SELECT s.nspname, s.main, s.state, r.relname, r.attname,
           a.attnum IS NOT NULL AS present,
           pg_catalog.has_schema_privilege(s.oid, 'USAGE')
           AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable,
           c.not_plain
      FROM synapse s
     CROSS JOIN reads r
      LEFT JOIN found c ON c.relname = r.relname
      LEFT JOIN pg_catalog.pg_attribute a
        ON a.attrelid = c.oid AND a.attname = r.attname AND NOT a.attisdropped",
    )
});

/// Why a relation `c` is not read, as words that follow its name; NULL for an ordinary table or a
/// sequence. What the planner or a scan would evaluate is of the server's own: the first oid that
/// is not is 16384. `foreign_code` is read once for all tables: it is nearly always empty.
const NOT_PLAIN: &str = "CASE
               WHEN c.relkind NOT IN ('r', 'S') THEN
                   CASE c.relkind WHEN 'v' THEN 'it is a view'
                                  WHEN 'm' THEN 'it is a materialized view'
                                  WHEN 'f' THEN 'it is a foreign table'
                                  WHEN 'p' THEN 'it is a partitioned table'
                                  ELSE 'it is not a table' END
               WHEN c.relispartition THEN 'it is a partition'
               WHEN c.reloftype <> 0
               THEN 'it is a table of the type ' || pg_catalog.format_type(c.reloftype, NULL)
               WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits i
                             WHERE c.oid IN (i.inhparent, i.inhrelid))
               THEN 'it inherits from another table, or another from it'
               WHEN pg_catalog.row_security_active(c.oid) THEN 'it is under row-level security'
               ELSE coalesce(
                   (SELECT pg_catalog.format('its column %I has the type %s', a.attname,
                                             pg_catalog.format_type(a.atttypid, NULL))
                      FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                       AND a.atttypid >= 16384
                     ORDER BY a.attnum LIMIT 1),
                   (SELECT pg_catalog.format('its column %I is computed when it is read', a.attname)
                      FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped
                     ORDER BY a.attnum LIMIT 1),
                   (SELECT pg_catalog.format('its %s %s uses the %s %s',
                                             o.type, o.identity, u.type, u.identity)
                      FROM (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS classid,
                                   i.indexrelid AS objid
                              FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
                             UNION ALL
                            SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
                              FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid
                             UNION ALL
                            SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, e.oid
                              FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid) AS p
                      JOIN foreign_code d ON d.classid = p.classid AND d.objid = p.objid
                     CROSS JOIN LATERAL
                           pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS o
                     CROSS JOIN LATERAL
                           pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) AS u
                     ORDER BY d.classid, d.objid, d.refobjid LIMIT 1))
               END";

/// What is called so where only the state of rooms is.
const STATE: &str = "Synapse (state)";

impl Application {
    /// Whether more is here than the state of rooms.
    pub fn is_main(&self) -> bool {
        self.name != STATE
    }

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
            .send_any_text(
                client,
                &["nspname", "not_plain"],
                &mut found,
                |found| *found = None,
                |found, cells| found.get_or_insert_default().add(cells),
            )
            .await?;
        Ok(found)
    }

    /// Takes in a column that a definition reads.
    fn add(&mut self, cells: Cells<'_>) -> Result<(), QueryError> {
        let position = |column| {
            let position = cells.position(column);
            position.ok_or(QueryError::MissingColumn(column))
        };
        let truth = |column| cells.truth(position(column)?);
        let name = |column| -> Result<String, QueryError> {
            Ok(cells.raw(position(column)?)?.unwrap_or_default().to_owned())
        };
        let (main, state) = (truth("main")?, truth("state")?);
        self.name = match (main, state) {
            (true, true) => "Synapse",
            (true, false) => "Synapse (main)",
            (false, _) => STATE,
        };
        let tables = &mut self.tables;
        let schema = position("nspname")?;
        let name_of_schema = cells.text(schema)?.unwrap_or_default();
        tables.schema = cut(&name_of_schema, LABEL).into_owned();
        let (table, column) = (name("relname")?, name("attname")?);
        // Whatever a server sends, no more is kept than was asked for.
        let asked = READS.get(table.as_str());
        if !asked.is_some_and(|columns| columns.contains(column.as_str())) {
            return Ok(());
        }
        let part_is_here = match table.starts_with("state_group") {
            true => state,
            false => main,
        };
        let not_plain = match cells.is_utf8(schema)? {
            true => cells.text(position("not_plain")?)?,
            // No statement can name it.
            false => Some("the name of its schema is not UTF-8".into()),
        };
        if let Some(not_plain) = not_plain {
            let cause = cut(&not_plain, SHOWN).into();
            tables.not_plain.insert(table, cause);
            return Ok(());
        }
        let columns = match (truth("present")?, truth("readable")?) {
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
    }
}
