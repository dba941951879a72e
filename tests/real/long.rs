//! However long a queue of Synapse grows, what is asked in one statement costs no more than a bound.

use std::collections::BTreeSet;

use matrix_postgres_exporter::collectors;
use matrix_postgres_exporter::query::{Query, Version};
use tokio_postgres::Client;

use super::support::exporter::{Exporter, failures};
use super::support::postgres::{Postgres, rows};
use super::support::process::PATIENCE;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

/// Rows of each table.
const ROWS: u64 = 30_000;

/// The plans are looked at with a hundredth of each limit.
const SMALLER: [(&str, &str); 2] = [("LIMIT 100000", "LIMIT 1000"), ("LIMIT 10000", "LIMIT 100")];

/// How many rows a statement reads at most, then.
const BOUND: u64 = 1_100;

/// Tables that are not queues: what is asked of them is found by an index, and as much as a day, an
/// hour, or the people who are there give.
const BY_INDEX: [&str; 4] = ["login_tokens", "open_id_tokens", "presence_stream", "users"];

/// Tables with a row for each part of Synapse, or with one row.
const SMALL: [&str; 14] = [
    "appservice_stream_position",
    "application_services_state",
    "background_updates",
    "delayed_events_stream_pos",
    "device_lists_changes_converted_stream_position",
    "event_push_summary_last_receipt_stream_id",
    "event_push_summary_stream_ordering",
    "federation_stream_position",
    "room_forgetter_stream_pos",
    "schema_compat_version",
    "schema_version",
    "stats_incremental_position",
    "stream_positions",
    "user_directory_stream_pos",
];

/// What the queues hold.
const QUEUES: [(&str, &str); 23] = [
    (
        "rooms",
        "INSERT INTO rooms (room_id, is_public, creator, room_version)
         SELECT '!' || n, false, '@one:demo.test', '10' FROM numbers",
    ),
    (
        "events",
        "INSERT INTO events (stream_ordering, event_id, room_id, type, depth,
                             topological_ordering, processed, outlier, origin_server_ts,
                             received_ts)
         SELECT 10000 + n, '$' || n, '!' || n, 'type', 0, 0, true, false, 0, 1000
           FROM numbers",
    ),
    (
        "state_groups",
        "INSERT INTO state_groups (id, room_id, event_id)
         SELECT 10000 + n, '!' || n, '$' || n FROM numbers",
    ),
    (
        "event_auth_chains",
        "INSERT INTO event_auth_chains (event_id, chain_id, sequence_number)
         SELECT '$' || n, 10000 + n, 1 FROM numbers",
    ),
    (
        "application_services_txns",
        "INSERT INTO application_services_txns (as_id, txn_id, event_ids)
         SELECT 'away', n, '[]' FROM numbers
         UNION ALL SELECT 'also away', 1, '[]' UNION ALL SELECT 'zealous', 1, '[]'",
    ),
    (
        "scheduled_tasks",
        "INSERT INTO scheduled_tasks (id, action, status, timestamp)
         SELECT n, 'purge_room', CASE WHEN n % 3 > 0 THEN 'complete'
                                      WHEN n % 2 > 0 THEN 'failed' ELSE 'scheduled' END, n
           FROM numbers",
    ),
    (
        "delayed_events",
        "INSERT INTO delayed_events (delay_id, user_localpart, delay, send_ts, room_id, event_type,
                                     content, is_processed)
         SELECT n, 'one', 1, n, 'room', 'type', '', false FROM numbers",
    ),
    (
        "federation_inbound_events_staging",
        "INSERT INTO federation_inbound_events_staging
                (origin, room_id, event_id, received_ts, event_json, internal_metadata)
         SELECT 'well.example', '!' || n % 9, n, n, '{}', '{}' FROM numbers",
    ),
    (
        "partial_state_rooms",
        "INSERT INTO partial_state_rooms (room_id, join_event_id)
         SELECT '!' || n, '$' || n FROM numbers",
    ),
    (
        "event_push_actions_staging",
        "INSERT INTO event_push_actions_staging
                (event_id, user_id, actions, notif, highlight, thread_id, unread)
         SELECT n, 'one', '[]', 1, 0, 'main', 0 FROM numbers",
    ),
    (
        "redactions",
        "INSERT INTO redactions (event_id, redacts, have_censored, received_ts)
         SELECT '$' || n, n, false, n FROM numbers",
    ),
    (
        "event_expiry",
        "INSERT INTO event_expiry (event_id, expiry_ts) SELECT n, n FROM numbers",
    ),
    (
        "received_transactions",
        "INSERT INTO received_transactions (transaction_id, origin, ts)
         SELECT n, 'well.example', n FROM numbers",
    ),
    (
        "device_lists_changes_in_room",
        "INSERT INTO device_lists_changes_in_room
                (user_id, device_id, room_id, stream_id, converted_to_destinations)
         SELECT 'one', 'a', '!z', 10000 + n, false FROM numbers",
    ),
    (
        "device_lists_outbound_pokes",
        "INSERT INTO device_lists_outbound_pokes (destination, stream_id, user_id, device_id, sent, ts)
         SELECT 'well.example', n, 'one', 'a', false, n FROM numbers",
    ),
    (
        "device_lists_remote_resync",
        "INSERT INTO device_lists_remote_resync (user_id, added_ts) SELECT n, n FROM numbers",
    ),
    (
        "device_inbox",
        "INSERT INTO device_inbox (user_id, device_id, stream_id, message_json)
         SELECT 'one', 'a', n, '{}' FROM numbers",
    ),
    (
        "device_federation_outbox",
        "INSERT INTO device_federation_outbox (destination, stream_id, queued_ts, messages_json)
         SELECT 'well.example', n, n, '{}' FROM numbers",
    ),
    (
        "event_reports",
        "INSERT INTO event_reports (id, received_ts, room_id, event_id, user_id)
         SELECT 1000 + n, n, 'room', n, 'one' FROM numbers",
    ),
    (
        "registration_tokens",
        "INSERT INTO registration_tokens (token, pending, completed) SELECT n, 0, 0 FROM numbers",
    ),
    (
        "ui_auth_sessions",
        "INSERT INTO ui_auth_sessions
                (session_id, creation_time, serverdict, clientdict, uri, method, description)
         SELECT n, n, '', '', '', '', '' FROM numbers",
    ),
    (
        "users_pending_deactivation",
        "INSERT INTO users_pending_deactivation (user_id) SELECT n FROM numbers",
    ),
    (
        "worker_locks",
        "INSERT INTO worker_locks (lock_name, lock_key, instance_name, token, last_renewed_ts)
         SELECT 'lock', n, 'master', n, n FROM numbers",
    ),
];

/// The same, of tables that not each Synapse has.
const NEW_QUEUES: [(&str, &str); 3] = [
    (
        "room_reports",
        "INSERT INTO room_reports (id, received_ts, room_id, user_id, reason)
         SELECT 1000 + n, n, 'room', 'one', '' FROM numbers",
    ),
    (
        "user_reports",
        "INSERT INTO user_reports (id, received_ts, target_user_id, user_id, reason)
         SELECT 1000 + n, n, 'one', 'two', '' FROM numbers",
    ),
    (
        "worker_read_write_locks",
        "INSERT INTO worker_read_write_locks_mode (lock_name, lock_key, write_lock, token)
         SELECT 'lock', n, false, n FROM numbers;
         INSERT INTO worker_read_write_locks
                (lock_name, lock_key, instance_name, write_lock, token, last_renewed_ts)
         SELECT 'lock', n, 'master', false, n, n FROM numbers",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_costs_no_more_than_a_bound_on_13() {
    a_long_queue_costs_no_more_than_a_bound(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_costs_no_more_than_a_bound_on_18() {
    a_long_queue_costs_no_more_than_a_bound(18, NEW).await;
}

async fn a_long_queue_costs_no_more_than_a_bound(major: u32, version: &str) {
    let server = Postgres::builder(major).setting("autovacuum", "off");
    let (server, _) = Synapse::leave(server, version).await;
    let client = server.client("synapse", "postgres").await;
    let numbers = format!("CREATE TEMP VIEW numbers AS SELECT generate_series(1, {ROWS}) AS n");
    rows(&client, &numbers).await;
    for (table, fill) in QUEUES.iter().chain(&NEW_QUEUES) {
        let exists = format!("SELECT to_regclass('{table}') IS NOT NULL");
        if rows(&client, &exists).await[0][0].as_deref() == Some("t") {
            rows(&client, fill).await;
        }
    }

    // As the planner knows it after a restore, and later.
    let mut beyond = Vec::new();
    for statistics in ["", "ANALYZE"] {
        rows(&client, statistics).await;
        for query in queries() {
            if let Some((read, plan)) = read(&client, &query, major).await
                && read > BOUND
            {
                beyond.push(format!("{statistics}: {read} rows\n{plan}"));
            }
        }
    }
    assert!(beyond.is_empty(), "{major}: {}", beyond.join("\n\n"));

    let more = "INSERT INTO application_services_txns (as_id, txn_id, event_ids)
                SELECT 'away', n, '[]' FROM generate_series(100001, 200000) AS n";
    rows(&client, more).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let page = exporter.complete_within(5 * PATIENCE).await;
    assert_eq!(failures(&page), Vec::<&str>::new());
    let of = |metric: &str, bridge| page.value(metric, &[("as_id", bridge)]);
    let waiting = "synapse_db_appservice_transactions_waiting";
    assert_eq!(of(waiting, "away"), Some(100_000.0));
    assert_eq!(of(waiting, "zealous"), Some(1.0));
    let all = "synapse_db_appservice_transactions";
    assert_eq!(of(all, "away"), Some(100_000.0 + ROWS as f64));
}

#[test]
fn each_table_that_is_read_at_once_is_known() {
    let read: BTreeSet<_> = queries()
        .iter()
        .flat_map(|query| query.reads.iter().map(|(table, _)| *table))
        .filter(|table| !table.ends_with("_seq") && !table.ends_with("_sequence"))
        .filter(|table| *table != "event_auth_chain_id")
        .collect();
    let queues = QUEUES.iter().chain(&NEW_QUEUES).map(|(table, _)| *table);
    let known: BTreeSet<_> = queues.chain(SMALL).chain(BY_INDEX).collect();
    let unknown: Vec<_> = read.difference(&known).collect();
    assert_eq!(unknown, Vec::<&&str>::new());
}

/// What is asked of Synapse's tables in one statement.
fn queries() -> Vec<Query> {
    let collectors = collectors::synapse::all().into_iter();
    let queries = collectors.flat_map(|collector| collector.queries);
    let at_once = |query: &Query| {
        query.walk.is_none() && !query.reads.is_empty() && !query.statements.is_empty()
    };
    queries.filter(|query| at_once(query)).collect()
}

/// How many rows the scans of a statement read, and its plan; none where this Synapse has no such
/// table.
async fn read(client: &Client, query: &Query, major: u32) -> Option<(u64, String)> {
    for (table, columns) in &query.reads {
        if BY_INDEX.contains(table) {
            return None;
        }
        let names: Vec<_> = columns.iter().map(|column| format!("'{column}'")).collect();
        let there = format!(
            "SELECT count(*) = {} FROM pg_attribute
              WHERE attrelid = to_regclass('{table}') AND attname IN ({})",
            names.len(),
            names.join(", ")
        );
        if rows(client, &there).await[0][0].as_deref() == Some("f") {
            return None;
        }
    }
    let sql = query.covers(Version(major * 10_000))?;
    let sql = sql.fill(Some("public"), |_| Ok(None)).unwrap();
    let mut sql = sql.as_str().to_owned();
    for (limit, less) in SMALLER {
        sql = sql.replace(limit, less);
    }
    let explain = format!("EXPLAIN (ANALYZE, TIMING off) {sql}");
    let lines = rows(client, &explain).await.into_iter().flatten().flatten();
    let lines: Vec<_> = lines.collect();
    let mut read = 0.0;
    let mut loops_of_scan = 0.0;
    for line in &lines {
        if let Some((node, actual)) = line.split_once("(actual rows=") {
            let (rows, loops) = actual.trim_end_matches(')').split_once(" loops=").unwrap();
            let [rows, loops]: [f64; 2] = [rows, loops].map(|number| number.parse().unwrap());
            let of_table = [
                "Seq Scan on",
                "Index Scan",
                "Index Only Scan",
                "Bitmap Heap Scan",
            ];
            let scan = of_table.iter().any(|scan| node.contains(scan));
            loops_of_scan = match scan && !node.contains("Bitmap Index Scan") {
                true => loops,
                false => 0.0,
            };
            read += rows * loops_of_scan;
        } else if let Some((_, removed)) = line.split_once("Rows Removed by Filter: ") {
            read += removed.parse::<f64>().unwrap() * loops_of_scan;
        }
    }
    Some((read as u64, lines.join("\n")))
}
