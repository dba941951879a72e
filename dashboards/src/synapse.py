"""The dashboard of one Synapse database: does Synapse get on, who uses it, and what does it cost."""

from grafana_foundation_sdk.builders import dashboard

from instance import DEAD_SHARE, SESSIONS, TABLE_SIZE, by_table, largest, top_tables
from panels import (
    BLUE,
    GREEN,
    INSTANCE,
    ORANGE,
    RED,
    SYNAPSE,
    bars,
    begin,
    choice,
    graph,
    mark,
    rows,
    stat,
    table,
    top,
)

# What sends to bridges stands still where there is none.
READERS = """(synapse_db_consumer_behind{db} unless on (job, instance, datname, consumer)
               (synapse_db_consumer_behind{db, consumer="appservice"}
                  unless on (job, instance, datname) synapse_db_appservice_users{db}))"""


def synapse() -> dashboard.Dashboard:
    """Complements Synapse's own dashboard, which sees its processes and not its database."""
    board = (
        begin(
            "Synapse database",
            SYNAPSE,
            """One database of Synapse, read from its tables: what Synapse's own metrics cannot
            say, above all when its workers hang. From top to bottom: is it well, do its streams
            move, and how much work is it; and folded below, who uses it and which tables grow.""",
        )
        .with_variable(
            choice(
                "datname",
                "Database",
                'label_values(synapse_db_schema_version{job="$job", instance="$instance"}, datname)',
            )
        )
        .annotation(mark("Synapse's schema was updated", "synapse_db_schema_version", "purple"))
    )
    return rows(
        board,
        {"Is it well?": now(), "Does Synapse get on?": streams(), "How much work is it?": work()},
        {
            "How many events are there?": events(),
            "Users, devices and rooms": people(),
            "Who comes, how are they reached, can they encrypt?": care(),
            "How much do files take?": files(),
            "Rooms: who may join, and who is in them?": room_kinds(),
            "Backlogs: what piles up?": backlogs(),
            "Federation: do we hear others, and they us?": federation(),
            "Which tables grow?": tables(),
            "Schema and storage": schema(),
            "Can this page be trusted? The exporter itself": exporter(),
        },
    )


def now() -> list:
    """One number each."""
    server = {"The whole server": INSTANCE}
    return [
        stat(
            "New events",
            """Events that Synapse stores per second: messages, joins, reactions, from here and from
            other servers. Zero at an hour when people write means that Synapse is stuck.""",
            """sum(deriv(synapse_db_stream_position{db, stream_name="events"}[5m])
               and synapse_db_stream_position{db, stream_name="events"})""",
            "count:/s",
            decimals=1,
            runbook="SynapseEventPersistenceStalled",
        ),
        stat(
            "Background updates",
            """Updates of its tables that Synapse does behind its work, after an upgrade. They may
            take days on a large server; the graph below tells whether they get on.""",
            "sum(synapse_db_background_updates_pending{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
            runbook="SynapseBackgroundUpdateStuck",
        ),
        stat(
            "Sequences behind",
            """Above zero Synapse will refuse its next start. It happens after a restore, a
            fail-over or on a logical copy: correct the sequences before anything restarts.""",
            "count(synapse_db_sequence_behind{db} > 0) or 0 * sum(synapse_db_schema_version{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, RED)),
            runbook="SynapseSequenceBehindStream",
        ),
        stat(
            "Slowest reader lacks",
            """Events that the slowest of Synapse's readers of the event stream has yet to see.
            Hundreds for a moment are usual; what stays or grows is a reader that hangs.""",
            f"max({READERS})",
            "count:events",
            steps=((None, GREEN), (1000, ORANGE), (10000, RED)),
            none="no readers seen",
            runbook="SynapseConsumerBehind",
        ),
        stat(
            "Oldest open transaction",
            """In this database. Synapse's own take seconds, index builds and pg_dump hours. As long
            as it is open, dead rows stay.""",
            "max(pg_activity_longest_transaction_seconds{db})",
            "s",
            steps=((None, GREEN), (300, ORANGE), (3600, RED)),
            decimals=0,
            see=server,
        ),
        stat(
            "Not seen by exporter",
            """Collectors that could not see everything in this database. What they would show is
            missing on this page, not well. The last row says which, and why. What this version or
            role does not have is not counted.""",
            """count(pg_exporter_collector_skipped{db, reason!~"wrong_role|unsupported_version|setting_off"})
               or 0 * sum(synapse_db_schema_version{db})""",
            says={0: ("nothing amiss", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
        ),
        stat(
            "Users",
            "Accounts that are not deactivated, guests and bridged ones too.",
            'sum(synapse_db_users{db, deactivated="false"})',
            steps=((None, BLUE),),
        ),
        stat(
            "Devices in 30 days",
            "Devices that were seen within 30 days: what people really use.",
            "sum(synapse_db_devices_active_30d{db})",
            steps=((None, BLUE),),
        ),
        stat(
            "Rooms with our users",
            """Rooms that somebody of this server is in. Rooms that all have left are still stored;
            deleting them by the admin API gives space back.""",
            "sum(synapse_db_rooms_with_local_users{db})",
            steps=((None, BLUE),),
        ),
        stat(
            "The database takes",
            "Disk space of the database, with indexes and what vacuum has yet to free.",
            "sum(pg_database_size_bytes{db})",
            "bytes",
            steps=((None, BLUE),),
            see=server,
        ),
        stat(
            "Its schema is",
            """Version of the schema. It rises with upgrades of Synapse; each rise is marked in the
            graphs. Two copies of a database that differ in it are no copies any more.""",
            "max(synapse_db_schema_version{db})",
            "none",
            steps=((None, BLUE),),
            runbook="SynapseSchemaDiffers",
        ),
        stat(
            "Can go back to schema",
            """Oldest schema to which Synapse can be rolled back with this database. A release that
            needs an older one can only be had by restoring a backup.""",
            "max(synapse_db_schema_compat_version{db})",
            "none",
            steps=((None, BLUE),),
        ),
    ]


def streams() -> list:
    """Whether what Synapse writes reaches those who read it."""
    return [
        graph(
            "How fast do the streams move?",
            """Positions per second of Synapse's streams: events, receipts, presence and so on.
            Their proportions tell what keeps the database busy: a flood of to_device or
            device_lists_stream is encryption, one of presence_stream is who is online.""",
            (
                top(
                    8,
                    """sum by (stream_name)
                       (abs(deriv(synapse_db_stream_position{db}[$__rate_interval])))""",
                    """sum by (stream_name)
                       (abs(delta(synapse_db_stream_position{db}[$__range] @ end())))""",
                ),
                "{{stream_name}}",
            ),
            unit="count:/s",
        ),
        graph(
            "Who is behind the events?",
            """Events that each reader has yet to see: statistics, user directory, bridges
            (appservice), push, and federation senders. Back to zero soon is well. A ramp is a reader
            that hangs: bridges or other servers then miss messages.""",
            (
                f"max by (consumer, instance_name) ({READERS})",
                "{{consumer}} {{instance_name}}",
            ),
            unit="count:events",
            runbook="SynapseConsumerBehind",
        ),
        graph(
            "Which writers are behind their stream?",
            """Positions between each stream's newest and what its slowest writer has written. One
            writer alone is never behind. Of several, an idle one catches up within minutes; one that
            does not holds up everybody who reads the stream.""",
            (
                """max by (stream_name) (
                     abs(synapse_db_stream_position{db}
                       - on (job, instance, datname, stream_name) group_right ()
                         synapse_db_stream_writer_position{db}))""",
                "{{stream_name}}",
            ),
        ),
        graph(
            "Do background updates get on?",
            """Updates that are queued or running. It rises at an upgrade and should fall, step by
            step. A flat line for days is an update that hangs or fails: Synapse's log has its name,
            the row on tables too.""",
            ("sum(synapse_db_background_updates_pending{db})", "left"),
            runbook="SynapseBackgroundUpdateStuck",
        ),
    ]


def work() -> list:
    """What Synapse makes the database do."""
    return [
        graph(
            "How many transactions?",
            """Transactions per second. Rollbacks are usual: Synapse repeats what collided. Many of
            them for long mean that workers fight over the same rows.""",
            ("sum(rate(pg_stat_database_xact_commit{db}[$__rate_interval]))", "committed"),
            ("sum(rate(pg_stat_database_xact_rollback{db}[$__rate_interval]))", "rolled back"),
            unit="count:tx/s",
        ),
        graph(
            "What do Synapse's connections do?",
            """Sessions in this database by state. Idle is the pool of the workers. Active near the
            sum of all cp_max means that requests wait for a connection.""",
            (SESSIONS, "{{state}}"),
            stack=True,
            see={"The whole server": INSTANCE},
        ),
        graph(
            "Which tables are written most?",
            """Rows per second that were inserted, updated or deleted, in the eight tables where it
            is most. Know the usual order: a newcomer at the top is the cause of what is new.""",
            (
                top_tables(
                    8,
                    "pg_stat_user_tables_n_tup_ins",
                    "pg_stat_user_tables_n_tup_upd",
                    "pg_stat_user_tables_n_tup_del",
                ),
                "{{relname}}",
            ),
            unit="count:rows/s",
            many=True,
        ),
        graph(
            "Which tables are read row by row?",
            """Rows per second that sequential scans read, in the eight tables where it is most. On a
            large table this is a missing index or stale statistics: run ANALYZE on it.""",
            (
                top_tables(8, "pg_stat_user_tables_seq_tup_read"),
                "{{relname}}",
            ),
            unit="count:rows/s",
            many=True,
        ),
    ]


def events() -> list:
    """What people write, and what it adds up to."""
    return [
        graph(
            "How much is written a day?",
            """Events of the last 24 hours at each moment, from here and from other servers. Encrypted
            ones are messages, reactions and edits alike. Purges do not lower it.""",
            (
                """sum by (kind) (increase(synapse_db_events_added_total{db, origin="live",
                   kind=~"message|encrypted|state"}[1d]))""",
                "{{kind}}",
            ),
            unit="count:events",
        ),
        graph(
            "How many events are kept?",
            """All events of the database, by what they are; they overlap. A fall is a purge or
            retention at work. Steep lines of state are joins and leaves: of a bridge, or of spam.""",
            ("sum(synapse_db_events{db})", "all"),
            ("sum(synapse_db_events_messages{db})", "messages"),
            ("sum(synapse_db_events_encrypted{db})", "encrypted"),
            ("sum(synapse_db_events_state{db})", "state"),
            ('sum(synapse_db_events{db, origin="backfill"})', "fetched by backfill"),
            unit="count:events",
        ),
        graph(
            "Are these numbers exact?",
            """100 % exact: each number is that of a full count as of a moment within the last 15
            minutes. Below, see what is missing: events that are not counted yet, or ranges that are
            to be compared since events were deleted.""",
            ("min(synapse_db_events_exact{db})", "exact"),
            ("min(synapse_db_events_counted_ratio{db})", "counted"),
            (
                """1 - max(synapse_db_events_dirty_buckets{db}
                         / (synapse_db_events_buckets{db} > 0) or 0 * synapse_db_events_buckets{db})""",
                "verified",
            ),
            unit="percentunit",
            runbook="PostgresExporterEventsInexact",
        ),
        graph(
            "How old are these numbers?",
            """Age of the moment as of which the numbers of events are exact: below a minute on a
            primary of 15 and newer, some minutes elsewhere or beside a long transaction; missing
            while they are estimates. And of the range that was verified longest ago: everything is
            counted again within a day; more than that, and the share of the time is too small.""",
            ("time() - min(synapse_db_events_as_of_timestamp_seconds{db})", "exact as of"),
            ("time() - min(synapse_db_events_verified_timestamp_seconds{db})", "oldest range"),
            unit="s",
        ),
    ]


def people() -> list:
    """Who uses it, and how."""
    return [
        graph(
            "Who are the users?",
            """Accounts by kind. A jump of native ones that nobody expects is a wave of spam
            registrations; a jump of bridged ones is a bridge that was connected.""",
            ('sum by (kind) (synapse_db_users{db, deactivated="false"})', "{{kind}}"),
            ('sum(synapse_db_users{db, deactivated="true"})', "deactivated"),
            stack=True,
            width=8,
        ),
        bars(
            "Which accounts are special?",
            "Accounts with each flag, deactivated ones not counted. Know your admins.",
            "sum by (flag) (synapse_db_users_flagged{db})",
            "{{flag}}",
        ),
        graph(
            "How many devices?",
            """Devices in all, and those seen within 30 days. What is never seen again is never
            removed either, and each message to an encrypted room is meant for all of them.""",
            ("sum(synapse_db_devices{db})", "all"),
            ("sum(synapse_db_devices_active_30d{db})", "seen within 30 days"),
            width=8,
        ),
        graph(
            "What rooms are there?",
            """Rooms that the server knows. Those that all users of this server have left only take
            space here: the admin API deletes them. Without statistics of its rooms, Synapse knows
            little of this.""",
            ("sum(synapse_db_rooms{db})", "all"),
            ("sum(synapse_db_rooms_with_local_users{db})", "with users of this server"),
            ("sum(synapse_db_rooms_encrypted{db})", "encrypted"),
            ("sum(synapse_db_rooms_published{db})", "in the room directory"),
            ("sum(synapse_db_rooms_spaces{db})", "spaces"),
            ("sum(synapse_db_rooms_empty{db})", "left by all users of this server"),
            width=8,
        ),
        bars(
            "Of which version are the rooms?",
            "Rooms by room version. Old versions lack fixes of the protocol: upgrade such rooms.",
            "sum by (room_version) (synapse_db_rooms{db})",
            "version {{room_version}}",
        ),
        bars(
            "Who is in the rooms?",
            "Members of the rooms with users of this server, of all servers, each counted once per room.",
            "sum by (membership) (synapse_db_room_members{db})",
            "{{membership}}",
        ),
        graph(
            "How much state do rooms have?",
            """State events of the room that has most: its members, roles and settings. Above a
            hundred thousand, joins and state resolution take minutes and fill memory.""",
            ("max(synapse_db_room_state_events_max{db})", "the room with most"),
            ("sum(synapse_db_room_state_events{db})", "all rooms with users of this server"),
            width=24,
        ),
    ]


def care() -> list:
    """What users need, and what administrators have to look after."""
    return [
        graph(
            "How many people come?",
            """Yesterday: on the last whole day (UTC). Back after 30 days: seen twice within 60 days,
            30 days apart, which Synapse calls r30v2. Both without guests and bridged users.
            By the month: what max_mau_value limits, where Synapse counts it.""",
            ("sum(synapse_db_users_active_yesterday{db})", "yesterday"),
            ("sum(synapse_db_users_retained_30d{db})", "back after 30 days"),
            ('sum(synapse_db_users_monthly_active{db, kind="native"})', "by the month"),
            width=8,
            runbook="SynapseMonthlyActiveUsersNearLimit",
        ),
        graph(
            "Do notifications arrive?",
            """Pushers of phones, and those whose last notification was not taken. A few fail for
            ever, of apps that are gone. A jump is a gateway that is down, or a way out that is
            closed.""",
            ('sum(synapse_db_pushers{db, kind="http"})', "phones"),
            ('sum(synapse_db_pushers_failing{db, kind="http"})', "phones, failing"),
            ('sum(synapse_db_pushers{db, kind="email"}) or 0 * sum(synapse_db_schema_version{db})', "mail"),
            width=8,
            runbook="SynapsePushersFailing",
        ),
        graph(
            "Can others write to our devices?",
            """Devices that encrypt, by the keys that others need to begin a session. On a fallback
            key is no harm for a while. Exhausted ones are mostly forgotten devices and rise slowly;
            a jump means that clients cannot upload keys.""",
            ("sum(synapse_db_e2e_devices{db})", "all"),
            ("sum(synapse_db_e2e_devices_without_one_time_keys{db})", "without one-time keys"),
            ("sum(synapse_db_e2e_devices_exhausted{db})", "exhausted"),
            width=8,
            runbook="SynapseEncryptionKeysExhausted",
        ),
        graph(
            "How do users care for their keys?",
            """Users with a backup of their keys, with keys for cross-signing, and with a dehydrated
            device. Who has none of them loses old messages with the last device.""",
            ("sum(synapse_db_users_with_key_backup{db})", "key backup"),
            ("sum(synapse_db_users_cross_signing{db})", "cross-signing"),
            ("sum(synapse_db_dehydrated_devices{db})", "dehydrated device"),
            width=8,
        ),
        graph(
            "What was reported?",
            """Reports of messages, rooms and users that were not deleted. Synapse does not know which
            are dealt with: look at what is new, and delete what is done.""",
            ("sum by (kind) (synapse_db_reports{db})", "{{kind}}"),
            width=8,
        ),
        graph(
            "Who is about to come in?",
            """Authentications in steps of the last 48 hours, most of them registrations, and
            registrations by token that were begun. A jump of the first without accounts that follow is
            a robot that tries.""",
            ("sum(synapse_db_ui_auth_sessions{db})", "authentications"),
            ("sum(synapse_db_registration_token_uses_pending{db})", "by token, pending"),
            ("sum(synapse_db_users_registered_24h{db})", "accounts made within 24 hours"),
            width=8,
        ),
        graph(
            "How many tokens are there?",
            """Access tokens, and those whose time is over, which stay until their device logs out or
            renews them. Many more than devices are logins of bots that never log out.""",
            ("sum(synapse_db_access_tokens{db})", "access tokens"),
            ("sum(synapse_db_access_tokens_expired{db})", "expired"),
            ("sum(synapse_db_refresh_tokens{db})", "refresh tokens"),
            ("sum(synapse_db_access_tokens_puppeting{db})", "of administrators as somebody else"),
            width=8,
        ),
        graph(
            "By what else are users known?",
            "Mail addresses, phone numbers (msisdn), and identities of each provider of single sign-on.",
            ("sum by (medium) (synapse_db_user_threepids{db})", "{{medium}}"),
            ("sum by (auth_provider) (synapse_db_user_external_ids{db})", "{{auth_provider}}"),
            width=8,
        ),
        graph(
            "How many clients use sliding sync?",
            """Connections that clients may resume, of those who sync that way. Rooms to reckon are left
            over from an upgrade and go to zero.""",
            ("sum(synapse_db_sliding_sync_connections{db})", "connections"),
            ("sum(synapse_db_sliding_sync_rooms_to_recalculate{db})", "rooms to reckon"),
            width=8,
        ),
    ]


def files() -> list:
    """What people send, and what others' servers have sent."""
    return [
        graph(
            "How much space do files take?",
            """Files that were uploaded here (local) and copies of others' (remote), without
            thumbnails. They are on Synapse's disk and not in the database.""",
            ("sum by (origin) (synapse_db_media_bytes{db})", "{{origin}}"),
            ("sum by (origin) (synapse_db_media_thumbnail_bytes{db})", "{{origin}} thumbnails"),
            unit="bytes",
            stack=True,
            width=8,
        ),
        graph(
            "How much of it does nobody look at?",
            """Files that nobody has looked at for 90 days. Copies of others' files can go, they are
            fetched again: by media_retention in Synapse's configuration, or the admin API.""",
            ("sum by (origin) (synapse_db_media_bytes_unused_90d{db})", "{{origin}}"),
            unit="bytes",
            stack=True,
            width=8,
        ),
        graph(
            "How many files are there?",
            """Files by where they are from, those that administrators have put under quarantine, and
            uploads that were announced and never came.""",
            ("sum by (origin) (synapse_db_media_files{db})", "{{origin}}"),
            ("sum(synapse_db_media_files_quarantined{db})", "quarantined"),
            ("sum(synapse_db_media_uploads_pending{db})", "announced"),
            ("sum(synapse_db_url_previews{db})", "previews of web pages"),
            width=8,
        ),
    ]


def room_kinds() -> list:
    """What kind of rooms there are, and who is in them."""
    return [
        bars(
            "Who may join the rooms?",
            """Rooms by their join rule. Public ones are open to all servers; know why they are many.
            Other is a rule that Synapse does not know.""",
            "sum by (join_rule) (synapse_db_rooms_by_join_rule{db})",
            "{{join_rule}}",
        ),
        bars(
            "Who may read what was written before?",
            """Rooms by history visibility. world_readable can be read by everybody, without joining:
            it should be few, and on purpose.""",
            "sum by (history_visibility) (synapse_db_rooms_by_history_visibility{db})",
            "{{history_visibility}}",
        ),
        bars(
            "What are our users in the rooms?",
            """Users of this server by membership as it is now, each counted once per room. Many
            invites that nobody answers are spam, as a rule.""",
            "sum by (membership) (synapse_db_local_memberships{db})",
            "{{membership}}",
        ),
        graph(
            "Which rooms are ours?",
            """Rooms that a user of this server has made, those that have users of this server, and
            those that an administrator has blocked. The rest is what others have left behind here.""",
            ("sum(synapse_db_rooms_created_here{db})", "made here"),
            ("sum(synapse_db_rooms_with_local_users{db})", "with users of this server"),
            ("sum(synapse_db_rooms_encrypted_with_local_users{db})", "of these, encrypted"),
            ("sum(synapse_db_rooms_blocked{db})", "blocked"),
            width=24,
        ),
    ]


def backlogs() -> list:
    """What piles up before it hurts."""
    return [
        graph(
            "How much waits for devices?",
            """Messages that devices of this server have yet to fetch: keys of encryption, mostly. It
            rises slowly for devices that never come back. What belongs to devices that are gone is
            waste; a jump is a client or a bot that sends and never reads.""",
            ("sum(synapse_db_device_inbox_messages{db})", "messages"),
            ("sum(synapse_db_device_inbox_messages_orphaned{db})", "for devices that are gone"),
            runbook="SynapseDeviceInboxGrowing",
        ),
        graph(
            "Are changes of devices told to others?",
            """Changes that are not yet queued for other servers: zero, or back to it within minutes.
            Users of other servers whose devices are asked for again: back to zero within hours.""",
            ("sum(synapse_db_device_list_changes_unconverted{db})", "not queued yet"),
            ("sum(synapse_db_device_list_resyncs{db})", "users to ask for again"),
            runbook="SynapseDeviceListsBehind",
        ),
        graph(
            "What waits for bridges?",
            """Transactions by application service, counted up to 100 000. None is usual; a ramp is a
            bridge that does not answer. It gets all of them, in order, when it is back.""",
            ("sum by (as_id) (synapse_db_appservice_transactions_waiting{db})", "{{as_id}}"),
            ("sum by (as_id) (synapse_db_appservice_down{db} > 0)", "{{as_id}} is down"),
            none="nothing waits",
            runbook="SynapseAppserviceDown",
        ),
        graph(
            "Do scheduled tasks get done?",
            """Purges, shutdowns of rooms and the like that wait, run or have failed; those that
            failed stay for a week. Why, is in the table scheduled_tasks.""",
            (
                "sum by (action, status) (synapse_db_scheduled_tasks{db})",
                "{{action}} {{status}}",
            ),
            none="nothing waits or failed",
            runbook="SynapseTaskFailed",
        ),
        graph(
            "What is late?",
            """Delayed events and vanishing messages whose time is over: zero. Above it, the main
            process, or the one that runs background tasks, does not get to it.""",
            ("sum(synapse_db_delayed_events_overdue{db})", "delayed events"),
            ("sum(synapse_db_events_expiry_overdue{db})", "vanishing messages"),
            runbook="SynapseDelayedEventsOverdue",
        ),
        graph(
            "How broad are the graphs of rooms?",
            """Events that no other event follows, in the room that has most, and rooms that have ten
            or more. One is healthy; above fifty, each event in that room costs CPU and space. In
            rooms without any, or without the state of one, nobody can write.""",
            ("max(synapse_db_forward_extremities_max{db})", "the room with most"),
            ("sum(synapse_db_rooms_without_forward_extremities{db})", "rooms without any"),
            ("sum(synapse_db_forward_extremities_without_state{db})", "without state"),
            ("sum(synapse_db_rooms_forward_extremities_10{db})", "rooms with ten or more"),
            runbook="SynapseForwardExtremitiesMany",
        ),
        graph(
            "What is to be cleared away?",
            """Redactions whose event is still stored as it was, and state groups that nothing needs.
            Both should come and go; a ramp is a job that does not run, or is configured not to.""",
            ("sum(synapse_db_redactions_uncensored{db})", "redactions"),
            ("sum(synapse_db_state_groups_pending_deletion{db})", "state groups"),
        ),
        graph(
            "How long has it waited?",
            """Age of the oldest. As Synapse comes: transactions of other servers below a day,
            redactions below a week, changes of devices below a month, state groups below an
            hour.""",
            ("max(synapse_db_received_transactions_oldest_age_seconds{db})", "transactions"),
            ("max(synapse_db_redactions_uncensored_oldest_age_seconds{db})", "redactions"),
            ("max(synapse_db_device_list_changes_oldest_age_seconds{db})", "changes of devices"),
            ("max(synapse_db_state_groups_pending_deletion_oldest_age_seconds{db})", "state groups"),
            unit="s",
            runbook="SynapseCleanupStalled",
        ),
    ]


def federation() -> list:
    """Whether we hear other servers, and they us."""
    return [
        graph(
            "Can other servers be reached?",
            """Of the servers that are known, those that could not be reached when last tried, and
            those of them that began to fail within the last hour. Many are dead for good; many new
            ones at once are our own network.""",
            ("sum(synapse_db_federation_destinations{db})", "known"),
            ("sum(synapse_db_federation_destinations_failing{db})", "failing"),
            ("sum(synapse_db_federation_destinations_failing_since_1h{db})", "failing for less than an hour"),
            ("sum(synapse_db_federation_destinations_backing_off{db})", "left alone for now"),
            runbook="SynapseDestinationsFailing",
        ),
        graph(
            "Which servers lack our events?",
            """Servers that have not got the newest event of a room, and such rooms, once for each
            server. They get it when they can be reached again. Counted once an hour.""",
            ("sum(synapse_db_federation_destinations_behind{db})", "servers"),
            ("sum(synapse_db_federation_destination_rooms_behind{db})", "rooms"),
        ),
        graph(
            "Do events of others wait here?",
            """Events that came from other servers and are not handled yet: a few, for seconds. A ramp
            is a room whose state is dear to resolve, or a worker that hangs.""",
            ("sum(synapse_db_federation_inbound_staged{db})", "events"),
            unit="count:events",
            runbook="SynapseFederationStagingStuck",
        ),
        graph(
            "How long has the oldest waited?",
            """What came in should be handled within minutes. What waits to go out may wait for a
            server that is gone for good: only a change of its slope tells something.""",
            ("max(synapse_db_federation_inbound_staged_oldest_age_seconds{db})", "events, in"),
            ("max(synapse_db_device_outbox_oldest_age_seconds{db})", "messages to devices, out"),
            ("max(synapse_db_device_list_pokes_oldest_age_seconds{db})", "changes of devices, out"),
            unit="s",
            runbook="SynapseFederationStagingStuck",
        ),
        graph(
            "How much waits for other servers?",
            """Messages to devices, and changes of devices, that other servers have yet to get. For
            dead servers it stays for ever. Counted once an hour.""",
            ("sum(synapse_db_device_outbox_messages{db})", "messages to devices"),
            ("sum(synapse_db_device_list_pokes{db})", "changes of devices"),
        ),
        graph(
            "What did others not give?",
            """Events that were asked for in vain within a day. Gaps in old rooms are usual; a jump is
            a room whose servers have gone, or somebody who refers to events that do not exist.""",
            ("sum(synapse_db_failed_pulls_24h{db})", "events"),
            unit="count:events",
        ),
        graph(
            "Which rooms are not complete yet?",
            """Rooms that were joined quickly and whose state is still fetched: minutes, for a large
            room an hour. Above a day no server gives the rest.""",
            ("sum(synapse_db_rooms_partial_state{db})", "rooms"),
            width=24,
            runbook="SynapsePartialStateStuck",
        ),
    ]


def tables() -> list:
    """Where the space goes."""
    return [
        table(
            "Which tables are largest, and which grow?",
            """The fifteen largest tables. Growth is over the chosen time. state_groups_state, events
            and event_json rule as a rule; device_inbox, device_lists_changes_in_room and
            event_push_actions at the top want a look. Dead rows, of tables with more than ten thousand
            rows: above a third no vacuum comes through.""",
            {"datname": None, "schemaname": "Schema", "relname": "Table"},
            ("Size", f"topk(15, {by_table(TABLE_SIZE)})", "bytes"),
            (
                "Growth",
                largest(by_table("delta(pg_stat_user_tables_table_size_bytes{db}[$__range])")),
                "bytes",
            ),
            ("Indexes", largest(by_table("pg_stat_user_tables_index_size_bytes{db}")), "bytes"),
            ("Rows", largest(by_table("pg_stat_user_tables_n_live_tup{db}")), "short"),
            (
                "Dead rows",
                largest(DEAD_SHARE),
                "percentunit",
                ((None, GREEN), (0.2, ORANGE), (0.33, RED)),
            ),
            sort="Size",
            height=11,
        ),
        graph(
            "How do the largest tables grow?",
            """Tables with their TOAST, without indexes. Compare the slopes: a table that outgrows
            events is not people writing, but something that is not cleaned up.""",
            (top(8, by_table(TABLE_SIZE), by_table(f"{TABLE_SIZE} @ end()")), "{{relname}}"),
            unit="bytes",
            many=True,
        ),
        table(
            "Which background updates are left?",
            "By their names in Synapse's log and source.",
            {"update_name": "Background update"},
            only="max by (update_name) (synapse_db_background_update_pending{db})",
            width=12,
            none="none: all are done",
            runbook="SynapseBackgroundUpdateStuck",
        ),
    ]


def schema() -> list:
    """Whether what lies under Synapse is sound, and what each part of it takes."""
    return [
        stat(
            "Locale",
            """Synapse supports C alone: another one may sort otherwise after an upgrade of the
            system, and then every index on text is corrupt. Changed means that it has happened.""",
            "max(synapse_db_locale_unsafe{db}) + 2 * (max(synapse_db_locale_changed{db}) or vector(0))",
            says={0: ("C", GREEN), 1: ("not C", ORANGE), 2: ("changed", RED), 3: ("changed", RED)},
            runbook="SynapseLocaleUnsafe",
            width=6,
        ),
        stat(
            "Writes that fail",
            """Tables that are published for logical replication and have no replica identity:
            each UPDATE and DELETE of them is refused. Drop the publication, or let it publish
            inserts only.""",
            "sum(pg_publication_tables_without_identity{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, RED)),
            runbook="PostgresReplicaIdentityMissing",
            width=6,
        ),
        stat(
            "Invalid indexes",
            """Indexes that cost every write and serve no query. One that is being built is among
            them; one that stays has failed: drop it, and build it again.""",
            "sum(pg_indexes_invalid{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
            width=6,
        ),
        stat(
            "Grants missing",
            """Columns that exist here and that the exporter may not read, as after an upgrade of
            Synapse. Run again what `matrix-postgres-exporter grants` prints.""",
            "sum(pg_exporter_grants_missing{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
            runbook="PostgresExporterPrivilegeMissing",
            width=6,
        ),
        graph(
            "What takes the space?",
            """By families of tables, with indexes, as the last vacuum or analyse found them. What is
            usual: state_groups, events and search rule. What is not: device_lists, caches or
            federation among the first.""",
            ("max by (family) (synapse_db_table_estimated_bytes{db})", "{{family}}"),
            unit="bytes",
            stack=True,
            runbook="SynapseTablesGrowing",
        ),
        graph(
            "How much does each part grow in a day?",
            """At the rate of the last six hours. It moves in steps, since sizes are known when a
            table is vacuumed or analysed.""",
            ("max by (family) (deriv(synapse_db_table_estimated_bytes{db}[6h])) * 86400", "{{family}}"),
            unit="bytes",
            soft_min=0,
            many=True,
            runbook="SynapseTablesGrowing",
        ),
        table(
            "How many rows has each part?",
            """Estimates of the planner. Rows of state_groups that grow faster than those of events
            are a matter for synapse_compress_state.""",
            {"family": "Tables of"},
            ("Rows", "max by (family) (synapse_db_table_estimated_rows{db})", "short"),
            ("Size", "max by (family) (synapse_db_table_estimated_bytes{db})", "bytes"),
            (
                "Growth",
                "max by (family) (delta(synapse_db_table_estimated_bytes{db}[$__range]))",
                "bytes",
            ),
            sort="Size",
        ),
    ]


def exporter() -> list:
    """What was seen of this database, and how fresh it is."""
    return [
        table(
            "What could the exporter not see, and why?",
            """no_privilege and grants_outdated: run `matrix-postgres-exporter grants` again, also
            after an upgrade of Synapse. lock_timeout and statement_timeout: something held the
            table; the last values are served. unsupported_version: this Synapse does not have it.""",
            {"collector": "Collector", "reason": "Reason"},
            only="max by (collector, reason) (pg_exporter_collector_skipped{db})",
            width=12,
            none="nothing: everything was seen",
            runbook="PostgresExporterPrivilegeMissing",
        ),
        graph(
            "How old are the values?",
            """Age of what is not read in every scrape: users, devices, rooms and sizes. A saw that
            rises to five minutes and falls is well; a ramp means that the refresh fails.""",
            ("max by (collector) (pg_exporter_collector_age_seconds{db})", "{{collector}}"),
            unit="s",
            many=True,
        ),
    ]
