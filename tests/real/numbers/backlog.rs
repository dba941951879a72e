//! Of what piles up: queues, other servers, rooms.

use super::Left;

/// Rows as Synapse leaves them, and what is served of them.
pub const LEFT: &[Left] = &[
    (
        "background updates, one of which waits for another",
        "INSERT INTO background_updates (update_name, progress_json, depends_on)
         VALUES ('one', '{}', NULL), ('two', '{}', 'one'), ('three', '{}', 'long done')",
        &[
            ("synapse_db_background_updates_pending", &[], 3.0),
            ("synapse_db_background_updates_waiting", &[], 1.0),
            (
                "synapse_db_background_update_info",
                &[("update_name", "two")],
                1.0,
            ),
        ],
    ),
    (
        "application services that read streams",
        "INSERT INTO application_services_state (as_id, state, presence_stream_id)
         SELECT 'reader', 'up', max(stream_id) - 7 FROM stream_positions
          WHERE stream_name = 'presence_stream'
         UNION ALL
         SELECT 'ahead', 'up', max(stream_id) + 9 FROM stream_positions
          WHERE stream_name = 'presence_stream'",
        &[
            (
                "synapse_db_appservice_stream_behind_positions",
                &[("as_id", "reader"), ("stream_name", "presence_stream")],
                7.0,
            ),
            (
                "synapse_db_appservice_stream_ahead_positions",
                &[("as_id", "reader"), ("stream_name", "presence_stream")],
                0.0,
            ),
            (
                "synapse_db_appservice_stream_ahead_positions",
                &[("as_id", "ahead"), ("stream_name", "presence_stream")],
                9.0,
            ),
        ],
    ),
    (
        "the backlog of device lists: what is not above the position is done, whatever its flag says",
        "UPDATE device_lists_changes_converted_stream_position SET stream_id = 500, room_id = '!b';
         INSERT INTO device_lists_changes_in_room
                (user_id, device_id, room_id, stream_id, converted_to_destinations)
         VALUES ('one', 'A', '!z', 499, false), ('one', 'A', '!a', 500, false),
                ('one', 'A', '!b', 500, false), ('one', 'A', '!c', 500, false),
                ('one', 'A', '!a', 501, false), ('one', 'A', '!a', 502, true);
         INSERT INTO device_lists_outbound_pokes
                (destination, stream_id, user_id, device_id, sent, ts)
         VALUES ('well.example', 9, 'one', 'A', false, pg_temp.ago(700)),
                ('well.example', 12, 'two', 'A', false, pg_temp.ago(60)),
                ('well.example', 13, 'two', 'A', true, pg_temp.ago(60)),
                ('far.example', 12, 'one', 'A', false, pg_temp.ago(60));
         INSERT INTO device_lists_remote_resync (user_id, added_ts)
         VALUES ('far one', pg_temp.ago(300)), ('far two', pg_temp.ago(30))",
        &[
            ("synapse_db_device_list_changes_unconverted", &[], 2.0),
            (
                "synapse_db_device_list_pokes_oldest_age_seconds",
                &[],
                700.0,
            ),
            ("synapse_db_device_list_pokes", &[], 3.0),
            ("synapse_db_device_list_pokes_destinations", &[], 2.0),
            ("synapse_db_device_list_resyncs", &[], 2.0),
            (
                "synapse_db_device_list_resyncs_oldest_age_seconds",
                &[],
                300.0,
            ),
        ],
    ),
    (
        "messages between devices, some for a device that is gone",
        "SELECT setval('device_inbox_sequence', 1000);
         INSERT INTO stream_positions (stream_name, instance_name, stream_id)
         VALUES ('to_device', 'writer', 1000);
         INSERT INTO device_inbox (user_id, device_id, stream_id, message_json)
         VALUES ('one', 'a', 991, '{}');
         INSERT INTO device_inbox (user_id, device_id, stream_id, message_json)
         VALUES ('one', 'gone', 995, '{}'), ('one', 'gone', 996, '{}');
         INSERT INTO device_federation_outbox (destination, stream_id, queued_ts, messages_json)
         VALUES ('well.example', 992, pg_temp.ago(500), '{}'),
                ('well.example', 997, pg_temp.ago(50), '{}'),
                ('far.example', 998, pg_temp.ago(40), '{}')",
        &[
            (
                "synapse_db_stream_writer_position",
                &[("stream_name", "to_device"), ("instance_name", "writer")],
                1000.0,
            ),
            ("synapse_db_device_inbox_oldest_behind_positions", &[], 10.0),
            ("synapse_db_device_inbox_messages", &[], 3.0),
            ("synapse_db_device_inbox_messages_orphaned", &[], 2.0),
            ("synapse_db_device_outbox_oldest_age_seconds", &[], 500.0),
            ("synapse_db_device_outbox_messages", &[], 3.0),
            ("synapse_db_device_outbox_destinations", &[], 2.0),
        ],
    ),
    (
        "graphs of events",
        "INSERT INTO event_forward_extremities (event_id, room_id)
         SELECT event_id, 'many' FROM events ORDER BY 1 LIMIT 12;
         INSERT INTO event_forward_extremities (event_id, room_id)
         SELECT event_id, 'some' FROM events ORDER BY 1 LIMIT 9;
         INSERT INTO event_failed_pull_attempts
                (room_id, event_id, num_attempts, last_attempt_ts, last_cause)
         SELECT room_id, name, tried, tried_at, 'unreachable'
           FROM (SELECT room_id FROM rooms LIMIT 1) AS room,
                (VALUES ('one', 1, pg_temp.ago(100)), ('two', 5, pg_temp.ago(90000)),
                        ('three', 2, pg_temp.ago(5))) AS events (name, tried, tried_at);
         INSERT INTO event_auth_chain_to_calculate (event_id, room_id, type, state_key)
         VALUES ('one', 'room', 'm.room.member', ''), ('two', 'room', 'm.room.member', '')",
        &[
            ("synapse_db_forward_extremities_max", &[], 12.0),
            (
                "synapse_db_rooms_with_forward_extremities",
                &[("at_least", "10")],
                1.0,
            ),
            ("synapse_db_event_pulls_failed", &[], 3.0),
            ("synapse_db_event_pulls_failed_24h", &[], 2.0),
            ("synapse_db_event_pulls_failed_rooms", &[], 1.0),
            ("synapse_db_event_pulls_failed_attempts_max", &[], 5.0),
            ("synapse_db_auth_chains_to_calculate", &[], 2.0),
        ],
    ),
    (
        "what is to be cleared away",
        "INSERT INTO redactions (event_id, redacts, have_censored, received_ts)
         VALUES ('done', 'one', true, pg_temp.ago(900000)),
                ('old', 'two', false, pg_temp.ago(700000)),
                ('new', 'three', false, pg_temp.ago(60));
         INSERT INTO event_expiry (event_id, expiry_ts)
         VALUES ('over', pg_temp.ago(90)), ('soon', pg_temp.ago(-600)),
                ('later', pg_temp.ago(-9000));
         INSERT INTO received_transactions (transaction_id, origin, ts)
         VALUES ('one', 'well.example', pg_temp.ago(90000)),
                ('two', 'well.example', pg_temp.ago(5))",
        &[
            ("synapse_db_redactions_uncensored", &[], 2.0),
            (
                "synapse_db_redactions_uncensored_oldest_age_seconds",
                &[],
                700_000.0,
            ),
            ("synapse_db_events_expiry_overdue", &[], 1.0),
            (
                "synapse_db_received_transactions_oldest_age_seconds",
                &[],
                90_000.0,
            ),
        ],
    ),
    (
        "servers to catch up: one is up to date, one was never reached",
        "UPDATE destinations SET last_successful_stream_ordering = 10
          WHERE destination IN ('well.example', 'new.example');
         UPDATE destinations SET last_successful_stream_ordering = 100
          WHERE destination = 'old.example';
         INSERT INTO destination_rooms (destination, room_id, stream_ordering)
         SELECT destination, room_id, newest
           FROM (SELECT room_id, row_number() OVER () AS place FROM rooms) AS rooms
           JOIN (VALUES ('well.example', 1, 11), ('well.example', 2, 12), ('well.example', 3, 10),
                        ('new.example', 1, 10), ('old.example', 1, 101),
                        ('unknown.example', 1, 5)) AS sent (destination, place, newest)
                USING (place);
         WITH joined AS (
                UPDATE events SET received_ts = pg_temp.ago(5000)
                 WHERE event_id = (SELECT min(event_id) FROM events
                                    WHERE type = 'm.room.member')
                RETURNING event_id)
         UPDATE partial_state_rooms SET join_event_id = (SELECT event_id FROM joined)",
        &[
            ("synapse_db_federation_destinations_behind", &[], 2.0),
            ("synapse_db_federation_destination_rooms_behind", &[], 3.0),
            (
                "synapse_db_rooms_partial_state_oldest_age_seconds",
                &[],
                5000.0,
            ),
        ],
    ),
    (
        "consumers that are behind",
        "UPDATE stats_incremental_position
            SET stream_id = (SELECT max(stream_id) - 4 FROM stream_positions
                              WHERE stream_name = 'events');
         INSERT INTO federation_stream_position (type, instance_name, stream_id)
         SELECT kind, 'sender', max(stream_id) - 6
           FROM stream_positions, (VALUES ('events'), ('federation')) AS kinds (kind)
          WHERE stream_name = 'events'
          GROUP BY 1",
        &[
            (
                "synapse_db_consumer_behind_positions",
                &[("consumer", "stats")],
                4.0,
            ),
            (
                "synapse_db_consumer_behind_positions",
                &[
                    ("consumer", "federation_sender"),
                    ("instance_name", "sender"),
                ],
                6.0,
            ),
        ],
    ),
    (
        "a membership is the last word, and not the history",
        "INSERT INTO room_memberships
                (event_id, user_id, sender, room_id, membership)
         SELECT 'membership ' || n, '@one:demo.test', '@one:demo.test', '!one', membership
           FROM (VALUES (1, 'invite'), (2, 'join'), (3, 'leave'), (4, 'join'))
                AS history (n, membership);
         DELETE FROM local_current_membership;
         INSERT INTO local_current_membership (room_id, user_id, event_id, membership)
         VALUES ('!one', '@one:demo.test', 'membership 4', 'join')",
        &[(
            "synapse_db_local_memberships",
            &[("membership", "join")],
            1.0,
        )],
    ),
    (
        "who made a room: from version 12 on its id does not say so",
        "UPDATE rooms SET creator = '@one:not.demo.test'
          WHERE room_id <> (SELECT min(room_id) FROM rooms);
         INSERT INTO blocked_rooms (room_id, user_id) VALUES ('!one', 'admin'), ('!two', 'admin');
         UPDATE room_stats_state SET join_rules = 'odd'
          WHERE room_id = (SELECT min(room_id) FROM rooms);
         UPDATE room_stats_current SET local_users_in_room = 0
          WHERE room_id = (SELECT room_id FROM room_stats_state WHERE encryption IS NOT NULL)",
        &[
            ("synapse_db_rooms_created_here", &[], 1.0),
            ("synapse_db_rooms_blocked", &[], 2.0),
            (
                "synapse_db_rooms_by_join_rule",
                &[("join_rule", "other")],
                1.0,
            ),
            ("synapse_db_rooms_encrypted_with_local_users", &[], 0.0),
        ],
    ),
];

/// The same, of a Synapse that has the tables and columns.
pub const LEFT_BY_NEW: &[Left] = &[(
    "times that the older Synapse does not note",
    "UPDATE device_lists_changes_in_room
        SET inserted_ts = pg_temp.ago(CASE stream_id WHEN 500 THEN 400 WHEN 501 THEN 50
                                      ELSE 90000 END);
     DELETE FROM state_groups_pending_deletion;
     INSERT INTO state_groups_pending_deletion (state_group, insertion_ts)
     VALUES (1, pg_temp.ago(800)), (2, pg_temp.ago(80))",
    &[
        (
            "synapse_db_device_list_changes_unconverted_oldest_age_seconds",
            &[],
            400.0,
        ),
        (
            "synapse_db_device_list_changes_oldest_age_seconds",
            &[],
            90_000.0,
        ),
        ("synapse_db_state_groups_pending_deletion", &[], 2.0),
        (
            "synapse_db_state_groups_pending_deletion_oldest_age_seconds",
            &[],
            800.0,
        ),
    ],
)];
