//! Of what Synapse does behind the scenes: tasks, locks, what it waits for.

use super::Left;

/// Rows as Synapse leaves them, and what is served of them.
pub const LEFT: &[Left] = &[
    (
        "tasks, of which the active ones have an age",
        "INSERT INTO scheduled_tasks (id, action, status, timestamp)
         VALUES ('1', 'purge_room', 'active', pg_temp.ago(7200)),
                ('2', 'purge_room', 'active', pg_temp.ago(30)),
                ('3', 'purge_room', 'failed', pg_temp.ago(86400)),
                ('4', 'purge_history', 'failed', pg_temp.ago(9)),
                ('5', 'purge_history', 'failed', pg_temp.ago(8)),
                ('6', 'purge_history', 'complete', pg_temp.ago(1)),
                ('7', 'purge_history', 'scheduled', pg_temp.ago(259200)),
                ('8', 'purge_history', 'scheduled', pg_temp.ago(60)),
                ('9', 'purge_history', 'scheduled', pg_temp.ago(-600))",
        &[
            (
                "synapse_db_scheduled_tasks",
                &[("action", "purge_room"), ("status", "active")],
                2.0,
            ),
            (
                "synapse_db_scheduled_tasks",
                &[("action", "purge_room"), ("status", "failed")],
                1.0,
            ),
            (
                "synapse_db_scheduled_tasks",
                &[("action", "purge_history"), ("status", "failed")],
                2.0,
            ),
            (
                "synapse_db_scheduled_tasks",
                &[("action", "purge_history"), ("status", "scheduled")],
                3.0,
            ),
            (
                "synapse_db_scheduled_tasks_active_oldest_age_seconds",
                &[("action", "purge_room")],
                7200.0,
            ),
            (
                "synapse_db_scheduled_tasks_due_oldest_age_seconds",
                &[("action", "purge_history")],
                259_200.0,
            ),
            (
                "synapse_db_scheduled_tasks_failed_newest_age_seconds",
                &[("action", "purge_room")],
                86_400.0,
            ),
            (
                "synapse_db_scheduled_tasks_failed_newest_age_seconds",
                &[("action", "purge_history")],
                8.0,
            ),
        ],
    ),
    (
        "locks are stale when they are not renewed for two minutes",
        "INSERT INTO worker_locks (lock_name, lock_key, instance_name, token, last_renewed_ts)
         VALUES ('federation_inbound_pdu', 'one', 'master', 'a', pg_temp.ago(-600)),
                ('federation_inbound_pdu', 'two', 'master', 'b', pg_temp.ago(125)),
                ('federation_inbound_pdu', 'three', 'master', 'c', pg_temp.ago(-600))",
        &[
            (
                "synapse_db_worker_locks",
                &[
                    ("lock_name", "federation_inbound_pdu"),
                    ("mode", "exclusive"),
                ],
                3.0,
            ),
            (
                "synapse_db_worker_locks_stale",
                &[
                    ("lock_name", "federation_inbound_pdu"),
                    ("mode", "exclusive"),
                ],
                1.0,
            ),
        ],
    ),
    (
        "servers that fail, those that do so lately, and those that are let alone",
        "INSERT INTO destinations (destination, retry_last_ts, retry_interval, failure_ts)
         VALUES ('well.example', 0, 0, NULL), ('unknown.example', NULL, NULL, NULL),
                ('old.example', pg_temp.ago(600), 60000, pg_temp.ago(700000)),
                ('new.example', pg_temp.ago(60), 600000, pg_temp.ago(60)),
                ('older.example', pg_temp.ago(60), 86400000, pg_temp.ago(4000));
         INSERT INTO federation_inbound_events_staging
                (origin, room_id, event_id, received_ts, event_json, internal_metadata)
         VALUES ('well.example', 'room', 'one', pg_temp.ago(90), '{}', '{}'),
                ('well.example', 'room', 'two', pg_temp.ago(5), '{}', '{}');
         INSERT INTO partial_state_rooms (room_id) SELECT room_id FROM rooms LIMIT 1",
        &[
            ("synapse_db_federation_destinations", &[], 5.0),
            ("synapse_db_federation_destinations_failing", &[], 3.0),
            (
                "synapse_db_federation_destinations_newly_failing_1h",
                &[],
                1.0,
            ),
            ("synapse_db_federation_destinations_backing_off", &[], 2.0),
            ("synapse_db_federation_inbound_staged", &[], 2.0),
            (
                "synapse_db_federation_inbound_staged_oldest_age_seconds",
                &[],
                90.0,
            ),
            ("synapse_db_rooms_partial_state", &[], 1.0),
        ],
    ),
    (
        "application services that are down, up, and never heard of",
        "INSERT INTO application_services_state (as_id, state)
         VALUES ('tired', 'down'), ('fresh', 'up'), ('silent', NULL);
         INSERT INTO application_services_txns (as_id, txn_id, event_ids)
         VALUES ('tired', 1001, '[]'), ('tired', 1002, '[]'), ('slow', 1003, '[]'),
                ('also tired', 1000, '[]');
         SELECT setval('application_services_txn_id_seq', 1003)",
        &[
            ("synapse_db_appservice_down", &[("as_id", "tired")], 1.0),
            ("synapse_db_appservice_down", &[("as_id", "fresh")], 0.0),
            (
                "synapse_db_appservice_transactions_waiting",
                &[("as_id", "tired")],
                2.0,
            ),
            (
                "synapse_db_appservice_transactions_waiting",
                &[("as_id", "also tired")],
                1.0,
            ),
            (
                "synapse_db_appservice_transactions_waiting",
                &[("as_id", "slow")],
                1.0,
            ),
            (
                "synapse_db_appservice_transactions",
                &[("as_id", "tired")],
                2.0,
            ),
        ],
    ),
    (
        "delayed events whose time is over, and those that are sent",
        "INSERT INTO delayed_events
                (delay_id, user_localpart, delay, send_ts, room_id, event_type, content,
                 is_processed)
         VALUES ('1', 'one', 1000, pg_temp.ago(90), 'room', 'type', '', false),
                ('2', 'one', 1000, pg_temp.ago(-900), 'room', 'type', '', false),
                ('3', 'one', 1000, pg_temp.ago(90), 'room', 'type', '', true)",
        &[
            ("synapse_db_delayed_events", &[], 2.0),
            ("synapse_db_delayed_events_overdue", &[], 1.0),
        ],
    ),
    (
        "staged notifications, one of a time when none was noted",
        "INSERT INTO event_push_actions_staging
                (event_id, user_id, actions, notif, highlight, thread_id, unread)
         VALUES ('one', 'one', '[]', 1, 0, 'main', 0);
         INSERT INTO event_push_actions_staging
                (event_id, user_id, actions, notif, highlight, thread_id, unread, inserted_ts)
         VALUES ('two', 'one', '[]', 1, 0, 'main', 0, pg_temp.ago(40))",
        &[
            ("synapse_db_push_actions_staged", &[], 2.0),
            (
                "synapse_db_push_actions_staged_oldest_age_seconds",
                &[],
                40.0,
            ),
        ],
    ),
    (
        "who is there: milliseconds, and more of them than an integer holds",
        "INSERT INTO user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
         VALUES ('away 50 minutes', '', '', '', '', pg_temp.ago(3000)),
                ('away 5 hours', '', '', '', '', pg_temp.ago(18000)),
                ('away 5 days', '', '', '', '', pg_temp.ago(432000)),
                ('away 5 days', '', '', 'twice', '', pg_temp.ago(432000)),
                ('away 9 days', '', '', '', '', pg_temp.ago(777600)),
                ('away 40 days', '', '', '', '', pg_temp.ago(3456000));
         INSERT INTO presence_stream (user_id, state)
         VALUES ('one', 'unavailable'), ('two', 'org.matrix.msc3026.busy'), ('three', 'odd'),
                ('four', 'offline')",
        &[
            ("synapse_db_users_active", &[("within", "1h")], 1.0),
            ("synapse_db_users_active", &[("within", "24h")], 2.0),
            ("synapse_db_users_active", &[("within", "7d")], 3.0),
            ("synapse_db_users_active", &[("within", "30d")], 4.0),
            (
                "synapse_db_users_by_presence",
                &[("presence", "unavailable")],
                1.0,
            ),
            ("synapse_db_users_by_presence", &[("presence", "busy")], 1.0),
            (
                "synapse_db_users_by_presence",
                &[("presence", "other")],
                1.0,
            ),
        ],
    ),
];

/// What is in tables that a standby does not have.
pub const LEFT_UNLOGGED: &[Left] = &[(
    "locks that readers share, and writers hold alone",
    "INSERT INTO worker_read_write_locks_mode (lock_name, lock_key, write_lock, token)
     VALUES ('purge_pagination_lock', 'one', false, 'd'),
            ('purge_pagination_lock', 'two', true, 'f');
     INSERT INTO worker_read_write_locks
            (lock_name, lock_key, instance_name, write_lock, token, last_renewed_ts)
     VALUES ('purge_pagination_lock', 'one', 'master', false, 'd', pg_temp.ago(-600)),
            ('purge_pagination_lock', 'one', 'worker', false, 'e', pg_temp.ago(-600)),
            ('purge_pagination_lock', 'two', 'master', true, 'f', pg_temp.ago(300))",
    &[
        (
            "synapse_db_worker_locks",
            &[("lock_name", "purge_pagination_lock"), ("mode", "read")],
            2.0,
        ),
        (
            "synapse_db_worker_locks_stale",
            &[("lock_name", "purge_pagination_lock"), ("mode", "read")],
            0.0,
        ),
        (
            "synapse_db_worker_locks_stale",
            &[("lock_name", "purge_pagination_lock"), ("mode", "write")],
            1.0,
        ),
    ],
)];

/// Tables in which there is nothing but what is left.
pub const EMPTIED: &[&str] = &[
    "access_tokens",
    "application_services_state",
    "application_services_txns",
    "background_updates",
    "delayed_events",
    "destinations",
    "device_inbox",
    "device_lists_changes_in_room",
    "e2e_cross_signing_keys",
    "e2e_device_keys_json",
    "e2e_fallback_keys_json",
    "e2e_one_time_keys_json",
    "e2e_room_keys_versions",
    "event_push_actions_staging",
    "event_reports",
    "local_media_repository",
    "monthly_active_users",
    "open_id_tokens",
    "presence_stream",
    "pushers",
    "redactions",
    "registration_tokens",
    "room_reports",
    "scheduled_tasks",
    "ui_auth_sessions",
    "user_external_ids",
    "user_ips",
    "user_threepids",
    "worker_locks",
];
