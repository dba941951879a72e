"""The dashboard of the people and the content of one Synapse database."""

from grafana_foundation_sdk.builders import dashboard

from panels import (
    PEOPLE,
    alerts,
    bars,
    begin,
    choice,
    graph,
    promql,
    rows,
)


def people_and_content() -> dashboard.Dashboard:
    """What a homeserver holds; whether it works is on the page of synapse.py."""
    board = begin(
        "Synapse: users and content",
        PEOPLE,
        """Users, devices, rooms, messages and media of one Synapse database, read from its tables.""",
        "synapse_db_schema_version",
    ).with_variable(
        choice(
            "datname",
            "Database",
            promql("label_values(synapse_db_schema_version{here}, datname)"),
        )
    )
    return rows(
        board,
        {"Users, devices and rooms": [alerts(), *people()], "Messages and events": events()},
        {
            "Sign-ups, presence, encryption, push": care(),
            "Media": files(),
            "Rooms by kind and membership": room_kinds(),
        },
    )


def people() -> list:
    """Who uses it, and how."""
    return [
        graph(
            "Users by kind",
            """Accounts by kind. An unexpected jump of native ones is a wave of spam
            registrations; a jump of bridged ones is a bridge that was connected.""",
            ('sum by (kind) (synapse_db_users{db, deactivated="false"})', "{{kind}}"),
            ('sum(synapse_db_users{db, deactivated="true"})', "deactivated"),
            stack=True,
            width=8,
        ),
        bars(
            "Accounts by flag",
            """Accounts with each flag, without deactivated ones. Check that the number of admins
            is what you expect.""",
            "sum by (flag) (synapse_db_users_flagged{db})",
            "{{flag}}",
        ),
        graph(
            "Devices",
            """All devices, and those seen within 30 days. Unused devices are not removed by
            themselves, and each message to an encrypted room is encrypted for all of them.""",
            ("sum(synapse_db_devices{db})", "all"),
            ("sum(synapse_db_devices_active_30d{db})", "seen within 30 days"),
            width=8,
        ),
        graph(
            "Rooms",
            """Rooms that the homeserver knows. Those that all local users have left only take
            space: delete them with the admin API. Without Synapse's room statistics these
            numbers are missing.""",
            ("sum(synapse_db_rooms{db})", "all"),
            ("sum(synapse_db_rooms_with_local_users{db})", "with users of this server"),
            ("sum(synapse_db_rooms_encrypted{db})", "encrypted"),
            ("sum(synapse_db_rooms_published{db})", "in the room directory"),
            ("sum(synapse_db_spaces{db})", "spaces"),
            ("sum(synapse_db_rooms_empty{db})", "left by all users of this server"),
            width=8,
        ),
        bars(
            "Rooms by version",
            """Rooms by room version. Old versions do not have fixes of the protocol: upgrade
            such rooms.""",
            "sum by (room_version) (synapse_db_rooms{db})",
            "version {{room_version}}",
        ),
        bars(
            "Room members by membership",
            """Members of the rooms with local users, local and remote, counted once for each
            room.""",
            "sum by (membership) (synapse_db_room_members{db})",
            "{{membership}}",
        ),
        graph(
            "State events in rooms",
            """State events of the room with the most: its members, roles and settings. Above a
            hundred thousand, joins and state resolution take minutes and fill memory.""",
            ("max(synapse_db_room_state_events_max{db})", "the room with most"),
            ("sum(synapse_db_room_state_events{db})", "all rooms with users of this server"),
            width=24,
        ),
    ]


def events() -> list:
    """What people write, and what it adds up to."""
    return [
        graph(
            "Events in 24 hours",
            """Events of the last 24 hours at each moment, local and remote. Encrypted ones
            include reactions and edits. Purges do not lower it.""",
            (
                """sum by (kind) (increase(synapse_db_events_added_total{db, origin="live",
                   kind=~"unencrypted_message|encrypted|state"}[1d]))""",
                "{{kind}}",
            ),
            unit="count:events",
        ),
        graph(
            "Events kept",
            """All events of the database, by kind; the kinds overlap. A fall is a purge or
            retention at work. Steep lines of state are joins and leaves: of a bridge, or of spam.""",
            ("sum(synapse_db_events{db})", "all"),
            ("sum(synapse_db_events_unencrypted_messages{db})", "messages"),
            ("sum(synapse_db_events_encrypted{db})", "encrypted"),
            ("sum(synapse_db_events_state{db})", "state"),
            ('sum(synapse_db_events{db, origin="backfill"})', "fetched by backfill"),
            unit="count:events",
        ),
        graph(
            "Exactness of event counts",
            """100 % exact: each number is that of a full count as of a moment within the last 15
            minutes. The panels show what is missing: events that are not counted yet, or ranges
            to compare because events were deleted.""",
            ("min(synapse_db_events_exact{db})", "exact"),
            ("min(synapse_db_events_counted_ratio{db})", "counted"),
            (
                """1 - max(synapse_db_events_ranges_pending_recount{db}
                         / (synapse_db_events_ranges{db} > 0) or 0 * synapse_db_events_ranges{db})""",
                "verified",
            ),
            unit="percentunit",
            runbook="PostgresExporterEventsInexact",
        ),
        graph(
            "Age of event counts",
            """Age of the moment as of which the numbers of events are exact: below a minute on a
            primary of 15 and newer, some minutes elsewhere or beside a long transaction; missing
            while they are estimates. The second line is the range that was verified longest
            ago: all are counted again within a day; if it is more, raise events.share.""",
            ("time() - min(synapse_db_events_as_of_timestamp_seconds{db})", "exact as of"),
            ("time() - min(synapse_db_events_verified_timestamp_seconds{db})", "oldest range"),
            unit="s",
        ),
    ]


def care() -> list:
    """What users need, and what administrators have to look after."""
    return [
        graph(
            "Active users: day, month, retained",
            """Yesterday: on the last whole day (UTC). Back after 30 days: seen twice within 60 days,
            30 days apart, which Synapse calls r30v2. Both without guests and bridged users.
            Month: monthly active users (MAU), which max_mau_value limits, where Synapse counts
            them.""",
            ("sum(synapse_db_users_active_yesterday{db})", "yesterday"),
            ("sum(synapse_db_users_retained_30d{db})", "back after 30 days"),
            ('sum(synapse_db_users_monthly_active{db, kind="native"})', "month (MAU)"),
            width=8,
            runbook="SynapseMonthlyActiveUsersNearLimit",
        ),
        graph(
            "Pushers, and those that fail",
            """Pushers of phones, and those whose last notification could not be sent. A few
            fail permanently, of apps that are gone. A jump is a push gateway that is down, or
            a blocked outbound network.""",
            ('sum(synapse_db_pushers{db, kind="http"})', "phones"),
            ('sum(synapse_db_pushers_failing{db, kind="http"})', "phones, failing"),
            ('sum(synapse_db_pushers{db, kind="email"}) or 0 * sum(synapse_db_schema_version{db})', "mail"),
            width=8,
            runbook="SynapsePushersFailing",
        ),
        graph(
            "Devices without one-time keys",
            """Devices with encryption, by the keys that others need for a new Olm session. A
            fallback key is fine for a while. Those without keys are mostly unused devices and
            rise slowly; a jump means that clients cannot upload keys.""",
            ("sum(synapse_db_e2e_devices{db})", "all"),
            ("sum(synapse_db_e2e_devices_without_one_time_keys{db})", "without one-time keys"),
            ("sum(synapse_db_e2e_devices_without_keys{db})", "exhausted"),
            width=8,
            runbook="SynapseEncryptionKeysExhausted",
        ),
        graph(
            "Key backup and cross-signing",
            """Users with a backup of their keys, with keys for cross-signing, and with a dehydrated
            device. Users without any of them lose old messages with their last device.""",
            ("sum(synapse_db_users_with_key_backup{db})", "key backup"),
            ("sum(synapse_db_users_cross_signing{db})", "cross-signing"),
            ("sum(synapse_db_dehydrated_devices{db})", "dehydrated device"),
            width=8,
        ),
        graph(
            "Reports to moderators",
            """Reports of messages, rooms and users that were not deleted. Synapse does not
            store which are resolved: look at new ones, and delete resolved ones.""",
            ("sum by (kind) (synapse_db_reports{db})", "{{kind}}"),
            width=8,
        ),
        graph(
            "Registrations under way",
            """User-interactive authentication (UIA) sessions of the last 48 hours, most of them
            registrations, and registrations by token that were started. A jump of the first
            without new accounts is a bot.""",
            ("sum(synapse_db_ui_auth_sessions{db})", "authentications"),
            ("sum(synapse_db_registration_token_uses_pending{db})", "by token, pending"),
            ("sum(synapse_db_users_registered_24h{db})", "accounts made within 24 hours"),
            width=8,
        ),
        graph(
            "Access and refresh tokens",
            """Access tokens, and expired ones, which stay until their device logs out or renews
            them. Many more than devices are logins of bots that never log out.""",
            ("sum(synapse_db_access_tokens{db})", "access tokens"),
            ("sum(synapse_db_access_tokens_expired{db})", "expired"),
            ("sum(synapse_db_refresh_tokens{db})", "refresh tokens"),
            ("sum(synapse_db_access_tokens_puppeting{db})", "of administrators as other users"),
            width=8,
        ),
        graph(
            "Mail, phone and SSO identities",
            """Third-party identifiers (3PIDs): email addresses and phone numbers (msisdn); and
            identities of each single sign-on provider.""",
            ("sum by (medium) (synapse_db_user_threepids{db})", "{{medium}}"),
            ("sum by (auth_provider) (synapse_db_user_external_ids{db})", "{{auth_provider}}"),
            width=8,
        ),
        graph(
            "Sliding sync connections",
            """Sliding sync connections that clients may resume. Rooms to recalculate come from
            an upgrade and go to zero.""",
            ("sum(synapse_db_sliding_sync_connections{db})", "connections"),
            ("sum(synapse_db_sliding_sync_rooms_to_recalculate{db})", "rooms to recalculate"),
            width=8,
        ),
        graph(
            "Users by presence",
            """Users who are not offline, local and remote. None at all means that presence is
            switched off in Synapse's configuration.""",
            ("sum by (presence) (synapse_db_users_by_presence{db})", "{{presence}}"),
            stack=True,
            width=24,
            none="presence is off, or nobody is online",
        ),
    ]


def files() -> list:
    """What people send, and what others' servers have sent."""
    return [
        graph(
            "Media size",
            """Files that were uploaded here (local) and copies of remote files (remote),
            without thumbnails. They are on Synapse's disk and not in the database.""",
            ("sum by (origin) (synapse_db_media_bytes{db})", "{{origin}}"),
            ("sum by (origin) (synapse_db_media_thumbnail_bytes{db})", "{{origin}} thumbnails"),
            unit="bytes",
            stack=True,
            width=8,
        ),
        graph(
            "Media not accessed for 90 days",
            """Files that were not accessed for 90 days. Copies of remote files can be deleted,
            they are fetched again: with media_retention in Synapse's configuration, or the
            admin API.""",
            ("sum by (origin) (synapse_db_media_bytes_not_accessed_90d{db})", "{{origin}}"),
            unit="bytes",
            stack=True,
            width=8,
        ),
        graph(
            "Media files",
            """Files by origin, those that administrators have quarantined, and uploads that
            were created and not completed.""",
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
            "Rooms by join rule",
            """Rooms by their join rule. Anybody can join public ones; check that their number
            is what you expect. Other is a rule that Synapse does not know.""",
            "sum by (join_rule) (synapse_db_rooms_by_join_rule{db})",
            "{{join_rule}}",
        ),
        bars(
            "Rooms by history visibility",
            """Rooms by history visibility. world_readable rooms can be read without joining:
            they should be few, and on purpose.""",
            "sum by (history_visibility) (synapse_db_rooms_by_history_visibility{db})",
            "{{history_visibility}}",
        ),
        bars(
            "Local users by membership",
            """Local users by current membership, counted once for each room. Many invites that
            are not answered are usually spam.""",
            "sum by (membership) (synapse_db_local_memberships{db})",
            "{{membership}}",
        ),
        graph(
            "Rooms created here, local, blocked",
            """Rooms created by a local user, rooms with local users, and rooms that an
            administrator has blocked.""",
            ("sum(synapse_db_rooms_created_here{db})", "made here"),
            ("sum(synapse_db_rooms_with_local_users{db})", "with users of this server"),
            ("sum(synapse_db_rooms_encrypted_with_local_users{db})", "of these, encrypted"),
            ("sum(synapse_db_rooms_blocked{db})", "blocked"),
            width=24,
        ),
    ]
