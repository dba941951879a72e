//! What Synapse has lost, was told not to keep, or does not know, is not served as if all were well.

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

const BEHIND: &str = "synapse_db_consumer_behind_positions";
const AHEAD: &str = "synapse_db_consumer_ahead_positions";
const MISSING: &str = "synapse_db_consumer_position_missing";

#[tokio::test(flavor = "multi_thread")]
async fn lost_positions_are_told_on_13() {
    lost_positions_are_told(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_positions_are_told_on_18() {
    lost_positions_are_told(18, NEW).await;
}

async fn lost_positions_are_told(major: u32, version: &str) {
    let bed = Bed::start(major, version).await;
    let newest = "SELECT max(stream_id) FROM stream_positions WHERE stream_name = 'events'";
    let newest = bed.number(newest).await;
    for (consumer, table, position) in [
        ("stats", "stats_incremental_position", "stream_id"),
        ("user_directory", "user_directory_stream_pos", "stream_id"),
        (
            "appservice",
            "appservice_stream_position",
            "stream_ordering",
        ),
        (
            "push_summary",
            "event_push_summary_stream_ordering",
            "stream_ordering",
        ),
        ("room_forgetter", "room_forgetter_stream_pos", "stream_id"),
        ("delayed_events", "delayed_events_stream_pos", "stream_id"),
        (
            "federation_sender",
            "federation_stream_position",
            "stream_id",
        ),
    ] {
        let served = async |sql: &str| bed.served(sql, consumer).await;
        let set =
            async |value: &str| served(&format!("UPDATE {table} SET {position} = {value}")).await;
        let on_stream = |missing, behind, ahead| [Some(missing), Some(behind), Some(ahead)];
        assert_eq!(
            set(&newest.to_string()).await,
            on_stream(0.0, 0.0, 0.0),
            "{consumer}"
        );
        assert_eq!(set("0").await, on_stream(0.0, newest, 0.0), "{consumer}");
        let ahead = set("1000000").await;
        let far = 1e6 - newest;
        assert_eq!(ahead, on_stream(0.0, -far, far), "{consumer}");
        if ["user_directory", "appservice"].contains(&consumer) {
            assert_eq!(set("NULL").await, [Some(1.0), None, None], "{consumer}");
            let pending = format!(
                "INSERT INTO background_updates (update_name, progress_json)
                 VALUES ('populate_{consumer}_process_rooms', '{{}}')"
            );
            assert_eq!(
                served(&pending).await,
                [Some(0.0), None, None],
                "{consumer}"
            );
        }
        let none = format!("DELETE FROM {table}");
        assert_eq!(served(&none).await, [Some(1.0), None, None], "{consumer}");
    }

    let served = async |sql: &str| bed.served(sql, "push_receipts").await;
    let table = "event_push_summary_last_receipt_stream_id";
    let before = bed.number(&format!("SELECT stream_id FROM {table}")).await;
    let receipts = "INSERT INTO stream_positions VALUES ('receipts', 'reader', 900)";
    let found = served(receipts).await;
    assert_eq!(found, [Some(0.0), Some(900.0 - before), Some(0.0)]);
    let found = served(&format!("UPDATE {table} SET stream_id = 950")).await;
    assert_eq!(found, [Some(0.0), Some(-50.0), Some(50.0)]);
    let found = served(&format!("DELETE FROM {table}")).await;
    assert_eq!(found, [Some(1.0), None, None]);

    let served = async |sql: &str| {
        let [missing, behind, ahead] = bed.served(sql, "device_lists").await;
        assert_eq!(behind, None);
        let waiting = bed
            .value("synapse_db_device_list_changes_unconverted", &[])
            .await;
        (missing, ahead, waiting.is_some())
    };
    let table = "device_lists_changes_converted_stream_position";
    assert_eq!(served("SELECT").await, (Some(0.0), Some(0.0), true));
    let found = served(&format!("UPDATE {table} SET stream_id = 1000000")).await;
    assert!(found.1 > Some(900_000.0), "{found:?}");
    let found = served(&format!("DELETE FROM {table}")).await;
    assert_eq!(found, (Some(1.0), None, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_compared_with_streams_and_tables_on_13() {
    sequences_are_compared_with_streams_and_tables(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_compared_with_streams_and_tables_on_18() {
    sequences_are_compared_with_streams_and_tables(18, NEW).await;
}

async fn sequences_are_compared_with_streams_and_tables(major: u32, version: &str) {
    let bed = Bed::start(major, version).await;
    // As if a bridge were away, and some history had come from another server.
    bed.sql(
        "INSERT INTO application_services_txns (as_id, txn_id, event_ids) VALUES ('away', 30, '');
         INSERT INTO events (stream_ordering, event_id, room_id, type, depth, topological_ordering,
                             processed, outlier, origin_server_ts)
         SELECT -30, 'old', room_id, 'old', 0, 0, true, false, 0 FROM rooms LIMIT 1;
         SELECT setval(name, 30)
           FROM (VALUES ('application_services_txn_id_seq'), ('events_backfill_stream_seq'))
                AS sequences (name)",
    )
    .await;
    for (sequence, newest) in [
        ("state_group_id_seq", "SELECT max(id) FROM state_groups"),
        (
            "event_auth_chain_id",
            "SELECT max(chain_id) FROM event_auth_chains",
        ),
        ("application_services_txn_id_seq", "SELECT 30"),
        ("events_backfill_stream_seq", "SELECT 30"),
    ] {
        let behind = async |sql: &str| {
            bed.sql(sql).await;
            let labels = [("sequence_name", sequence)];
            bed.value("synapse_db_sequence_behind_positions", &labels)
                .await
        };
        let newest = bed.number(newest).await;
        assert!(newest > 5.0, "{sequence}: {newest}");
        assert_eq!(behind("SELECT").await, Some(0.0), "{sequence}");
        let set = format!("SELECT setval('{sequence}', 5)");
        assert_eq!(behind(&set).await, Some(newest - 5.0), "{sequence}");
        let uncalled = format!("SELECT setval('{sequence}', 5, false)");
        assert_eq!(behind(&uncalled).await, Some(newest - 4.0), "{sequence}");
    }
    let empty = "DELETE FROM application_services_txns";
    bed.sql(empty).await;
    let labels = [("sequence_name", "application_services_txn_id_seq")];
    let behind = bed
        .value("synapse_db_sequence_behind_positions", &labels)
        .await;
    assert_eq!(behind, Some(0.0));

    let events = async |sql: &str| {
        bed.sql(sql).await;
        let labels = [("sequence_name", "events_stream_seq")];
        let page = bed.page().await;
        [
            "synapse_db_sequence_behind_positions",
            "synapse_db_stream_unpublished_positions",
        ]
        .map(|metric| page.value(metric, &labels))
    };
    let change = |by: &str| {
        format!(
            "UPDATE stream_positions SET stream_id = stream_id {by} WHERE stream_name = 'events'"
        )
    };
    assert_eq!(events("SELECT").await, [Some(0.0), Some(0.0)]);
    assert_eq!(events(&change("- 20")).await, [Some(0.0), Some(20.0)]);
    assert_eq!(events(&change("+ 50")).await, [Some(30.0), Some(0.0)]);
    let none = "DELETE FROM stream_positions WHERE stream_name = 'events'";
    assert_eq!(events(none).await, [Some(0.0), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_nobody_noted_give_no_age() {
    for (major, version) in [(13, OLD), (18, NEW)] {
        let bed = Bed::start(major, version).await;
        let mut unknown = vec![
            (
                "rooms_partial_state",
                "INSERT INTO partial_state_rooms (room_id) SELECT room_id FROM rooms LIMIT 1",
            ),
            (
                "push_actions_staged",
                "INSERT INTO event_push_actions_staging
                        (event_id, user_id, actions, notif, highlight, thread_id, unread,
                         inserted_ts)
                 VALUES ('one', 'one', '[]', 1, 0, 'main', 0, NULL)",
            ),
            (
                "redactions_uncensored",
                "DELETE FROM redactions;
                 INSERT INTO redactions (event_id, redacts, have_censored, received_ts)
                 VALUES ('one', 'two', false, NULL)",
            ),
        ];
        if version == NEW {
            unknown.push((
                "device_list_changes_unconverted",
                "DELETE FROM device_lists_changes_in_room;
                 INSERT INTO device_lists_changes_in_room
                        (user_id, device_id, room_id, stream_id, converted_to_destinations)
                 VALUES ('one', 'a', '!z', 1000, false)",
            ));
        }
        for (metric, rows) in unknown {
            bed.sql(rows).await;
            let metric = format!("synapse_db_{metric}");
            assert_eq!(bed.value(&metric, &[]).await, Some(1.0), "{metric}");
            let age = format!("{metric}_oldest_age_seconds");
            assert_eq!(bed.value(&age, &[]).await, None, "{age}");
        }
        bed.sql(
            "DELETE FROM partial_state_rooms; DELETE FROM event_push_actions_staging;
             DELETE FROM redactions; UPDATE received_transactions SET ts = NULL",
        )
        .await;
        for metric in [
            "rooms_partial_state",
            "push_actions_staged",
            "redactions_uncensored",
        ] {
            let age = format!("synapse_db_{metric}_oldest_age_seconds");
            assert_eq!(bed.value(&age, &[]).await, Some(0.0), "{age}");
        }
    }
}

/// As where `stats` is switched off: the rooms that were there before have statistics.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_without_statistics_are_told() {
    let of_statistics = [
        "rooms_empty",
        "rooms_encrypted",
        "rooms_encrypted_with_local_users",
        "spaces",
        "room_local_users",
        "room_state_events",
        "room_state_events_max",
        "room_members",
        "rooms_by_join_rule",
        "rooms_by_history_visibility",
    ];
    for (major, version) in [(13, OLD), (18, NEW)] {
        let bed = Bed::start(major, version).await;
        let local = "SELECT count(DISTINCT room_id) FROM local_current_membership
                      WHERE membership = 'join'";
        let local = bed.number(local).await;
        let served = async || {
            let page = bed.page().await;
            let metric = |name: &str| page.value(&format!("synapse_db_{name}"), &[]);
            let known = of_statistics.iter().filter(|name| {
                let name = format!("synapse_db_{name}");
                page.samples(&name).next().is_some()
            });
            (
                metric("rooms_with_local_users"),
                metric("rooms_without_statistics"),
                known.count(),
            )
        };
        assert_eq!(
            served().await,
            (Some(local), Some(0.0), of_statistics.len())
        );
        bed.sql(
            "DELETE FROM room_stats_state
              WHERE room_id <> (SELECT min(room_id) FROM local_current_membership
                                 WHERE membership = 'join');
             DELETE FROM room_stats_current
              WHERE room_id NOT IN (SELECT room_id FROM room_stats_state)",
        )
        .await;
        assert_eq!(served().await, (Some(local), Some(local - 1.0), 0));
        bed.sql("DELETE FROM room_stats_state; DELETE FROM room_stats_current")
            .await;
        assert_eq!(served().await, (Some(local), Some(local), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_in_which_nobody_can_write_are_told() {
    for (major, version) in [(13, OLD), (18, NEW)] {
        let bed = Bed::start(major, version).await;
        let broken = async |sql: &str| {
            bed.sql(sql).await;
            let page = bed.page().await;
            [
                "rooms_without_forward_extremities",
                "forward_extremities_without_state",
            ]
            .map(|name| page.value(&format!("synapse_db_{name}"), &[]))
        };
        assert_eq!(broken("SELECT").await, [Some(0.0), Some(0.0)]);
        // Of the room that everybody has left, nobody misses anything.
        let left = "DELETE FROM event_forward_extremities
                     WHERE room_id NOT IN (SELECT room_id FROM local_current_membership
                                            WHERE membership = 'join')";
        assert_eq!(broken(left).await, [Some(0.0), Some(0.0)]);
        let state = "DELETE FROM event_to_state_groups
                      WHERE event_id IN (SELECT event_id FROM event_forward_extremities
                                          ORDER BY 1 LIMIT 2)";
        assert_eq!(broken(state).await, [Some(0.0), Some(2.0)]);
        let extremity = "DELETE FROM event_forward_extremities
                          WHERE room_id IN (SELECT room_id FROM event_forward_extremities
                                             ORDER BY event_id LIMIT 1)";
        assert_eq!(broken(extremity).await, [Some(1.0), Some(1.0)]);
    }
}

/// As on a Synapse that is older than the flag.
#[tokio::test(flavor = "multi_thread")]
async fn a_flag_that_is_not_there_costs_only_itself() {
    let bed = Bed::start(18, NEW).await;
    let flags = async |sql: &str| {
        bed.sql(sql).await;
        let exporter = Exporter::watch(&bed.server.dsn("synapse", "exporter"), &[]).await;
        let page = exporter.complete().await;
        let flags = page.samples("synapse_db_users_flagged");
        let mut flags: Vec<_> = flags.map(|sample| sample.labels["flag"].clone()).collect();
        flags.sort();
        flags.join(" ")
    };
    let all = flags("SELECT").await;
    assert_eq!(all, "admin locked shadow_banned suspended unapproved");
    let found = flags("ALTER TABLE users DROP suspended").await;
    assert_eq!(found, "admin locked shadow_banned unapproved");
    let found = flags("ALTER TABLE users DROP locked").await;
    assert_eq!(found, "admin shadow_banned unapproved");
    let found = flags("ALTER TABLE users DROP approved").await;
    assert_eq!(found, "admin shadow_banned");
}

/// A database that Synapse has left, and an exporter that remembers nothing.
struct Bed {
    server: Postgres,
    exporter: Exporter,
}

impl Bed {
    async fn start(major: u32, version: &str) -> Self {
        let (server, synapse, _) = Synapse::go_on(Postgres::builder(major), version).await;
        synapse.use_everything().await;
        drop(synapse);
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'synapse'";
        wait_for("nobody uses the database", || async {
            server.value("postgres", sessions).await.as_deref() == Some("0")
        })
        .await;
        Role::Strict.create(&server, "exporter", &["synapse"]).await;
        let dsn = server.dsn("synapse", "exporter");
        let exporter = Exporter::without_memory(&dsn).await;
        exporter.complete().await;
        Self { server, exporter }
    }

    async fn sql(&self, sql: &str) {
        self.server.sql("synapse", sql).await;
    }

    async fn number(&self, sql: &str) -> f64 {
        let value = self.server.value("synapse", sql).await;
        value.and_then(|value| value.parse().ok()).expect(sql)
    }

    /// A page on which no collector has failed.
    async fn page(&self) -> Page {
        let mut page = Page::default();
        for _ in 0..20 {
            page = self.exporter.scrape().await;
            if page.failed().is_empty() {
                return page;
            }
        }
        panic!("{:?}", page.skipped());
    }

    async fn value(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.page().await.value(metric, labels)
    }

    /// What is said of a consumer after this.
    async fn served(&self, sql: &str, consumer: &str) -> [Option<f64>; 3] {
        self.sql(sql).await;
        let page = self.page().await;
        [MISSING, BEHIND, AHEAD].map(|metric| page.value(metric, &[("consumer", consumer)]))
    }
}
