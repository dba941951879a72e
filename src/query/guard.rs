//! What is checked right before a statement reads an application's tables.
//!
//! Where a table was a minute ago there may be something else now, that its owner has put there: a
//! view calls his functions, and the planner evaluates functions in the expressions of an index or
//! of extended statistics. So what reads a table of an application is sent behind a statement that
//! fails if there is anything of that kind. Policies and check constraints are left to settings of
//! the message, and tables that inherit to ONLY.
//!
//! The check comes behind the locks: a statement that waits for a lock is planned when it has it, and
//! an owner who holds one could put there what he likes meanwhile.

use super::Sql;

/// In the server's words for a failed check.
pub const REFUSED: &str = "not a plain table: ";

/// Results that come before those of the statement: of the locks, and of the check.
pub const RESULTS: usize = 2;

/// Takes ACCESS SHARE until the end of the message, from a role with any rights, and without a plan.
const LOCK: &str = "pg_catalog.length(pg_catalog.table_to_xmlschema(";

/// With the locks of the tables there are those of indexes to wait for.
const AFTER_LOCK: &str = "SET LOCAL lock_timeout = 1; ";

/// Where the server has the setting, no view and no foreign table is read from then on. What has
/// storage is neither. The first oid that is not the system's is 16384.
const HEAD: &str = "SELECT CASE WHEN pg_catalog.current_setting('restrict_nonsystem_relation_kind', true)
                 IS NOT NULL
            THEN pg_catalog.set_config('restrict_nonsystem_relation_kind', 'view, foreign-table', true)
            END,
       CASE WHEN count(*) > 0";

/// How many indexes and extended statistics a table may have, on the average of those of a statement: the
/// check looks at each, and takes as long as its owner likes if they are without end. What has more is not
/// taken for an application's table (`src/server/application.rs`).
pub const MOST_OBJECTS: usize = 64;

/// The locks, the check, and then the statement. Of a column its type
/// counts: what a stored generated column was computed with is not called when it is read. CASE
/// leaves no index but that of what depends: by the other, every table of a new catalogue is read.
pub fn guarded(sql: &Sql) -> Sql {
    let names = || {
        sql.tables()
            .iter()
            .map(|name| Sql::literal(name).with("::pg_catalog.regclass"))
    };
    let list = Sql::join(names(), ", ");
    let oids = || {
        Sql::from("ARRAY[")
            .with(list.clone())
            .with("]::pg_catalog.oid[]")
    };
    let most = (MOST_OBJECTS * sql.tables().len()) as u64;
    // One more shows that there are too many.
    let objects = || {
        Sql::from(
            "ARRAY(SELECT i.indexrelid FROM pg_catalog.pg_index AS i
                             WHERE i.indrelid = ANY (",
        )
        .with(oids())
        .with(
            ")
                             UNION ALL
                            SELECT s.oid FROM pg_catalog.pg_statistic_ext AS s
                             WHERE s.stxrelid = ANY (",
        )
        .with(oids())
        .with(") LIMIT ")
        .with(most + 1)
        .with(")")
    };
    let locks = names().map(|name| {
        Sql::from(LOCK)
            .with(name)
            .with(", false, false, '')::pg_catalog.text)")
    });
    let mut check = Sql::from("SELECT ")
        .with(Sql::join(locks, ", "))
        .with("; ")
        .with(AFTER_LOCK)
        .with(HEAD);
    for name in names() {
        check = check
            .with(" OR pg_catalog.pg_relation_filenode(")
            .with(name)
            .with(") IS NULL");
    }
    let names = sql.tables().iter().map(String::as_str).collect::<Vec<_>>();
    check
        .with(" OR cardinality(")
        .with(objects())
        .with(") > ")
        .with(most)
        .with(" THEN (")
        .with(Sql::literal(&format!("{REFUSED}{}", names.join(", "))))
        .with(
            " || left(count(*)::text, 0))::integer END
  FROM pg_catalog.pg_depend AS d
 WHERE d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass,
                     'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)
   AND d.objid = ANY (",
        )
        .with(objects())
        .with(" || ")
        .with(oids())
        .with(
            ")
   AND CASE WHEN d.refobjid >= 16384
            THEN d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
                                  'pg_catalog.pg_operator'::pg_catalog.regclass,
                                  'pg_catalog.pg_type'::pg_catalog.regclass)
             AND (d.objsubid = 0 OR d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass)
            END; ",
        )
        .with(sql.clone())
}
