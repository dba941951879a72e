//! Whoever changes the tables is not kept waiting by constant scraping.

use std::time::{Duration, Instant};

use super::support::exporter::Exporter;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

/// A statement of ours on Synapse's tables takes a second at most, and one that waits for a lock
/// gives up after a tenth; the rest is for a machine with much else to do.
const BOUND: Duration = Duration::from_secs(3);

/// How long it goes on for.
const WHILE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_goes_through_while_synapse_runs() {
    for (major, version) in [(13, OLD), (18, NEW)] {
        let server = Postgres::start(major).await;
        let (synapse, made) = Synapse::start(&server, version).await;
        Role::Strict.create(&server, "exporter", &["synapse"]).await;
        let exporter = Exporter::configured(
            &server.dsn("synapse", "exporter"),
            "{ servers: { main: { databases: { interval: 1s } } }, \
               collectors: { synapse_users: { ttl: 0s }, synapse_rooms: { ttl: 0s }, \
                             synapse_devices: { ttl: 0s }, table_size: { ttl: 0s } } }",
        )
        .await;
        synapse.talk().await;
        let owner = server.client("synapse", &made.role).await;
        let reader = server.client("synapse", "postgres").await;
        rows(&owner, "SET lock_timeout = '5s'").await;

        let started = Instant::now();
        let scrapes = async {
            let mut scrapes = 0;
            while started.elapsed() < WHILE {
                let page = exporter.scrape_within(Duration::from_secs(10)).await;
                assert_eq!(page.value("pg_up", &[]), Some(1.0));
                scrapes += 1;
            }
            scrapes
        };
        // As a delta of Synapse's schema does.
        let migration = async {
            let mut longest = Duration::ZERO;
            let mut times = 0;
            while started.elapsed() < WHILE {
                for table in ["users", "rooms", "devices", "stream_positions"] {
                    let asked = Instant::now();
                    let alter = format!(
                        "BEGIN; ALTER TABLE {table} ADD COLUMN added int; \
                         ALTER TABLE {table} DROP COLUMN added; COMMIT"
                    );
                    rows(&owner, &alter).await;
                    longest = longest.max(asked.elapsed());
                    times += 1;
                }
            }
            (longest, times)
        };
        // As pg_dump does before it reads.
        let dump = async {
            let mut longest = Duration::ZERO;
            while started.elapsed() < WHILE {
                let asked = Instant::now();
                rows(
                    &reader,
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                     LOCK TABLE users, rooms, devices, events IN ACCESS SHARE MODE; \
                     SELECT count(*) FROM users; COMMIT",
                )
                .await;
                longest = longest.max(asked.elapsed());
            }
            longest
        };
        let (scrapes, (migration, migrations), dump) = tokio::join!(scrapes, migration, dump);
        assert!(migration < BOUND, "{major}: a migration took {migration:?}");
        assert!(dump < BOUND, "{major}: a dump waited {dump:?}");
        assert!(scrapes > 0 && migrations > 10, "{scrapes} {migrations}");
        // Synapse goes on writing.
        let talked = synapse.hush().await;
        assert!(talked.messages > made.messages + 5, "{}", talked.messages);
        let cancelled = "canceling autovacuum task";
        assert!(!server.log().contains(cancelled), "{}", server.log());
        // What was locked is asked for again in the next scrape, and not minutes later.
        wait_for("everything is seen again", || async {
            let page = exporter.scrape().await;
            page.value("synapse_db_devices", &[]) == Some(made.devices as f64)
        })
        .await;
    }
}
