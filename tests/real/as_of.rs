//! The number of events is that of a full count as of the moment that is served beside it, in every
//! scrape, whatever the server tells late or never.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use super::events::{added, assert_exact, frozen, purge, rows_counted, scrape, synapses_schema};
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::{PATIENCE, scratch, wait_for};
use super::support::writers::{
    LateWriter, Writers, copy_history, insert, insert_ten, make_history, make_history_quietly,
};

const DATABASE: &[(&str, &str)] = &[("datname", "synapse")];

/// Freezes early, and works a lot.
const EAGER: &str = "events: { settle: 1s, share: 50% }";

macro_rules! on_14_and_18 {
    ($($name:ident)*) => {
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread")]
                async fn on_14() {
                    super::$name(14).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn on_18() {
                    super::$name(18).await;
                }
            }
        )*
    };
}

on_14_and_18! {
    a_session_deletes_and_sits_in_a_transaction
    a_crash_comes_before_deletes_are_reported
    a_crash_comes_while_the_exporter_is_down
    a_standby_replays_deletes
    four_writers_write_while_rooms_are_purged
    a_writer_commits_long_after_the_others
    a_new_writer_has_no_position_yet
    events_arrive_in_bulk_below_the_mark
    writers_are_renamed
    other_events_come_in_the_same_number
    purges_go_on_and_on
    a_superuser_deletes_and_reports_nothing
}

async fn a_session_deletes_and_sits_in_a_transaction(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 20_000).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let truth = Truth::watch(&server);
    truth.is_reached(&exporter).await;

    let session = server.client("synapse", "postgres").await;
    let event = "(nextval('events_stream_seq'), 'm.room.message', '!99:made', NULL, NULL)";
    insert(&session, &vec![event; 1000].join(", ")).await;
    // What is deleted so soon after the last report is not reported, nor within a transaction.
    for part in 0..8 {
        let from = 5000 + part * 50;
        let delete =
            format!("DELETE FROM events WHERE stream_ordering BETWEEN {from} AND {from} + 49");
        rows(&session, &delete).await;
    }
    for statement in ["BEGIN", "SELECT 1"] {
        rows(&session, statement).await;
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        truth.holds(&exporter).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    rows(&session, "COMMIT").await;
    truth.is_reached(&exporter).await;
}

async fn a_crash_comes_before_deletes_are_reported(major: u32) {
    let mut server = synapses_schema(major).await;
    make_history(&server, 20_000).await;
    // It begins again without any memory of deletes.
    server.stop_immediate().await;
    server.restart().await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let truth = Truth::watch(&server);
    truth.is_reached(&exporter).await;
    server.sql("synapse", &purge(1)).await;
    server.stop_immediate().await;
    server.restart().await;
    for _ in 0..20 {
        truth.holds(&exporter).await;
    }
    truth.is_reached(&exporter).await;
}

async fn a_crash_comes_while_the_exporter_is_down(major: u32) {
    let mut server = synapses_schema(major).await;
    make_history(&server, 20_000).await;
    // As few deletes are known after it as before.
    server.stop_immediate().await;
    server.restart().await;
    let folder = scratch();
    let yaml = format!("state_dir: {}", folder.path().display());
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), &yaml).await;
    let truth = Truth::watch(&server);
    truth.is_reached(&exporter).await;
    exporter.stop().await;
    server.sql("synapse", &purge(1)).await;
    server.stop_immediate().await;
    server.restart().await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), &yaml).await;
    for _ in 0..20 {
        truth.holds(&exporter).await;
    }
    truth.is_reached(&exporter).await;
}

async fn a_standby_replays_deletes(major: u32) {
    let primary = synapses_schema(major).await;
    make_history(&primary, 20_000).await;
    let standby = primary.standby().start().await;
    let exporter = Exporter::watch(&standby.dsn("synapse", "exporter"), &[]).await;
    let truth = Truth::watch(&standby);
    truth.is_reached(&exporter).await;
    for room in 0..3 {
        insert_ten(&primary).await;
        primary.sql("synapse", &purge(room)).await;
        for _ in 0..20 {
            truth.holds(&exporter).await;
        }
        truth.is_reached(&exporter).await;
    }
}

async fn four_writers_write_while_rooms_are_purged(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 20_000).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), EAGER).await;
    let truth = Truth::watch(&server);
    let before = added(&truth.is_reached(&exporter).await);
    let writers = Writers::start(&server, 4).await;
    let mut known = 0;
    for scraped in 0..80 {
        known += u32::from(truth.holds(&exporter).await);
        if scraped % 40 == 20 {
            server.sql("synapse", &purge(scraped % 20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(known > 20, "{known}");
    let written = writers.stop().await;
    let page = truth.is_reached(&exporter).await;
    let seen = added(&page) - before;
    // What came and went between two scrapes was never seen.
    assert!(
        (0.9..=1.0).contains(&(seen / written as f64)),
        "{seen} of {written}"
    );
}

/// A writer that has said how far it is holds ids, while another writes more than a tail may hold.
async fn a_writer_commits_long_after_the_others(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 1_000).await;
    LateWriter::start(&server, "w2", 1).await.write().await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let truth = Truth::watch(&server);
    let before = added(&truth.is_reached(&exporter).await);
    let late = LateWriter::start(&server, "w2", 300).await;
    make_history(&server, 140_000).await;
    truth.is_reached(&exporter).await;
    late.write().await;
    for _ in 0..20 {
        truth.holds(&exporter).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let page = truth.is_reached(&exporter).await;
    assert_eq!(added(&page) - before, 140_300.0);
}

async fn a_new_writer_has_no_position_yet(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 1_000).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), EAGER).await;
    let truth = Truth::watch(&server);
    let before = added(&truth.is_reached(&exporter).await);
    let late = LateWriter::start(&server, "new", 500).await;
    for _ in 0..40 {
        LateWriter::start(&server, "master", 10).await.write().await;
        truth.holds(&exporter).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    late.write().await;
    for _ in 0..20 {
        truth.holds(&exporter).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let page = truth.is_reached(&exporter).await;
    assert_eq!(added(&page) - before, 900.0);
}

/// As on a logical copy, where the positions are there before the events.
async fn events_arrive_in_bulk_below_the_mark(major: u32) {
    let server = synapses_schema(major).await;
    let positions = "INSERT INTO stream_positions (stream_name, instance_name, stream_id)
                     VALUES ('events', 'master', 200000)
                     ON CONFLICT (stream_name, instance_name)
                     DO UPDATE SET stream_id = EXCLUDED.stream_id;
                     SELECT setval('events_stream_seq', 200000);
                     TRUNCATE events CASCADE";
    server.sql("synapse", positions).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let truth = Truth::watch(&server);
    let before = added(&truth.is_reached(&exporter).await);
    copy_history(&server, 150_000).await;
    for _ in 0..20 {
        truth.holds(&exporter).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let page = truth.is_reached(&exporter).await;
    assert_eq!(added(&page) - before, 150_000.0);
}

/// Ids that were taken and never used lie above every event, and nobody has a position any more.
async fn writers_are_renamed(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 20_000).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), EAGER).await;
    let truth = Truth::watch(&server);
    truth.is_reached(&exporter).await;
    let unused = "INSERT INTO stream_positions (stream_name, instance_name, stream_id)
                  SELECT 'events', 'master', max(nextval('events_stream_seq'))
                    FROM generate_series(1, 50)
                  ON CONFLICT (stream_name, instance_name)
                  DO UPDATE SET stream_id = EXCLUDED.stream_id;
                  INSERT INTO stream_positions (stream_name, instance_name, stream_id)
                  SELECT 'backfill', 'master', -max(nextval('events_backfill_stream_seq'))
                    FROM generate_series(1, 50)
                  ON CONFLICT (stream_name, instance_name)
                  DO UPDATE SET stream_id = EXCLUDED.stream_id";
    server.sql("synapse", unused).await;
    // Long enough for the mark to follow.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        truth.holds(&exporter).await;
    }
    let before = rows_counted(&scrape(&exporter).await);
    server.sql("synapse", "DELETE FROM stream_positions").await;
    truth.holds(&exporter).await;
    LateWriter::start(&server, "persister1", 10)
        .await
        .write()
        .await;
    let page = truth.is_reached(&exporter).await;
    assert!(
        !exporter.output().contains("counted again"),
        "{}",
        exporter.output()
    );
    let counted = rows_counted(&page) - before;
    assert!(counted < 60_000.0, "{counted}");
}

/// As after a restore: as many events as there were, and others. The one that was remembered is not
/// among them, and no counter tells.
async fn other_events_come_in_the_same_number(major: u32) {
    let mut server = synapses_schema(major).await;
    server
        .sql("synapse", "SELECT nextval('events_stream_seq')")
        .await;
    make_history(&server, 5_000).await;
    server.stop().await;
    server.back_up();
    server.restart().await;
    insert_ten(&server).await;
    let folder = scratch();
    let yaml = format!("{EAGER}\nstate_dir: {}", folder.path().display());
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), &yaml).await;
    frozen(&exporter).await;
    assert_exact(&exporter, &server).await;
    exporter.stop().await;

    server.stop().await;
    server.restore();
    server.restart().await;
    let client = server.client("synapse", "postgres").await;
    let nine = "(nextval('events_stream_seq'), 'm.room.encrypted', '!99:made', NULL, NULL)";
    insert(&client, &[nine; 9].join(", ")).await;
    insert(&client, "(1, 'm.room.encrypted', '!99:made', NULL, NULL)").await;
    let more = "SELECT nextval('events_stream_seq');
                CREATE TABLE more AS SELECT generate_series(1, 100000)";
    rows(&client, more).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), &yaml).await;
    assert_exact(&exporter, &server).await;
}

/// Purges that come more often than all is verified are not reason to call a number exact that is
/// not, nor to stop.
async fn purges_go_on_and_on(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 100_000).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), EAGER).await;
    let truth = Truth::watch(&server);
    truth.is_reached(&exporter).await;
    let client = server.client("synapse", "postgres").await;
    for round in 0..100 {
        let at = 1_000 + round * 900;
        let purge = format!("DELETE FROM events WHERE stream_ordering BETWEEN {at} AND {at} + 9");
        rows(&client, &purge).await;
        truth.holds(&exporter).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    truth.is_reached(&exporter).await;
}

/// That cannot be known at once. When a range is counted again, it is, of all ranges.
async fn a_superuser_deletes_and_reports_nothing(major: u32) {
    let server = synapses_schema(major).await;
    make_history(&server, 70_000).await;
    let settings = "events: { share: 50%, settle: 1s, recount: 120s }";
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), settings).await;
    let watch = Truth::watch(&server);
    let buckets = |page: &Page| page.value("synapse_db_events_ranges", DATABASE) >= Some(3.0);
    let mut page = watch.is_reached(&exporter).await;
    while !buckets(&page) {
        make_history(&server, 70_000).await;
        frozen(&exporter).await;
        page = watch.is_reached(&exporter).await;
    }
    drop(watch);
    let before = events_of(&page);
    let hidden = "SET track_counts = off; DELETE FROM events \
                  WHERE stream_ordering > 5000 AND stream_ordering % 10 = 3";
    server.sql("synapse", hidden).await;
    let count = "SELECT count(*) FROM events";
    let truth: f64 = server
        .value("synapse", count)
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(truth < before);
    wait_for("the number is right again", async || {
        let page = scrape(&exporter).await;
        let exact = page.value("synapse_db_events_exact", DATABASE) == Some(1.0);
        let served = events_of(&page);
        assert!(
            !exact || [before, truth].contains(&served),
            "{served}, neither {before} nor {truth}\n{}",
            exporter.output()
        );
        exact && served == truth
    })
    .await;
    let told = exporter.output().contains("no session has reported");
    assert_eq!(told, major >= 15, "{}", exporter.output());
}

/// What comes counts, even where as much goes at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn arrivals_are_counted_beside_purges() {
    let server = synapses_schema(18).await;
    make_history(&server, 1_000).await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let truth = Truth::watch(&server);
    let before = added(&truth.is_reached(&exporter).await);
    // More than pieces of the tail can be told apart.
    for _ in 0..5 {
        scrape(&exporter).await;
        insert_ten(&server).await;
    }
    scrape(&exporter).await;
    let purge = "DELETE FROM events WHERE room_id = '!99:made'";
    server.sql("synapse", purge).await;
    for _ in 0..4 {
        insert_ten(&server).await;
    }
    let page = scrape(&exporter).await;
    assert_eq!(added(&page) - before, 90.0);
}

/// A tail that is too long is counted again in ranges; what was known of it is served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_does_not_fall_while_a_tail_is_counted_again() {
    let server = synapses_schema(18).await;
    server
        .sql(
            "synapse",
            "ALTER TABLE events SET (autovacuum_enabled = off)",
        )
        .await;
    make_history(&server, 1_000).await;
    // Nothing is proven for long enough to be served, and the tail stays one for an hour.
    let yaml = "events: { max_age: 1s, share: 1%, settle: 1h }";
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    let counted = |page: &Page| page.value("synapse_db_events_counted_ratio", DATABASE);
    wait_for("all is counted", async || {
        counted(&scrape(&exporter).await) == Some(1.0)
    })
    .await;
    let mut last = 0.0;
    let mut again = 0;
    for round in 0..60 {
        // On a busy machine it may be over before a scrape can see it.
        if round >= 14 && again > 0 {
            break;
        }
        make_history_quietly(&server, 10_000).await;
        for _ in 0..3 {
            let page = scrape(&exporter).await;
            // An exact number is that of its moment, which is a while ago.
            if page.value("synapse_db_events_exact", DATABASE) == Some(1.0) {
                continue;
            }
            let events = events_of(&page);
            assert!(events >= last, "{events}, before {last}");
            last = events;
            again += u32::from(counted(&page) < Some(1.0));
        }
    }
    assert!(again > 0, "nothing was counted again");
}

/// How many events there were at which time, as a plain count says again and again.
struct Truth {
    polls: Arc<Mutex<Vec<Poll>>>,
    task: JoinHandle<()>,
}

/// A count whose snapshot was taken between two moments, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Poll {
    before: f64,
    after: f64,
    events: f64,
}

impl Truth {
    fn watch(server: &Postgres) -> Self {
        let dsn = server.dsn("synapse", "postgres");
        let polls = Arc::new(Mutex::default());
        let task = tokio::spawn(poll(dsn, polls.clone()));
        Self { polls, task }
    }

    /// Scrapes; whether the number was exact. Then it was that of its moment.
    async fn holds(&self, exporter: &Exporter) -> bool {
        let from = now();
        let page = scrape(exporter).await;
        self.holds_on(&page, from, now(), exporter).await
    }

    async fn holds_on(&self, page: &Page, from: f64, to: f64, exporter: &Exporter) -> bool {
        if page.value("synapse_db_events_exact", DATABASE) != Some(1.0) {
            return false;
        }
        let moment = page.value("synapse_db_events_as_of_timestamp_seconds", DATABASE);
        let (from, to) = moment.map_or((from, to), |moment| (moment, moment));
        let known = |polls: &[Poll]| polls.iter().any(|poll| poll.before > to);
        wait_for("the truth is known", async || {
            known(&self.polls.lock().unwrap())
        })
        .await;
        let polls = self.polls.lock().unwrap();
        let first = polls.iter().rposition(|poll| poll.after < from);
        let last = polls.iter().position(|poll| poll.before > to).unwrap();
        let around = &polls[first.expect("a moment before all that is known")..=last];
        let events = around.iter().map(|poll| poll.events);
        let (least, most) = events.fold((f64::MAX, 0.0_f64), |(least, most), events| {
            (least.min(events), most.max(events))
        });
        let served = events_of(page);
        assert!(
            (least..=most).contains(&served),
            "{served} as of {from}, and there were {around:?}; {:?}\n{}",
            polls.last(),
            exporter.output()
        );
        true
    }

    /// Waits until the number is exact, and what there is now.
    async fn is_reached(&self, exporter: &Exporter) -> Page {
        let begun = Instant::now();
        loop {
            let from = now();
            let page = scrape(exporter).await;
            let exact = self.holds_on(&page, from, now(), exporter).await;
            let latest = self.polls.lock().unwrap().last().map(|poll| poll.events);
            if exact && latest == Some(events_of(&page)) {
                return page;
            }
            let patient = begun.elapsed() < PATIENCE * 2;
            let served = events_of(&page);
            assert!(patient, "{served}, not {latest:?}\n{}", exporter.output());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(dsn: String, polls: Arc<Mutex<Vec<Poll>>>) {
    const COUNT: &str =
        "SELECT extract(epoch FROM statement_timestamp())::float8, count(*)::float8,
                                extract(epoch FROM clock_timestamp())::float8
                           FROM events";
    // It survives the server.
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(&dsn, NoTls).await {
            tokio::spawn(connection);
            while let Ok(row) = client.query_one(COUNT, &[]).await {
                let poll = Poll {
                    before: row.get(0),
                    events: row.get(1),
                    after: row.get(2),
                };
                polls.lock().unwrap().push(poll);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn events_of(page: &Page) -> f64 {
    page.samples("synapse_db_events")
        .map(|sample| sample.value)
        .sum()
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}
