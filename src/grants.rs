//! The SQL that gives a role what the collectors need, and no more.
//!
//! The strict role cannot read message bodies: it is not a member of `pg_monitor`, and
//! calls functions instead that return named columns of the statistics. They are in the database
//! `postgres`; in an application's database nothing is made, the role only gets to read the
//! columns that the definitions name.
//!
//! The script is for psql, and each section begins with `\connect`. Running it again changes
//! nothing, or repairs what an upgrade of the application or of this program made of it, and takes
//! back what former versions gave and this one does not need.

mod closing;
mod memory;
mod others;
mod places;
mod reach;
mod script;

pub use reach::{callable, creatable, writable};

use std::collections::{BTreeMap, BTreeSet};

use script::{dollar_quoted, one_line, run, section};

use crate::collectors::Registry;
use crate::query::Application;
use crate::query::sql::{identifier, literal};
use crate::query::view::{OWNER, SCHEMA, VIEWS, View};

/// What the script is for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The role that the exporter logs in as.
    pub role: String,
    /// The databases that may have an application's tables.
    pub databases: Vec<String>,
    /// Membership in `pg_monitor` instead of the functions. It shows every query text.
    pub pg_monitor: bool,
    /// Leaves everybody the rights that others come to harm by.
    pub keep_public_create: bool,
    /// Takes everything back.
    pub revoke: bool,
    /// The connections that the exporter may have to the server.
    pub connections: usize,
}

/// The script.
pub fn render(options: &Options, registry: &Registry) -> String {
    let mut sections = Vec::new();
    for database in &options.databases {
        sections.push(match options.revoke {
            true => section(database, &revoke_in_database(&options.role)),
            false => section(database, &grant_in_database(options, registry, database)),
        });
    }
    if options.revoke {
        sections.push(section(HOME, &revoke_in_home(&options.role)));
    } else {
        sections.insert(0, section(HOME, &grant_in_home(options, registry)));
    }
    header(options) + &sections.concat()
}

/// The database that holds the functions.
const HOME: &str = "postgres";

/// Marks a role as made by the script, so that taking back never drops another's.
const MARK: &str = "made by matrix-postgres-exporter grants";

fn header(options: &Options) -> String {
    let role = one_line(&options.role);
    let what = match options {
        Options { revoke: true, .. } => format!(
            "-- Revokes what `matrix-postgres-exporter grants` granted to the role {role}, and all its other
-- privileges in these databases. Restores what PUBLIC could create there before, unless the role of
-- another exporter relies on the change. Stop the exporter first. Name the same databases as when the
-- role was created. A role that `grants` created is dropped; one that existed before, or owns
-- something, is kept, and a warning says so."
        ),
        Options {
            pg_monitor: true, ..
        } => format!(
            "-- Grants the role {role} what the collectors of matrix-postgres-exporter read.
-- It becomes a member of pg_monitor, so it can read all query texts, with the bodies of messages in
-- them. Without --pg-monitor it cannot."
        ),
        _ => format!(
            "-- Grants the role {role} what the collectors of matrix-postgres-exporter read, and no access to
-- query texts, since these contain the bodies of messages."
        ),
    };
    let password = match options.revoke {
        true => String::new(),
        false => format!(
            "-- It sets no password. In psql, this sets one without writing it to the server's log:
--   \\password {}
",
            one_line(&identifier(&options.role))
        ),
    };
    let create = match options {
        Options { revoke: true, .. } => "",
        Options {
            keep_public_create: true,
            ..
        } => {
            "-- WARNING: PUBLIC keeps CREATE on schemas where it has it, as on `public` up to PostgreSQL 14 and
-- in clusters upgraded from there. Then this role can create functions that others run with their
-- rights. Without --keep-public-create the script revokes it.
"
        }
        _ => {
            "-- In the databases named here and in postgres, PUBLIC loses CREATE on schemas, and TRIGGER,
-- REFERENCES and MAINTAIN on tables; roles that own something there, or may write there, keep them.
-- PUBLIC loses CONNECT on template databases. What is changed is printed, and --revoke restores it.
"
        }
    };
    format!(
        "{what}
{create}{password}-- Run it as a superuser, as often as you like: psql -v ON_ERROR_STOP=1 -f FILE
"
    )
}

/// The role, its limits, and its way to the statistics.
fn grant_in_home(options: &Options, registry: &Registry) -> String {
    let role = identifier(&options.role);
    let limit = 2 * options.connections + 2;
    let mut sql = create_role(&options.role, "LOGIN");
    sql += &format!(
        "
-- Twice the connections and two more: a server may notice late that one was closed.
ALTER ROLE {role} LOGIN CONNECTION LIMIT {limit};
ALTER ROLE {role} SET tcp_keepalives_idle = 30;
ALTER ROLE {role} SET tcp_keepalives_interval = 10;
ALTER ROLE {role} SET tcp_keepalives_count = 3;
GRANT CONNECT ON DATABASE {HOME} TO {role};

-- From 16 on the role may use reserved connections, so that a server without free ones can be read. It
-- cannot SET ROLE to that role.
"
    );
    sql += &run(&format!(
        "BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pg_use_reserved_connections') THEN
    EXECUTE format('GRANT pg_use_reserved_connections TO %I WITH INHERIT TRUE, SET FALSE, ADMIN FALSE',
                   {role_literal});
  END IF;
END",
        role_literal = literal(&options.role)
    ));
    sql += &format!(
        "
-- Owns the functions, and stores for --revoke what PUBLIC could do.
{}",
        create_role(OWNER, "NOLOGIN")
    );
    sql += &others::no_members();
    sql += &others::members_of_exporter(options);
    sql += &no_creation(options, registry);
    if options.pg_monitor {
        sql += &format!("\nGRANT pg_monitor TO {role};\n");
        return sql;
    }
    sql += "\n-- Members of these can read query texts.\n";
    sql += &leave_roles(&options.role, "'pg_monitor', 'pg_read_all_stats'");
    sql += &format!(
        "
-- SECURITY DEFINER functions that give the statistics without query texts.
GRANT pg_monitor TO {OWNER};
{}CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {OWNER};
ALTER SCHEMA {SCHEMA} OWNER TO {OWNER};
REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC;
GRANT USAGE ON SCHEMA {SCHEMA} TO {role};
",
        others::no_schema()
    );
    for view in VIEWS {
        sql += &create_function(view, &role);
    }
    sql
}

/// A function whose columns have changed has to be dropped before it can be made again.
fn create_function(view: &View, role: &str) -> String {
    let name = format!("{SCHEMA}.{}()", view.name);
    let columns = view.columns;
    let drop = run(&format!(
        "BEGIN
  IF pg_get_function_result(to_regprocedure('{name}')) <> 'TABLE({columns})' THEN
    DROP FUNCTION {name};
  END IF;
END"
    ));
    let body = dollar_quoted(view.body);
    format!(
        "
{drop}CREATE OR REPLACE FUNCTION {name} RETURNS TABLE({columns})
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS {body};
ALTER FUNCTION {name} OWNER TO {OWNER};
REVOKE ALL ON FUNCTION {name} FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {name} TO {role};
"
    )
}

/// Reading the columns that the definitions name, as far as they exist here.
fn grant_in_database(options: &Options, registry: &Registry, database: &str) -> String {
    let applications = registry.applications().into_iter();
    let grants = applications.map(|application| grant_on(application, registry, &options.role));
    format!(
        "GRANT CONNECT ON DATABASE {} TO {};\n{}{}",
        identifier(database),
        identifier(&options.role),
        grants.collect::<String>(),
        no_creation(options, registry)
    )
}

/// The same of one application, in the schemas that have its tables.
fn grant_on(application: &Application, registry: &Registry, role: &str) -> String {
    let reads = registry.reads(application);
    if reads.is_empty() {
        return String::new();
    }
    let role = literal(role);
    let revoke = format!(
        "
    UNION ALL
    SELECT format('REVOKE SELECT (%I) ON TABLE %s.%I FROM %I',
                  a.attname, s.name, c.relname, {role})
      FROM application s
      JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE (c.relname, a.attname) IN ({former})",
        former = rows(application.former.iter().copied())
    );
    run(&format!(
        "DECLARE
  command text;
BEGIN
  FOR command IN
    WITH application AS (
      SELECT s.oid, quote_ident(n.nspname) AS name
        FROM ({schemas}) AS s
        JOIN pg_catalog.pg_namespace n ON n.oid = s.oid
    )
    SELECT format('GRANT USAGE ON SCHEMA %s TO %I', name, {role})
      FROM application
    UNION ALL
    SELECT format('GRANT SELECT (%s) ON TABLE %s.%I TO %I',
                  string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
                  s.name, c.relname, {role})
      FROM application s
      JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE (c.relname, a.attname) IN ({columns})
     GROUP BY s.name, c.relname{revoke}
  LOOP
    EXECUTE command;
  END LOOP;
END",
        schemas = application.schemas().as_str(),
        columns = columns(&reads),
        revoke = if application.former.is_empty() {
            ""
        } else {
            &revoke
        },
    ))
}

/// Tables and columns as a list of SQL rows, a line for each table. A sequence has columns too, and
/// reading these does not allow to advance it.
fn columns(reads: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let tables = reads.iter().map(|(table, columns)| {
        let columns = columns.iter().map(|column| (*table, *column));
        format!("\n       {}", rows(columns))
    });
    tables.collect::<Vec<_>>().join(",")
}

fn rows<'a>(columns: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rows = columns.map(|(table, column)| format!("({}, {})", literal(table), literal(column)));
    rows.collect::<Vec<_>>().join(", ")
}

/// Nobody is to run what the role makes in this database.
fn no_creation(options: &Options, registry: &Registry) -> String {
    let close = match options.keep_public_create {
        true => String::new(),
        false => closing::close(&options.role),
    };
    close + &reach::warn(&options.role, &registry.schemas())
}

/// Takes back every privilege that the role has in a database, and gives back what everybody could
/// do there.
fn revoke_in_database(role: &str) -> String {
    let role_literal = literal(role);
    let revoke = run(&format!(
        "BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d
               JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
              WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = current_database()))
                AND r.rolname = {role_literal}) THEN
    RAISE WARNING 'Role % owns something in database %, so what it may do there stays. Give that to another role (REASSIGN OWNED) and run this again.',
      {role_literal}, current_database();
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role_literal}) THEN
    DROP OWNED BY {role};
  END IF;
END",
        role = identifier(role)
    ));
    revoke + &closing::reopen(role)
}

/// Drops the functions, their owner, and the role, as far as no other role relies on them.
fn revoke_in_home(role: &str) -> String {
    let mut sql = revoke_in_database(role);
    sql += &leave_roles(
        role,
        "'pg_monitor', 'pg_read_all_stats', 'pg_use_reserved_connections'",
    );
    sql += &drop_functions(role);
    sql += &drop_role(OWNER);
    sql += &drop_role(role);
    sql
}

/// Drops the functions, and their schema, unless another role has them too.
fn drop_functions(role: &str) -> String {
    run(&format!(
        "DECLARE
  schema_oid oid := (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = '{SCHEMA}');
  others text := (SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ')
                    FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
                    JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
                   WHERE n.oid = schema_oid AND r.oid <> n.nspowner AND r.rolname <> {role});
  function regprocedure;
BEGIN
  IF others IS NOT NULL THEN
    RAISE INFO 'The functions in schema {SCHEMA} stay, since other roles call them: %.', others;
    RETURN;
  END IF;
  FOR function IN
    SELECT p.oid
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_roles r ON r.oid = p.proowner AND r.rolname = '{OWNER}'
     WHERE p.pronamespace = schema_oid
  LOOP
    EXECUTE format('DROP FUNCTION %s', function);
  END LOOP;
  DROP SCHEMA IF EXISTS {SCHEMA};
END",
        role = literal(role)
    ))
}

fn create_role(role: &str, login: &str) -> String {
    run(&format!(
        "BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN
    CREATE ROLE {role} {login};
    COMMENT ON ROLE {role} IS '{MARK}';
  END IF;
END",
        literal(role),
        role = identifier(role)
    ))
}

/// Drops a role that the script made and that nothing depends on.
fn drop_role(role: &str) -> String {
    run(&format!(
        "DECLARE
  role_oid oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {role_literal});
  needed text := (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
                    FROM (SELECT dbid
                            FROM pg_catalog.pg_shdepend
                           WHERE refclassid = 'pg_catalog.pg_authid'::regclass
                             AND refobjid = role_oid
                          UNION
                          {remembering}) AS d
                    LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid);
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM '{MARK}' THEN
    RAISE WARNING 'Role % existed before grants was run, so it is not dropped.', {role_literal};
  ELSIF needed IS NOT NULL THEN
    RAISE WARNING 'Role % still owns, may do or remembers something in databases (%), so it stays. If no role of another exporter needs that, name these too and run this again.',
      {role_literal}, needed;
  ELSE
    DROP ROLE {role};
  END IF;
END",
        role = identifier(role),
        role_literal = literal(role),
        remembering = memory::remembering()
    ))
}

/// Ends membership in these roles, a list of literals.
fn leave_roles(role: &str, roles: &str) -> String {
    run(&format!(
        "DECLARE
  command text;
BEGIN
  FOR command IN
    SELECT DISTINCT format('REVOKE %I FROM %I', r.rolname, m.rolname)
      FROM pg_catalog.pg_auth_members a
      JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
      JOIN pg_catalog.pg_roles m ON m.oid = a.member
     WHERE m.rolname = {} AND r.rolname IN ({roles})
  LOOP
    EXECUTE command;
  END LOOP;
END",
        literal(role)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            role: "exporter".into(),
            databases: vec!["synapse".into()],
            pg_monitor: false,
            keep_public_create: false,
            revoke: false,
            connections: 3,
        }
    }

    #[test]
    fn the_strict_role_gets_functions_and_columns_but_no_membership() {
        let script = render(&options(), &Registry::built_in());
        for view in VIEWS {
            let grant = format!(
                "GRANT EXECUTE ON FUNCTION {SCHEMA}.{}() TO \"exporter\"",
                view.name
            );
            assert!(script.contains(&grant), "{grant}");
            let revoke = format!(
                "REVOKE ALL ON FUNCTION {SCHEMA}.{}() FROM PUBLIC",
                view.name
            );
            assert!(script.contains(&revoke), "{revoke}");
        }
        assert!(!script.contains("GRANT pg_monitor TO \"exporter\""));
        assert!(script.contains("(E'users', E'deactivated')"));
        assert!(!script.contains("password_hash"));
        assert!(script.contains("CONNECTION LIMIT 8"));
    }

    #[test]
    fn what_is_taken_back_is_not_read() {
        let registry = Registry::built_in();
        for application in registry.applications() {
            let reads = registry.reads(application);
            for (table, column) in application.former {
                assert!(!reads[table].contains(column), "{table}.{column}");
            }
        }
    }

    #[test]
    fn with_pg_monitor_there_are_no_functions() {
        let script = render(
            &Options {
                pg_monitor: true,
                ..options()
            },
            &Registry::built_in(),
        );
        assert!(script.contains("GRANT pg_monitor TO \"exporter\""));
        assert!(!script.contains("CREATE OR REPLACE FUNCTION"));
    }

    #[test]
    fn who_may_create_is_left_alone_where_that_is_asked_for() {
        let revokes = |keep_public_create| {
            let script = render(
                &Options {
                    keep_public_create,
                    ..options()
                },
                &Registry::built_in(),
            );
            assert_eq!(
                script.contains("-- WARNING: PUBLIC keeps"),
                keep_public_create
            );
            script.matches("'REVOKE %s ON %s FROM %s'").count()
        };
        assert_eq!(revokes(false), 2);
        assert_eq!(revokes(true), 0);
    }

    #[test]
    fn taking_back_ends_where_the_role_was_made() {
        let script = render(
            &Options {
                revoke: true,
                ..options()
            },
            &Registry::built_in(),
        );
        let connects: Vec<_> = script
            .lines()
            .filter(|line| line.starts_with("\\connect"))
            .collect();
        assert_eq!(
            connects,
            ["\\connect \"synapse\"", "\\connect \"postgres\""]
        );
        assert!(!script.contains("TO \"exporter\""));
    }

    #[test]
    fn odd_names_stay_names() {
        let script = render(
            &Options {
                role: "o'b\"rien\n\\! $do$".into(),
                databases: vec!["a\"b".into(), "dbname=x '\\".into(), "two\nlines".into()],
                ..options()
            },
            &Registry::built_in(),
        );
        assert!(script.contains("WHERE rolname = E'o''b\"rien\n\\\\! $do$'"));
        assert!(script.contains("CREATE ROLE \"o'b\"\"rien\n\\! $do$\" LOGIN"));
        assert!(script.contains("DO $do_$\n"));
        assert!(script.contains("-- Grants the role o'b\"rien \\! $do$ what"));
        assert!(script.contains("\\connect \"a\"\"b\"\n"));
        assert!(script.contains("\\connect -reuse-previous=on \"dbname='dbname=x \\'\\\\'\"\n"));
        assert!(script.contains("line break: two lines\n"));
    }
}
