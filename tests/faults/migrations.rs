//! Whoever changes the tables is not kept waiting by constant scraping.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::{Role, grant};
use super::support::synapse::{Made, NEW, OLD, Synapse};

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

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_synapse_goes_through() {
    // The oldest that both run on.
    let server = Postgres::start(14).await;
    let (synapse, made) = Synapse::start(&server, OLD).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let create = "SELECT has_schema_privilege('exporter', 'public', 'CREATE')";
    assert_eq!(server.value("synapse", create).await.unwrap(), "f");
    let exporter = Exporter::without_memory(&server.dsn("synapse", "exporter")).await;
    wait_for("Synapse is seen", || async {
        is_seen(&exporter.scrape().await, &made)
    })
    .await;

    let upgraded = AtomicBool::new(false);
    let upgrade = async {
        let (synapse, made) = synapse.upgrade(NEW).await;
        let pending = "SELECT count(*) FROM background_updates";
        wait_for("its background updates have ended", || async {
            server.value("synapse", pending).await.as_deref() == Some("0")
        })
        .await;
        upgraded.store(true, Ordering::Relaxed);
        (synapse, made)
    };
    let scrapes = async {
        let mut versions = BTreeSet::new();
        while !upgraded.load(Ordering::Relaxed) {
            let page = exporter.scrape_within(Duration::from_secs(10)).await;
            assert_eq!(page.value("pg_up", &[]), Some(1.0));
            versions.extend(
                page.value("synapse_db_schema_version", &[])
                    .map(|v| v as u32),
            );
        }
        versions
    };
    // These end within seconds: a page that waits for everything else may come too late.
    let updates = async {
        let mut pending = 0.0_f64;
        while !upgraded.load(Ordering::Relaxed) {
            let path = "/metrics?collect[]=synapse_background_updates";
            let page = exporter.get(path).await.page();
            let now = page.value("synapse_db_background_updates_pending", &[]);
            pending = pending.max(now.unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pending
    };
    let waits = server.longest_wait_for_us("synapse", &upgraded);
    let ((synapse, again), versions, pending, longest) =
        tokio::join!(upgrade, scrapes, updates, waits);

    assert!(longest < BOUND, "somebody waited {longest:?} for us");
    assert!(versions.len() > 1, "{versions:?}");
    assert!(pending > 0.0, "background updates were seen");
    assert_eq!(
        again.users, made.users,
        "Synapse works, and nothing is lost"
    );
    let talking = synapse.talk().await;
    assert!(talking.messages > made.messages);
    synapse.hush().await;
    for harm in ["canceling autovacuum", "deadlock"] {
        assert!(!server.log().contains(harm), "{}", server.log());
    }

    // What the new version brought is not granted, and what it had is still seen.
    let missing = "pg_exporter_privileges_missing";
    let database = [("datname", "synapse")];
    wait_for("missing grants are seen", || async {
        let page = exporter.scrape().await;
        page.value(missing, &database) > Some(0.0) && is_seen(&page, &made)
    })
    .await;
    grant(&server, "exporter", &["synapse"], &[]).await;
    wait_for("nothing is missing", || async {
        let page = exporter.scrape().await;
        let skipped = page.skipped();
        let mut skipped = skipped.iter().filter(|skip| skip.2 == "synapse");
        page.value(missing, &database) == Some(0.0) && skipped.next().is_none()
    })
    .await;
    let page = exporter.scrape().await;
    let version = server
        .value("synapse", "SELECT version FROM schema_version")
        .await;
    let version = version.and_then(|version| version.parse().ok());
    assert_eq!(page.value("synapse_db_schema_version", &[]), version);
    let pending = page.value("synapse_db_background_updates_pending", &[]);
    assert_eq!(pending, Some(0.0));
    assert!(is_seen(&page, &made));
}

/// Whether the page has the users, rooms and devices that were made.
fn is_seen(page: &Page, made: &Made) -> bool {
    let users: f64 = page
        .samples("synapse_db_users")
        .map(|sample| sample.value)
        .sum();
    users == made.users.total as f64
        && page.value("synapse_db_rooms", &[]) == Some(made.rooms.total as f64)
        && page.value("synapse_db_devices", &[]) == Some(made.devices as f64)
}
