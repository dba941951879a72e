"""The dashboard of one PostgreSQL server: health, sessions, waits, throughput."""

from grafana_foundation_sdk.builders import dashboard

from panels import (
    BLUE,
    GREEN,
    GREY,
    INSTANCE,
    KEEP,
    LIMITS,
    ORANGE,
    RED,
    SYNAPSE,
    alerts,
    bars,
    begin,
    choice,
    graph,
    limit_of,
    promql,
    rows,
    stat,
    table,
    top,
)


def instance() -> dashboard.Dashboard:
    """The first screen answers at a glance; what is folded explains."""
    board = begin(
        "PostgreSQL instance",
        INSTANCE,
        """One PostgreSQL server: firing alerts, health, sessions, throughput; details in the folded
        rows.""",
    ).with_variable(
        choice(
            "datname",
            "Database",
            promql("label_values(pg_database_connection_limit{here}, datname)"),
            several=True,
        )
    )
    return rows(
        board,
        {"Health": [alerts(), *now()], "Sessions": sessions(), "Throughput": work()},
        {
            "WAL, checkpoints, archiving": wal(),
            "Replication: standbys and slots": replication(),
            "Databases, tables, vacuum": tables(),
            "Locks, deadlocks, errors": errors(),
            "Exporter: missing data and cost": exporter(),
        },
    )


def now() -> list:
    """One number each, for the whole server."""
    return [
        stat(
            "Status",
            """Whether the server answered the last scrape. Down: the exporter runs but cannot use the
            server, with the reason. The other tiles show old values meanwhile. No data:
            Prometheus does not reach the exporter.""",
            """label_replace(pg_up{here} == 1, "reason", "answers", "reason", "")
               or 0 * pg_exporter_down_reason{here}""",
            label="{{reason}}",
            both=True,
            says={1: ("up", GREEN), 0: ("down", RED)},
            none="not scraped",
            runbook="PostgresServerDown",
        ),
        stat(
            "Role",
            """A primary accepts writes, a standby replays them. An unplanned change is a
            failover; it is marked red in the graphs.""",
            "pg_replication_is_replica{here}",
            says={0: ("primary", GREEN), 1: ("standby", BLUE)},
        ),
        stat(
            "Version",
            "The server's version. Minor updates fix data loss and security: stay on the newest.",
            # It has a label `server` of its own, and 18.4 is written 18.4.0 there.
            """label_replace(pg_static{job="$job", instance="$instance", namespace="$namespace"},
                 "short_version", "$1", "short_version", "(.+)[.]0")""",
            label="{{short_version}}",
        ),
        stat(
            "Uptime",
            """Time since the server was started. Orange for the first ten minutes: if it was
            not restarted on purpose, its log and the kernel's log (out of memory) show the
            cause.""",
            "time() - pg_postmaster_start_time_seconds{here}",
            "s",
            steps=((None, ORANGE), (600, GREEN)),
            decimals=0,
        ),
        stat(
            "Connections in use",
            """Share of the connections that clients may open; those reserved for superusers are
            not counted. Above 80 % look at the sessions below; at 100 % Synapse cannot connect.
            Lower cp_max of Synapse's workers before raising max_connections.""",
            USED,
            "percentunit",
            steps=(
                (None, GREEN),
                (LIMITS["pg_connections_used:warning_ratio"], ORANGE),
                (LIMITS["pg_connections_used:critical_ratio"], RED),
            ),
            decimals=0,
            runbook="PostgresConnectionsSaturated",
        ),
        stat(
            "Queries over 5 minutes",
            """Queries that have been running for more than five minutes. Synapse's own are
            cancelled after ten (the default statement_timeout); CREATE INDEX and pg_dump may
            take hours.""",
            'sum(pg_activity_long_queries{here, threshold_seconds="300"})',
            steps=((None, GREEN), (1, ORANGE), (5, RED)),
            runbook="PostgresQueryRunningLong",
        ),
        stat(
            "Oldest open transaction",
            """Age of the oldest open transaction. VACUUM cannot remove rows that were deleted
            after it began, in any table. Above an hour, and not a pg_dump: find the
            session and end it.""",
            "max(pg_activity_longest_transaction_seconds{here})",
            "s",
            steps=((None, GREEN), (300, ORANGE), (3600, RED)),
            decimals=0,
        ),
        stat(
            "WAL files to archive",
            """Finished WAL files that wait to be archived. A few are usual, more than 32 mean
            that archiving fails or is too slow: point-in-time recovery ends where it stopped,
            and the disk fills. Empty where nothing is archived.""",
            "pg_wal_archive_ready_files{here}",
            steps=((None, GREEN), (LIMITS["pg_archive_ready:files"], ORANGE)),
            runbook="PostgresArchivingBacklog",
        ),
        stat(
            "Deadlocks in an hour",
            """Transactions that blocked each other until PostgreSQL ended one of them. Synapse
            retries these, so a few do no harm; many make it slow.""",
            "sum(increase(pg_stat_database_deadlocks{here}[1h]))",
            steps=((None, GREEN), (LIMITS["pg_deadlocks:count"], ORANGE)),
            decimals=0,
            runbook="PostgresDeadlocks",
        ),
        stat(
            "Replication lag (WAL)",
            """WAL that the slowest physical standby has not replayed; subscribers are in the
            row on replication. Some megabytes are usual; steady growth is a standby that
            cannot keep up. What it has not received is lost if this server is lost.""",
            """max(pg_stat_replication_pg_wal_lsn_diff{here} unless on (job, instance, slot_name)
                   pg_replication_slots_slot_is_active{here, slot_type="logical"})""",
            "bytes",
            steps=((None, GREEN), (64 << 20, ORANGE), (1 << 30, RED)),
            none="no standby seen",
        ),
        stat(
            "WAL held back by slots",
            """WAL that the slot farthest behind retains on this server. A slot without a
            consumer retains more and more, until the disk is full: drop it, or fix its
            consumer.""",
            "max(pg_replication_slots_pg_wal_lsn_diff{here})",
            "bytes",
            steps=((None, GREEN), (3 << 30, ORANGE), (10 << 30, RED)),
            none="no slots seen",
            runbook="PostgresReplicationSlotRetainingWAL",
        ),
        stat(
            "Collectors incomplete",
            """Collectors whose data is missing or incomplete, because of a missing privilege
            for example. Their panels are empty, which does not mean that all is healthy. The
            last row shows which, and why. Data that this version, a primary or a standby does
            not have is not counted.""",
            """count(pg_exporter_collector_skipped{here, reason!~"wrong_role|unsupported_version|setting_off"})
               or 0 * sum(pg_up{here})""",
            says={0: ("all is seen", GREEN)},
            steps=((None, GREEN), (1, ORANGE)),
        ),
    ]


def sessions() -> list:
    """Who is connected, and what they do and wait for."""
    return [
        graph(
            "Sessions by state",
            """Client sessions by state. Idle ones are Synapse's pool and cost little. Those
            idle in a transaction hold locks and keep VACUUM from removing dead rows: seconds
            are usual, minutes are not. The dashed line is where the server refuses clients; it
            ignores the chosen database.""",
            (SESSIONS, "{{state}}"),
            (ALLOWED, "most that are allowed"),
            stack=True,
            limit="most that are allowed",
            colors=STATES,
            runbook="PostgresConnectionsSaturated",
        ),
        graph(
            "Active sessions by wait event type",
            """Sessions that execute a statement, by what they wait for. CPU: they run. Lock:
            they wait for another transaction. IO: for the disk. LWLock: contention inside the
            server. Client: for the network or Synapse.""",
            (ACTIVE_BY_WAIT, "{{wait_event_type}}"),
            stack=True,
            colors=WAITS,
        ),
        graph(
            "Sessions by role and application",
            """Client sessions by role and application. Each of Synapse's workers opens up to
            cp_max; a worker can name itself by application_name in its database arguments.""",
            (
                """sum by (usename, application_name)
                   (pg_stat_activity_count{db, backend_type="client backend"})""",
                "{{usename}} {{application_name}}",
            ),
            stack=True,
            none="nobody",
        ),
        table(
            "Connections by role, with its limit",
            """Sessions of each role that has a CONNECTION LIMIT. At the limit new ones are refused: make the
            pool of the application smaller, or raise the limit.""",
            {"rolname": "Role"},
            (
                "Connections",
                """sum by (rolname) (label_replace(
                     sum by (usename) (pg_stat_activity_count{here, backend_type="client backend"}),
                     "rolname", "$1", "usename", "(.+)"))
                   and on (rolname) (pg_roles_connection_limit{here} > 0)""",
                "short",
            ),
            ("Limit", "max by (rolname) (pg_roles_connection_limit{here} > 0)", "short"),
            width=12,
            none="no role has a limit",
            runbook="PostgresRoleConnectionsSaturated",
        ),
        graph(
            "Longest query, transaction, idle in transaction",
            """The longest running query, the oldest open transaction, the longest time that a
            session was idle in one, and the oldest prepared transaction. A line that rises
            steadily is stuck, or is a dump or an index build. The dashed line is where the
            alert on sessions idle in a transaction fires.""",
            ("max(pg_activity_longest_query_seconds{db})", "query"),
            ("max(pg_activity_longest_transaction_seconds{db})", "transaction"),
            (
                "max(pg_activity_longest_idle_in_transaction_seconds{db})",
                "idle in a transaction",
            ),
            ("max(pg_prepared_xacts_oldest_age_seconds{db})", "prepared transaction"),
            (limit_of("pg_idle_in_transaction:age_seconds"), "limit"),
            unit="s",
            limit="limit",
            width=24,
            runbook="PostgresIdleInTransaction",
        ),
    ]


def work() -> list:
    """What the sessions make the server do."""
    return [
        graph(
            "Transactions",
            """Transactions per second that were committed or rolled back. There is no good value,
            only the usual one: a drop to zero means that Synapse is down or stuck. Some
            rollbacks are usual, since Synapse uses REPEATABLE READ and retries transactions
            that conflict.""",
            ("sum(rate(pg_stat_database_xact_commit{db}[$__rate_interval]))", "committed"),
            ("sum(rate(pg_stat_database_xact_rollback{db}[$__rate_interval]))", "rolled back"),
            unit="count:tx/s",
        ),
        graph(
            "Average active sessions",
            """How many sessions execute a statement, on average. Compare with the number of CPUs:
            below is good, above it they queue. On PostgreSQL 13, which does not count this, the
            sessions that were active at the moment of the scrape.""",
            (
                """sum by (datname)
                   (rate(pg_stat_database_active_time_seconds_total{db, datname!~"template."}[$__rate_interval]))
                   or sum by (datname) (pg_activity_sessions{db, datname!~"template.", state="active"})""",
                "{{datname}}",
            ),
            stack=True,
        ),
        graph(
            "Rows read and written",
            """Rows per second. Scanned rows far above fetched ones are sequential scans: a missing
            index, or a table without statistics; the row on tables says which.""",
            ("sum(rate(pg_stat_database_tup_returned{db}[$__rate_interval]))", "scanned"),
            ("sum(rate(pg_stat_database_tup_fetched{db}[$__rate_interval]))", "fetched by index"),
            ("sum(rate(pg_stat_database_tup_inserted{db}[$__rate_interval]))", "inserted"),
            ("sum(rate(pg_stat_database_tup_updated{db}[$__rate_interval]))", "updated"),
            ("sum(rate(pg_stat_database_tup_deleted{db}[$__rate_interval]))", "deleted"),
            unit="count:rows/s",
        ),
        graph(
            "Cache hit ratio",
            """Share of blocks that were found in shared_buffers. A database that is used sits
            above 95 %. A low ratio after a restart is usual; permanently low, with many reads
            from disk, it needs more shared_buffers.""",
            (
                """sum by (datname)
                   (rate(pg_stat_database_blks_hit{db, datname!~"template."}[$__rate_interval]))
                   / (sum by (datname) (rate(pg_stat_database_blks_hit{db}[$__rate_interval])
                                        + rate(pg_stat_database_blks_read{db}[$__rate_interval])) > 0)""",
                "{{datname}}",
            ),
            unit="percentunit",
            soft_min=0.9,
            highest=1,
        ),
    ]


def wal() -> list:
    """From the write-ahead log to the archive."""
    return [
        graph(
            "WAL size",
            """Size of pg_wal, and max_wal_size, where a checkpoint is forced. Far above that line:
            a slot or a failing archiver holds WAL back, and the disk may fill.""",
            ("pg_wal_size_bytes{here}", "WAL on disk"),
            ("pg_settings_max_wal_size_bytes{here}", "max_wal_size"),
            unit="bytes",
            limit="max_wal_size",
        ),
        graph(
            "Checkpoints by cause",
            """Checkpoints in the hour before. Timed ones are normal; more requested than timed
            ones mean that max_wal_size is too small for what is written, or that backups or
            CHECKPOINT are run.""",
            (
                """sum(increase(pg_stat_checkpointer_num_timed_total{here}[1h]))
                   or sum(increase(pg_stat_bgwriter_checkpoints_timed_total{here}[1h]))""",
                "came due",
            ),
            (
                """sum(increase(pg_stat_checkpointer_num_requested_total{here}[1h]))
                   or sum(increase(pg_stat_bgwriter_checkpoints_req_total{here}[1h]))""",
                "requested",
            ),
        ),
        graph(
            "Checkpoint duration",
            """Share of time spent writing and syncing files. Writing is spread out on purpose, up to
            90 % of the time. Syncing should be near zero: above a few percent the disk is too slow,
            and commits wait for it.""",
            (
                """sum(rate(pg_stat_checkpointer_write_time_total{here}[$__rate_interval])
                   or rate(pg_stat_bgwriter_checkpoint_write_time_total{here}[$__rate_interval]))
                   / 1000""",
                "writing",
            ),
            (
                """sum(rate(pg_stat_checkpointer_sync_time_total{here}[$__rate_interval])
                   or rate(pg_stat_bgwriter_checkpoint_sync_time_total{here}[$__rate_interval]))
                   / 1000""",
                "syncing",
            ),
            unit="percentunit",
        ),
        graph(
            "Writers of changed blocks",
            """Bytes per second from shared_buffers to disk. Best are checkpoints, which are
            spread out; blocks that sessions write themselves (counted up to PostgreSQL 16)
            make queries wait.""",
            (
                f"""(rate(pg_stat_checkpointer_buffers_written_total{{here}}[$__rate_interval])
                   or rate(pg_stat_bgwriter_buffers_checkpoint_total{{here}}[$__rate_interval]))
                   * {BLOCK}""",
                "checkpoints",
            ),
            (
                f"rate(pg_stat_bgwriter_buffers_clean_total{{here}}[$__rate_interval]) * {BLOCK}",
                "background writer",
            ),
            (
                f"""rate(pg_stat_bgwriter_buffers_backend_total{{here}}[$__rate_interval])
                   * {BLOCK}""",
                "sessions",
            ),
            unit="Bps",
        ),
        graph(
            "WAL archiving: archived and failed",
            """WAL files that were archived, and attempts that failed, in the hour before. A
            failure now and then is retried; failures without a success mean that the WAL
            archive is incomplete. Flat zero where archive_mode is off, or nothing is
            written.""",
            ("increase(pg_stat_archiver_archived_count{here}[1h])", "archived"),
            ("increase(pg_stat_archiver_failed_count{here}[1h])", "failed"),
            runbook="PostgresArchivingFailing",
        ),
        graph(
            "WAL archiving backlog: files that wait",
            """Finished WAL files that wait. Zero or one is usual; steady growth means that archiving has
            stopped, at the dashed line it is time to act.""",
            ("pg_wal_archive_ready_files{here}", "files that wait"),
            (limit_of("pg_archive_ready:files"), "limit"),
            limit="limit",
            runbook="PostgresArchivingBacklog",
        ),
        graph(
            "WAL archiving: oldest file that waits",
            """Age of the oldest WAL file that waits to be archived, and time since the last one was. The second
            grows while nothing is written, and means nothing then; the first pages at the dashed line.""",
            ("pg_wal_archive_ready_oldest_age_seconds{here}", "oldest that waits"),
            ("pg_stat_archiver_last_archive_age{here}", "since the last one"),
            (limit_of("pg_archive_ready:age_seconds"), "limit"),
            unit="s",
            limit="limit",
            runbook="PostgresArchivingStalled",
        ),
    ]


def replication() -> list:
    """Those who read this server's WAL, and whose WAL it reads."""
    return [
        graph(
            "Replication lag: standbys and subscribers, WAL",
            """WAL that each receiver has not replayed, seen from this server. Peaks during
            heavy writes are usual, steady growth is a standby that cannot keep up.""",
            (
                """sum by (application_name, client_addr)
                   (pg_stat_replication_pg_wal_lsn_diff{here})""",
                "{{application_name}} {{client_addr}}",
            ),
            unit="bytes",
            none="no standby seen",
        ),
        graph(
            "Replication lag: this standby, seconds",
            """Seconds that this server is behind its primary; 0 on a primary. Queries on it
            read data of that age.""",
            ("pg_replication_lag_seconds{here}", "behind"),
            (limit_of("pg_replication_lag:warning_seconds"), "ticket"),
            (limit_of("pg_replication_lag:critical_seconds"), "page"),
            unit="s",
            limit=("ticket", "page"),
            runbook="PostgresStandbyLagging",
        ),
        graph(
            "WAL receiver of this standby",
            """Whether it streams from its primary (1), and seconds since the last message; no
            data on a primary. After wal_receiver_timeout it connects again.""",
            ("pg_stat_wal_receiver_streaming{here}", "streams"),
            ("pg_stat_wal_receiver_last_message_age_seconds{here}", "seconds since the last message"),
            none="not a standby",
            runbook="PostgresStandbyNotStreaming",
        ),
        graph(
            "Commits waiting for a synchronous standby",
            """Age of the oldest transaction that waits for a synchronous standby to confirm it. Milliseconds are
            usual; at the dashed line nothing is committed any more: a standby that synchronous_standby_names
            requires is missing or does not confirm.""",
            ('max(pg_stat_activity_max_tx_duration{here, wait_event="SyncRep"})', "oldest"),
            (limit_of("pg_sync_wait:age_seconds"), "limit"),
            unit="s",
            limit="limit",
            runbook="PostgresSyncReplicationBlocked",
        ),
        graph(
            "Replication slots: WAL held back",
            """WAL that each slot keeps on this server. A slot in use goes up and down; one that
            only rises has lost its consumer, and fills the disk.""",
            (
                "max by (slot_name) (pg_replication_slots_pg_wal_lsn_diff{here})",
                "{{slot_name}}",
            ),
            unit="bytes",
            none="no slots seen",
        ),
        table(
            "Replication slots",
            """A slot without a consumer should be dropped if the consumer was removed. Left
            before it is lost: WAL that can still be written until max_slot_wal_keep_size
            invalidates it; empty where that is not set.""",
            {"slot_name": "Slot"},
            (
                "Is read",
                "max by (slot_name) (pg_replication_slots_active{here})",
                "short",
                {1: ("yes", GREEN), 0: ("no", ORANGE)},
            ),
            (
                "Holds back",
                "max by (slot_name) (pg_replication_slots_pg_wal_lsn_diff{here})",
                "bytes",
                ((None, GREEN), (1 << 30, ORANGE), (10 << 30, RED)),
            ),
            (
                "Its WAL is",
                WAL_STATUS,
                "short",
                {1: ("there", GREEN), 2: ("beyond max_wal_size", GREEN), 3: ("about to be lost", RED), 4: ("lost", RED)},
            ),
            (
                "Left before it is lost",
                "max by (slot_name) (pg_replication_slots_safe_wal_size_bytes{here})",
                "bytes",
            ),
            width=12,
            none="no slots seen",
        ),
    ]


def tables() -> list:
    """What is stored, and how well it is kept."""
    return [
        graph(
            "Database sizes",
            "Disk space of each database. Compare the growth with the free space of the disk.",
            ('pg_database_size_bytes{db, datname!~"template."}', "{{datname}}"),
            unit="bytes",
        ),
        table(
            "Databases: size and load",
            """Size and load of each database. A rate far above the usual shows which
            application to look at. Click a database name to open the Synapse dashboard.""",
            {"datname": "Database"},
            (
                "Size",
                'sum by (datname) (pg_database_size_bytes{db, datname!~"template."})',
                "bytes",
            ),
            (
                "Connections",
                'sum by (datname) (pg_stat_database_numbackends{db, datname!~"template."})',
                "short",
            ),
            (
                "Transactions",
                """sum by (datname) (rate(
                     pg_stat_database_xact_commit{db, datname!~"template."}[$__rate_interval]))""",
                "count:tx/s",
            ),
            (
                "Temporary files",
                SPILLED,
                "Bps",
                ((None, GREEN), (1 << 20, ORANGE)),
            ),
            width=12,
            sort="Size",
            go={"Database": f"/d/{SYNAPSE}?var-datname=${{__value.raw}}&{KEEP}"},
        ),
        table(
            "Largest tables: size, dead rows, vacuum",
            """The fifteen largest tables. Dead rows, of tables with more than ten thousand rows: above
            33 % autovacuum does not keep up; look for the oldest transaction and at
            autovacuum.""",
            {"datname": "Database", "schemaname": "Schema", "relname": "Table"},
            ("Size", f"topk(15, {by_table(TABLE_SIZE)})", "bytes"),
            ("Indexes", largest(by_table("pg_stat_user_tables_index_size_bytes{db}")), "bytes"),
            ("Rows", largest(by_table("pg_stat_user_tables_n_live_tup{db}")), "short"),
            (
                "Dead rows",
                largest(DEAD_SHARE),
                "percentunit",
                ((None, GREEN), (0.2, ORANGE), (0.33, RED)),
            ),
            ("Vacuumed ago", largest(ago("vacuum")), "s"),
            ("Analyzed ago", largest(ago("analyze")), "s"),
            sort="Size",
            height=11,
            runbook="PostgresTableDeadRows",
        ),
        graph(
            "Sequential scans: rows read, by table",
            """Rows per second that sequential scans read, in the five tables where it is most. On a
            large table this is a missing index or stale statistics; on a small one it does not
            matter.""",
            (
                top_tables(5, "pg_stat_user_tables_seq_tup_read"),
                "{{datname}} {{relname}}",
            ),
            unit="count:rows/s",
            many=True,
        ),
        graph(
            "Index usage ratio",
            """Share of the scans of user tables that used an index, by database. Near 100 % is usual for
            Synapse. A fall is a missing index, or statistics that are out of date; the panel on tables read
            row by row says where.""",
            (
                """sum by (datname) (rate(pg_stat_user_tables_idx_scan{db}[$__rate_interval]))
                   / (sum by (datname) (rate(pg_stat_user_tables_idx_scan{db}[$__rate_interval])
                                        + rate(pg_stat_user_tables_seq_scan{db}[$__rate_interval])) > 0)""",
                "{{datname}}",
            ),
            unit="percentunit",
            highest=1,
        ),
        graph(
            "Time spent on reading and writing blocks",
            """Seconds per second that sessions waited for blocks from disk, by database: 1 is
            one session that waits all the time. Zero where track_io_timing is off. It rises
            with a slow disk, or a cache that is too small.""",
            ("sum by (datname) (rate(pg_stat_database_blk_read_time{db}[$__rate_interval])) / 1000", "{{datname}} read"),
            ("sum by (datname) (rate(pg_stat_database_blk_write_time{db}[$__rate_interval])) / 1000", "{{datname}} write"),
            unit="s",
            none="track_io_timing is off",
        ),
        graph(
            "Progress of running vacuums",
            """Share of the table that each running vacuum has scanned. Short ones are not seen
            here; one without progress waits for a lock or is throttled.""",
            (
                """max by (datname, relname) (pg_stat_progress_vacuum_heap_blks_scanned{db}
                   / (pg_stat_progress_vacuum_heap_blks{db} > 0))""",
                "{{datname}} {{relname}}",
            ),
            unit="percentunit",
            highest=1,
            none="no vacuum runs",
        ),
    ]


def errors() -> list:
    """What goes wrong, and what stands in the way."""
    return [
        graph(
            "Deadlocks and recovery conflicts",
            """Per second: deadlocks, and queries that a standby cancelled because they
            conflicted with replay. Synapse retries both; many make it slow.""",
            ("sum(rate(pg_stat_database_deadlocks{db}[$__rate_interval]))", "deadlocks"),
            ("sum(rate(pg_stat_database_conflicts{db}[$__rate_interval]))", "cancelled on a standby"),
            unit="cps",
            width=12,
        ),
        graph(
            "Temporary files",
            """Bytes per second that queries wrote to temporary files, since work_mem was too small
            for a sort or a hash. A little is fine; megabytes all the time need more
            work_mem.""",
            (
                SPILLED,
                "{{datname}}",
            ),
            unit="Bps",
            width=12,
        ),
        graph(
            "Sessions waiting for locks",
            """Sessions that wait for a lock of another session, by database. A few for a moment
            are usual. If they stay, a session hangs or changes a table; the dashed lines are
            where the alerts fire.""",
            ('sum by (datname) (pg_stat_activity_count{db, wait_event_type="Lock"})', "{{datname}}"),
            (limit_of("pg_lock_waits:warning_sessions"), "ticket"),
            (limit_of("pg_lock_waits:critical_sessions"), "page"),
            limit=("ticket", "page"),
            width=12,
            runbook="PostgresLockWaits",
        ),
        graph(
            "Locks by mode",
            """Locks that are held or waited for, without those of reading (ACCESS SHARE, ROW
            SHARE). rowexclusivelock is writing and usual. accessexclusivelock blocks all other
            sessions on a table: a schema change or VACUUM FULL.""",
            (
                """sum by (mode)
                   (pg_locks_count{db, mode!~"accesssharelock|rowsharelock|sireadlock"})""",
                "{{mode}}",
            ),
            width=12,
        ),
    ]


def exporter() -> list:
    """What the exporter could see, and what that costs."""
    return [
        table(
            "Collectors skipped, by reason",
            """no_privilege and grants_outdated: run `matrix-postgres-exporter grants` again.
            lock_timeout and statement_timeout: the table was locked or the server slow; the
            last values are served. wrong_role, unsupported_version and setting_off are
            expected. `matrix-postgres-exporter check` says more.""",
            {"collector": "Collector", "reason": "Reason", "datname": "Database"},
            only="max by (collector, reason, datname) (pg_exporter_collector_skipped{here})",
            width=8,
            none="nothing: everything was seen",
            runbook="PostgresExporterPrivilegeMissing",
        ),
        stat(
            "Down reason",
            """The reason while the server is down. refused: nothing listens. dns: the name
            cannot be resolved. timeout: host, network or disk. starting_up: it starts or
            recovers. shutting_down: it is being stopped. too_many_connections: all are used.
            authentication: password or pg_hba.conf. tls: certificate. database_missing,
            no_connect_privilege: the database of the connection string. password_file: it
            cannot be read. protocol: not PostgreSQL's protocol. other_server: the name
            resolves to several servers. connection, other: see the exporter's log.""",
            "pg_exporter_down_reason{here}",
            label="{{reason}}",
            steps=((None, RED),),
            none="it is up",
            height=8,
            runbook="PostgresServerDown",
        ),
        graph(
            "Age of values read at intervals",
            """Age of values that are not read in every scrape, such as sizes. A line that
            rises to its interval (1 or 5 minutes) and falls is healthy; steady growth means
            that the refresh fails.""",
            (
                "max by (collector) (pg_exporter_collector_age_seconds{here})",
                "{{collector}}",
            ),
            unit="s",
            many=True,
            runbook="PostgresExporterCollectorStale",
        ),
        table(
            "Warnings on the exporter's role",
            """Privileges of the role that a monitoring role should not have. Create the role
            that `matrix-postgres-exporter grants` prints.""",
            {"warning": "Warning", "datname": "Database"},
            only="max by (warning, datname) (pg_exporter_role_warning{here}) == 1",
            width=8,
            none="none",
            runbook="PostgresExporterRoleTooPowerful",
        ),
        graph(
            "Scrape duration",
            """All collectors run at the same time, so a scrape takes about as long as the
            slowest one, usually below a second. It ends shortly before the timeout of
            Prometheus.""",
            ("pg_exporter_last_scrape_duration_seconds{here}", "the whole scrape"),
            ("max(pg_scrape_collector_duration_seconds{here})", "its slowest collector"),
            unit="s",
            soft_max=0.1,
            width=8,
        ),
        bars(
            "Slowest collectors",
            """Seconds that the last runs of each collector took, over all databases. A
            collector that is always slow can be switched off, or read less often.""",
            "topk(7, pg_scrape_collector_duration_seconds{here})",
            "{{collector}}",
            unit="s",
        ),
        graph(
            "Connections of the exporter",
            """The exporter's own connections, and their maximum. At the limit it waits for one
            of its own, and opens no further one.""",
            ("pg_exporter_connections{here}", "held"),
            ("pg_exporter_max_connections{here}", "limit"),
            limit="limit",
            width=8,
        ),
    ]


# Two more states are never seen in practice.
# The same color for a state wherever it is drawn.
STATES = {
    "active": GREEN,
    "idle": GREY,
    "idle in transaction": ORANGE,
    "idle in transaction (aborted)": RED,
}
WAITS = {"nothing: on CPU": GREEN, "IO": ORANGE, "Lock": RED, "LWLock": "purple", "Client": BLUE}
ACTIVE_BY_WAIT = """label_replace(
  sum by (wait_event_type) (pg_stat_activity_count{db, state="active"}),
  "wait_event_type", "nothing: on CPU", "wait_event_type", "")"""
SESSIONS = """sum by (state)
  (pg_activity_sessions{db, state!~"disabled|fastpath function call"})"""
# What clients may open: what is reserved is not theirs. reserved_connections came with 16.
ALLOWED = """(pg_settings_max_connections{here}
  - pg_settings_superuser_reserved_connections{here}
  - (pg_settings_reserved_connections{here} or 0 * pg_up{here}))"""
USED = f"sum(pg_activity_sessions{{here}}) / sum{ALLOWED}"
SPILLED = """sum by (datname)
  (rate(pg_stat_database_temp_bytes{db, datname!~"template."}[$__rate_interval]))"""
# The states of a slot's WAL as numbers, which a table can color.
WAL_STATUS = "max by (slot_name) ({})".format(
    " or ".join(
        f'{number} * (pg_replication_slots_wal_status{{here, wal_status="{status}"}} == 1)'
        for number, status in enumerate(("reserved", "extended", "unreserved", "lost"), start=1)
    )
)
BLOCK = "scalar(pg_settings_block_size{here})"
TABLE_SIZE = "pg_stat_user_tables_table_size_bytes{db}"


def by_table(expr: str) -> str:
    """Without the labels that do not tell tables apart."""
    return f"sum by (datname, schemaname, relname) ({expr})"


def largest(expr: str) -> str:
    """Of the largest tables only."""
    return f"({expr}) and topk(15, {by_table(TABLE_SIZE)})"


def top_tables(count: int, *counters: str) -> str:
    """What these counters gain per second, together, in the tables where it is most."""
    shown = " + ".join(by_table(f"rate({counter}{{db}}[$__rate_interval])") for counter in counters)
    ranked = " + ".join(by_table(f"increase({counter}{{db}}[$__range] @ end())") for counter in counters)
    return top(count, shown, ranked)


def ago(what: str) -> str:
    """Seconds since a table was vacuumed or analyzed, by whomever; never is not a value."""
    by_hand = by_table(f"pg_stat_user_tables_last_{what}{{db}} > 0")
    by_itself = by_table(f"pg_stat_user_tables_last_auto{what}{{db}} > 0")
    return f"time() - ({by_hand} > {by_itself} or {by_itself} or {by_hand})"


# Of small tables it says nothing: their rows die and go all the time.
DEAD_SHARE = f"""{by_table("pg_stat_user_tables_n_dead_tup{db}")}
  / ({by_table("pg_stat_user_tables_n_live_tup{db} + pg_stat_user_tables_n_dead_tup{db}")} > 10000)"""
