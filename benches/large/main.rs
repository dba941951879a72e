//! What the exporter costs on a large Synapse: `make bench` writes `benches/RESULTS.md`.
//!
//! All that is said of statements is the server's own measure, from `pg_stat_statements`.
//! `BENCH_USERS` says how many users the Synapse has, everything else in proportion. With
//! `BENCH_TABLES=user_ips,devices` it only counts these tables, and writes no file. With
//! `BENCH_PARTS=events,cache` it measures only that (`refreshes`, `walks`, `warm`, `events`, `cache`), and
//! writes these sections again.

// A broken expectation is a failed run.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../shared/mod.rs"]
mod shared;

mod cache;
mod walks;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors::{self, Registry};
use matrix_postgres_exporter::query::message::{Message, TIMEOUTS};
use matrix_postgres_exporter::query::{
    CacheShare, Collector, Context, Harvest, Holds, Plan, Scope, Sql, Version, Views, Walk,
};
use matrix_postgres_exporter::server::Search;
use tokio_postgres::Client;

use cache::cache;
use shared::cost::{self, Cost, reset};
use shared::{chosen, median, results};
use support::exporter::{Exporter, failures};
use support::exposition::Page;
use support::large;
use support::postgres::{Postgres, rows};
use support::process::wait_at_most;
use support::roles::Role;
use support::synapse::{NEW, Synapse};
use support::whole;
use support::writers::{insert_ten, make_history};
use walks::walks;

const MAJOR: u32 = 18;

/// How long a statement on Synapse's tables may take, by default.
const CAP: f64 = 1000.0;

/// How long all that is counted may take to be counted.
const PATIENCE: Duration = Duration::from_secs(1800);

const WARM_SCRAPES: u32 = 20;

/// How often what is compared is run, one after the other.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let users = std::env::var("BENCH_USERS").map_or(1_000_000, |users| {
        users
            .parse()
            .expect("BENCH_USERS is how many users there are to be, such as 50000")
    });
    let tables = chosen("BENCH_TABLES");
    let only_walks = || BTreeSet::from(["walks".to_owned()]);
    let parts = chosen("BENCH_PARTS").or(tables.as_ref().map(|_| only_walks()));
    let wanted = |part: &str| parts.as_ref().is_none_or(|parts| parts.contains(part));
    let (mut head, mut results, mut broken) = (String::new(), String::new(), Vec::new());
    if ["refreshes", "walks", "warm", "events"]
        .iter()
        .any(|part| wanted(part))
    {
        let server = large_synapse(users).await;
        head = head_of_file(&server, users).await;
        if wanted("refreshes") {
            broken.extend(refreshes(&server, &mut results).await);
        }
        if wanted("walks") {
            let is_chosen = |table: &str| tables.as_ref().is_none_or(|all| all.contains(table));
            broken.extend(walks(&server, is_chosen, &mut results).await);
        }
        if wanted("warm") {
            warm_scrapes(&server, &mut results).await;
        }
        if wanted("events") {
            events(&server, users * 5, &mut results).await;
        }
    }
    if wanted("cache") {
        broken.extend(cache(&mut results).await);
    }
    println!("{head}{results}");
    match (tables, parts) {
        (Some(_), _) => {}
        (None, None) => results::write(&(head + &results)),
        (None, Some(_)) => results::write(&results),
    }
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
    cost::begin(&server).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    server.sql("synapse", "CHECKPOINT").await;
    server
}

async fn head_of_file(server: &Postgres, users: u64) -> String {
    let value = async |sql: &str| server.value("synapse", sql).await.unwrap();
    format!(
        "# What it costs\n\n\
         Written by `make bench` {}, and a Synapse {NEW} of {users} users, {} events and {} in all, \
         made up. All data were in memory: compare rows, not absolute times.\n",
        results::circumstances(server).await,
        value("SELECT count(*) FROM events").await,
        value("SELECT pg_size_pretty(pg_database_size('synapse'))").await,
    )
}

/// What each collector's full refresh costs; what is beyond its bound.
async fn refreshes(server: &Postgres, results: &mut String) -> Option<String> {
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
    (longest > CAP).then(|| format!("a statement on Synapse's tables took {longest:.0} ms"))
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
    Cost::of(server, "exporter", r#"%"public".%"#).await
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
    let cost = Cost::of(server, "exporter", "%").await;
    times.sort_by(f64::total_cmp);
    let cpu = |page: &Page| page.value("process_cpu_seconds_total", &[]).unwrap();
    let each = f64::from(WARM_SCRAPES);
    writeln!(
        results,
        "\n## A warm scrape\n\n\
         Every collector is on. After the start, everything had been read in the background in \
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
        As one plain statement; as the first count in the background, here with all of the time and \
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
        let plain = Cost::of(server, "postgres", "%FROM public.events%").await;

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
        let ours = r#"%"public"."events"%"#;
        let first = Cost::of(server, "exporter", ours).await;

        let counted = |page: &Page| {
            page.value("synapse_db_events_rows_counted_total", &exact)
                .unwrap()
        };
        wait_at_most(PATIENCE, "what was counted is verified", || async {
            let before = counted(&exporter.scrape().await);
            tokio::time::sleep(Duration::from_secs(2)).await;
            counted(&exporter.scrape().await) == before
        })
        .await;
        insert_ten(server).await;
        let before = counted(&exporter.scrape().await);
        reset(server).await;
        for _ in 1..WARM_SCRAPES {
            exporter.scrape().await;
        }
        let after = counted(&exporter.scrape().await);
        let each = f64::from(WARM_SCRAPES);
        let scrapes = Cost::of(server, "exporter", ours).await;
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
