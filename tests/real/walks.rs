//! What is counted while a table is written, rewritten or dropped is right, or says how far it is
//! off; what cannot be counted is told.
//!
//! A run ends after each piece here, so that a test can write between two of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors::{self, Registry};
use matrix_postgres_exporter::query::{
    CacheShare, Context, Harvest, Holds, Plan, Quality, Reason, Skip, Version, Views,
};
use matrix_postgres_exporter::server::Search;
use tokio_postgres::Client;

use super::support::postgres::{Postgres, rows};
use super::support::roles::Role;

/// Enough pages that no statement may read all of them, and enough rows on each.
const DEVICES: u32 = 1_000_000;

/// Statement caps.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(8);

/// By which Synapse is known, and what the collectors of these tests read.
const TABLES: &str = "
    CREATE TABLE events (stream_ordering bigint);
    CREATE TABLE state_groups_state (state_group bigint);
    CREATE TABLE schema_version (version integer);
    CREATE TABLE applied_schema_deltas (version integer);
    CREATE TABLE background_updates (update_name text);
    CREATE TABLE devices (user_id text, device_id text, hidden boolean, last_seen bigint,
                          display_name text);
    CREATE TABLE user_ips (user_id text, last_seen bigint);
    CREATE TABLE users (name text, creation_ts bigint);
    CREATE TABLE presence_stream (state text);
    CREATE TABLE device_lists_outbound_pokes (destination text, stream_id bigint, sent boolean);
    CREATE INDEX ON device_lists_outbound_pokes (destination, stream_id);
    CREATE INDEX ON user_ips (user_id, last_seen);";

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_meanwhile_is_known_on_13() {
    what_moves_meanwhile_is_known(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_meanwhile_is_known_on_15() {
    what_moves_meanwhile_is_known(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_meanwhile_is_known_on_18() {
    what_moves_meanwhile_is_known(18).await;
}

async fn what_moves_meanwhile_is_known(major: u32) {
    let in_pieces = major > 13;
    let cap = if in_pieces { SHORT } else { LONG };
    let mut bed = Bed::start(major, "synapse_devices", cap).await;
    bed.fill_devices().await;
    let total = f64::from(DEVICES);

    // Nobody writes.
    let (harvest, turns) = bed.walk().await;
    assert_eq!(devices(&harvest), Some(total));
    assert_eq!(quality(&harvest), exact());
    assert_eq!(turns > 3, in_pieces, "{turns}");

    // Few rows move, in the middle.
    let some = "UPDATE devices SET last_seen = last_seen + 1 WHERE last_seen % 500 = 1";
    let (harvest, _) = bed.walk_with_once(3, some).await;
    let off = devices(&harvest).map(|found| (found - total).abs());
    assert!(off.is_some_and(|off| off <= 0.01 * total), "{off:?}");
    assert_eq!(quality(&harvest), exact());

    // More rows move, and the session is idle after that: it has just reported others.
    let (harvest, _) = bed
        .walk_and(async |moment, client| {
            if moment == Moment::After(2) {
                rows(
                    client,
                    "UPDATE devices SET last_seen = 7 WHERE last_seen = 7",
                )
                .await;
                let many = "UPDATE devices SET last_seen = last_seen + 20 WHERE last_seen % 20 = 9";
                rows(client, many).await;
            }
        })
        .await;
    assert_eq!(devices(&harvest), Some(total));
    assert_eq!(quality(&harvest), exact());

    // Half of all rows move, and then no more: what was counted is counted again.
    let half = "UPDATE devices SET last_seen = last_seen + 2 WHERE last_seen % 2 = 0";
    let (harvest, _) = bed.walk_with_once(3, half).await;
    assert_eq!(devices(&harvest), Some(total));
    assert_eq!(quality(&harvest), exact());

    // All rows are written to another file, at other places.
    let (harvest, _) = bed.walk_with_once(3, "VACUUM FULL devices").await;
    assert_eq!(devices(&harvest), Some(total));
    assert_eq!(quality(&harvest), exact());

    // Rows go on moving, however often it is repeated.
    let (harvest, _) = bed
        .walk_and(async |moment, client| {
            if moment == Moment::Waiting {
                let some = "UPDATE devices SET last_seen = last_seen + 50 WHERE last_seen % 50 = 3";
                rows(client, some).await;
            }
        })
        .await;
    match in_pieces {
        true => assert!(quality(&harvest).estimated, "{harvest:?}"),
        false => assert_eq!(devices(&harvest), Some(total)),
    }

    let (harvest, _) = bed.walk_with_once(2, "TRUNCATE devices").await;
    let left = if in_pieces { 0.0 } else { total };
    assert_eq!(devices(&harvest), Some(left));
    assert_eq!(quality(&harvest), exact());
}

/// The first pages are empty, so that one statement seems to do for all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_slower_than_it_seems_is_counted() {
    let mut bed = Bed::start(18, "synapse_devices", SHORT).await;
    bed.sql(
        "INSERT INTO devices (user_id, display_name)
         SELECT 'former', repeat('x', 1000) FROM generate_series(1, 24000)",
    )
    .await;
    bed.fill_devices().await;
    bed.sql("DELETE FROM devices WHERE user_id = 'former'; VACUUM ANALYZE devices")
        .await;
    for _ in 0..2 {
        let (harvest, turns) = bed.walk().await;
        assert_eq!(devices(&harvest), Some(f64::from(DEVICES)));
        assert!(turns < 200, "{turns}");
    }
    let timeouts = bed.server.log().matches("due to statement timeout").count();
    assert!(timeouts < 5, "{timeouts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_meanwhile_has_no_number() {
    for major in [15, 18] {
        let mut bed = Bed::start(major, "synapse_devices", SHORT).await;
        bed.fill_devices().await;
        let (harvest, turns) = bed.walk_with_once(3, "DROP TABLE devices").await;
        assert_eq!((devices(&harvest), turns), (None, 3));
        let reasons: Vec<_> = harvest.skipped.iter().map(|skip| skip.reason).collect();
        assert_eq!(
            reasons,
            [Reason::UnsupportedVersion],
            "{:?}",
            harvest.skipped
        );
    }
}

/// There is no TID range scan, and a statement takes longer than it may.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_on_13_is_not_tried_again() {
    let mut bed = Bed::start(13, "synapse_devices", SHORT).await;
    bed.fill_devices().await;
    // However fast the machine is.
    bed.sql("INSERT INTO devices SELECT * FROM devices; ANALYZE devices")
        .await;
    for tried in [2, 1] {
        let (harvest, turns) = bed.walk().await;
        assert_eq!(devices(&harvest), None);
        let expected = quality(&harvest).planner_rows.unwrap();
        let total = 2.0 * f64::from(DEVICES);
        assert!((expected - total).abs() < 0.1 * total, "{expected}");
        let reasons: Vec<_> = harvest.skipped.iter().map(|skip| skip.reason).collect();
        assert_eq!(reasons, [Reason::TooLarge]);
        assert!(harvest.success());
        assert_eq!(turns, tried);
    }
    let timeouts = bed.server.log().matches("due to statement timeout").count();
    assert_eq!(timeouts, 1);
}

/// Where the grants are older than the program, a table is read as before version 14.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_privilege_a_table_is_read_in_one_statement() {
    let mut bed = Bed::start(18, "synapse_devices", LONG).await;
    bed.fill_devices().await;
    bed.sql("REVOKE SELECT (ctid) ON devices FROM exporter")
        .await;
    let (harvest, turns) = bed.walk().await;
    assert_eq!((devices(&harvest), turns), (Some(f64::from(DEVICES)), 1));
}

/// One server has nearly all rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_server_is_counted() {
    for major in [13, 15, 18] {
        let mut bed = Bed::start(major, "synapse_queues", SHORT).await;
        bed.sql(
            "INSERT INTO device_lists_outbound_pokes
             SELECT 'dead.example', n, false FROM generate_series(1, 980000) AS n
             UNION ALL SELECT 'b' || n % 100, n, false FROM generate_series(1, 20000) AS n;
             VACUUM ANALYZE device_lists_outbound_pokes",
        )
        .await;
        let (harvest, turns) = bed.walk().await;
        assert!(turns > 3, "{turns}");
        let sum = |name: &str| harvest.snapshot.sum(&format!("synapse_db_{name}"));
        assert_eq!(sum("device_list_pokes"), Some(1_000_000.0));
        assert_eq!(sum("device_list_pokes_destinations"), Some(101.0));
        let quality = harvest.walked["device_lists_outbound_pokes"];
        assert_eq!(quality.at_least, Some(false));
    }
}

/// Rows of one user that have to be read together, and are too many for a statement.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_of_one_value_is_left_out_and_told() {
    for major in [13, 18] {
        let mut bed = Bed::start(major, "synapse_activity", SHORT).await;
        bed.sql(
            "INSERT INTO user_ips
             SELECT '@m', extract(epoch FROM now()) * 1000 FROM generate_series(1, 2000000) AS n
             UNION ALL SELECT '@' || v || n, extract(epoch FROM now()) * 1000
                         FROM generate_series(1, 2000) AS n, (VALUES ('a'), ('z')) AS l (v);
             VACUUM ANALYZE user_ips",
        )
        .await;
        let (harvest, _) = bed.walk().await;
        let families: Vec<_> = harvest.snapshot.families().collect();
        let active = families
            .iter()
            .find(|f| &*f.metric.name == "synapse_db_users_active");
        let values: Vec<_> = active.unwrap().samples.iter().map(|s| s.value).collect();
        assert_eq!(values, [4000.0; 4]);
        assert_eq!(harvest.walked["user_ips"].at_least, Some(true));
    }
}

/// A server with some of Synapse's tables, and one collector.
struct Bed {
    server: Postgres,
    exporter: Client,
    plan: Plan,
    holds: Holds,
    cap: Duration,
}

impl Bed {
    async fn start(major: u32, collector: &str, cap: Duration) -> Self {
        let server = Postgres::builder(major)
            .setting("shared_buffers", "256MB")
            .setting("autovacuum", "off")
            .setting("wal_level", "minimal")
            .setting("max_wal_senders", "0")
            .setting("max_wal_size", "4GB")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE synapse").await;
        server.sql("synapse", TABLES).await;
        Role::Strict.create(&server, "exporter", &["synapse"]).await;
        let exporter = server.client("synapse", "exporter").await;
        let mut all = collectors::all().into_iter();
        let collector = all.find(|known| known.name == collector).unwrap();
        Self {
            server,
            exporter,
            plan: Plan::new(collector),
            holds: Holds::default(),
            cap,
        }
    }

    async fn sql(&self, sql: &str) {
        let client = self.server.client("synapse", "postgres").await;
        for statement in sql.split(';') {
            rows(&client, statement).await;
        }
    }

    async fn fill_devices(&self) {
        let fill = format!(
            "INSERT INTO devices (user_id, device_id, hidden, last_seen)
             SELECT '@person' || n, 'DEVICE' || n, false, n
               FROM generate_series(1, {DEVICES}) AS n;
             VACUUM ANALYZE devices"
        );
        self.sql(&fill).await;
    }

    /// Runs until all is counted. Returns how many runs that took, but for those that only waited.
    async fn walk(&mut self) -> (Harvest, u32) {
        self.walk_and(async |_, _| ()).await
    }

    /// The same, and before that run this statement.
    async fn walk_with_once(&mut self, before: u32, sql: &str) -> (Harvest, u32) {
        self.walk_and(async |moment, client| {
            if moment == Moment::After(before - 1) {
                rows(client, sql).await;
            }
        })
        .await
    }

    /// The same, and between two runs `meanwhile` has its turn.
    async fn walk_and(&mut self, meanwhile: impl AsyncFn(Moment, &Client)) -> (Harvest, u32) {
        let writer = self.server.client("synapse", "postgres").await;
        let version = Version(self.server.major() * 10_000);
        let found = Search::new(&Registry::built_in())
            .run(&self.exporter, version, LONG)
            .await;
        let tables = found.unwrap().remove(0).tables;
        let (views, off) = (Views::default(), BTreeSet::new());
        let mut turns = 0;
        loop {
            let now = Instant::now();
            let context = Context {
                system: "",
                version,
                standby: false,
                archiver: false,
                settings_off: &off,
                database: Some("synapse".into()),
                tables: Some(&tables),
                views: &views,
                deadline: now + Duration::from_secs(60),
                pause: now,
                keep: Duration::ZERO,
                statement_cap: self.cap,
                limit: 1000,
                // As if nobody had read anything for long.
                cache: &CacheShare::default(),
            };
            let run = self
                .plan
                .run(&self.exporter, &context, &mut self.holds, None);
            let harvest = run.await;
            let waits = harvest.paused && harvest.cost.statements == 0;
            if waits {
                tokio::time::sleep(Duration::from_secs(1)).await;
                meanwhile(Moment::Waiting, &writer).await;
                continue;
            }
            turns += 1;
            // A busy machine may do not advance for as long as even one page may take to be read.
            let timed_out = |skip: &Skip| skip.reason == Reason::StatementTimeout;
            if !harvest.paused && !harvest.skipped.iter().any(timed_out) {
                return (harvest, turns);
            }
            assert!(turns < 1000);
            meanwhile(Moment::After(turns), &writer).await;
        }
    }
}

/// Between two runs.
#[derive(PartialEq)]
enum Moment {
    /// So many have read something.
    After(u32),
    /// All is read, and what moved meanwhile is yet to be reported.
    Waiting,
}

fn devices(harvest: &Harvest) -> Option<f64> {
    harvest.snapshot.sum("synapse_db_devices")
}

fn quality(harvest: &Harvest) -> Quality {
    harvest.walked["devices"]
}

fn exact() -> Quality {
    Quality::default()
}
