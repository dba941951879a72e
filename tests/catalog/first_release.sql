-- Lets the role exporter read what the collectors of matrix-postgres-exporter ask, but
-- no text of a query, since these hold the bodies of messages.
-- It sets no password. In psql, this asks for one and keeps it out of the server's log:
--   \password "exporter"
-- Run it as a superuser, as often as you like: psql -v ON_ERROR_STOP=1 -f FILE

\connect "postgres"
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'exporter') THEN
    CREATE ROLE "exporter" LOGIN;
    COMMENT ON ROLE "exporter" IS 'made by matrix-postgres-exporter grants';
  END IF;
END
$do$;

-- Room for twice the connections: a server may notice late that one was cut off.
ALTER ROLE "exporter" LOGIN CONNECTION LIMIT 8;
ALTER ROLE "exporter" SET tcp_keepalives_idle = 30;
ALTER ROLE "exporter" SET tcp_keepalives_interval = 10;
ALTER ROLE "exporter" SET tcp_keepalives_count = 3;
GRANT CONNECT ON DATABASE postgres TO "exporter";

-- From 16 on, a server whose connections are used up stays visible.
DO $do$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pg_use_reserved_connections') THEN
    GRANT pg_use_reserved_connections TO "exporter";
  END IF;
END
$do$;

-- Members of these see the text of queries.
DO $do$
DECLARE
  command text;
BEGIN
  FOR command IN
    SELECT DISTINCT format('REVOKE %I FROM %I', r.rolname, m.rolname)
      FROM pg_catalog.pg_auth_members a
      JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
      JOIN pg_catalog.pg_roles m ON m.oid = a.member
     WHERE m.rolname = 'exporter' AND r.rolname IN ('pg_monitor', 'pg_read_all_stats')
  LOOP
    EXECUTE command;
  END LOOP;
END
$do$;

-- Functions that give the statistics without it, and their owner.
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    CREATE ROLE "matrix_postgres_exporter_owner" NOLOGIN;
    COMMENT ON ROLE "matrix_postgres_exporter_owner" IS 'made by matrix-postgres-exporter grants';
  END IF;
END
$do$;
GRANT pg_monitor TO matrix_postgres_exporter_owner;
CREATE SCHEMA IF NOT EXISTS matrix_postgres_exporter AUTHORIZATION matrix_postgres_exporter_owner;
ALTER SCHEMA matrix_postgres_exporter OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON SCHEMA matrix_postgres_exporter FROM PUBLIC;
GRANT USAGE ON SCHEMA matrix_postgres_exporter TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_activity()')) <> 'TABLE(pid integer, datname name, usename name, application_name text, backend_type text, state text, wait_event_type text, wait_event text, xact_start timestamp with time zone, query_start timestamp with time zone, state_change timestamp with time zone)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_activity();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_activity() RETURNS TABLE(pid integer, datname name, usename name, application_name text, backend_type text, state text, wait_event_type text, wait_event text, xact_start timestamp with time zone, query_start timestamp with time zone, state_change timestamp with time zone)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT pid, datname, usename, application_name, backend_type, state, wait_event_type, wait_event, xact_start, query_start, state_change FROM pg_catalog.pg_stat_activity
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_activity() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_activity() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_activity() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_replication()')) <> 'TABLE(pid integer, application_name text, client_addr inet, state text, replay_lsn pg_lsn)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_replication();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_replication() RETURNS TABLE(pid integer, application_name text, client_addr inet, state text, replay_lsn pg_lsn)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT pid, application_name, client_addr, state, replay_lsn FROM pg_catalog.pg_stat_replication
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_replication() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_replication() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_replication() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_wal_receiver()')) <> 'TABLE(pid integer, status text, last_msg_receipt_time timestamp with time zone, latest_end_lsn pg_lsn)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() RETURNS TABLE(pid integer, status text, last_msg_receipt_time timestamp with time zone, latest_end_lsn pg_lsn)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT pid, status, last_msg_receipt_time, latest_end_lsn FROM pg_catalog.pg_stat_wal_receiver
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_progress_vacuum()')) <> 'TABLE(datid oid, relid oid, phase bigint, heap_blks_total bigint, heap_blks_scanned bigint, heap_blks_vacuumed bigint, index_vacuum_count bigint, dead_limit bigint, dead_used bigint, dead_items bigint)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() RETURNS TABLE(datid oid, relid oid, phase bigint, heap_blks_total bigint, heap_blks_scanned bigint, heap_blks_vacuumed bigint, index_vacuum_count bigint, dead_limit bigint, dead_used bigint, dead_items bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT datid, relid, param1 AS phase, param2 AS heap_blks_total, param3 AS heap_blks_scanned, param4 AS heap_blks_vacuumed, param5 AS index_vacuum_count, param6 AS dead_limit, param7 AS dead_used, param8 AS dead_items FROM pg_catalog.pg_stat_get_progress_info('VACUUM')
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_ls_waldir()')) <> 'TABLE(name text, size bigint)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_ls_waldir();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_ls_waldir() RETURNS TABLE(name text, size bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT name, size FROM pg_catalog.pg_ls_waldir()
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_ls_waldir() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_ls_waldir() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_ls_waldir() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_ls_archive_statusdir()')) <> 'TABLE(name text, modification timestamp with time zone)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() RETURNS TABLE(name text, modification timestamp with time zone)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT name, modification FROM pg_catalog.pg_ls_archive_statusdir()
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_database_size()')) <> 'TABLE(datname name, size bigint)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_database_size();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_database_size() RETURNS TABLE(datname name, size bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') OR has_database_privilege(oid, 'CONNECT') IS NOT NULL AND pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) END AS size FROM pg_catalog.pg_database
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_database_size() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_database_size() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_database_size() TO "exporter";
COMMIT;

