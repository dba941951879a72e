-- Takes back what `matrix-postgres-exporter grants` gave to the role exporter, and whatever else
-- it may do in these databases; who could create in their schemas before, can again. Stop the
-- exporter first. Name every database that was named then. A role that grants made is dropped; one
-- that was there before, or owns something, stays, and a warning says so.
-- Run it as a superuser, as often as you like: psql -v ON_ERROR_STOP=1 -f FILE

\connect "synapse"
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
DO $do$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d
               JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
              WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = current_database()))
                AND r.rolname = E'exporter') THEN
    RAISE WARNING 'Role % owns something in database %, so what it may do there stays. Give that to another role (REASSIGN OWNED) and run this again.',
      E'exporter', current_database();
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = E'exporter') THEN
    DROP OWNED BY "exporter";
  END IF;
END
$do$;
DO $do$
DECLARE
  me name := current_user;
  command text;
  change record;
BEGIN
  FOR change IN
    SELECT p.schema, p.place, c.role, g.rolname AS grantor, g.oid AS grantor_oid
      FROM (
      SELECT n.nspname AS schema, 'SCHEMA ' || quote_ident(n.nspname) AS place,
             n.nspowner AS owner, n.nspacl AS acl
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, 'DATABASE ' || quote_ident(d.datname), d.datdba, d.datacl
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
           ) AS p
      JOIN jsonb_to_recordset((SELECT o.option_value::jsonb
       FROM pg_catalog.pg_db_role_setting s
       JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'matrix_postgres_exporter_owner'
       JOIN pg_catalog.pg_database d
         ON d.oid = s.setdatabase AND d.datname = current_database(),
            pg_options_to_table(s.setconfig) AS o
      WHERE o.option_name = 'matrix_postgres_exporter.revoked_create')) AS c (schema text, role text, grantor text)
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
  IF EXISTS (SELECT o.option_value::jsonb
       FROM pg_catalog.pg_db_role_setting s
       JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'matrix_postgres_exporter_owner'
       JOIN pg_catalog.pg_database d
         ON d.oid = s.setdatabase AND d.datname = current_database(),
            pg_options_to_table(s.setconfig) AS o
      WHERE o.option_name = 'matrix_postgres_exporter.revoked_create') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
  END IF;
END
$do$;
COMMIT;

\connect "postgres"
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
DO $do$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d
               JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
              WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = current_database()))
                AND r.rolname = E'exporter') THEN
    RAISE WARNING 'Role % owns something in database %, so what it may do there stays. Give that to another role (REASSIGN OWNED) and run this again.',
      E'exporter', current_database();
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = E'exporter') THEN
    DROP OWNED BY "exporter";
  END IF;
END
$do$;
DO $do$
DECLARE
  me name := current_user;
  command text;
  change record;
BEGIN
  FOR change IN
    SELECT p.schema, p.place, c.role, g.rolname AS grantor, g.oid AS grantor_oid
      FROM (
      SELECT n.nspname AS schema, 'SCHEMA ' || quote_ident(n.nspname) AS place,
             n.nspowner AS owner, n.nspacl AS acl
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, 'DATABASE ' || quote_ident(d.datname), d.datdba, d.datacl
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
           ) AS p
      JOIN jsonb_to_recordset((SELECT o.option_value::jsonb
       FROM pg_catalog.pg_db_role_setting s
       JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'matrix_postgres_exporter_owner'
       JOIN pg_catalog.pg_database d
         ON d.oid = s.setdatabase AND d.datname = current_database(),
            pg_options_to_table(s.setconfig) AS o
      WHERE o.option_name = 'matrix_postgres_exporter.revoked_create')) AS c (schema text, role text, grantor text)
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
  IF EXISTS (SELECT o.option_value::jsonb
       FROM pg_catalog.pg_db_role_setting s
       JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'matrix_postgres_exporter_owner'
       JOIN pg_catalog.pg_database d
         ON d.oid = s.setdatabase AND d.datname = current_database(),
            pg_options_to_table(s.setconfig) AS o
      WHERE o.option_name = 'matrix_postgres_exporter.revoked_create') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
  END IF;
END
$do$;
DO $do$
DECLARE
  command text;
BEGIN
  FOR command IN
    SELECT DISTINCT format('REVOKE %I FROM %I', r.rolname, m.rolname)
      FROM pg_catalog.pg_auth_members a
      JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
      JOIN pg_catalog.pg_roles m ON m.oid = a.member
     WHERE m.rolname = E'exporter' AND r.rolname IN ('pg_monitor', 'pg_read_all_stats', 'pg_use_reserved_connections')
  LOOP
    EXECUTE command;
  END LOOP;
END
$do$;
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_stat_activity();
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_stat_replication();
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_stat_wal_receiver();
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_stat_progress_vacuum();
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_ls_waldir();
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_ls_archive_statusdir();
DROP FUNCTION IF EXISTS matrix_postgres_exporter.pg_database_size();
DROP SCHEMA IF EXISTS matrix_postgres_exporter;
DO $do$
DECLARE
  role_oid oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = E'matrix_postgres_exporter_owner');
  needed text := (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
                    FROM (SELECT dbid
                            FROM pg_catalog.pg_shdepend
                           WHERE refclassid = 'pg_catalog.pg_authid'::regclass
                             AND refobjid = role_oid
                          UNION
                          SELECT s.setdatabase
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_options_to_table(s.setconfig) AS o
                           WHERE s.setrole = role_oid
                             AND o.option_name = 'matrix_postgres_exporter.revoked_create') AS d
                    LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid);
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM 'made by matrix-postgres-exporter grants' THEN
    RAISE WARNING 'Role % was there before, so it stays.', E'matrix_postgres_exporter_owner';
  ELSIF needed IS NOT NULL THEN
    RAISE WARNING 'Role % still owns, may do or remembers something in databases (%), so it stays. Name these too and run this again.',
      E'matrix_postgres_exporter_owner', needed;
  ELSE
    DROP ROLE "matrix_postgres_exporter_owner";
  END IF;
END
$do$;
DO $do$
DECLARE
  role_oid oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = E'exporter');
  needed text := (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
                    FROM (SELECT dbid
                            FROM pg_catalog.pg_shdepend
                           WHERE refclassid = 'pg_catalog.pg_authid'::regclass
                             AND refobjid = role_oid
                          UNION
                          SELECT s.setdatabase
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_options_to_table(s.setconfig) AS o
                           WHERE s.setrole = role_oid
                             AND o.option_name = 'matrix_postgres_exporter.revoked_create') AS d
                    LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid);
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM 'made by matrix-postgres-exporter grants' THEN
    RAISE WARNING 'Role % was there before, so it stays.', E'exporter';
  ELSIF needed IS NOT NULL THEN
    RAISE WARNING 'Role % still owns, may do or remembers something in databases (%), so it stays. Name these too and run this again.',
      E'exporter', needed;
  ELSE
    DROP ROLE "exporter";
  END IF;
END
$do$;
COMMIT;
