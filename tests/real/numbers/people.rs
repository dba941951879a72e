//! Of users, what they have and what they send.

use super::Left;

/// Rows as Synapse leaves them, and what is served of them.
pub const LEFT: &[Left] = &[
    (
        "media: more bytes than an integer holds, and an upload that never came",
        "INSERT INTO remote_media_cache
                (media_origin, media_id, media_type, created_ts, media_length, filesystem_id,
                 last_access_ts, quarantined_by)
         VALUES ('well.example', 'one', '', pg_temp.ago(9), 2000000000, 'one',
                 pg_temp.ago(9), NULL),
                ('well.example', 'two', '', pg_temp.ago(9), 2000000000, 'two',
                 pg_temp.ago(86400 * 91), 'admin'),
                ('well.example', 'six', '', pg_temp.ago(86400 * 99), 2000000000, 'six',
                 pg_temp.ago(86400 * 91), NULL),
                ('well.example', 'ten', '', pg_temp.ago(86400 * 99), 2000000000, 'ten',
                 pg_temp.ago(86400 * 89), NULL);
         INSERT INTO local_media_repository
                (media_id, media_length, created_ts, last_access_ts, safe_from_quarantine)
         VALUES ('announced', NULL, pg_temp.ago(86400 * 91), NULL, false),
                ('never seen', 70, pg_temp.ago(86400 * 91), NULL, true),
                ('seen', 700, pg_temp.ago(86400 * 91), pg_temp.ago(86400 * 89), false);
         UPDATE local_media_repository SET quarantined_by = 'admin' WHERE media_id = 'seen';
         INSERT INTO local_media_repository_thumbnails
                (media_id, thumbnail_width, thumbnail_height, thumbnail_type, thumbnail_method,
                 thumbnail_length)
         VALUES ('seen', 32, 32, '', 'crop', 2000000000), ('seen', 96, 96, '', 'crop', 2000000000);
         INSERT INTO remote_media_cache_thumbnails
                (media_origin, media_id, thumbnail_width, thumbnail_height, thumbnail_method,
                 thumbnail_type, thumbnail_length, filesystem_id)
         VALUES ('well.example', 'one', 32, 32, 'crop', '', 5, 'one');
         INSERT INTO local_media_repository_url_cache (url, download_ts, expires_ts)
         VALUES ('https://well.example', pg_temp.ago(9), pg_temp.ago(-900)),
                ('https://old.example', pg_temp.ago(9000), pg_temp.ago(9))",
        &[
            ("synapse_db_media_files", &[("origin", "remote")], 4.0),
            ("synapse_db_media_bytes", &[("origin", "remote")], 8e9),
            ("synapse_db_media_files_not_accessed_90d", &[("origin", "remote")], 2.0),
            ("synapse_db_media_bytes_not_accessed_90d", &[("origin", "remote")], 4e9),
            ("synapse_db_media_files_not_accessed_90d", &[("origin", "local")], 1.0),
            ("synapse_db_media_bytes_not_accessed_90d", &[("origin", "local")], 70.0),
            (
                "synapse_db_media_files_quarantined",
                &[("origin", "remote")],
                1.0,
            ),
            ("synapse_db_media_files", &[("origin", "local")], 2.0),
            ("synapse_db_media_bytes", &[("origin", "local")], 770.0),
            (
                "synapse_db_media_files_quarantined",
                &[("origin", "local")],
                1.0,
            ),
            ("synapse_db_media_uploads_pending", &[], 1.0),
            ("synapse_db_media_files_protected", &[], 1.0),
            ("synapse_db_media_thumbnails", &[("origin", "local")], 2.0),
            ("synapse_db_media_thumbnail_bytes", &[("origin", "local")], 4e9),
            ("synapse_db_media_thumbnails", &[("origin", "remote")], 1.0),
            ("synapse_db_media_thumbnail_bytes", &[("origin", "remote")], 5.0),
            ("synapse_db_url_previews", &[], 2.0),
            ("synapse_db_url_previews_expired", &[], 1.0),
        ],
    ),
    (
        "flags of users: smallint or boolean, some of them unknown",
        "UPDATE users SET locked = false, shadow_banned = false;
         UPDATE users SET appservice_id = '', shadow_banned = NULL, approved = NULL
          WHERE name LIKE '@person1:%';
         UPDATE users SET approved = false, locked = true
          WHERE name LIKE '@person2:%';
         INSERT INTO erased_users VALUES ('one'), ('two');
         INSERT INTO users_pending_deactivation VALUES ('one');
         INSERT INTO account_validity (user_id, expiration_ts_ms, email_sent)
         VALUES ('late', pg_temp.ago(60), true), ('soon', pg_temp.ago(-3600), true),
                ('never', pg_temp.ago(-90000000), false)",
        &[
            ("synapse_db_appservice_users", &[("as_id", "bridge")], 1.0),
            ("synapse_db_users", &[("kind", "bridged")], 1.0),
            ("synapse_db_users_flagged", &[("flag", "unapproved")], 1.0),
            ("synapse_db_users_flagged", &[("flag", "locked")], 1.0),
            ("synapse_db_users_flagged", &[("flag", "shadow_banned")], 0.0),
            ("synapse_db_users_erased", &[], 2.0),
            ("synapse_db_users_pending_deactivation", &[], 1.0),
            ("synapse_db_users_expiring", &[], 3.0),
            ("synapse_db_users_expired", &[], 1.0),
        ],
    ),
    (
        "users are made in seconds, and not in milliseconds as everything else",
        "UPDATE users SET creation_ts = pg_temp.ago(90000) / 1000;
         UPDATE users SET creation_ts = pg_temp.ago(80000) / 1000 WHERE name LIKE '@person1:%'",
        &[("synapse_db_users_registered_24h", &[], 1.0)],
    ),
    (
        "hidden devices are nobody's, and are not active",
        "DELETE FROM devices;
         INSERT INTO devices (user_id, device_id, hidden, last_seen)
         VALUES ('one', 'a', false, pg_temp.ago(86400 * 29)),
                ('one', 'b', false, pg_temp.ago(86400 * 31)),
                ('two', 'c', NULL, NULL), ('two', 'd', true, pg_temp.ago(9)),
                ('two', 'e', true, NULL)",
        &[
            ("synapse_db_devices", &[], 3.0),
            ("synapse_db_devices_hidden", &[], 2.0),
            ("synapse_db_devices_active_30d", &[], 1.0),
        ],
    ),
    (
        "visits: two users on each day around this one, one of them with two devices",
        "INSERT INTO user_daily_visits (user_id, device_id, timestamp)
         SELECT visitor.user_id, visitor.device_id, extract(epoch FROM day) * 1000
           FROM (VALUES ('one', 'a'), ('one', 'b'), ('two', 'c')) AS visitor (user_id, device_id),
                generate_series(date_trunc('day', now() AT TIME ZONE 'UTC') - interval '3 days',
                                date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day',
                                '1 day') AS day;
         INSERT INTO user_daily_visits (user_id, device_id, timestamp)
         VALUES ('back again', 'd', pg_temp.ago(86400 * 50)),
                ('back again', 'd', pg_temp.ago(86400 * 10)),
                ('back too late', 'e', pg_temp.ago(86400 * 70)),
                ('back too late', 'e', pg_temp.ago(86400 * 10)),
                ('back too soon', 'f', pg_temp.ago(86400 * 40)),
                ('back too soon', 'f', pg_temp.ago(86400 * 15))",
        &[
            ("synapse_db_users_active_yesterday", &[], 2.0),
            ("synapse_db_users_retained_30d", &[], 1.0),
        ],
    ),
    (
        "the month: one who is here, one behind a bridge, one who is gone",
        "INSERT INTO monthly_active_users (user_id, timestamp)
         SELECT name, 0 FROM users WHERE name LIKE '@person1:%' OR name LIKE '@bridged_one:%'
         UNION ALL VALUES ('@gone:demo.test', 0)",
        &[
            ("synapse_db_users_monthly_active", &[("kind", "native")], 2.0),
            ("synapse_db_users_monthly_active", &[("kind", "bridged")], 1.0),
        ],
    ),
    (
        "tokens that are used up, expired, exchanged",
        "INSERT INTO refresh_tokens (id, user_id, device_id, token, next_token_id)
         VALUES (1002, 'one', 'a', 'new', NULL), (1003, 'two', 'b', 'other', NULL),
                (1001, 'one', 'a', 'old', 1002);
         INSERT INTO access_tokens (id, user_id, token, valid_until_ms, puppets_user_id)
         VALUES (1001, 'one', 'expired', pg_temp.ago(60), NULL),
                (1002, 'one', 'expires', pg_temp.ago(-600), NULL),
                (1003, 'admin', 'puppets', NULL, 'one'),
                (1004, 'admin', 'puppeted', pg_temp.ago(600), 'one');
         INSERT INTO login_tokens (token, user_id, expiry_ts, used_ts)
         VALUES ('used', 'one', pg_temp.ago(-600), pg_temp.ago(9)),
                ('unused', 'one', pg_temp.ago(-600), NULL),
                ('expired', 'one', pg_temp.ago(9), NULL);
         INSERT INTO open_id_tokens (token, ts_valid_until_ms, user_id)
         VALUES ('expired', pg_temp.ago(9), 'one'), ('one', pg_temp.ago(-600), 'one'),
                ('two', pg_temp.ago(-600), 'two')",
        &[
            ("synapse_db_access_tokens_expired", &[], 2.0),
            ("synapse_db_access_tokens_puppeting", &[], 2.0),
            ("synapse_db_refresh_tokens", &[], 3.0),
            ("synapse_db_refresh_tokens_unused", &[], 2.0),
            ("synapse_db_login_tokens_valid", &[], 1.0),
            ("synapse_db_openid_tokens_valid", &[], 2.0),
        ],
    ),
    (
        "registration tokens, where no limit and no end may be 0 or unknown",
        "INSERT INTO registration_tokens (token, uses_allowed, pending, completed, expiry_time)
         VALUES ('unlimited', NULL, 1, 2, NULL), ('0 is unlimited', 0, 0, 1, 0),
                ('1 is left', 4, 1, 2, pg_temp.ago(-600)), ('used up', 3, 1, 2, NULL),
                ('expired', NULL, 0, 0, pg_temp.ago(9));
         INSERT INTO ui_auth_sessions
                (session_id, creation_time, serverdict, clientdict, uri, method, description)
         VALUES ('one', pg_temp.ago(9), '', '', '', '', ''), ('two', pg_temp.ago(9), '', '', '', '', '')",
        &[
            ("synapse_db_registration_tokens", &[], 5.0),
            ("synapse_db_registration_tokens_valid", &[], 3.0),
            ("synapse_db_registration_token_uses_pending", &[], 3.0),
            ("synapse_db_registration_token_uses_completed", &[], 7.0),
            ("synapse_db_ui_auth_sessions", &[], 2.0),
        ],
    ),
    (
        "pushers that fail, and disabled ones, which do not",
        "INSERT INTO pushers (id, user_name, profile_tag, kind, app_id, app_display_name,
                              device_display_name, pushkey, ts, failing_since, enabled)
         SELECT p.id, 'one', '', p.kind, 'app', '', '', p.id, 0, p.failing_since, p.enabled
           FROM (VALUES (1001, 'http', NULL, NULL), (1002, 'http', NULL, true),
                        (1003, 'http', pg_temp.ago(500), true),
                        (1004, 'http', pg_temp.ago(50), NULL),
                        (1005, 'http', pg_temp.ago(90000), false),
                        (1006, 'email', NULL, true), (1007, 'odd', NULL, true))
                AS p (id, kind, failing_since, enabled)",
        &[
            ("synapse_db_pushers", &[("kind", "http")], 5.0),
            ("synapse_db_pushers", &[("kind", "email")], 1.0),
            ("synapse_db_pushers", &[("kind", "other")], 1.0),
            ("synapse_db_pushers_disabled", &[("kind", "http")], 1.0),
            ("synapse_db_pushers_failing", &[("kind", "http")], 2.0),
            ("synapse_db_pushers_failing", &[("kind", "email")], 0.0),
            (
                "synapse_db_pushers_failing_oldest_age_seconds",
                &[("kind", "http")],
                500.0,
            ),
            (
                "synapse_db_pushers_failing_oldest_age_seconds",
                &[("kind", "email")],
                0.0,
            ),
        ],
    ),
    (
        "identities",
        "INSERT INTO user_threepids (user_id, medium, address, validated_at, added_at)
         VALUES ('one', 'email', 'a', 0, 0), ('one', 'email', 'b', 0, 0),
                ('two', 'msisdn', 'c', 0, 0), ('two', 'odd', 'd', 0, 0);
         INSERT INTO user_external_ids (auth_provider, external_id, user_id)
         VALUES ('oidc-demo', 'a', 'one'), ('oidc-demo', 'b', 'two'), ('saml', 'a', 'two')",
        &[
            ("synapse_db_user_threepids", &[("medium", "email")], 2.0),
            ("synapse_db_user_threepids", &[("medium", "msisdn")], 1.0),
            ("synapse_db_user_threepids", &[("medium", "other")], 1.0),
            (
                "synapse_db_user_external_ids",
                &[("auth_provider", "oidc-demo")],
                2.0,
            ),
            (
                "synapse_db_user_external_ids",
                &[("auth_provider", "saml")],
                1.0,
            ),
        ],
    ),
    (
        "keys for encryption, of which only one algorithm counts",
        "INSERT INTO e2e_device_keys_json (user_id, device_id, ts_added_ms, key_json)
         VALUES ('one', 'well', 0, ''), ('one', 'on fallback', 0, ''), ('two', 'exhausted', 0, ''),
                ('two', 'other keys', 0, '');
         INSERT INTO e2e_one_time_keys_json
                (user_id, device_id, algorithm, key_id, ts_added_ms, key_json)
         VALUES ('one', 'well', 'signed_curve25519', 'a', 0, ''),
                ('one', 'well', 'signed_curve25519', 'b', 0, ''),
                ('two', 'other keys', 'curve25519', 'a', 0, ''),
                ('two', 'gone', 'signed_curve25519', 'a', 0, '');
         INSERT INTO e2e_fallback_keys_json
                (user_id, device_id, algorithm, key_id, key_json, used)
         VALUES ('one', 'on fallback', 'signed_curve25519', 'a', '', true),
                ('two', 'other keys', 'curve25519', 'a', '', false);
         INSERT INTO e2e_room_keys_versions (user_id, version, algorithm, auth_data, deleted)
         VALUES ('one', 1, '', '', 1), ('one', 2, '', '', 0), ('one', 3, '', '', 0),
                ('two', 1, '', '', 0), ('three', 1, '', '', 1);
         INSERT INTO e2e_cross_signing_keys (user_id, keytype, keydata, stream_id)
         VALUES ('@person1:demo.test', 'master', '', 1001),
                ('@person1:demo.test', 'self_signing', '', 1002),
                ('@person1:demo.test', 'master', '', 1003),
                ('@person2:demo.test', 'user_signing', '', 1004),
                ('@leaver:demo.test', 'master', '', 1005),
                ('@one:well.example', 'master', '', 1006);
         INSERT INTO dehydrated_devices (user_id, device_id, device_data) VALUES ('one', 'a', '')",
        &[
            ("synapse_db_e2e_devices", &[], 4.0),
            ("synapse_db_e2e_devices_without_one_time_keys", &[], 3.0),
            ("synapse_db_e2e_devices_without_keys", &[], 2.0),
            ("synapse_db_users_cross_signing", &[], 1.0),
            ("synapse_db_key_backups", &[], 3.0),
            ("synapse_db_users_with_key_backup", &[], 2.0),
            ("synapse_db_dehydrated_devices", &[], 1.0),
        ],
    ),
    (
        "sliding sync",
        "INSERT INTO sliding_sync_connections (user_id, effective_device_id, conn_id, created_ts)
         VALUES ('one', 'a', 'main', 0), ('one', 'a', 'encryption', 0);
         INSERT INTO sliding_sync_connection_positions (connection_key, created_ts)
         SELECT connection_key, 0 FROM sliding_sync_connections, generate_series(1, 2);
         INSERT INTO sliding_sync_joined_rooms_to_recalculate SELECT room_id FROM rooms LIMIT 3",
        &[
            ("synapse_db_sliding_sync_connections", &[], 2.0),
            ("synapse_db_sliding_sync_connection_positions", &[], 4.0),
            ("synapse_db_sliding_sync_rooms_to_recalculate", &[], 3.0),
        ],
    ),
    (
        "users of other servers in the directory",
        "INSERT INTO user_directory_stale_remote_users
                (user_id, user_server_name, next_try_at_ts, retry_counter)
         VALUES ('@one:well.example', 'well.example', 0, 0)",
        &[("synapse_db_user_directory_stale_users", &[], 1.0)],
    ),
    (
        "reports of events",
        "INSERT INTO event_reports (id, received_ts, room_id, event_id, user_id)
         VALUES (1001, pg_temp.ago(600), 'room', 'one', 'two'),
                (1002, pg_temp.ago(300), 'room', 'one', 'three')",
        &[
            ("synapse_db_reports", &[("kind", "event")], 2.0),
            ("synapse_db_reports", &[("kind", "room")], 0.0),
            (
                "synapse_db_reports_newest_age_seconds",
                &[("kind", "event")],
                300.0,
            ),
        ],
    ),
];

/// What the older Synapse has no table for.
pub const LEFT_BY_NEW: &[Left] = &[(
    "reports of users",
    "INSERT INTO user_reports (id, received_ts, target_user_id, user_id, reason)
     VALUES (1001, pg_temp.ago(90), 'one', 'two', '')",
    &[
        ("synapse_db_reports", &[("kind", "user")], 1.0),
        (
            "synapse_db_reports_newest_age_seconds",
            &[("kind", "user")],
            90.0,
        ),
    ],
)];
