-- Takes back what `matrix-postgres-exporter grants` gave to the role exporter, and whatever else
-- it may do in these databases. Stop the exporter first. Name every database that was named then.
-- A role that grants made is dropped; one that was there before, or owns something, stays, and a
-- warning says so.
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
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM 'made by matrix-postgres-exporter grants' THEN
    RAISE WARNING 'Role % was there before, so it stays.', E'matrix_postgres_exporter_owner';
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_shdepend
                 WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND refobjid = role_oid) THEN
    RAISE WARNING 'Role % still owns or may do something in databases (%), so it stays. Name these too and run this again.',
      E'matrix_postgres_exporter_owner',
      (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
         FROM pg_catalog.pg_shdepend d LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid
        WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = role_oid);
  ELSE
    DROP ROLE "matrix_postgres_exporter_owner";
  END IF;
END
$do$;
DO $do$
DECLARE
  role_oid oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = E'exporter');
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM 'made by matrix-postgres-exporter grants' THEN
    RAISE WARNING 'Role % was there before, so it stays.', E'exporter';
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_shdepend
                 WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND refobjid = role_oid) THEN
    RAISE WARNING 'Role % still owns or may do something in databases (%), so it stays. Name these too and run this again.',
      E'exporter',
      (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
         FROM pg_catalog.pg_shdepend d LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid
        WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = role_oid);
  ELSE
    DROP ROLE "exporter";
  END IF;
END
$do$;
COMMIT;
