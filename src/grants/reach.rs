//! What a role may do in a database and a monitoring role should not.
//!
//! Each is a SELECT of `schema` and `name`, of what a role can do itself or through another role. The
//! role is an expression. Of a superuser there is nothing to tell.

use super::script::run;
use crate::query::sql::{Sql, literal};
use crate::query::view::OWNER;

/// The role and those that it is a member of; that of everybody has the oid 0.
const MINE: &str = "WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = ";

/// The schemas in which it may create: `name` is NULL, and both are for the database, in which it may
/// make schemas.
pub fn creatable(role: impl Into<Sql>) -> Sql {
    Sql::from(MINE).with(role).with(
        "
    )
    SELECT n.nspname AS schema, NULL::pg_catalog.name AS name
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_(toast_)?temp_'
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'CREATE'))
    UNION ALL
    SELECT NULL, NULL
      FROM pg_catalog.pg_database d
     WHERE d.datname = pg_catalog.current_database()
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_database_privilege(mine.oid, d.oid, 'CREATE'))",
    )
}

/// The tables and sequences that it may change, lock or make triggers on. Privileges on columns are
/// looked for only in the schemas of applications.
pub fn writable(role: impl Into<Sql>, schemas: &Sql) -> Sql {
    Sql::from(MINE)
        .with(role)
        .with(
            "
    ), grantee AS MATERIALIZED (
        SELECT mine.oid FROM mine UNION ALL SELECT 0 WHERE EXISTS (SELECT FROM mine)
    ), application AS MATERIALIZED (",
        )
        .with(schemas.clone())
        .with(
            "
    ), columns AS MATERIALIZED (
        SELECT DISTINCT t.attrelid AS oid
          FROM pg_catalog.pg_attribute t
         CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a
         WHERE t.attacl IS NOT NULL AND a.privilege_type <> 'SELECT'
           AND a.grantee IN (SELECT grantee.oid FROM grantee)
    )
    SELECT n.nspname AS schema, c.relname AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN columns ON columns.oid = c.oid
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
       AND (c.relowner IN (SELECT mine.oid FROM mine)
            OR c.relacl IS NOT NULL
               AND EXISTS (SELECT
                             FROM pg_catalog.aclexplode(c.relacl) AS a
                            WHERE a.privilege_type <> 'SELECT'
                              AND a.grantee IN (SELECT grantee.oid FROM grantee))
            OR columns.oid IS NOT NULL
               AND c.relnamespace IN (SELECT application.oid FROM application))",
        )
}

/// The functions of others that it may call, and that run with the rights of their owner. Those of
/// the server and of the strict role are not among them.
pub fn callable(role: impl Into<Sql>) -> Sql {
    Sql::from(MINE)
        .with(role)
        .with(
            "
    )
    SELECT DISTINCT n.nspname AS schema, p.proname AS name
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_catalog.pg_roles o ON o.oid = p.proowner AND o.rolname <> ",
        )
        .with(Sql::literal(OWNER))
        .with(
            "
     WHERE p.prosecdef AND p.oid >= 16384 AND o.oid NOT IN (SELECT mine.oid FROM mine)
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'USAGE'))
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_function_privilege(mine.oid, p.oid, 'EXECUTE'))",
        )
}

/// Says what the role may still do in this database, and what it has made there.
pub fn warn(role: &str, schemas: &Sql) -> String {
    let expression = Sql::literal(role);
    run(&format!(
        "DECLARE
  role name := {literal};
  found record;
  places text;
  objects bigint := (SELECT count(*)
                       FROM pg_catalog.pg_shdepend d
                       JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
                       JOIN pg_catalog.pg_database b ON b.oid = d.dbid
                      WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                        AND r.rolname = role AND b.datname = current_database());
BEGIN
  FOR found IN
    SELECT 'may create in' AS does, 'A function that it makes there, other roles may run with their rights.' AS harm,
           string_agg(coalesce('schema ' || quote_ident(c.schema), 'new schemas'), ', ') AS places
      FROM ({creatable}) AS c
    UNION ALL
    SELECT 'may change, lock or make triggers on', 'Revoke that from the role, from PUBLIC and from roles that it is a member of, unless the application itself needs it.',
           {tables}
    UNION ALL
    SELECT 'may call, with the rights of the owner,', 'If others need not call these, revoke EXECUTE on them from PUBLIC.',
           {functions}
  LOOP
    CONTINUE WHEN found.places IS NULL;
    places := found.places;
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
      places := encode(convert_to(places, 'SQL_ASCII'), 'escape');
    END IF;
    RAISE WARNING 'Role % % in database %: %. %', role, found.does, current_database(), places, found.harm;
  END LOOP;
  IF objects > 0 THEN
    RAISE WARNING 'Role % owns % objects in database %. Other roles may run them with their rights: look at them, and drop them or give them to another role.',
      role, objects, current_database();
  END IF;
END",
        literal = literal(role),
        creatable = creatable(expression.clone()).as_str(),
        tables = first_ten(&writable(expression.clone(), schemas)),
        functions = first_ten(&callable(expression)),
    ))
}

/// The rest of a SELECT: the names of what another one finds, and how many more there are.
fn first_ten(found: &Sql) -> String {
    format!(
        "string_agg(quote_ident(c.schema) || '.' || quote_ident(c.name), ', ' ORDER BY c.number)
             FILTER (WHERE c.number <= 10)
           || CASE WHEN count(*) > 10 THEN format(' and %s more', count(*) - 10) ELSE '' END
      FROM (SELECT w.*, row_number() OVER (ORDER BY w.schema, w.name) AS number
              FROM ({}) AS w) AS c",
        found.as_str()
    )
}
