"""The dashboard of one Synapse database: does it work, and what waits. Who uses it is in people.py."""

from grafana_foundation_sdk.builders import dashboard

from instance import (
    ACTIVE_BY_WAIT,
    DEAD_SHARE,
    SESSIONS,
    STATES,
    TABLE_SIZE,
    WAITS,
    by_table,
    largest,
    top_tables,
)
from panels import (
    BLUE,
    GREEN,
    INSTANCE,
    LIMITS,
    ORANGE,
    RED,
    PEOPLE,
    SYNAPSE,
    alerts,
    begin,
    choice,
    graph,
    limit_of,
    mark,
    promql,
    rows,
    stat,
    table,
    top,
)

# What sends to bridges does not advance where there is none.
READERS = """(synapse_db_consumer_behind_positions{db} unless on (job, instance, datname, consumer)
               (synapse_db_consumer_behind_positions{db, consumer="appservice"}
                  unless on (job, instance, datname) synapse_db_appservice_users{db}))"""


def synapse() -> dashboard.Dashboard:
    """Complements Synapse's own dashboard, which sees its processes and not its database."""
    board = (
        begin(
            "Synapse database",
            SYNAPSE,
            """One database of Synapse, read from its tables: available even when Synapse's
            workers hang. Firing alerts, health, streams, load; backlogs, federation and
            tables in the folded rows.""",
            "synapse_db_schema_version",
        )
        .with_variable(
            choice(
                "datname",
                "Database",
                promql("label_values(synapse_db_schema_version{here}, datname)"),
            )
        )
        .annotation(mark("Synapse's schema was updated", "synapse_db_schema_version", "purple"))
    )
    return rows(
        board,
        {"Health": [alerts(), *now()], "Streams and background updates": streams(), "Load": work()},
        {
            "Streams: writers and positions": positions(),
            "Backlogs": backlogs(),
            "Federation": federation(),
            "Tables: size and growth": tables(),
            "Schema and storage": schema(),
            "Exporter: missing data and cost": exporter(),
        },
    )


def now() -> list:
    """One number each."""
    server = {"The whole server": INSTANCE}
    return [
        stat(
            "New events",
            """Events that Synapse stores per second: messages, joins, reactions, local and
            remote. Zero at busy hours means that Synapse does not persist events.""",
            """sum(deriv(synapse_db_stream_position{db, stream_name="events"}[5m])
               and synapse_db_stream_position{db, stream_name="events"})""",
            "count:/s",
            decimals=1,
            runbook="SynapseEventPersistenceStalled",
        ),
        stat(
            "Background updates",
            """Updates of its tables that Synapse runs in the background after an upgrade. They
            may take days on a large server; the graph below shows their progress.""",
            "sum(synapse_db_background_updates_pending{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
            runbook="SynapseBackgroundUpdateStuck",
        ),
        stat(
            "Sequences behind",
            """Above zero Synapse will refuse to start. It happens after a restore, a failover
            or on a logical replica: correct the sequences before Synapse is restarted.""",
            "count(synapse_db_sequence_behind_positions{db} > 0) or 0 * sum(synapse_db_schema_version{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, RED)),
            runbook="SynapseSequenceBehindStream",
        ),
        stat(
            "Event stream lag",
            """Event stream positions that the slowest consumer has not processed. Hundreds for
            a moment are usual; if it stays or grows, a consumer hangs. push_summary works in
            steps of half a minute and is left out here.""",
            f"max({READERS} unless on (consumer) synapse_db_consumer_behind_positions{{db, consumer=\"push_summary\"}})",
            "count:events",
            steps=((None, GREEN), (LIMITS["synapse_consumer_behind:positions"], ORANGE)),
            none="no consumers seen",
            runbook="SynapseConsumerBehind",
        ),
        stat(
            "Collectors incomplete",
            """Collectors whose data of this database is missing or incomplete. Their panels are
            empty, which does not mean that all is healthy. The last row shows which, and why.
            Data that this version, a primary or a standby does not have is not counted.""",
            """count(pg_exporter_collector_skipped{db, reason!~"wrong_role|unsupported_version|setting_off"})
               or 0 * sum(synapse_db_schema_version{db})""",
            says={0: ("all is seen", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
        ),
        stat(
            "Active users (1 hour)",
            """Users who sent a request within the last hour, guests and bridged users included.
            Far below the usual for this time of day: users cannot log in or sync.""",
            'sum(synapse_db_users_active{db, within="1h"})',
            steps=((None, BLUE),),
            see={"People and content": PEOPLE},
        ),
        stat(
            "Users",
            """Accounts that are not deactivated, guests and bridged users included; by kind on
            the dashboard of users.""",
            'sum(synapse_db_users{db, deactivated="false"})',
            steps=((None, BLUE),),
        ),
        stat(
            "Rooms with local users",
            """Rooms with local users. Rooms that all of them have left are still stored; delete
            them with the admin API to free space.""",
            "sum(synapse_db_rooms_with_local_users{db})",
            steps=((None, BLUE),),
        ),
        stat(
            "Messages kept",
            """Unencrypted messages, and encrypted events, which include reactions and edits.
            A fall is a purge or retention at work.""",
            "sum(synapse_db_events_unencrypted_messages{db}) + sum(synapse_db_events_encrypted{db})",
            steps=((None, BLUE),),
        ),
        stat(
            "Messages (24 hours)",
            """Unencrypted messages and encrypted events that arrived within 24 hours, local and
            remote.""",
            """sum(increase(synapse_db_events_added_total{db, origin="live",
               kind=~"unencrypted_message|encrypted"}[1d]))""",
            steps=((None, BLUE),),
            decimals=0,
        ),
        stat(
            "Database size",
            "Disk space of the database, with indexes and dead rows.",
            "sum(pg_database_size_bytes{db})",
            "bytes",
            steps=((None, BLUE),),
            see=server,
        ),
        stat(
            "Schema version",
            """Version of the schema. It rises with upgrades of Synapse; each rise is marked in the graphs.
            The oldest version to which Synapse can be rolled back is in the row on the schema.""",
            "max(synapse_db_schema_version{db})",
            "none",
            steps=((None, BLUE),),
            runbook="SynapseSchemaDiffers",
        ),
    ]


def streams() -> list:
    """Whether what Synapse writes reaches those who read it."""
    return [
        graph(
            "Streams: positions per second",
            """Positions per second of Synapse's streams: events, receipts, presence and so on.
            Their proportions show what keeps the database busy: to_device and
            device_lists_stream is encryption, presence_stream is presence.""",
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
            "Event stream lag by consumer",
            """Stream positions that each consumer has not processed: statistics, user
            directory, bridges (appservice), push, and federation senders. Back to zero soon is
            healthy. Steady growth is a consumer that hangs: bridges or remote homeservers then
            miss messages.""",
            (
                f"max by (consumer, instance_name) ({READERS})",
                "{{consumer}} {{instance_name}}",
            ),
            (limit_of("synapse_consumer_behind:positions"), "limit"),
            unit="count:events",
            limit="limit",
            runbook="SynapseConsumerBehind",
        ),
        graph(
            "Synapse's sessions by wait event type",
            """Sessions in this database that execute a statement, by what they wait for. Lock is another
            transaction, IO the disk; Client is Synapse itself. Many that wait for locks for
            minutes: one session blocks the others.""",
            (ACTIVE_BY_WAIT, "{{wait_event_type}}"),
            stack=True,
            colors=WAITS,
            runbook="PostgresLockWaits",
        ),
        graph(
            "Background updates left",
            """Updates that are queued or running. It rises at an upgrade and should fall, step by
            step. A flat line for days is an update that hangs or fails: its name is in
            Synapse's log and in the row on tables.""",
            ("sum(synapse_db_background_updates_pending{db})", "left"),
            runbook="SynapseBackgroundUpdateStuck",
        ),
    ]


def work() -> list:
    """What Synapse makes the database do."""
    return [
        graph(
            "Transactions",
            """Transactions per second. Rollbacks are usual: Synapse retries transactions that
            conflict. Many of them for long mean that workers write to the same rows.""",
            ("sum(rate(pg_stat_database_xact_commit{db}[$__rate_interval]))", "committed"),
            ("sum(rate(pg_stat_database_xact_rollback{db}[$__rate_interval]))", "rolled back"),
            unit="count:tx/s",
        ),
        graph(
            "Synapse's sessions by state",
            """Sessions in this database by state. Idle is the pool of the workers. Active near the
            sum of all cp_max means that requests wait for a connection.""",
            (SESSIONS, "{{state}}"),
            stack=True,
            colors=STATES,
            see={"The whole server": INSTANCE},
        ),
        graph(
            "Rows written, by table",
            """Rows per second that were inserted, updated or deleted, in the eight tables where it
            is most. A table that is new at the top is a likely cause of a change in load.""",
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
            "Sequential scans: rows read, by table",
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


def positions() -> list:
    """What is wrong with positions, beyond being behind."""
    return [
        graph(
            "Stream writers behind their stream",
            """Positions by which the slowest writer of each stream is behind the newest one;
            always 0 with one writer. Of several, an idle one catches up within minutes; one
            that does not delays all consumers of the stream.""",
            (
                """max by (stream_name) (
                     abs(synapse_db_stream_position{db}
                       - on (job, instance, datname, stream_name) group_right ()
                         synapse_db_stream_writer_position{db}))""",
                "{{stream_name}}",
            ),
        ),
        graph(
            "Stream positions not published",
            """Positions that were given out and not published, by stream. A few for a moment
            are usual. If it stays or grows, a writer hangs: consumers do not see what it
            wrote.""",
            ("max by (stream_name) (synapse_db_stream_unpublished_positions{db})", "{{stream_name}}"),
            (limit_of("synapse_stream_unpublished:positions"), "limit"),
            limit="limit",
            runbook="SynapseStreamWriterStuck",
        ),
        graph(
            "Consumers ahead of their stream",
            """Positions by which a consumer is ahead of its stream. Zero, or a few for a
            moment; more after a restore: it skips everything until the stream reaches its
            position.""",
            ("max by (consumer) (synapse_db_consumer_ahead_positions{db})", "{{consumer}}"),
            runbook="SynapseConsumerAhead",
        ),
        graph(
            "Consumers without a position",
            """1 where the position of a consumer is missing. Always zero on a healthy server:
            Synapse fails where it needs it.""",
            ("max by (consumer) (synapse_db_consumer_position_missing{db})", "{{consumer}}"),
            runbook="SynapseConsumerPositionMissing",
        ),
    ]


def backlogs() -> list:
    """Queues that should be short."""
    return [
        graph(
            "To-device messages waiting",
            """To-device messages that local devices have not fetched: encryption keys, mostly.
            It rises slowly for devices that are not used any more. Those of deleted devices
            can be removed; a jump is a client or a bot that sends and never syncs.""",
            ("sum(synapse_db_device_inbox_messages{db})", "messages"),
            ("sum(synapse_db_device_inbox_messages_orphaned{db})", "for devices that are gone"),
            runbook="SynapseDeviceInboxGrowing",
        ),
        graph(
            "Device list updates waiting",
            """Device list updates that are not queued for remote homeservers yet: zero, or back
            to it within minutes. Remote users whose device list is fetched again: back to zero
            within hours.""",
            ("sum(synapse_db_device_list_changes_unconverted{db})", "not queued yet"),
            ("sum(synapse_db_device_list_resyncs{db})", "users to ask for again"),
            runbook="SynapseDeviceListsBehind",
        ),
        graph(
            "Application service transactions waiting",
            """Transactions by application service, counted up to 100 000. None is usual; steady growth is a
            bridge that does not answer. It gets all of them, in order, when it is back.""",
            ("sum by (as_id) (synapse_db_appservice_transactions_waiting{db})", "{{as_id}}"),
            ("sum by (as_id) (synapse_db_appservice_down{db} > 0)", "{{as_id}} is down"),
            none="nothing waits",
            runbook="SynapseAppserviceDown",
        ),
        graph(
            "Scheduled tasks by status",
            """Purges, shutdowns of rooms and the like that wait, run or have failed; those that
            failed stay for a week. The cause: SELECT action, error FROM scheduled_tasks WHERE
            status = 'failed'.""",
            (
                "sum by (action, status) (synapse_db_scheduled_tasks{db})",
                "{{action}} {{status}}",
            ),
            none="nothing waits or failed",
            runbook="SynapseTaskFailed",
        ),
        graph(
            "Overdue delayed and expiring events",
            """Delayed events and expiring messages that are overdue: zero. Above it, the main
            process, or the worker for background tasks, does not process them.""",
            ("sum(synapse_db_delayed_events_overdue{db})", "delayed events"),
            ("sum(synapse_db_events_expiry_overdue{db})", "vanishing messages"),
            runbook="SynapseDelayedEventsOverdue",
        ),
        graph(
            "Forward extremities",
            """Forward extremities of the room with the most, and rooms with ten or
            more. One is healthy; above fifty, each event in that room costs CPU and space.
            Nobody can send to rooms without any, or without the state of one.""",
            ("max(synapse_db_forward_extremities_max{db})", "the room with most"),
            (limit_of("synapse_forward_extremities:events"), "limit"),
            ("sum(synapse_db_rooms_without_forward_extremities{db})", "rooms without any"),
            ("sum(synapse_db_forward_extremities_without_state{db})", "without state"),
            ("sum(synapse_db_rooms_with_forward_extremities{db})", "rooms with 10 or more"),
            limit="limit",
            runbook="SynapseForwardExtremitiesMany",
        ),
        graph(
            "Cleanup backlog",
            """Redactions whose event is not censored yet, and unreferenced state groups. Both
            should come and go; steady growth is a job that does not run, or is configured not
            to.""",
            ("sum(synapse_db_redactions_uncensored{db})", "redactions"),
            ("sum(synapse_db_state_groups_pending_deletion{db})", "state groups"),
        ),
        graph(
            "Cleanup backlog: oldest",
            """Age of the oldest. With Synapse's defaults: received transactions below a day,
            redactions below a week, device list updates below a month, state groups below an
            hour.""",
            ("max(synapse_db_received_transactions_oldest_age_seconds{db})", "transactions"),
            ("max(synapse_db_redactions_uncensored_oldest_age_seconds{db})", "redactions"),
            ("max(synapse_db_device_list_changes_oldest_age_seconds{db})", "device list updates"),
            ("max(synapse_db_state_groups_pending_deletion_oldest_age_seconds{db})", "state groups"),
            unit="s",
            runbook="SynapseCleanupStalled",
        ),
    ]


def federation() -> list:
    """Federation with remote homeservers."""
    return [
        graph(
            "Remote homeservers failing",
            """Remote homeservers that could not be reached at the last attempt, and those that
            began to fail within the last hour. Many are permanently gone; many new ones at
            once mean a fault of this server's network.""",
            ("sum(synapse_db_federation_destinations{db})", "known"),
            ("sum(synapse_db_federation_destinations_failing{db})", "failing"),
            ("sum(synapse_db_federation_destinations_newly_failing_1h{db})", "failing for less than an hour"),
            ("sum(synapse_db_federation_destinations_backing_off{db})", "in backoff"),
            runbook="SynapseDestinationsFailing",
        ),
        graph(
            "Remote homeservers behind",
            """Remote homeservers that have not received the newest event of a room, and such
            rooms, once for each homeserver. They get it when they can be reached again.
            Counted once an hour.""",
            ("sum(synapse_db_federation_destinations_behind{db})", "servers"),
            ("sum(synapse_db_federation_destination_rooms_behind{db})", "rooms"),
        ),
        graph(
            "Inbound federation queue",
            """Events received from remote homeservers and not processed yet: a few, for
            seconds. Steady growth is a room whose state is expensive to resolve, or a worker
            that hangs.""",
            ("sum(synapse_db_federation_inbound_staged{db})", "events"),
            unit="count:events",
            runbook="SynapseFederationStagingStuck",
        ),
        graph(
            "Federation queues: oldest",
            """Inbound events should be processed within minutes. Outbound queues also wait for
            homeservers that are permanently gone: only a change of their slope matters.""",
            ("max(synapse_db_federation_inbound_staged_oldest_age_seconds{db})", "events, in"),
            ("max(synapse_db_device_outbox_oldest_age_seconds{db})", "messages to devices, out"),
            ("max(synapse_db_device_list_pokes_oldest_age_seconds{db})", "device list updates, outbound"),
            unit="s",
            runbook="SynapseFederationStagingStuck",
        ),
        graph(
            "Outbound federation queue",
            """To-device messages and device list updates queued for remote homeservers. Those
            for homeservers that are gone stay permanently. Counted once an hour.""",
            ("sum(synapse_db_device_outbox_messages{db})", "messages to devices"),
            ("sum(synapse_db_device_list_pokes{db})", "device list updates"),
        ),
        graph(
            "Events that could not be fetched",
            """Events that could not be fetched from any remote homeserver, last tried within 24
            hours. Gaps in old rooms are usual; a jump is a room whose homeservers are gone, or
            a sender who refers to events that do not exist.""",
            ("sum(synapse_db_event_pulls_failed_24h{db})", "events"),
            unit="count:events",
        ),
        graph(
            "Partial-state rooms",
            """Rooms with partial state (faster joins), whose full state is still being fetched:
            minutes, for a large room an hour. After a day no homeserver has the rest.""",
            ("sum(synapse_db_rooms_partial_state{db})", "rooms"),
            width=24,
            runbook="SynapsePartialStateStuck",
        ),
    ]


def tables() -> list:
    """Where the space goes."""
    return [
        table(
            "Largest tables: size and growth",
            """The fifteen largest tables. Growth is over the chosen time. state_groups_state,
            events and event_json are normally the largest; look at device_inbox,
            device_lists_changes_in_room or event_push_actions if they are at the top. Dead
            rows, of tables with more than ten thousand
            rows: above 33 % autovacuum does not keep up.""",
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
            "Largest tables: size over time",
            """Tables with their TOAST, without indexes. Compare the slopes: a table that grows
            faster than events is probably not cleaned up.""",
            (top(8, by_table(TABLE_SIZE), by_table(f"{TABLE_SIZE} @ end()")), "{{relname}}"),
            unit="bytes",
            many=True,
        ),
        table(
            "Background updates by name",
            """Pending background updates by update_name, as in Synapse's log. One that stays for
            more than 6 hours without progress is stuck.""",
            {"update_name": "Background update"},
            only="max by (update_name) (synapse_db_background_update_info{db})",
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
            """Synapse supports only C: the sort order of another locale may change with an
            upgrade of the system, which corrupts indexes on text. Changed: the collation
            version does not match, REINDEX is needed.""",
            "max(synapse_db_locale_not_c{db}) + 2 * (max(synapse_db_collation_version_mismatch{db}) or vector(0))",
            says={0: ("C", GREEN), 1: ("not C", ORANGE), 2: ("changed", RED), 3: ("changed", RED)},
            runbook="SynapseLocaleUnsafe",
            width=6,
        ),
        stat(
            "No replica identity",
            """Tables that are published for logical replication and have no replica identity:
            each UPDATE and DELETE on them fails. Drop the publication, or let it publish
            inserts only.""",
            "sum(pg_publication_tables_without_replica_identity{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, RED)),
            runbook="PostgresReplicaIdentityMissing",
            width=6,
        ),
        stat(
            "Invalid indexes",
            """Invalid indexes, which each write maintains and no query uses. One that is being
            built is invalid, too; one that stays has failed: drop it, and build it again.""",
            "sum(pg_indexes_invalid{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
            width=6,
        ),
        stat(
            "Grants missing",
            """Columns that exist in this database and that the exporter has no SELECT privilege
            on, as after an upgrade of Synapse. Run again what `matrix-postgres-exporter
            grants` prints.""",
            "sum(pg_exporter_privileges_missing{db})",
            says={0: ("none", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
            runbook="PostgresExporterPrivilegeMissing",
            width=6,
        ),
        graph(
            "Size by table group",
            """Size with indexes, as of the last VACUUM or ANALYZE. Usual: state_groups, events
            and search are the largest. Unusual: device_lists, caches or federation among the
            first.""",
            ("max by (table_group) (synapse_db_table_group_estimated_bytes{db})", "{{table_group}}"),
            unit="bytes",
            stack=True,
            runbook="SynapseTablesGrowing",
        ),
        graph(
            "Growth in a day by table group",
            """At the rate of the last six hours. It moves in steps, since sizes are as of the
            last VACUUM or ANALYZE.""",
            ("max by (table_group) (deriv(synapse_db_table_group_estimated_bytes{db}[6h])) * 86400", "{{table_group}}"),
            unit="bytes",
            soft_min=0,
            many=True,
            runbook="SynapseTablesGrowing",
        ),
        table(
            "Rows by table group",
            """Estimates of the planner. If rows of state_groups grow faster than those of
            events, run synapse_compress_state.""",
            {"table_group": "Tables of"},
            ("Rows", "max by (table_group) (synapse_db_table_group_estimated_rows{db})", "short"),
            ("Size", "max by (table_group) (synapse_db_table_group_estimated_bytes{db})", "bytes"),
            (
                "Growth",
                "max by (table_group) (delta(synapse_db_table_group_estimated_bytes{db}[$__range]))",
                "bytes",
            ),
            sort="Size",
        ),
    ]


def exporter() -> list:
    """What was seen of this database, and how fresh it is."""
    return [
        table(
            "Collectors skipped, by reason",
            """no_privilege and grants_outdated: run `matrix-postgres-exporter grants` again, also
            after an upgrade of Synapse. lock_timeout and statement_timeout: the table was
            locked or the server slow; the last values are served. unsupported_version: this
            Synapse version does not have the table or column.
            too_large: a table that PostgreSQL 13 cannot count within the statement cap;
            pg_exporter_count_planner_rows has the planner's estimate.""",
            {"collector": "Collector", "reason": "Reason"},
            only="max by (collector, reason) (pg_exporter_collector_skipped{db})",
            width=12,
            none="nothing: everything was seen",
            runbook="PostgresExporterPrivilegeMissing",
        ),
        table(
            "Counts that are not exact",
            """Tables whose counts on these dashboards may be wrong. Estimate: by more than 1 %,
            since rows moved while they were counted. At least: a lower bound, some rows could
            not be read in time. By the planner: the table is too large to be counted, and this
            is the estimate of the last ANALYZE.""",
            {"collector": "Collector", "table": "Table"},
            (
                "Estimate",
                "max by (collector, table) (pg_exporter_count_estimated{db}) == 1",
                "short",
                {1: ("yes", ORANGE)},
            ),
            (
                "At least",
                "max by (collector, table) (pg_exporter_count_at_least{db}) == 1",
                "short",
                {1: ("yes", ORANGE)},
            ),
            (
                "Rows by the planner",
                "max by (collector, table) (pg_exporter_count_planner_rows{db})",
                "short",
            ),
            width=12,
            none="none: all are exact",
        ),
        graph(
            "Age of values read at intervals",
            """Age of values that are not read in every scrape: users, devices, rooms and
            sizes. A line that rises to five minutes and falls is healthy; steady growth means
            that the refresh fails.""",
            ("max by (collector) (pg_exporter_collector_age_seconds{db})", "{{collector}}"),
            unit="s",
            many=True,
            width=24,
        ),
    ]
