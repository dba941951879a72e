//! The numbers of events are those of a full count, whatever happens to the database.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::{PATIENCE, scratch, wait_for};
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};
use super::support::watch::Watcher;
use super::support::writers::{ROOMS, Writers, insert_ten, make_history};

#[tokio::test(flavor = "multi_thread")]
async fn synapses_events_are_counted_on_13() {
    synapses_events_are_counted(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synapses_events_are_counted_on_18() {
    synapses_events_are_counted(18, NEW).await;
}

async fn synapses_events_are_counted(major: u32, version: &str) {
    let (server, synapse, _) = Synapse::go_on(Postgres::builder(major), version).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    is_exact(&exporter).await;

    synapse.talk().await;
    for _ in 0..20 {
        scrape(&exporter).await;
    }
    synapse.hush().await;
    let before = assert_exact(&exporter, &server).await;

    // Retention, spam, or a room that nobody needs any more.
    synapse.purge().await;
    let after = assert_exact(&exporter, &server).await;
    let live = [("datname", "synapse"), ("origin", "live")];
    let events = |page: &Page| page.value("synapse_db_events", &live).unwrap();
    assert!(events(&after) < events(&before) - 10.0);
    assert!(added(&after) >= added(&before));
}

/// Freezes early, works a lot, and proves by counting what reports would prove later.
const EAGER: &str = "events: { settle: 1s, share: 50%, max_age: 10s }";

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_purges_do_not_confuse_the_count_on_14() {
    writers_and_purges_do_not_confuse_the_count(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_purges_do_not_confuse_the_count_on_18() {
    writers_and_purges_do_not_confuse_the_count(18).await;
}

async fn writers_and_purges_do_not_confuse_the_count(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 50_000).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), EAGER).await;
    assert_exact(&exporter, &server).await;

    let added = added(&scrape(&exporter).await);
    let writers = Writers::start(&server, 4).await;
    let mut last = added;
    while writers.written() < 500 {
        let now = self::added(&scrape(&exporter).await);
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    let written = writers.stop().await;
    let page = assert_exact(&exporter, &server).await;
    assert_eq!(self::added(&page) - added, written as f64);

    let writers = Writers::start(&server, 4).await;
    for room in 0..ROOMS / 2 {
        let purge = match room % 2 {
            0 => format!("DELETE FROM events WHERE room_id = '!{room}:made'"),
            _ => format!(
                "DELETE FROM events WHERE room_id = '!{room}:made' AND state_key IS NULL
                    AND stream_ordering < (SELECT max(stream_ordering) - 100 FROM events)"
            ),
        };
        server.sql("synapse", &purge).await;
        for _ in 0..3 {
            scrape(&exporter).await;
        }
    }
    assert!(writers.stop().await > 0);
    assert_exact(&exporter, &server).await;
}

/// The first count works in statements that read a part of the table each, and holds nothing between
/// them; after that, a scrape costs what the new events cost.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_costs_the_same_however_many_events_there_are() {
    let server = synapses_schema(18).await;
    server
        .sql("synapse", "CREATE EXTENSION pg_stat_statements")
        .await;
    server.sql("synapse", DROP_INDEXES).await;
    make_history(&server, 1_000_000).await;
    let watcher = Watcher::start(&server).await;
    let yaml = "events: { share: 100% }";
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    assert_exact(&exporter, &server).await;
    let largest = number(&server, LARGEST).await;
    let table = number(&server, "SELECT pg_relation_size('events') / 8192").await;
    assert!(largest < table / 4.0, "{largest} of {table} blocks");
    let once = blocks_of_a_scrape(&server, &exporter, 10.0).await;
    assert!(once < 500.0, "{once} blocks");

    make_history(&server, 1_000_000).await;
    assert_exact(&exporter, &server).await;
    let twice = blocks_of_a_scrape(&server, &exporter, 10.0).await;
    assert!(twice < once * 1.05 + 5.0, "{once} blocks, then {twice}");

    // As after a restore, before anybody has analyzed the table.
    let forget = "DELETE FROM pg_statistic WHERE starelid = 'events'::regclass";
    server.sql("synapse", forget).await;
    let unknown = blocks_of_a_scrape(&server, &exporter, 20.0).await;
    assert!(unknown < once * 1.2 + 10.0, "{once} blocks, then {unknown}");

    let seen = watcher.stop().await;
    assert_eq!(seen.idle_with_snapshot, 0, "{seen:?}");
    assert!(seen.looks > 100, "{seen:?}");
}

/// The blocks that a statement of the exporter on that table reads at most.
const LARGEST: &str = "SELECT max((shared_blks_hit + shared_blks_read) / calls)
                         FROM pg_stat_statements
                        WHERE userid = 'exporter'::regrole AND query LIKE '%\"events\"%'";

async fn number(server: &Postgres, sql: &str) -> f64 {
    server.value("synapse", sql).await.unwrap().parse().unwrap()
}

/// Those that are of no use here, and that two million rows would wait for.
const DROP_INDEXES: &str = "
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT indexrelid::regclass::text FROM pg_index
                     WHERE indrelid = 'events'::regclass AND NOT indisunique LOOP
            EXECUTE 'DROP INDEX ' || name;
        END LOOP;
    END $$";

/// The blocks that a scrape reads once ten more events have come, where it counts so many rows: those
/// at the end of the stream.
async fn blocks_of_a_scrape(server: &Postgres, exporter: &Exporter, tail: f64) -> f64 {
    const SCRAPES: u32 = 20;
    let blocks = "SELECT sum(shared_blks_hit + shared_blks_read) FROM pg_stat_statements
                   WHERE userid = 'exporter'::regrole AND query LIKE '%\"events\"%'";
    let measure = async || -> (f64, f64) {
        let page = scrape(exporter).await;
        (number(server, blocks).await, rows_counted(&page))
    };
    insert_ten(server).await;
    let start = Instant::now();
    loop {
        let before = measure().await;
        for _ in 0..SCRAPES {
            scrape(exporter).await;
        }
        let after = measure().await;
        let each = f64::from(SCRAPES + 1);
        let (blocks, rows) = ((after.0 - before.0) / each, (after.1 - before.1) / each);
        // Behind the scrapes, something may be verified meanwhile.
        if rows == tail {
            return blocks;
        }
        assert!(start.elapsed() < PATIENCE, "{rows} rows, {blocks} blocks");
    }
}

/// The count goes on over a restart of the exporter, and is right after whatever happens to the
/// server.
#[tokio::test(flavor = "multi_thread")]
async fn the_count_outlives_restarts_resets_crashes_and_restores_on_14() {
    the_count_outlives_restarts_resets_crashes_and_restores(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_outlives_restarts_resets_crashes_and_restores_on_18() {
    the_count_outlives_restarts_resets_crashes_and_restores(18).await;
}

async fn the_count_outlives_restarts_resets_crashes_and_restores(major: u32) {
    let mut server = synapses_schema(major).await;
    make_history(&server, 20_000).await;
    let folder = scratch();
    let yaml = &format!("{EAGER}\nstate_dir: {}", folder.path().display());
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    let counted = assert_exact(&exporter, &server).await;
    assert!(rows_counted(&counted) > 20_000.0);

    // What comes and goes while the exporter is down is taken in; nothing is counted again.
    let (status, _) = exporter.stop().await;
    assert!(status.success());
    insert_ten(&server).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    is_counted_at_once(&exporter).await;
    let page = assert_exact(&exporter, &server).await;
    assert_eq!(added(&page) - added(&counted), 10.0);
    let (_, log) = exporter.stop().await;
    assert!(!log.contains("level=warn"), "{log}");
    server.sql("synapse", &purge(1)).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    assert_exact(&exporter, &server).await;

    // The counter of deletes starts again, with deletes that it does not tell of.
    server.sql("synapse", &purge(2)).await;
    server.sql("synapse", "SELECT pg_stat_reset()").await;
    assert_exact(&exporter, &server).await;

    server.sql("synapse", &purge(3)).await;
    server.stop_immediate().await;
    server.restart().await;
    assert_exact(&exporter, &server).await;

    // The server goes back to what it was, and other events come where some were counted.
    server.stop().await;
    server.back_up();
    server.restart().await;
    insert_ten(&server).await;
    server.sql("synapse", &purge(4)).await;
    assert_exact(&exporter, &server).await;
    server.stop().await;
    server.restore();
    server.restart().await;
    assert_exact(&exporter, &server).await;
    exporter.has_said("all events are counted again").await;

    // The same while the exporter is down, and the server has gone further than it ever was.
    server.stop().await;
    server.restart().await;
    insert_ten(&server).await;
    frozen(&exporter).await;
    let (_, log) = exporter.stop().await;
    assert_eq!(log.matches("counted again").count(), 1, "{log}");
    server.stop().await;
    server.restore();
    server.restart().await;
    make_history(&server, 30_000).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    assert_exact(&exporter, &server).await;
    exporter
        .has_said("a counted position holds another event now")
        .await;
    exporter.stop().await;

    // A torn file is not a count.
    let file = folder.path().join("main.synapse.events");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    assert_exact(&exporter, &server).await;
    exporter
        .has_said(&format!("{} is damaged", file.display()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_is_right_on_a_standby_and_after_a_fail_over_on_14() {
    the_count_is_right_on_a_standby_and_after_a_fail_over(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_is_right_on_a_standby_and_after_a_fail_over_on_18() {
    the_count_is_right_on_a_standby_and_after_a_fail_over(18).await;
}

/// A standby counts as its primary does, but for the counter of deletes; once promoted, it has
/// that too.
async fn the_count_is_right_on_a_standby_and_after_a_fail_over(major: u32) {
    let mut primary = synapses_schema(major).await;
    make_history(&primary, 20_000).await;
    let mut standby = primary.standby().start().await;
    let folder = scratch();
    let state = format!("state_dir: {}", folder.path().display());
    let yaml = format!("{EAGER}\n{state}");
    let before = Exporter::configured(&primary.dsn("synapse", "exporter"), &yaml).await;
    let on_standby = Exporter::configured(&standby.dsn("synapse", "exporter"), EAGER).await;
    assert_exact(&on_standby, &primary).await;
    primary.sql("synapse", &purge(1)).await;
    insert_ten(&primary).await;
    assert_exact(&on_standby, &primary).await;
    assert_exact(&before, &primary).await;
    before.stop().await;

    // It replays again what it had replayed.
    standby.stop_immediate().await;
    standby.restart().await;
    assert_exact(&on_standby, &primary).await;
    assert!(!on_standby.output().contains("counted again"));

    primary.stop().await;
    standby.promote().await;
    standby.sql("synapse", &purge(2)).await;
    assert_exact(&on_standby, &standby).await;
    let yaml = format!("{EAGER}\n{state}");
    let after = Exporter::configured(&standby.dsn("synapse", "exporter"), &yaml).await;
    is_counted_at_once(&after).await;
    assert_exact(&after, &standby).await;
    for exporter in [&on_standby, &after] {
        exporter.has_said("the server is on another timeline").await;
        assert!(!exporter.output().contains("counted again"));
    }
}

/// It goes on with an earlier count.
async fn is_counted_at_once(exporter: &Exporter) {
    let ratio = "synapse_db_events_counted_ratio";
    let visited = async || {
        let page = scrape(exporter).await;
        page.value(ratio, &[("datname", "synapse")])
    };
    wait_for("the database is visited", async || {
        visited().await.is_some()
    })
    .await;
    assert_eq!(visited().await, Some(1.0));
}

/// Waits until everything that is there is counted for good, and its newest event is known.
pub async fn frozen(exporter: &Exporter) {
    wait_for("no tail is left", async || {
        let [first, second] = [scrape(exporter).await, scrape(exporter).await];
        rows_counted(&first) == rows_counted(&second)
    })
    .await;
    let page = scrape(exporter).await;
    let is = |metric: &str| page.value(metric, &[("datname", "synapse")]).unwrap();
    assert!(is("synapse_db_events_ranges") > 0.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let verified = now.as_secs_f64() - is("synapse_db_events_verified_timestamp_seconds");
    assert!((0.0..600.0).contains(&verified), "{verified}");
}

pub fn purge(room: u64) -> String {
    format!("DELETE FROM events WHERE room_id = '!{room}:made'")
}

pub fn rows_counted(page: &Page) -> f64 {
    let labels = [("datname", "synapse")];
    page.value("synapse_db_events_rows_counted_total", &labels)
        .unwrap()
}

/// A database as Synapse makes it, and a role for the exporter.
pub async fn synapses_schema(major: u32) -> Postgres {
    let server = Postgres::builder(major).pg_stat_statements();
    let (server, _) = Synapse::leave(server, if major < 15 { OLD } else { NEW }).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    server
}

/// All events that were seen arriving.
pub fn added(page: &Page) -> f64 {
    page.samples("synapse_db_events_added_total")
        .filter(|sample| sample.labels["kind"] == "event")
        .map(|sample| sample.value)
        .sum()
}

/// A page of the count alone.
pub async fn scrape(exporter: &Exporter) -> Page {
    let path = "/metrics?collect[]=synapse_events";
    exporter.get(path).await.page()
}

/// A page on which the numbers are exact.
async fn is_exact(exporter: &Exporter) -> Page {
    wait_for("the events are counted", || async {
        let page = scrape(exporter).await;
        page.value("synapse_db_events_exact", &[("datname", "synapse")]) == Some(1.0)
    })
    .await;
    scrape(exporter).await
}

/// Once nothing happens any more, what is served becomes what a full count gives, and says that it
/// is exact. What was deleted the server tells some seconds later.
pub async fn assert_exact(exporter: &Exporter, server: &Postgres) -> Page {
    let counted = server.sql("synapse", FULL_COUNT).await;
    assert_eq!(counted.len(), 12);
    let differences = |page: &Page| {
        let rows = counted.iter().filter_map(|row| {
            let [origin, metric, wanted] = [0, 1, 2].map(|at| row[at].as_deref().unwrap());
            let found = page.value(metric, &[("datname", "synapse"), ("origin", origin)]);
            (found != wanted.parse().ok())
                .then(|| format!("{metric} {origin}: {found:?}, not {wanted}"))
        });
        rows.collect::<Vec<_>>()
    };
    let started = Instant::now();
    loop {
        let page = is_exact(exporter).await;
        let different = differences(&page);
        if different.is_empty() {
            return page;
        }
        let patient = started.elapsed() < PATIENCE;
        assert!(patient, "{different:#?}\n{}", exporter.output());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const FULL_COUNT: &str = "
    SELECT o.origin, k.metric, count(*) FILTER (WHERE k.counts)
      FROM (VALUES ('live', 1), ('backfill', -1)) AS o (origin, sign)
      LEFT JOIN events AS e ON sign(e.stream_ordering) = o.sign
     CROSS JOIN LATERAL (VALUES
           ('synapse_db_events', e.event_id IS NOT NULL),
           ('synapse_db_events_unencrypted_messages', e.type = 'm.room.message'),
           ('synapse_db_events_encrypted', e.type = 'm.room.encrypted'),
           ('synapse_db_events_state', e.state_key IS NOT NULL),
           ('synapse_db_events_redactions', e.type = 'm.room.redaction'),
           ('synapse_db_events_rejected', e.rejection_reason IS NOT NULL)) AS k (metric, counts)
     GROUP BY 1, 2";
