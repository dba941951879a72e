-- A Synapse of {users} users, everything else in proportion, but for its events.

-- People

INSERT INTO {schema}.users
       (name, creation_ts, admin, is_guest, appservice_id, user_type, deactivated, shadow_banned,
        approved, locked, suspended)
SELECT pg_temp.person(n), pg_temp.ago(pg_temp.dice(n, 10, 157680000)) / 1000,
       (n % 10000 = 1)::int, (n % 20 = 2)::int, CASE WHEN n % 10 < 3 THEN 'bridge' || n % 4 END,
       CASE WHEN n % 1000 = 7 THEN 'support' END, (n % 19 = 3)::int,
       CASE WHEN n % 5000 = 4 THEN true END, CASE WHEN n % 3 > 0 THEN n % 2000 <> 5 END,
       n % 3000 = 6, n % 4000 = 8
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.devices (user_id, device_id, last_seen, hidden)
SELECT pg_temp.person(1 + n % {users}), pg_temp.device(n),
       CASE WHEN n % 6 > 0 THEN pg_temp.ago(pg_temp.dice(n, 11, 15552000)) END, n % 6 = 0
  FROM generate_series(1, {users} * 6 / 5) AS n;

INSERT INTO {schema}.access_tokens (id, user_id, device_id, token, valid_until_ms, puppets_user_id)
SELECT 1000 + n, pg_temp.person(1 + n % {users}), pg_temp.device(n), pg_temp.hash('token', n),
       CASE WHEN n % 4 = 0 THEN pg_temp.ago(pg_temp.dice(n, 12, 172800) - 86400) END,
       CASE WHEN n % 50000 = 9 THEN pg_temp.person(n) END
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.refresh_tokens (id, user_id, device_id, token, next_token_id)
SELECT 1000 + n, pg_temp.person(1 + n % {users}), pg_temp.device(n), pg_temp.hash('refresh', n),
       CASE WHEN n % 2 = 0 THEN 1001 + n END
  FROM generate_series(1, {users} / 4) AS n;

-- The fourth power: most were seen lately.
INSERT INTO {schema}.user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
SELECT pg_temp.person(1 + n % ({users} * 2 / 5)), pg_temp.hash('token', n), pg_temp.device(n),
       '192.0.2.' || n % 256, 'Element/1.0',
       pg_temp.ago(2419200 * pg_temp.share(n, 13) ^ 4)
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.user_daily_visits (user_id, device_id, timestamp, user_agent)
SELECT pg_temp.person(1 + n % (1 + {users} / 50)), pg_temp.device(n),
       (pg_temp.ago(86400 * (n * 50 / {users})) / 86400000) * 86400000, 'Element/1.0'
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.presence_stream (stream_id, user_id, state)
SELECT 1000 + n, pg_temp.person(n),
       CASE n % 20 WHEN 1 THEN 'online' WHEN 2 THEN 'unavailable' ELSE 'offline' END
  FROM generate_series(1, {users} / 2) AS n;

INSERT INTO {schema}.user_threepids (user_id, medium, address, validated_at, added_at)
SELECT pg_temp.person(n), CASE WHEN n % 9 = 0 THEN 'msisdn' ELSE 'email' END,
       n || '@large.example', pg_temp.ago(0), pg_temp.ago(0)
  FROM generate_series(1, {users} * 3 / 10) AS n;

INSERT INTO {schema}.user_external_ids (auth_provider, external_id, user_id)
SELECT 'oidc-' || n % 2, pg_temp.hash('subject', n), pg_temp.person(n)
  FROM generate_series(1, {users} * 3 / 10) AS n;

INSERT INTO {schema}.user_directory (user_id, display_name)
SELECT CASE WHEN n % 2 = 0 THEN pg_temp.person(n)
            ELSE '@' || n || ':' || pg_temp.server(n) END, 'A name'
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.pushers
       (id, user_name, profile_tag, kind, app_id, app_display_name, device_display_name, pushkey,
        ts, enabled, failing_since)
SELECT 1000 + n, pg_temp.person(n), '', CASE WHEN n % 9 = 0 THEN 'email' ELSE 'http' END,
       'app', 'An app', 'A device', pg_temp.hash('push', n), pg_temp.ago(0), n % 7 > 0,
       CASE WHEN n % 50 = 1 THEN pg_temp.ago(pg_temp.dice(n, 14, 604800)) END
  FROM generate_series(1, {users} / 5) AS n;

-- Keys

INSERT INTO {schema}.e2e_device_keys_json (user_id, device_id, ts_added_ms, key_json)
SELECT pg_temp.person(1 + n % {users}), pg_temp.device(n), pg_temp.ago(n), repeat('k', 400)
  FROM generate_series(1, {users} / 5) AS n;

INSERT INTO {schema}.e2e_one_time_keys_json
       (user_id, device_id, algorithm, key_id, ts_added_ms, key_json)
SELECT pg_temp.person(1 + n % {users}), pg_temp.device(n), 'signed_curve25519',
       'key' || key, pg_temp.ago(n), repeat('k', 200)
  FROM generate_series(1, {users} / 5) AS n, generate_series(1, 5) AS key
 WHERE n % 20 > 0;

INSERT INTO {schema}.e2e_fallback_keys_json
       (user_id, device_id, algorithm, key_id, key_json, used)
SELECT pg_temp.person(1 + n % {users}), pg_temp.device(n), 'signed_curve25519', 'key',
       repeat('k', 200), n % 10 = 0
  FROM generate_series(1, {users} / 5) AS n
 WHERE n % 30 > 0;

INSERT INTO {schema}.e2e_room_keys_versions (user_id, version, algorithm, auth_data, deleted)
SELECT pg_temp.person(n), v, 'm.megolm_backup.v1.curve25519-aes-sha2', '{}',
       (n % 10 = 0 OR v <= n % 3 AND n % 4 > 0)::int
  FROM generate_series(1, {users} / 5) AS n, generate_series(1, 1 + n % 3) AS v;

-- Rooms

INSERT INTO {schema}.rooms (room_id, is_public, creator, room_version)
SELECT pg_temp.room(n), n % 50 = 0, pg_temp.person(n), (ARRAY['6', '9', '10', '11', '12', NULL])[1 + n % 6]
  FROM generate_series(1, {users} / 5) AS n;

INSERT INTO {schema}.room_stats_current
       (room_id, current_state_events, joined_members, invited_members, left_members,
        banned_members, local_users_in_room, completed_delta_stream_id, knocked_members)
SELECT pg_temp.room(n), 10 + members * 2, members, members / 20, members / 3, members / 100,
       members / 2, 1, CASE WHEN n % 3 = 0 THEN n % 2 END
  FROM (SELECT n, floor(2000 * pg_temp.share(n, 15) ^ 12)::int
                  + (n % 20 > 0)::int AS members
          FROM generate_series(1, {users} / 5) AS n) AS sizes;

INSERT INTO {schema}.room_stats_state
       (room_id, name, join_rules, history_visibility, encryption, guest_access, room_type)
SELECT pg_temp.room(n), 'A name', (ARRAY['invite', 'public', 'restricted'])[1 + n % 3],
       (ARRAY['shared', 'joined', 'world_readable'])[1 + n % 3],
       CASE WHEN n % 2 = 0 THEN 'm.megolm.v1.aes-sha2' END, 'can_join',
       CASE WHEN n % 100 = 0 THEN 'm.space' END
  FROM generate_series(1, {users} / 5) AS n;

INSERT INTO {schema}.local_current_membership (room_id, user_id, event_id, membership)
SELECT pg_temp.room(1 + n % ({users} / 5)), pg_temp.person(n), pg_temp.event(n),
       (ARRAY['join', 'join', 'join', 'join', 'join', 'join', 'leave', 'leave', 'invite', 'ban'])[1 + n % 10]
  FROM generate_series(1, {users}) AS n;

-- Several per room, in a few rooms many: enough that Synapse is slow there.
INSERT INTO {schema}.event_forward_extremities (event_id, room_id)
SELECT pg_temp.event(n),
       CASE WHEN n % 100 < 1 THEN pg_temp.room(1 + n % 7)
            ELSE pg_temp.room(1 + n % ({users} / 5)) END
  FROM generate_series(1, {users} / 4) AS n;

INSERT INTO {schema}.redactions (event_id, redacts, have_censored, received_ts)
SELECT pg_temp.event(n), pg_temp.event(n - 1), n % 100 > 0, pg_temp.ago(n)
  FROM generate_series(1, {users} / 10) AS n;

-- Files

INSERT INTO {schema}.local_media_repository
       (media_id, media_type, media_length, created_ts, user_id, quarantined_by, url_cache)
SELECT pg_temp.hash('media', n), 'image/png', CASE WHEN n % 200 > 0 THEN pg_temp.dice(n, 16, 50000000) END,
       pg_temp.ago(n), pg_temp.person(1 + n % {users}), CASE WHEN n % 5000 = 1 THEN 'admin' END,
       CASE WHEN n % 10 = 0 THEN 'https://web.example/' || n END
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.remote_media_cache
       (media_origin, media_id, media_type, created_ts, media_length, filesystem_id, quarantined_by)
SELECT pg_temp.server(n), pg_temp.hash('media', n), 'image/png', pg_temp.ago(n),
       pg_temp.dice(n, 17, 50000000), pg_temp.hash('file', n), CASE WHEN n % 5000 = 1 THEN 'admin' END
  FROM generate_series(1, {users}) AS n;

INSERT INTO {schema}.local_media_repository_thumbnails
       (media_id, thumbnail_width, thumbnail_height, thumbnail_type, thumbnail_method, thumbnail_length)
SELECT pg_temp.hash('media', n), width, width, 'image/png', 'scale', width * 100
  FROM generate_series(1, {users} / 4) AS n, (VALUES (32), (640)) AS sizes (width);

INSERT INTO {schema}.remote_media_cache_thumbnails
       (media_origin, media_id, thumbnail_width, thumbnail_height, thumbnail_method,
        thumbnail_type, thumbnail_length, filesystem_id)
SELECT pg_temp.server(n), pg_temp.hash('media', n), width, width, 'scale', 'image/png',
       width * 100, pg_temp.hash('file', n)
  FROM generate_series(1, {users} / 4) AS n, (VALUES (32), (640)) AS sizes (width);

-- Other servers, and what is on its way

INSERT INTO {schema}.destinations
       (destination, retry_last_ts, retry_interval, failure_ts, last_successful_stream_ordering)
SELECT 'server' || n || '.example', CASE WHEN n % 4 = 0 THEN pg_temp.ago(600) ELSE 0 END,
       CASE WHEN n % 4 = 0 THEN 86400000 ELSE 0 END,
       CASE WHEN n % 4 = 0 THEN pg_temp.ago(pg_temp.dice(n, 18, 8640000)) END,
       CASE WHEN n % 3 > 0 THEN 1000 + {users} END
  FROM generate_series(0, 2 + {users} / 40) AS n
 UNION ALL
SELECT 'matrix.example', 0, 0, NULL, 1000;

INSERT INTO {schema}.destination_rooms (destination, room_id, stream_ordering)
SELECT pg_temp.server(n), pg_temp.room(1 + n % ({users} / 5)), n * 4
  FROM generate_series(1, {users} / 2) AS n
    ON CONFLICT DO NOTHING;

INSERT INTO {schema}.device_inbox (user_id, device_id, stream_id, message_json)
SELECT pg_temp.person(1 + pg_temp.dice(n, 19, {users} / 20)), pg_temp.device(n), 1000 + n,
       repeat('m', 300)
  FROM generate_series(1, {users} * 3 / 10) AS n;

INSERT INTO {schema}.device_federation_outbox (destination, stream_id, queued_ts, messages_json)
SELECT pg_temp.server(n), 1000 + n, pg_temp.ago(n), repeat('m', 300)
  FROM generate_series(1, {users} / 10) AS n;

INSERT INTO {schema}.device_lists_changes_in_room
       (user_id, device_id, room_id, stream_id, converted_to_destinations)
SELECT pg_temp.person(1 + n % {users}), pg_temp.device(n), pg_temp.room(1 + n % ({users} / 5)),
       1000 + n, n < {users} * 99 / 100
  FROM generate_series(1, {users}) AS n;

-- One server has been away for long.
INSERT INTO {schema}.device_lists_outbound_pokes
       (destination, stream_id, user_id, device_id, sent, ts)
SELECT CASE WHEN n % 50 > 0 THEN 'away.example' ELSE pg_temp.server(n / 50) END, 1000 + n,
       pg_temp.person(1 + n % {users}), pg_temp.device(n), n % 1000 = 0,
       pg_temp.ago({users} - n / 5)
  FROM generate_series(1, {users} * 5) AS n;

INSERT INTO {schema}.received_transactions (transaction_id, origin, ts, response_code)
SELECT n::text, pg_temp.server(n), pg_temp.ago({users} - n), 200
  FROM generate_series(1, {users} / 2) AS n;
