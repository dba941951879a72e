//! What the exporter costs on a large Synapse: `make bench` writes `benches/RESULTS.md`.
//!
//! All that is said of statements is the server's own measure, from `pg_stat_statements`.
//! `BENCH_USERS` says how many users the Synapse has, everything else in proportion. With
//! `BENCH_TABLES=user_ips,devices` it only counts these tables, and writes no file.

// A broken expectation is a failed run.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors;
use matrix_postgres_exporter::query::message::{Message, TIMEOUTS};
use matrix_postgres_exporter::query::{
    CacheShare, Collector, Context, Harvest, Holds, Plan, Scope, Sql, Version, Views, Walk,
};
use matrix_postgres_exporter::server::Application;
use tokio_postgres::Client;

use support::exporter::{Exporter, failures};
use support::exposition::Page;
use support::large;
use support::postgres::{Postgres, rows};
use support::process::wait_at_most;
use support::roles::Role;
use support::synapse::{NEW, Synapse};
use support::whole;
use support::writers::{insert_ten, make_history};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

const MAJOR: u32 = 18;

/// How long a statement on Synapse's tables may take, by default.
const CAP: f64 = 1000.0;

/// How long all that is counted may take to be counted.
const PATIENCE: Duration = Duration::from_secs(1800);

const WARM_SCRAPES: u32 = 20;

/// How often what is compared is run, one after the other.
const ROUNDS: usize = 3;

/// From how many milliseconds of the plain statement on a table is to keep to bounds.
const SLOW: f64 = 50.0;

/// How much more time of the database than the plain statement it may cost to count a table.
const MOST_TIME: f64 = 1.5;

/// How often a page may be read.
const MOST_PAGES: f64 = 1.05;

/// How much slower a client may be beside a walk.
const MOST_LATENCY: f64 = 1.2;

/// How long a client is watched.
const PHASE: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() {
    let users = std::env::var("BENCH_USERS").map_or(1_000_000, |users| {
        users
            .parse()
            .expect("BENCH_USERS is how many users there are to be, such as 50000")
    });
    let server = large_synapse(users).await;
    let mut results = head(&server, users).await;
    if let Ok(tables) = std::env::var("BENCH_TABLES") {
        let tables: Vec<_> = tables.split(',').collect();
        let broken = walks(&server, |table| tables.contains(&table), &mut results).await;
        println!("{results}");
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        return;
    }
    let longest = refreshes(&server, &mut results).await;
    let mut broken = walks(&server, |_| true, &mut results).await;
    warm_scrapes(&server, &mut results).await;
    events(&server, users * 5, &mut results).await;
    drop(server);
    broken.extend(cache(&mut results).await);
    fs::write(RESULTS, &results).unwrap();
    println!("{results}");
    assert!(
        longest <= CAP,
        "a statement on Synapse's tables took {longest:.0} ms"
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

async fn large_synapse(users: u64) -> Postgres {
    let server = Postgres::builder(MAJOR)
        .pg_stat_statements()
        .setting("shared_buffers", "1GB")
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", "0")
        .setting("max_wal_size", "16GB")
        .setting("autovacuum", "off")
        .start()
        .await;
    let (synapse, _) = Synapse::start(&server, NEW).await;
    drop(synapse);
    let started = Instant::now();
    large::fill(&server, "synapse", users).await;
    large::fill_events(&server, "synapse", users * 5).await;
    eprintln!("filled in {:.0} s", started.elapsed().as_secs_f64());
    server
        .sql("synapse", "CREATE EXTENSION pg_stat_statements")
        .await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    server.sql("synapse", "CHECKPOINT").await;
    server
}

async fn head(server: &Postgres, users: u64) -> String {
    let value = async |sql: &str| server.value("synapse", sql).await.unwrap();
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let memory: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    format!(
        "# What it costs\n\n\
         Written by `make bench` on {}: PostgreSQL {} with a Synapse {NEW} of {users} users, {} \
         events and {} in all, made up. The machine has {cores} cores and {} GB, was not its only \
         user's, and held what was read in memory. So look at ratios, less at times.\n",
        value("SELECT current_date").await,
        value("SHOW server_version").await,
        value("SELECT count(*) FROM events").await,
        value("SELECT pg_size_pretty(pg_database_size('synapse'))").await,
        memory / 1024 / 1024,
    )
}

/// What each collector's full refresh costs; the longest statement of all.
async fn refreshes(server: &Postgres, results: &mut String) -> f64 {
    *results += "\n## A full refresh\n\n\
        Statements on Synapse's tables, as the server measured them, of the first refresh after a start.\n\n\
        | collector | refreshed | statements | longest | in all |\n\
        |---|---|--:|--:|--:|\n";
    let mut longest: f64 = 0.0;
    for collector in collectors::synapse::all() {
        if !collector.enabled {
            continue;
        }
        let ours = refresh(server, &collector).await;
        longest = longest.max(ours.longest);
        let when = match collector.ttl {
            Duration::ZERO => "every scrape".to_owned(),
            ttl => format!("every {} s", ttl.as_secs()),
        };
        writeln!(
            results,
            "| {} | {when} | {} | {:.1} ms | {:.0} ms |",
            collector.name, ours.statements, ours.longest, ours.total
        )
        .unwrap();
        eprintln!("{}", results.lines().next_back().unwrap());
    }
    writeln!(
        results,
        "\nThe longest statement on Synapse's tables took {longest:.0} ms; {CAP:.0} ms are the cap."
    )
    .unwrap();
    longest
}

/// What it costs to count a table, and as one plain statement; what is beyond its bound.
async fn walks(
    server: &Postgres,
    chosen: impl Fn(&str) -> bool,
    results: &mut String,
) -> Vec<String> {
    write!(
        results,
        "\n## A table\n\n\
         What is counted in pieces, for each table: by ranges of pages, or in the order of a key. Beside \
         it the same as one plain statement over the whole table. Median of {ROUNDS} alternating runs; \
         each begins as after a start, so it knows nothing of the table. Pages are those of the table \
         itself, read or found in the cache, in parts of all that it has; in the order of a key a page is \
         found as often as its rows lie apart. Where the plain statement takes more than {SLOW:.0} ms, the \
         ratio is to stay below {MOST_TIME}, and pages below {MOST_PAGES} where a table is read by pages.\n\n\
         | table | for | by | statements | longest | in all | plain | ratio | pages |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|\n"
    )
    .unwrap();
    let there = whole::columns(server).await;
    let mut broken = Vec::new();
    for collector in collectors::synapse::all() {
        for mut query in collector.queries {
            let Some(sql) = whole::plain(&query, MAJOR, &there) else {
                continue;
            };
            let walk = query.walk.clone().unwrap();
            let table = walk.table();
            if !chosen(table) {
                continue;
            }
            // As if it had been asked after the others.
            query.covered = None;
            let plan = Plan::new(Collector {
                queries: vec![query],
                ..Collector::new(collector.name, collector.about)
            });
            let (mut ours, mut plain) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                plain.push(plain_statement(server, &sql).await);
                ours.push(walk_through(server, &plan, table).await);
            }
            let ours = median(ours, |(cost, _)| cost.total);
            let plain = median(plain, |cost| cost.total);
            let ((ours, pages), ratio) = (&ours, ours.0.total / plain.total);
            let by = match &walk {
                Walk::Pages { .. } => "pages",
                Walk::Keys(key) => key.columns,
            };
            writeln!(
                results,
                "| {table} | {} | {by} | {} | {:.1} ms | {:.0} ms | {:.0} ms | {ratio:.2} | {pages:.2} |",
                collector.name, ours.statements, ours.longest, ours.total, plain.total
            )
            .unwrap();
            let row = results.lines().next_back().unwrap();
            eprintln!("{row}");
            let in_pages = matches!(walk, Walk::Pages { .. });
            let beyond = ratio > MOST_TIME || in_pages && *pages > MOST_PAGES;
            if plain.total > SLOW && beyond || ours.longest > CAP {
                broken.push(row.to_owned());
            }
        }
    }
    broken
}

/// One walk without a pause, and what of the table it read.
async fn walk_through(server: &Postgres, plan: &Plan, table: &str) -> (Cost, f64) {
    let exporter = server.client("synapse", "exporter").await;
    reset(server).await;
    let fetched = format!(
        "SELECT pg_stat_get_blocks_fetched('{table}'::regclass) AS fetched,
                greatest(pg_relation_size('{table}'::regclass) / 8192, 1) AS pages"
    );
    let fetched = async || {
        let row = server.sql("synapse", &fetched).await.remove(0);
        [0, 1].map(|at| row[at].as_ref().unwrap().parse::<f64>().unwrap())
    };
    let [before, pages] = fetched().await;
    walk_for(
        &exporter,
        plan,
        Duration::from_secs(600),
        CAP,
        &mut Holds::default(),
        &CacheShare::default(),
    )
    .await;
    // What a session did is told when it ends.
    drop(exporter);
    wait_at_most(PATIENCE, "the session has ended", || async {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
        server.value("synapse", sessions).await.as_deref() == Some("0")
    })
    .await;
    let [after, _] = fetched().await;
    let cost = cost(server, "exporter", r#"%"public".%"#).await;
    (cost, (after - before) / pages)
}

/// Walks for so long at most.
async fn walk_for(
    exporter: &Client,
    plan: &Plan,
    time: Duration,
    cap: f64,
    holds: &mut Holds,
    cache: &CacheShare,
) -> Harvest {
    let version = Version(MAJOR * 10_000);
    let found = Application::find(exporter, version, Duration::from_secs(8)).await;
    let tables = found.unwrap().unwrap().tables;
    let now = Instant::now();
    let context = Context {
        version,
        standby: false,
        archiver: false,
        settings_off: &BTreeSet::new(),
        tables: Some(&tables),
        views: &Views::default(),
        deadline: now + 2 * time,
        pause: now + time,
        keep: Duration::ZERO,
        statement_cap: Duration::from_secs_f64(cap / 1e3),
        limit: 10_000,
        cache,
    };
    plan.run(exporter, &context, holds, None).await
}

/// The same counts as one statement.
async fn plain_statement(server: &Postgres, sql: &Sql) -> Cost {
    let client = server.client("synapse", "postgres").await;
    reset(server).await;
    let message = Message {
        sql,
        timeout: TIMEOUTS[TIMEOUTS.len() - 1],
        version: Version(MAJOR * 10_000),
        scope: Scope::Synapse,
    };
    message.send(&client, |_, _| Ok(())).await.unwrap();
    cost(server, "postgres", r#"%"public".%"#).await
}

fn median<T>(mut all: Vec<T>, by: impl Fn(&T) -> f64) -> T {
    all.sort_by(|a, b| by(a).total_cmp(&by(b)));
    let middle = all.len() / 2;
    all.swap_remove(middle)
}

/// What a walk does to a client whose data fill most of the server's cache.
async fn cache(results: &mut String) -> Vec<String> {
    const BUFFERS: u64 = 16_384;
    let server = Postgres::builder(MAJOR)
        .setting("shared_buffers", "128MB")
        .setting("autovacuum", "off")
        .start()
        .await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    let rows_of_client = BUFFERS * 8 / 10 * 7;
    server
        .sql(
            "synapse",
            &format!(
                "CREATE EXTENSION pg_buffercache;
                 CREATE TABLE events (n bigint); CREATE TABLE state_groups_state (n bigint);
                 CREATE TABLE schema_version (n bigint); CREATE TABLE background_updates (n bigint);
                 CREATE TABLE applied_schema_deltas (n bigint);
                 CREATE TABLE devices (user_id text, device_id text, hidden boolean, last_seen bigint);
                 INSERT INTO devices SELECT '@person' || n, 'DEVICE' || n, false, n
                   FROM generate_series(1, 3000000) AS n;
                 CREATE TABLE client (n bigint PRIMARY KEY, filler text);
                 INSERT INTO client SELECT n, repeat('x', 1000)
                   FROM generate_series(1, {rows_of_client}) AS n"
            ),
        )
        .await;
    for table in ["devices", "client"] {
        server
            .sql("synapse", &format!("VACUUM ANALYZE {table}"))
            .await;
    }
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let mut all = collectors::synapse::all().into_iter();
    let devices = all.find(|one| one.name == "synapse_devices").unwrap();
    let plan = Plan::new(devices);
    let mut phases: [Vec<Phase>; 3] = Default::default();
    phase(&server, rows_of_client, None).await;
    for _ in 0..ROUNDS {
        phases[0].push(phase(&server, rows_of_client, None).await);
        phases[1].push(phase(&server, rows_of_client, Some(&plan)).await);
        phases[2].push(phase(&server, rows_of_client, None).await);
    }
    write!(
        results,
        "\n## The server's cache\n\n\
         A client reads rows at random, which with their index fill 80 % of shared_buffers (128 MB), \
         for {} s each before, while and after a table of {} MB is walked through by pages; the first \
         walk of a start may read more at once than later ones. Median of {ROUNDS} alternating runs. p99 is \
         to stay below {MOST_LATENCY} times what it is before.\n\n\
         | | p99 of the client | pages that it had to read | its pages in the cache at the end | pages walked through |\n\
         |---|--:|--:|--:|--:|\n",
        PHASE.as_secs(),
        server.value("synapse", "SELECT pg_relation_size('devices') / 1024 / 1024").await.unwrap(),
    )
    .unwrap();
    let mut latencies = Vec::new();
    for (name, all) in ["before", "during", "after"].into_iter().zip(phases) {
        let middle = |of: fn(&Phase) -> f64| {
            let mut values: Vec<_> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        latencies.push(middle(|phase| phase.p99));
        writeln!(
            results,
            "| {name} | {:.2} ms | {:.0} | {:.0} | {:.0} |",
            middle(|phase| phase.p99),
            middle(|phase| phase.read),
            middle(|phase| phase.cached),
            middle(|phase| phase.walked),
        )
        .unwrap();
        eprintln!("{}", results.lines().next_back().unwrap());
    }
    let ratio = latencies[1] / latencies[0];
    writeln!(
        results,
        "\nThe p99 was {ratio:.2} times what it was before."
    )
    .unwrap();
    match ratio > MOST_LATENCY {
        true => vec![format!(
            "the p99 of a client beside a walk was {ratio:.2} times its own"
        )],
        false => Vec::new(),
    }
}

/// A while in the life of a client.
struct Phase {
    /// Milliseconds.
    p99: f64,
    read: f64,
    cached: f64,
    walked: f64,
}

async fn phase(server: &Postgres, rows_of_client: u64, walked: Option<&Plan>) -> Phase {
    let numbers = async || {
        let sql = "SELECT pg_stat_get_blocks_fetched(c.oid) - pg_stat_get_blocks_hit(c.oid)
                        + pg_stat_get_blocks_fetched('client_pkey'::regclass)
                        - pg_stat_get_blocks_hit('client_pkey'::regclass),
                        pg_stat_get_blocks_fetched('devices'::regclass),
                        (SELECT count(*) FROM pg_buffercache AS b
                          WHERE b.relfilenode IN (pg_relation_filenode('client'),
                                                  pg_relation_filenode('client_pkey')))
                   FROM pg_class AS c WHERE c.oid = 'client'::regclass";
        let row = server.sql("synapse", sql).await.remove(0);
        [0, 1, 2].map(|at| row[at].as_ref().unwrap().parse::<f64>().unwrap())
    };
    let before = numbers().await;
    let client = server.client("synapse", "postgres").await;
    let read = async {
        let select = client.prepare("SELECT length(filler) FROM client WHERE n = $1");
        let select = select.await.unwrap();
        let mut times = Vec::new();
        let (started, mut dice) = (Instant::now(), 1_u64);
        while started.elapsed() < PHASE {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let n = (1 + (dice >> 33) % rows_of_client) as i64;
            let asked = Instant::now();
            client.query_one(&select, &[&n]).await.unwrap();
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    };
    let walk = async {
        let Some(plan) = walked else { return };
        let exporter = server.client("synapse", "exporter").await;
        let (mut holds, share) = (Holds::default(), CacheShare::default());
        walk_for(&exporter, plan, PHASE, 100.0, &mut holds, &share).await;
    };
    let (p99, ()) = tokio::join!(read, walk);
    drop(client);
    wait_at_most(PATIENCE, "the sessions have ended", || async {
        let sessions = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = 'synapse' AND pid <> pg_backend_pid()
                           AND backend_type = 'client backend'";
        server.value("synapse", sessions).await.as_deref() == Some("0")
    })
    .await;
    let after = numbers().await;
    Phase {
        p99,
        read: after[0] - before[0],
        walked: after[1] - before[1],
        cached: after[2],
    }
}

/// What an exporter costs that has no other collector.
async fn refresh(server: &Postgres, collector: &Collector) -> Cost {
    let all = collectors::all().into_iter();
    let others = all.filter(|other| other.name != collector.name);
    let others: Vec<_> = others.map(|other| other.name).collect();
    let yaml = format!("collectors: {{ disable: [{}] }}", others.join(", "));
    reset(server).await;
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), &yaml).await;
    let page = exporter.complete_within(PATIENCE).await;
    assert_eq!(failures(&page), Vec::<&str>::new());
    cost(server, "exporter", r#"%"public".%"#).await
}

/// What a scrape costs that finds everything in memory that may be there.
async fn warm_scrapes(server: &Postgres, results: &mut String) {
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    let started = Instant::now();
    let before = exporter.complete_within(PATIENCE).await;
    let complete_in = started.elapsed();
    reset(server).await;
    let mut times = Vec::new();
    for _ in 0..WARM_SCRAPES {
        let started = Instant::now();
        exporter.scrape().await;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let after = exporter.scrape().await;
    let cost = cost(server, "exporter", "%").await;
    times.sort_by(f64::total_cmp);
    let cpu = |page: &Page| page.value("process_cpu_seconds_total", &[]).unwrap();
    let each = f64::from(WARM_SCRAPES);
    writeln!(
        results,
        "\n## A warm scrape\n\n\
         Every collector is on. After the start, everything had been read behind the scrapes in \
         {:.0} s. Then, on the average of {WARM_SCRAPES} scrapes:\n\n\
         | series | answered in (median) | exporter's CPU | time in the database | statements |\n\
         |--:|--:|--:|--:|--:|\n\
         | {} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} |",
        complete_in.as_secs_f64(),
        series(&after),
        times[times.len() / 2],
        (cpu(&after) - cpu(&before)) * 1e3 / (each + 1.0),
        cost.total / (each + 1.0),
        cost.statements as f64 / (each + 1.0),
    )
    .unwrap();
}

/// What it costs to know how many events there are, and what that costs with twice as many.
async fn events(server: &Postgres, events: u64, results: &mut String) {
    *results += "\n## The number of events\n\n\
        As one plain statement; as the first count behind the scrapes, here with all of the time and \
        not a tenth of it; and as a scrape after that, with ten events that are new.\n\n\
        | events | plain | blocks | first count | statements | longest | in all | a scrape | blocks | rows |\n\
        |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    let client = server.client("synapse", "postgres").await;
    for half in [true, false] {
        if !half {
            make_history(server, events).await;
            server.sql("synapse", "VACUUM events").await;
        }
        reset(server).await;
        let all = rows(&client, PLAIN_EVENTS)
            .await
            .remove(0)
            .remove(0)
            .unwrap();
        let plain = cost(server, "postgres", "%FROM public.events%").await;

        let others = collectors::all().into_iter();
        let others: Vec<_> = others.map(|other| other.name).collect();
        let others = others.join(", ").replace("synapse_events, ", "");
        let yaml = format!("events: {{ share: 100% }}\ncollectors: {{ disable: [{others}] }}");
        reset(server).await;
        let started = Instant::now();
        let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), &yaml).await;
        let exact = [("datname", "synapse")];
        wait_at_most(PATIENCE, "the events are counted", || async {
            let page = exporter.scrape().await;
            page.value("synapse_db_events_exact", &exact) == Some(1.0)
        })
        .await;
        let counted_in = started.elapsed();
        let ours = r#"%"public".events%"#;
        let first = cost(server, "exporter", ours).await;

        let counted = |page: &Page| {
            page.value("synapse_db_events_rows_counted_total", &exact)
                .unwrap()
        };
        insert_ten(server).await;
        let before = counted(&exporter.scrape().await);
        reset(server).await;
        for _ in 1..WARM_SCRAPES {
            exporter.scrape().await;
        }
        let after = counted(&exporter.scrape().await);
        let each = f64::from(WARM_SCRAPES);
        let scrapes = cost(server, "exporter", ours).await;
        writeln!(
            results,
            "| {all} | {:.0} ms | {:.0} | {:.1} s | {} | {:.0} ms | {:.0} ms | {:.2} ms | {:.0} | {:.0} |",
            plain.total,
            plain.blocks,
            counted_in.as_secs_f64(),
            first.statements,
            first.longest,
            first.total,
            scrapes.total / each,
            scrapes.blocks / each,
            (after - before) / each,
        )
        .unwrap();
        eprintln!("{}", results.lines().next_back().unwrap());
    }
}

const PLAIN_EVENTS: &str = "
    SELECT count(*), count(*) FILTER (WHERE type = 'm.room.message'),
           count(*) FILTER (WHERE type = 'm.room.encrypted'), count(state_key),
           count(*) FILTER (WHERE type = 'm.room.redaction'), count(rejection_reason)
      FROM public.events";

fn series(page: &Page) -> usize {
    let names = page.names();
    names.iter().map(|name| page.samples(name).count()).sum()
}

struct Cost {
    statements: u64,
    /// Milliseconds.
    longest: f64,
    total: f64,
    blocks: f64,
}

async fn cost(server: &Postgres, role: &str, like: &str) -> Cost {
    let sql = format!(
        "SELECT coalesce(sum(calls) FILTER (WHERE query NOT LIKE 'SET %'), 0),
                coalesce(max(max_exec_time), 0),
                coalesce(sum(total_exec_time), 0),
                coalesce(sum(shared_blks_hit + shared_blks_read), 0)
           FROM pg_stat_statements
          WHERE userid = '{role}'::regrole AND query LIKE '{like}'"
    );
    let row = server.sql("synapse", &sql).await.remove(0);
    let [statements, longest, total, blocks] =
        [0, 1, 2, 3].map(|column| row[column].as_ref().unwrap().parse::<f64>().unwrap());
    Cost {
        statements: statements as u64,
        longest,
        total,
        blocks,
    }
}

async fn reset(server: &Postgres) {
    server
        .sql("synapse", "SELECT pg_stat_statements_reset()")
        .await;
}
