//! Tables that somebody has locked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::support::exporter::{Exporter, failures};
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;

const SIZE: &str = "pg_stat_user_tables_table_size_bytes";

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A table whose lock is held or waited for keeps its last size; no other does.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_hides_only_itself() {
    for major in [13, 18] {
        let server = Postgres::builder(major)
            .setting("log_lock_waits", "on")
            .setting("deadlock_timeout", "150ms")
            .start()
            .await;
        let tables = ["free", "held", "indexed", "toasted", "waited"];
        for table in tables {
            let create = format!(
                "CREATE TABLE {table} (id int, t text); CREATE INDEX {table}_i ON {table} (id); \
                 INSERT INTO {table} VALUES (1, '')"
            );
            server.sql("postgres", &create).await;
        }
        let toast = "SELECT indexrelid::regclass FROM pg_index \
                      WHERE indrelid = (SELECT reltoastrelid FROM pg_class WHERE relname = 'toasted')";
        let toast = server.value("postgres", toast).await.unwrap();
        let mut sessions = BTreeMap::new();
        for table in tables {
            sessions.insert(table, server.client("postgres", "postgres").await);
        }
        // What is written while the lock is waited for needs this.
        rows(
            &sessions["waited"],
            "BEGIN; INSERT INTO waited VALUES (2, '')",
        )
        .await;

        let dsn = server.dsn("postgres", "postgres");
        let exporter = Exporter::configured(&dsn, "collectors: { table_size: { ttl: 1s } }").await;
        let before = sizes(&exporter.scrape().await);
        assert_eq!(before.len(), 5);
        assert_eq!(before, on_disk(&server).await);

        rows(
            &sessions["held"],
            "BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE",
        )
        .await;
        rows(&sessions["indexed"], "BEGIN; REINDEX INDEX indexed_i").await;
        rows(
            &sessions["toasted"],
            &format!("BEGIN; REINDEX INDEX {toast}"),
        )
        .await;
        let migration = waits_for_lock(&server, "waited").await;
        for (table, session) in &sessions {
            let grow = format!("INSERT INTO {table} SELECT i, '' FROM generate_series(1, 10000) i");
            rows(session, &grow).await;
        }
        let mut page = exporter.scrape_within(TIMEOUT).await;
        let written = Instant::now();
        while sizes(&page)["free"] == before["free"] {
            assert!(
                written.elapsed() < TIMEOUT,
                "the free table's size is not refreshed"
            );
            page = exporter.scrape_within(TIMEOUT).await;
        }
        let after = sizes(&page);
        for table in ["held", "indexed", "toasted", "waited"] {
            assert_eq!(after[table], before[table], "{major} {table}");
        }
        let locked = [
            ("collector", "table_size"),
            ("reason", "lock_timeout"),
            ("datname", "postgres"),
        ];
        assert_eq!(
            page.value("pg_exporter_collector_skipped", &locked),
            Some(1.0)
        );
        assert_eq!(failures(&page), ["table_size"]);
        assert_eq!(page.value("pg_up", &[]), Some(1.0));
        // The statistics take no lock.
        assert_eq!(page.samples("pg_stat_user_tables_seq_scan").count(), 5);
        assert_eq!(
            page.samples("pg_statio_user_tables_heap_blocks_hit")
                .count(),
            5
        );

        // The age is that of the oldest size.
        wait_for("the kept sizes age", || async {
            age(&exporter.scrape_within(TIMEOUT).await) > Some(2.5)
        })
        .await;

        for session in sessions.values() {
            rows(session, "COMMIT").await;
        }
        migration.await.unwrap();
        let grown = on_disk(&server).await;
        assert!(grown.values().all(|size| *size > 100_000.0));
        wait_for("every size is right again", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            sizes(&page) == grown
                && failures(&page).is_empty()
                && page
                    .value("pg_exporter_collector_skipped", &locked)
                    .is_none()
        })
        .await;
        assert_eq!(waits(&server, "AccessShareLock"), Vec::<String>::new());
    }
}

/// Who wants a table for himself gets it while it is looked at all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_gets_its_locks_in_time() {
    for major in [13, 18] {
        let server = Postgres::builder(major)
            .setting("log_lock_waits", "on")
            .setting("deadlock_timeout", "150ms")
            .start()
            .await;
        server.sql("postgres", &create(1, 200)).await;
        let dsn = server.dsn("postgres", "postgres");
        let exporter = Exporter::configured(&dsn, "collectors: { table_size: { ttl: 0s } }").await;
        let migrated = AtomicU32::new(0);
        let migration = async {
            let session = server.client("postgres", "postgres").await;
            for table in (1..=200).cycle() {
                let lock = format!("BEGIN; LOCK TABLE t{table} IN ACCESS EXCLUSIVE MODE; COMMIT");
                rows(&session, &lock).await;
                migrated.fetch_add(1, Ordering::Relaxed);
            }
        };
        let scrapes = async {
            for _ in 0..10 {
                // What was locked just now keeps its last size, and has none the first time.
                let found = sizes(&exporter.scrape_within(TIMEOUT).await).len();
                assert!(found > 190, "{found}");
            }
        };
        tokio::select! {
            () = scrapes => (),
            () = migration => (),
        }
        assert!(migrated.load(Ordering::Relaxed) > 200);
        let waits = waits(&server, "AccessExclusiveLock");
        assert_eq!(waits, Vec::<String>::new(), "{major}");
    }
}

/// Among two thousand tables, a few at a time are locked, most for a moment, some for longer than
/// a lock is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn many_short_locks_among_many_tables() {
    const LOCKED: &str = " tables are locked and keep their last values";
    let server = Postgres::builder(18)
        .setting("log_lock_waits", "on")
        .setting("deadlock_timeout", "150ms")
        .start()
        .await;
    for first in (1..2_000).step_by(500) {
        server.sql("postgres", &create(first, 500)).await;
    }
    let writers = [5, 5, 5, 250, 250].into_iter().enumerate();
    let writers: Vec<_> = writers
        .map(|(seed, milliseconds)| {
            tokio::spawn(lock_at_random(
                server.dsn("postgres", "postgres"),
                seed as u64,
                milliseconds,
            ))
        })
        .collect();
    let dsn = server.dsn("postgres", "postgres");
    let yaml = "collectors: { table_size: { ttl: 1s } }\nlog: { level: debug }";
    let exporter = Exporter::configured(&dsn, yaml).await;
    let left_out = || {
        let output = exporter.output();
        let lines = output.lines().filter_map(|line| line.split_once(LOCKED));
        let counts = lines.filter_map(|(before, _)| before.rsplit('"').next()?.parse::<u32>().ok());
        counts.collect::<Vec<_>>()
    };
    let page = exporter.scrape_within(TIMEOUT).await;
    assert_eq!(page.samples("pg_stat_user_tables_seq_scan").count(), 2_000);
    let table_sizes = || async { exporter.get("/metrics?collect[]=table_size").await.page() };
    wait_for("five refreshes meet locks", || async {
        let page = table_sizes().await;
        let sizes = sizes(&page);
        assert!(sizes.len() > 1_950, "{}", sizes.len());
        assert!(sizes.values().all(|size| *size == 8192.0));
        let took = ("collector", "table_size");
        let took = page.value("pg_scrape_collector_duration_seconds", &[took]);
        assert!(took < Some(3.0), "{took:?}");
        assert_eq!(page.value("pg_up", &[]), Some(1.0));
        assert!(age(&page) < Some(15.0), "{:?}", age(&page));
        left_out().len() >= 5
    })
    .await;
    // Five are locked at a time; some more become so while the statements run.
    assert!(
        left_out().into_iter().all(|count| count <= 25),
        "{:?}",
        left_out()
    );
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    writers.iter().for_each(|writer| writer.abort());
    wait_for("every size is fresh", || async {
        let page = table_sizes().await;
        sizes(&page).len() == 2_000 && failures(&page).is_empty()
    })
    .await;
    assert_eq!(waits(&server, "AccessShareLock"), Vec::<String>::new());
}

async fn lock_at_random(dsn: String, seed: u64, milliseconds: u64) {
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut random = seed;
    loop {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let table = (random >> 33) % 2000 + 1;
        let lock = format!(
            "BEGIN; LOCK TABLE t{table} IN ACCESS EXCLUSIVE MODE; \
             SELECT pg_sleep({}); COMMIT",
            milliseconds as f64 / 1e3
        );
        rows(&client, &lock).await;
    }
}

/// One statement that makes so many tables of one page each, from `t1` on.
fn create(first: u32, count: u32) -> String {
    format!(
        "DO $$ BEGIN FOR i IN {first}..{} LOOP \
         EXECUTE format('CREATE TABLE t%s AS SELECT 1', i); END LOOP; END $$",
        first + count - 1
    )
}

/// Somebody who waits for a table that another has in use.
async fn waits_for_lock(server: &Postgres, table: &str) -> tokio::task::JoinHandle<()> {
    let session: Client = server.client("postgres", "postgres").await;
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; COMMIT");
    let waiting = tokio::spawn(async move { drop(rows(&session, &lock).await) });
    let waits =
        format!("SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
    wait_for("the migration waits", || async {
        server.value("postgres", &waits).await.is_some()
    })
    .await;
    waiting
}

fn sizes(page: &Page) -> BTreeMap<String, f64> {
    page.samples(SIZE)
        .map(|sample| (sample.labels["relname"].clone(), sample.value))
        .collect()
}

async fn on_disk(server: &Postgres) -> BTreeMap<String, f64> {
    let sizes = "SELECT relname, pg_table_size(relid) FROM pg_stat_user_tables";
    let rows = server.sql("postgres", sizes).await;
    rows.into_iter()
        .map(|mut row| {
            let size = row.remove(1).unwrap().parse().unwrap();
            (row.remove(0).unwrap(), size)
        })
        .collect()
}

fn age(page: &Page) -> Option<f64> {
    page.value(
        "pg_exporter_collector_age_seconds",
        &[("collector", "table_size")],
    )
}

/// What the server says of those who have waited for such a lock for `deadlock_timeout`. A reader
/// who waits that long has an autovacuum cancelled.
fn waits(server: &Postgres, mode: &str) -> Vec<String> {
    let log = server.log();
    let waits = log
        .lines()
        .filter(|line| line.contains(&format!("still waiting for {mode}")));
    waits.map(str::to_owned).collect()
}
