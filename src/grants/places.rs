//! Where a role may make what other roles then run, and who has to go on doing so.
//!
//! Up to PostgreSQL 14, and in clusters that come from there, everybody may create in the schema
//! `public`. An application has it on its search path, so a function `nextval(text)` of anybody's there
//! is run by the application, with its rights. So is a trigger on one of its tables, whose function may be
//! a temporary one. And what is made in a template, each new database begins with.

/// The schemas and tables of the database, and the database itself, where schemas are made; in the
/// maintenance database the templates, too. `closed` is what everybody loses there, `taken` what the
/// exporter's role loses that was granted to it. In an SQL_ASCII database a name may be no text, which
/// can be neither printed nor remembered: it is left alone.
pub const PLACES: &str = "
      SELECT n.nspname AS schema, NULL::name AS relation, NULL::name AS database, n.oid,
             'SCHEMA ' || quote_ident(n.nspname) AS place, n.nspowner AS owner, n.nspacl AS acl,
             '{CREATE}'::text[] AS closed, '{CREATE}'::text[] AS taken
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT n.nspname, c.relname, NULL, c.oid,
             CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
             || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner, c.relacl,
             CASE c.relkind WHEN 'S' THEN '{}' ELSE '{MAINTAIN,REFERENCES,TRIGGER}' END::text[],
             '{DELETE,INSERT,MAINTAIN,REFERENCES,TRIGGER,TRUNCATE,UPDATE,USAGE}'::text[]
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, NULL, d.datname, d.oid, 'DATABASE ' || quote_ident(d.datname), d.datdba,
             coalesce(d.datacl, acldefault('d', d.datdba)),
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{CONNECT}' END::text[],
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{}' END::text[]
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
          OR current_database() = 'postgres' AND d.datistemplate AND d.datallowconn";

/// The tables of which columns are granted. To revoke a privilege on a table takes it from the
/// columns.
pub const COLUMNS: &str = "
      SELECT n.nspname, c.relname, NULL, c.oid,
             'TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner,
             t.attacl, '{}'::text[], '{INSERT,REFERENCES,UPDATE}'::text[]
        FROM pg_catalog.pg_attribute t
        JOIN pg_catalog.pg_class c ON c.oid = t.attrelid AND c.relpersistence <> 't'
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE t.attacl IS NOT NULL AND n.nspname NOT IN ('pg_catalog', 'information_schema')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')";

/// Who keeps what everybody loses: owners of anything in the database, the owner of the database, and
/// who may write to a table or make schemas.
pub const KEEPERS: &str = "
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

/// Whether a role has one of some privileges on a place; all of it expressions, `place` a record of
/// [`PLACES`], whose oid stands in a field of some name.
pub fn has_privilege(role: &str, place: &str, oid: &str, privileges: &str) -> String {
    let oid = format!("{place}.{oid}");
    format!(
        "(CASE WHEN {place}.relation IS NOT NULL AND {place}.place LIKE 'SEQUENCE %'
                 THEN has_sequence_privilege({role}, {oid}, {privileges})
                 WHEN {place}.relation IS NOT NULL
                 THEN has_table_privilege({role}, {oid}, {privileges})
                 WHEN {place}.schema IS NOT NULL
                 THEN has_schema_privilege({role}, {oid}, {privileges})
                 ELSE has_database_privilege({role}, {oid}, {privileges}) END)"
    )
}
