//! What is served of Synapse is what Synapse and its database say.

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{Made, NEW, OLD, Synapse};

mod backlog;
mod people;

#[tokio::test(flavor = "multi_thread")]
async fn synapses_numbers_are_right_on_13() {
    synapses_numbers_are_right(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synapses_numbers_are_right_on_18() {
    synapses_numbers_are_right(18, NEW).await;
}

/// In the schema public, in another one in a copy of the database, and on a standby.
async fn synapses_numbers_are_right(major: u32, version: &str) {
    let server = Postgres::start(major).await;
    let (synapse, made) = Synapse::start(&server, version).await;
    drop(synapse);
    let begun = "INSERT INTO background_updates (update_name, progress_json) \
                 VALUES ('one', '{}'), ('two', '{}')";
    server.sql("synapse", begun).await;
    for (what_is_left, _) in left(version) {
        server
            .sql("synapse", &format!("{AGO}; {what_is_left}"))
            .await;
    }
    copy_to_another_schema(&server).await;
    Role::Strict
        .create(&server, "exporter", &["synapse", "copy"])
        .await;
    let standby = server.standby().start().await;

    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let page = exporter.complete().await;
    for (database, schema) in [("synapse", "public"), ("copy", "other schema")] {
        are_what_was_made(&page, database, &made);
        are_what_the_tables_hold(&page, database, schema, &server).await;
        are_what_is_left(&page, database, version);
        assert_eq!(behind(&page, database), []);
    }

    let page = Exporter::watch(&standby.dsn("synapse", "exporter"), &[])
        .await
        .complete()
        .await;
    are_what_was_made(&page, "synapse", &made);
    assert_eq!(page.samples("synapse_db_sequence_behind").count(), 0);
    let reasons = reasons(&page, "synapse_streams", "synapse");
    assert!(reasons.contains(&"wrong_role"), "{reasons:?}");
    let reasons = self::reasons(&page, "synapse_locks", "synapse");
    assert_eq!(reasons, ["wrong_role"]);

    // As after a restore: Synapse would not start any more.
    let newest = "SELECT max(stream_id) FROM stream_positions WHERE stream_name = 'events'";
    let newest = number(&server, "synapse", newest).await;
    server
        .sql("synapse", "SELECT setval('events_stream_seq', 3)")
        .await;
    let page = exporter.scrape().await;
    let events = ("events_stream_seq".to_owned(), newest - 3.0);
    assert_eq!(behind(&page, "synapse"), [events]);
    assert_eq!(behind(&page, "copy"), []);
}

/// A restored copy beside the original, its tables elsewhere.
async fn copy_to_another_schema(server: &Postgres) {
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'synapse'";
    wait_for("nobody uses the database", || async {
        server.value("postgres", sessions).await.as_deref() == Some("0")
    })
    .await;
    server
        .sql("postgres", "CREATE DATABASE copy TEMPLATE synapse")
        .await;
    let rename = "ALTER SCHEMA public RENAME TO \"other schema\"; CREATE SCHEMA public";
    server.sql("copy", rename).await;
}

fn are_what_was_made(page: &Page, database: &str, made: &Made) {
    let sum = |name: &str, labels: &[(&str, &str)]| -> f64 {
        page.samples(name)
            .filter(|sample| sample.labels["datname"] == database)
            .filter(|sample| {
                labels
                    .iter()
                    .all(|(name, value)| sample.labels[*name] == *value)
            })
            .map(|sample| sample.value)
            .sum()
    };
    let users = "synapse_db_users";
    let flagged = "synapse_db_users_flagged";
    for (found, wanted) in [
        (sum(users, &[]), made.users.total),
        (sum(users, &[("kind", "guest")]), made.users.guests),
        (sum(users, &[("kind", "bridged")]), made.users.bridged),
        (
            sum(users, &[("deactivated", "true")]),
            made.users.deactivated,
        ),
        (sum(flagged, &[("flag", "admin")]), made.users.admins),
        (sum(flagged, &[("flag", "shadow_banned")]), 0),
        (sum("synapse_db_rooms", &[]), made.rooms.total),
        (sum("synapse_db_rooms_published", &[]), made.rooms.published),
        (sum("synapse_db_rooms_encrypted", &[]), made.rooms.encrypted),
        (sum("synapse_db_devices", &[]), made.devices),
    ] {
        assert_eq!(found, wanted as f64, "{database}: {made:?}");
    }
}

fn are_what_is_left(page: &Page, database: &str, version: &str) {
    for (metric, labels, wanted) in left(version).into_iter().flat_map(|(_, served)| served) {
        let labels = [&[("datname", database)], *labels].concat();
        let found = page.value(metric, &labels);
        let right = |found: f64| match metric.ends_with("_age_seconds") && *wanted > 0.0 {
            // The rows grow older while the test runs.
            true => (*wanted..wanted + 120.0).contains(&found),
            false => found == *wanted,
        };
        assert!(
            found.is_some_and(right),
            "{metric} {labels:?}: {found:?}, not {wanted}"
        );
    }
}

async fn are_what_the_tables_hold(page: &Page, database: &str, schema: &str, server: &Postgres) {
    let labels = [("datname", database)];
    for (metric, sql) in [
        (
            "synapse_db_schema_version",
            "SELECT version FROM schema_version",
        ),
        (
            "synapse_db_schema_compat_version",
            "SELECT compat_version FROM schema_compat_version",
        ),
        (
            "synapse_db_background_updates_pending",
            "SELECT count(*) FROM background_updates",
        ),
        (
            "synapse_db_users_registered_24h",
            "SELECT count(*) FROM users
              WHERE to_timestamp(creation_ts) > now() - interval '1 day'",
        ),
    ] {
        let wanted = number(server, database, &in_schema(schema, sql)).await;
        assert_eq!(
            page.value(metric, &labels),
            Some(wanted),
            "{database} {metric}"
        );
    }
    for update in ["one", "two"] {
        let labels = [("datname", database), ("update_name", update)];
        let pending = page.value("synapse_db_background_update_pending", &labels);
        assert_eq!(pending, Some(1.0), "{database} {update}");
    }
    for (metric, label, sql) in by_label() {
        let rows = server.sql(database, &in_schema(schema, sql)).await;
        assert!(!rows.is_empty(), "{database} {metric}");
        for row in rows {
            let [value, wanted] = [0, 1].map(|column| row[column].clone().unwrap());
            let labels = [("datname", database), (label, value.as_str())];
            let found = page.value(metric, &labels);
            assert_eq!(found, wanted.parse().ok(), "{database} {metric} {value}");
        }
    }
    let positions = "SELECT stream_name, max(stream_id) FROM stream_positions GROUP BY 1";
    let positions = server.sql(database, &in_schema(schema, positions)).await;
    assert!(positions.len() >= 3, "{positions:?}");
    for row in positions {
        let [stream, position] = [0, 1].map(|column| row[column].clone().unwrap());
        let labels = [("datname", database), ("stream_name", stream.as_str())];
        let found = page.value("synapse_db_stream_position", &labels);
        assert_eq!(found, position.parse().ok(), "{database} {stream}");
    }
}

fn in_schema(schema: &str, sql: &str) -> String {
    format!("SET search_path = \"{schema}\"; {sql}")
}

async fn number(server: &Postgres, database: &str, sql: &str) -> f64 {
    server.value(database, sql).await.unwrap().parse().unwrap()
}

/// The sequences that are behind their stream, and how far.
fn behind(page: &Page, database: &str) -> Vec<(String, f64)> {
    let sequences: Vec<_> = page
        .samples("synapse_db_sequence_behind")
        .filter(|sample| sample.labels["datname"] == database)
        .collect();
    assert!(sequences.len() >= 6, "{sequences:?}");
    let behind = sequences.iter().filter(|sample| sample.value > 0.0);
    behind
        .map(|sample| (sample.labels["sequence_name"].clone(), sample.value))
        .collect()
}

fn reasons<'a>(page: &'a Page, collector: &str, database: &str) -> Vec<&'a str> {
    page.samples("pg_exporter_collector_skipped")
        .filter(|sample| sample.labels["collector"] == collector)
        .filter(|sample| sample.labels["datname"] == database)
        .map(|sample| sample.labels["reason"].as_str())
        .collect()
}

/// So many seconds ago, as Synapse counts.
const AGO: &str = "CREATE FUNCTION pg_temp.ago(seconds numeric) RETURNS bigint
    LANGUAGE sql AS 'SELECT ((extract(epoch FROM now()) - seconds) * 1000)::bigint'";

/// A metric, some of its labels, and its value; an age is at least that.
type Served = (&'static str, &'static [(&'static str, &'static str)], f64);

/// Rows as Synapse leaves them, and what is served of them.
type Left = (&'static str, &'static [Served]);

/// A metric with a label, and the query that gives the label's values and the metric's.
type ByLabel = (&'static str, &'static str, &'static str);

fn left(version: &str) -> Vec<Left> {
    let by_new = match version {
        NEW => [people::LEFT_BY_NEW, backlog::LEFT_BY_NEW].concat(),
        _ => Vec::new(),
    };
    [LEFT, people::LEFT, backlog::LEFT, &by_new].concat()
}

fn by_label() -> Vec<ByLabel> {
    [BY_LABEL, people::BY_LABEL, backlog::BY_LABEL].concat()
}

const LEFT: &[Left] = &[
    // tasks
    (
        "INSERT INTO scheduled_tasks (id, action, status, timestamp)
         VALUES ('1', 'purge_room', 'active', pg_temp.ago(7200)),
                ('2', 'purge_room', 'active', pg_temp.ago(30)),
                ('3', 'purge_room', 'failed', pg_temp.ago(86400)),
                ('4', 'purge_history', 'failed', pg_temp.ago(9)),
                ('5', 'purge_history', 'failed', pg_temp.ago(8))",
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
                "synapse_db_scheduled_tasks_active_oldest_age_seconds",
                &[("action", "purge_room")],
                7200.0,
            ),
        ],
    ),
    // locks
    (
        "INSERT INTO worker_locks (lock_name, lock_key, instance_name, token, last_renewed_ts)
         VALUES ('federation_inbound_pdu', 'one', 'master', 'a', pg_temp.ago(115)),
                ('federation_inbound_pdu', 'two', 'master', 'b', pg_temp.ago(125)),
                ('federation_inbound_pdu', 'three', 'master', 'c', pg_temp.ago(-60));
         INSERT INTO worker_read_write_locks_mode (lock_name, lock_key, write_lock, token)
         VALUES ('purge_pagination_lock', 'one', false, 'd'),
                ('purge_pagination_lock', 'two', true, 'f');
         INSERT INTO worker_read_write_locks
                (lock_name, lock_key, instance_name, write_lock, token, last_renewed_ts)
         VALUES ('purge_pagination_lock', 'one', 'master', false, 'd', pg_temp.ago(-60)),
                ('purge_pagination_lock', 'one', 'worker', false, 'e', pg_temp.ago(-60)),
                ('purge_pagination_lock', 'two', 'master', true, 'f', pg_temp.ago(300))",
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
    ),
    // federation
    (
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
                "synapse_db_federation_destinations_failing_since_1h",
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
    // appservices
    (
        "INSERT INTO application_services_state (as_id, state)
         VALUES ('tired', 'down'), ('fresh', 'up'), ('silent', NULL);
         INSERT INTO application_services_txns (as_id, txn_id, event_ids)
         VALUES ('tired', 1001, '[]'), ('tired', 1002, '[]')",
        &[
            ("synapse_db_appservice_down", &[("as_id", "tired")], 1.0),
            ("synapse_db_appservice_down", &[("as_id", "fresh")], 0.0),
            (
                "synapse_db_appservice_transactions_waiting",
                &[("as_id", "tired")],
                2.0,
            ),
        ],
    ),
    // delayed events
    (
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
    // push
    (
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
    // activity
    (
        "INSERT INTO user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
         VALUES ('away 50 minutes', '', '', '', '', pg_temp.ago(3000)),
                ('away 5 hours', '', '', '', '', pg_temp.ago(18000)),
                ('away 5 days', '', '', '', '', pg_temp.ago(432000)),
                ('away 5 days', '', '', 'twice', '', pg_temp.ago(432000)),
                ('away 9 days', '', '', '', '', pg_temp.ago(777600));
         UPDATE users SET creation_ts = pg_temp.ago(90000) / 1000 WHERE admin = 1;
         INSERT INTO presence_stream (user_id, state)
         VALUES ('one', 'unavailable'), ('two', 'org.matrix.msc3026.busy'), ('three', 'odd'),
                ('four', 'offline')",
        &[
            (
                "synapse_db_users_present",
                &[("presence", "unavailable")],
                1.0,
            ),
            ("synapse_db_users_present", &[("presence", "busy")], 1.0),
            ("synapse_db_users_present", &[("presence", "other")], 1.0),
        ],
    ),
];

const BY_LABEL: &[ByLabel] = &[(
    "synapse_db_users_active",
    "within",
    "SELECT span, count(DISTINCT user_id)
           FROM user_ips, (VALUES ('1h', interval '1 hour'), ('24h', '1 day'), ('7d', '7 days'))
                           AS spans (span, length)
          WHERE to_timestamp(last_seen / 1000.0) > now() - length
          GROUP BY 1",
)];
