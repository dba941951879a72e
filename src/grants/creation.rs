//! Who may create in the schemas of a database.
//!
//! Up to PostgreSQL 14, and in clusters that come from there, everybody may create in the schema
//! `public`. Synapse has it on its search path, so a function `nextval(text)` of anybody's there is
//! run by Synapse, with Synapse's rights. The script takes that right from everybody and leaves it
//! to those who use it: whoever owns something in the database, or may write there.
//!
//! What was changed is remembered in a setting of the owner role in that database. Nobody logs in
//! as that role, so the setting has no effect; it is changed in the same transaction as the
//! privileges, and a dump carries both.

use super::script::run;
use crate::query::sql::{Sql, literal};
use crate::query::view::OWNER;

/// What was changed in a database, as JSON: a list of objects with a `schema`, null for the database
/// itself. Those with a `role` say to whom CREATE was granted, the others that it was revoked from
/// PUBLIC; `grantor` had granted it, if not the owner.
const SETTING: &str = "matrix_postgres_exporter.revoked_create";

/// The schemas of the database, and the database itself, where schemas are made. In an SQL_ASCII
/// database a name may be no text, which can be neither printed nor remembered: it is left alone.
const PLACES: &str = "
      SELECT n.nspname AS schema, 'SCHEMA ' || quote_ident(n.nspname) AS place,
             n.nspowner AS owner, n.nspacl AS acl
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, 'DATABASE ' || quote_ident(d.datname), d.datdba, d.datacl
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()";

/// Who goes on creating: owners of anything in the database, the owner of the database, and who may
/// write to a table or make schemas.
const KEEPERS: &str = "
      SELECT d.refobjid
        FROM pg_catalog.pg_shdepend d
        JOIN pg_catalog.pg_database b ON b.oid = d.dbid AND b.datname = current_database()
       WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
      UNION
      SELECT a.grantee
        FROM pg_catalog.pg_class c, aclexplode(c.relacl) a
       WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
      UNION
      SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database()
      UNION
      SELECT a.grantee
        FROM pg_catalog.pg_database d, aclexplode(d.datacl) a
       WHERE d.datname = current_database() AND a.privilege_type = 'CREATE'";

/// A SELECT of the places in this database in which a role may create, itself or through another
/// role: `schema` is the name of one, or NULL for the database, in which it may make schemas. The
/// role is an expression. Of a superuser there is nothing to tell.
pub fn creatable(role: impl Into<Sql>) -> Sql {
    Sql::from(
        "WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = ",
    )
    .with(role)
    .with(
        "
    )
    SELECT n.nspname AS schema
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_(toast_)?temp_'
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'CREATE'))
    UNION ALL
    SELECT NULL
      FROM pg_catalog.pg_database d
     WHERE d.datname = pg_catalog.current_database()
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_database_privilege(mine.oid, d.oid, 'CREATE'))",
    )
}

/// Takes from everybody, and from the role, the right to create in this database.
pub fn close(role: &str) -> String {
    let role = literal(role);
    let sql = run(&format!(
        "DECLARE
  me name := current_user;
  before jsonb := coalesce(({remembered}), '[]');
  changes jsonb := before;
  change jsonb;
  command text;
  open record;
  keeper name;
BEGIN
  -- What is granted to everybody comes first: the role may have granted it itself.
  FOR open IN
    SELECT p.*, a.grantee,
           (SELECT g.rolname FROM pg_catalog.pg_roles g
             WHERE g.oid = a.grantor AND g.oid <> p.owner) AS grantor
      FROM ({PLACES}
           ) AS p, aclexplode(p.acl) AS a
     WHERE a.privilege_type = 'CREATE'
       AND (a.grantee = 0
            OR a.grantee = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = {role}))
     ORDER BY a.grantee
  LOOP
    command := format('REVOKE CREATE ON %s FROM %s', open.place,
                      CASE open.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident({role}) END);
    RAISE INFO 'Database %: %', current_database(), command;
    -- A superuser takes back what the owner gave; others have to take back theirs.
    IF open.grantor IS NOT NULL THEN
      EXECUTE format('SET LOCAL ROLE %I', open.grantor);
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
    CONTINUE WHEN open.grantee <> 0;
    change := jsonb_build_object('schema', open.schema, 'grantor', open.grantor);
    changes := changes || CASE WHEN changes @> jsonb_build_array(change) THEN '[]' ELSE change END;
    FOR keeper IN
      SELECT r.rolname
        FROM pg_catalog.pg_roles r
       WHERE r.oid IN ({KEEPERS}
             )
         AND r.rolname NOT IN ({role}, '{OWNER}')
         AND NOT CASE WHEN open.schema IS NULL
                      THEN has_database_privilege(r.oid, current_database(), 'CREATE')
                      ELSE has_schema_privilege(r.oid, open.schema, 'CREATE') END
       ORDER BY r.rolname
    LOOP
      command := format('GRANT CREATE ON %s TO %I', open.place, keeper);
      RAISE INFO 'Database %: %', current_database(), command;
      EXECUTE command;
      change := jsonb_build_object('schema', open.schema, 'role', keeper);
      changes := changes || CASE WHEN changes @> jsonb_build_array(change) THEN '[]' ELSE change END;
    END LOOP;
  END LOOP;
  IF changes <> before THEN
    EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I SET {SETTING} = %L',
                   current_database(), changes);
  END IF;
END",
        remembered = remembered()
    ));
    format!(
        "
-- Synapse may run, with its own rights, what others create in a schema on its search path. So PUBLIC
-- loses CREATE here; roles that own something in this database, or may write to it, get it instead.
-- --revoke restores what was.
{sql}"
    )
}

/// Says what a role may still make in this database, and what it has made.
pub fn warn(role: &str) -> String {
    let literal = literal(role);
    run(&format!(
        "DECLARE
  places text := (SELECT string_agg(coalesce('schema ' || quote_ident(c.schema), 'new schemas'), ', ')
                    FROM ({creatable}) AS c);
  objects bigint := (SELECT count(*)
                       FROM pg_catalog.pg_shdepend d
                       JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
                       JOIN pg_catalog.pg_database b ON b.oid = d.dbid
                      WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                        AND r.rolname = {literal} AND b.datname = current_database());
BEGIN
  IF places IS NOT NULL THEN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
      places := encode(convert_to(places, 'SQL_ASCII'), 'escape');
    END IF;
    RAISE WARNING 'Role % may create in database %: %. A function that it makes there, other roles may run with their rights.',
      {literal}, current_database(), places;
  END IF;
  IF objects > 0 THEN
    RAISE WARNING 'Role % owns % objects in database %. Other roles may run them with their rights: look at them, and drop them or give them to another role.',
      {literal}, objects, current_database();
  END IF;
END",
        creatable = creatable(Sql::literal(role)).as_str()
    ))
}

/// Gives back what [`close`] took from everybody in this database, and takes what it gave.
pub fn reopen() -> String {
    run(&format!(
        "DECLARE
  me name := current_user;
  command text;
  change record;
BEGIN
  FOR change IN
    SELECT p.schema, p.place, c.role, g.rolname AS grantor, g.oid AS grantor_oid
      FROM ({PLACES}
           ) AS p
      JOIN jsonb_to_recordset(({remembered})) AS c (schema text, role text, grantor text)
        ON c.schema IS NOT DISTINCT FROM p.schema::text
      LEFT JOIN pg_catalog.pg_roles g ON g.rolname = c.grantor
      LEFT JOIN pg_catalog.pg_roles r ON r.rolname = c.role
     WHERE c.role IS NULL OR r.oid <> p.owner
  LOOP
    command := CASE WHEN change.role IS NULL
                    THEN format('GRANT CREATE ON %s TO PUBLIC', change.place)
                    ELSE format('REVOKE CREATE ON %s FROM %I', change.place, change.role) END;
    RAISE INFO 'Database %: %', current_database(), command;
    IF (CASE WHEN change.schema IS NULL
             THEN has_database_privilege(change.grantor_oid, current_database(),
                                         'CREATE WITH GRANT OPTION')
             ELSE has_schema_privilege(change.grantor_oid, change.schema,
                                       'CREATE WITH GRANT OPTION') END) THEN
      EXECUTE format('SET LOCAL ROLE %I', change.grantor);
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
  END LOOP;
  IF EXISTS ({remembered}) THEN
    EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I RESET {SETTING}', current_database());
  END IF;
END",
        remembered = remembered()
    ))
}

/// A SELECT of the databases of which the role `role_oid` remembers something.
pub const REMEMBERING: &str = "SELECT s.setdatabase
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_options_to_table(s.setconfig) AS o
                           WHERE s.setrole = role_oid
                             AND o.option_name = 'matrix_postgres_exporter.revoked_create'";

/// A SELECT of what was changed in this database.
fn remembered() -> String {
    format!(
        "SELECT o.option_value::jsonb
       FROM pg_catalog.pg_db_role_setting s
       JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = '{OWNER}'
       JOIN pg_catalog.pg_database d
         ON d.oid = s.setdatabase AND d.datname = current_database(),
            pg_options_to_table(s.setconfig) AS o
      WHERE o.option_name = '{SETTING}'"
    )
}
