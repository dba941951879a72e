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

\connect "synapse"
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
GRANT CONNECT ON DATABASE "synapse" TO "exporter";
DO $do$
DECLARE
  command text;
BEGIN
  FOR command IN
    WITH synapse AS (
      SELECT s.oid, quote_ident(n.nspname) AS name
        FROM (SELECT c.relnamespace AS oid,
               bool_or(c.relname = 'events') AS main,
               bool_or(c.relname = 'state_groups_state') AS state
          FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'p')
           AND c.relname IN ('events', 'state_groups_state', 'schema_version', 'applied_schema_deltas',
                             'background_updates')
         GROUP BY c.relnamespace
        HAVING count(*) > 3
           AND count(*) FILTER (WHERE c.relname NOT IN ('events', 'state_groups_state')) = 3) AS s
        JOIN pg_catalog.pg_namespace n ON n.oid = s.oid
    )
    SELECT format('GRANT USAGE ON SCHEMA %s TO %I', name, 'exporter')
      FROM synapse
    UNION ALL
    SELECT format('GRANT SELECT (%s) ON TABLE %s.%I TO %I',
                  string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
                  s.name, c.relname, 'exporter')
      FROM synapse s
      JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE (c.relname, a.attname) IN (
       ('access_tokens', 'id'), ('access_tokens', 'puppets_user_id'), ('access_tokens', 'valid_until_ms'),
       ('account_data_sequence', 'is_called'), ('account_data_sequence', 'last_value'),
       ('account_validity', 'expiration_ts_ms'), ('account_validity', 'user_id'),
       ('application_services_state', 'as_id'), ('application_services_state', 'device_list_stream_id'), ('application_services_state', 'presence_stream_id'), ('application_services_state', 'read_receipt_stream_id'), ('application_services_state', 'state'), ('application_services_state', 'to_device_stream_id'),
       ('application_services_txn_id_seq', 'is_called'), ('application_services_txn_id_seq', 'last_value'),
       ('application_services_txns', 'as_id'), ('application_services_txns', 'txn_id'),
       ('appservice_stream_position', 'stream_ordering'),
       ('background_updates', 'depends_on'), ('background_updates', 'progress_json'), ('background_updates', 'update_name'),
       ('blocked_rooms', 'room_id'),
       ('cache_invalidation_stream_seq', 'is_called'), ('cache_invalidation_stream_seq', 'last_value'),
       ('dehydrated_devices', 'user_id'),
       ('delayed_events', 'is_processed'), ('delayed_events', 'send_ts'),
       ('delayed_events_stream_pos', 'stream_id'),
       ('destination_rooms', 'destination'), ('destination_rooms', 'stream_ordering'),
       ('destinations', 'destination'), ('destinations', 'failure_ts'), ('destinations', 'last_successful_stream_ordering'), ('destinations', 'retry_interval'), ('destinations', 'retry_last_ts'),
       ('device_federation_outbox', 'destination'), ('device_federation_outbox', 'queued_ts'), ('device_federation_outbox', 'stream_id'),
       ('device_inbox', 'device_id'), ('device_inbox', 'stream_id'), ('device_inbox', 'user_id'),
       ('device_inbox_sequence', 'is_called'), ('device_inbox_sequence', 'last_value'),
       ('device_lists_changes_converted_stream_position', 'room_id'), ('device_lists_changes_converted_stream_position', 'stream_id'),
       ('device_lists_changes_in_room', 'converted_to_destinations'), ('device_lists_changes_in_room', 'inserted_ts'), ('device_lists_changes_in_room', 'room_id'), ('device_lists_changes_in_room', 'stream_id'),
       ('device_lists_outbound_pokes', 'destination'), ('device_lists_outbound_pokes', 'sent'), ('device_lists_outbound_pokes', 'stream_id'), ('device_lists_outbound_pokes', 'ts'),
       ('device_lists_remote_resync', 'added_ts'),
       ('device_lists_sequence', 'is_called'), ('device_lists_sequence', 'last_value'),
       ('devices', 'device_id'), ('devices', 'hidden'), ('devices', 'last_seen'), ('devices', 'user_id'),
       ('e2e_cross_signing_keys', 'keytype'), ('e2e_cross_signing_keys', 'user_id'),
       ('e2e_cross_signing_keys_sequence', 'is_called'), ('e2e_cross_signing_keys_sequence', 'last_value'),
       ('e2e_device_keys_json', 'device_id'), ('e2e_device_keys_json', 'user_id'),
       ('e2e_fallback_keys_json', 'algorithm'), ('e2e_fallback_keys_json', 'device_id'), ('e2e_fallback_keys_json', 'user_id'),
       ('e2e_one_time_keys_json', 'algorithm'), ('e2e_one_time_keys_json', 'device_id'), ('e2e_one_time_keys_json', 'user_id'),
       ('e2e_room_keys_versions', 'deleted'), ('e2e_room_keys_versions', 'user_id'),
       ('erased_users', 'user_id'),
       ('event_auth_chain_id', 'is_called'), ('event_auth_chain_id', 'last_value'),
       ('event_auth_chain_to_calculate', 'event_id'),
       ('event_auth_chains', 'chain_id'),
       ('event_expiry', 'expiry_ts'),
       ('event_failed_pull_attempts', 'last_attempt_ts'), ('event_failed_pull_attempts', 'num_attempts'), ('event_failed_pull_attempts', 'room_id'),
       ('event_forward_extremities', 'event_id'), ('event_forward_extremities', 'room_id'),
       ('event_push_actions_staging', 'inserted_ts'),
       ('event_push_summary_last_receipt_stream_id', 'stream_id'),
       ('event_push_summary_stream_ordering', 'stream_ordering'),
       ('event_reports', 'id'), ('event_reports', 'received_ts'),
       ('event_to_state_groups', 'event_id'),
       ('events', 'event_id'), ('events', 'received_ts'), ('events', 'rejection_reason'), ('events', 'state_key'), ('events', 'stream_ordering'), ('events', 'type'),
       ('events_backfill_stream_seq', 'is_called'), ('events_backfill_stream_seq', 'last_value'),
       ('events_stream_seq', 'is_called'), ('events_stream_seq', 'last_value'),
       ('federation_inbound_events_staging', 'received_ts'),
       ('federation_stream_position', 'instance_name'), ('federation_stream_position', 'stream_id'), ('federation_stream_position', 'type'),
       ('local_current_membership', 'membership'), ('local_current_membership', 'room_id'), ('local_current_membership', 'user_id'),
       ('local_media_repository', 'created_ts'), ('local_media_repository', 'last_access_ts'), ('local_media_repository', 'media_id'), ('local_media_repository', 'media_length'), ('local_media_repository', 'quarantined_by'), ('local_media_repository', 'safe_from_quarantine'),
       ('local_media_repository_thumbnails', 'media_id'), ('local_media_repository_thumbnails', 'thumbnail_length'),
       ('local_media_repository_url_cache', 'expires_ts'),
       ('login_tokens', 'expiry_ts'), ('login_tokens', 'used_ts'),
       ('monthly_active_users', 'user_id'),
       ('open_id_tokens', 'ts_valid_until_ms'),
       ('partial_state_rooms', 'device_lists_stream_id'), ('partial_state_rooms', 'join_event_id'),
       ('presence_stream', 'state'),
       ('presence_stream_sequence', 'is_called'), ('presence_stream_sequence', 'last_value'),
       ('profile_updates_sequence', 'is_called'), ('profile_updates_sequence', 'last_value'),
       ('push_rules_stream_sequence', 'is_called'), ('push_rules_stream_sequence', 'last_value'),
       ('pushers', 'enabled'), ('pushers', 'failing_since'), ('pushers', 'id'), ('pushers', 'kind'),
       ('pushers_sequence', 'is_called'), ('pushers_sequence', 'last_value'),
       ('quarantined_media_id_seq', 'is_called'), ('quarantined_media_id_seq', 'last_value'),
       ('receipts_sequence', 'is_called'), ('receipts_sequence', 'last_value'),
       ('received_transactions', 'ts'),
       ('redactions', 'have_censored'), ('redactions', 'received_ts'),
       ('refresh_tokens', 'id'), ('refresh_tokens', 'next_token_id'),
       ('registration_tokens', 'completed'), ('registration_tokens', 'expiry_time'), ('registration_tokens', 'pending'), ('registration_tokens', 'uses_allowed'),
       ('remote_media_cache', 'created_ts'), ('remote_media_cache', 'last_access_ts'), ('remote_media_cache', 'media_id'), ('remote_media_cache', 'media_length'), ('remote_media_cache', 'media_origin'), ('remote_media_cache', 'quarantined_by'),
       ('remote_media_cache_thumbnails', 'media_id'), ('remote_media_cache_thumbnails', 'media_origin'), ('remote_media_cache_thumbnails', 'thumbnail_length'),
       ('room_forgetter_stream_pos', 'stream_id'),
       ('room_reports', 'id'), ('room_reports', 'received_ts'),
       ('room_stats_current', 'banned_members'), ('room_stats_current', 'current_state_events'), ('room_stats_current', 'invited_members'), ('room_stats_current', 'joined_members'), ('room_stats_current', 'knocked_members'), ('room_stats_current', 'left_members'), ('room_stats_current', 'local_users_in_room'), ('room_stats_current', 'room_id'),
       ('room_stats_state', 'encryption'), ('room_stats_state', 'history_visibility'), ('room_stats_state', 'join_rules'), ('room_stats_state', 'room_id'), ('room_stats_state', 'room_type'),
       ('rooms', 'creator'), ('rooms', 'is_public'), ('rooms', 'room_id'), ('rooms', 'room_version'),
       ('scheduled_tasks', 'action'), ('scheduled_tasks', 'status'), ('scheduled_tasks', 'timestamp'),
       ('schema_compat_version', 'compat_version'),
       ('schema_version', 'version'),
       ('sliding_sync_connection_positions', 'connection_position'),
       ('sliding_sync_connections', 'connection_key'),
       ('sliding_sync_joined_rooms_to_recalculate', 'room_id'),
       ('state_group_id_seq', 'is_called'), ('state_group_id_seq', 'last_value'),
       ('state_groups', 'id'),
       ('state_groups_pending_deletion', 'insertion_ts'), ('state_groups_pending_deletion', 'state_group'),
       ('stats_incremental_position', 'stream_id'),
       ('sticky_events_sequence', 'is_called'), ('sticky_events_sequence', 'last_value'),
       ('stream_positions', 'instance_name'), ('stream_positions', 'stream_id'), ('stream_positions', 'stream_name'),
       ('thread_subscriptions_sequence', 'is_called'), ('thread_subscriptions_sequence', 'last_value'),
       ('ui_auth_sessions', 'creation_time'),
       ('un_partial_stated_event_stream_sequence', 'is_called'), ('un_partial_stated_event_stream_sequence', 'last_value'),
       ('un_partial_stated_room_stream_sequence', 'is_called'), ('un_partial_stated_room_stream_sequence', 'last_value'),
       ('user_daily_visits', 'timestamp'), ('user_daily_visits', 'user_id'),
       ('user_directory', 'user_id'),
       ('user_directory_stale_remote_users', 'user_id'),
       ('user_directory_stream_pos', 'stream_id'),
       ('user_external_ids', 'auth_provider'), ('user_external_ids', 'user_id'),
       ('user_ips', 'last_seen'), ('user_ips', 'user_id'),
       ('user_reports', 'id'), ('user_reports', 'received_ts'),
       ('user_threepids', 'medium'), ('user_threepids', 'user_id'),
       ('users', 'admin'), ('users', 'approved'), ('users', 'appservice_id'), ('users', 'creation_ts'), ('users', 'deactivated'), ('users', 'is_guest'), ('users', 'locked'), ('users', 'name'), ('users', 'shadow_banned'), ('users', 'suspended'), ('users', 'user_type'),
       ('users_pending_deactivation', 'user_id'),
       ('worker_locks', 'last_renewed_ts'), ('worker_locks', 'lock_name'),
       ('worker_read_write_locks', 'last_renewed_ts'), ('worker_read_write_locks', 'lock_name'), ('worker_read_write_locks', 'write_lock'))
     GROUP BY s.name, c.relname
  LOOP
    EXECUTE command;
  END LOOP;
END
$do$;
COMMIT;
