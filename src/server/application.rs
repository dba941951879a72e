//! Which application a database has.
//!
//! An application is known by some of its tables in one schema, whichever it is; a part of it may
//! be in a database of its own, and several applications in one. The catalogue tells, and also which
//! of the columns that the definitions read are there and may be read; no privilege on the tables is
//! needed.
//!
//! Whoever owns the database may have put anything under such a name. What is not an ordinary table, or
//! could make the server evaluate what is not its own, is told here and never read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio_postgres::Client;

use crate::bounds::{LABEL, SHOWN};
use crate::collectors::Registry;
use crate::query::application::Application;
use crate::query::message::{Cells, Message, timeout_step};
use crate::query::{MOST_OBJECTS, QueryError, Scope, Sql, Tables, Version};
use crate::text::cut;

/// An application, or parts of it, and its tables in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The application.
    pub application: &'static Application,
    /// The names of the parts that are there.
    parts: BTreeSet<&'static str>,
    /// Its tables.
    pub tables: Tables,
}

impl Installation {
    /// Whether its main part is there.
    pub fn is_main(&self) -> bool {
        let main = self.application.parts.first();
        main.is_some_and(|main| self.parts.contains(main.name))
    }
}

/// What it is called, with its parts where not all are there.
impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Application { name, parts, .. } = self.application;
        if parts.iter().all(|part| self.parts.contains(part.name)) {
            return f.write_str(name);
        }
        let parts: Vec<_> = self.parts.iter().copied().collect();
        write!(f, "{name} ({})", parts.join(", "))
    }
}

/// Looks for the applications that collectors read.
#[derive(Debug)]
pub struct Search {
    applications: Vec<Wanted>,
    sql: Sql,
}

/// An application, and the columns of each of its tables that a definition reads.
#[derive(Debug)]
struct Wanted {
    application: &'static Application,
    reads: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Search {
    /// For all that these collectors read.
    pub fn new(registry: &Registry) -> Self {
        let applications = registry.applications().into_iter();
        let applications = applications.map(|application| Wanted {
            application,
            reads: registry.reads(application),
        });
        let applications = applications.filter(|wanted| !wanted.reads.is_empty());
        let applications: Vec<_> = applications.collect();
        let sql = search(&applications);
        Self { applications, sql }
    }

    /// What of them is in the database of this connection.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn run(
        &self,
        client: &Client,
        version: Version,
        timeout: Duration,
    ) -> Result<Vec<Installation>, QueryError> {
        if self.applications.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = BTreeMap::new();
        let message = Message {
            sql: &self.sql,
            timeout: timeout_step(timeout),
            version,
            scope: Scope::Database,
        };
        message
            .send_any_text(
                client,
                &["nspname", "not_plain"],
                &mut found,
                BTreeMap::clear,
                |found, cells| self.add(found, cells),
            )
            .await?;
        let applications = self.applications.iter();
        let found = applications.filter_map(|wanted| found.remove(wanted.application.key));
        Ok(found.collect())
    }

    /// Takes in a column that a definition reads.
    fn add(
        &self,
        found: &mut BTreeMap<&'static str, Installation>,
        cells: Cells<'_>,
    ) -> Result<(), QueryError> {
        let position = |column| {
            let position = cells.position(column);
            position.ok_or(QueryError::MissingColumn(column))
        };
        let truth = |column| cells.truth(position(column)?);
        let name = |column| -> Result<String, QueryError> {
            Ok(cells.raw(position(column)?)?.unwrap_or_default().to_owned())
        };
        // Whatever a server sends, no more is kept than was asked for.
        let key = name("key")?;
        let mut wanted = self.applications.iter();
        let Some(wanted) = wanted.find(|one| one.application.key == key) else {
            return Ok(());
        };
        let application = wanted.application;
        let installation = found
            .entry(application.key)
            .or_insert_with(|| Installation {
                application,
                parts: BTreeSet::new(),
                tables: Tables::default(),
            });
        let Installation { parts, tables, .. } = installation;
        let marks = name("marks")?;
        let here = application.parts.iter();
        let here = here.filter(|part| marks.split(' ').any(|mark| mark == part.mark));
        parts.extend(here.map(|part| part.name));
        let schema = position("nspname")?;
        let name_of_schema = cells.text(schema)?.unwrap_or_default();
        tables.schema = cut(&name_of_schema, LABEL).into_owned();
        let (table, column) = (name("relname")?, name("attname")?);
        let asked = wanted.reads.get(table.as_str());
        if !asked.is_some_and(|columns| columns.contains(column.as_str())) {
            return Ok(());
        }
        let part = application.part_of(&table);
        let part_is_here = part.is_some_and(|part| parts.contains(part.name));
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

/// One row for each column that a definition reads. A sequence has columns, too.
fn search(applications: &[Wanted]) -> Sql {
    let schemas = applications.iter().map(|wanted| {
        let Application { key, schema, .. } = wanted.application;
        Sql::from("(SELECT ")
            .with(Sql::literal(key))
            .with(", s.oid, n.nspname, s.marks\n          FROM (")
            .with(wanted.application.schemas())
            .with(
                ") AS s
          JOIN pg_catalog.pg_namespace n ON n.oid = s.oid
         ORDER BY NOT s.of_owner, n.nspname <> ",
            )
            .with(Sql::literal(schema))
            .with(", n.nspname\n         LIMIT 1)")
    });
    let columns = applications.iter().flat_map(|wanted| {
        let key = wanted.application.key;
        let tables = wanted.reads.iter();
        tables.flat_map(move |(table, columns)| {
            columns.iter().map(move |column| {
                let row = [key, *table, *column].map(Sql::literal);
                Sql::from("(").with(Sql::join(row, ", ")).with(")")
            })
        })
    });
    Sql::from("WITH application (key, oid, nspname, marks) AS MATERIALIZED (\n        ")
        .with(Sql::join(schemas, "\n        UNION ALL "))
        .with(
            "
    ), reads (key, relname, attname) AS MATERIALIZED (
        VALUES ",
        )
        .with(Sql::join(columns, ", "))
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
        SELECT a.key, c.oid, c.relname,
               ",
        )
        .with(not_plain())
        .with(
            " AS not_plain
          FROM application a
          JOIN pg_catalog.pg_class c ON c.relnamespace = a.oid
         WHERE (a.key, c.relname) IN (SELECT r.key, r.relname FROM reads r)
    )
    SELECT s.key, s.nspname, s.marks, r.relname, r.attname,
           a.attnum IS NOT NULL AS present,
           pg_catalog.has_schema_privilege(s.oid, 'USAGE')
           AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable,
           c.not_plain
      FROM application s
      JOIN reads r ON r.key = s.key
      LEFT JOIN found c ON c.key = r.key AND c.relname = r.relname
      LEFT JOIN pg_catalog.pg_attribute a
        ON a.attrelid = c.oid AND a.attname = r.attname AND NOT a.attisdropped",
        )
}

/// Why a relation `c` is not read, as words that follow its name; NULL for an ordinary table or a
/// sequence. What the planner or a scan would evaluate is of the server's own: the first oid that
/// is not is 16384. `foreign_code` is read once for all tables: it is nearly always empty.
fn not_plain() -> Sql {
    let most = MOST_OBJECTS as u64;
    Sql::from(
        "CASE
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
               WHEN (SELECT count(*)
                       FROM (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
                              UNION ALL
                             SELECT FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid
                              LIMIT ",
    )
    .with(most + 1)
    .with(") AS objects) > ")
    .with(most)
    .with("\n               THEN 'it has more than ")
    .with(most)
    .with(
        " indexes and extended statistics'
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
               END",
    )
}
