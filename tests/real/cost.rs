//! What a scrape costs the server: few connections, short statements, nothing left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::watch::Watcher;

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_scrape_opens_no_connection_and_prepares_nothing() {
    for major in [13, 18] {
        let server = Postgres::builder(major)
            .setting("log_connections", "on")
            .setting("log_min_duration_statement", "0")
            .setting("log_line_prefix", "'%a|'")
            .start()
            .await;
        server.sql("postgres", "CREATE DATABASE other").await;
        Role::Strict
            .create(&server, "exporter", &["postgres"])
            .await;
        let exporter = Exporter::watch(&server.dsn("postgres", "exporter"), &[]).await;
        let started = Instant::now();
        exporter.complete().await;

        let connections = "pg_exporter_connections_opened_total";
        let opened = exporter.scrape().await.value(connections, &[]);
        let logged = authorized(&server);
        assert_eq!(
            opened,
            Some(logged as f64),
            "what it says is what the server saw"
        );
        for _ in 0..20 {
            exporter.scrape().await;
        }
        let now = exporter.scrape().await.value(connections, &[]);
        // One is renewed each minute.
        let renewed = started.elapsed().as_secs() / 60;
        assert!(now <= opened.map(|opened| opened + renewed as f64));
        assert!(authorized(&server) <= logged + renewed as usize);

        let log = server.log();
        let duration = "matrix-postgres-exporter|LOG:  duration: ";
        let ours: Vec<_> = log
            .lines()
            .filter_map(|line| line.strip_prefix(duration)?.split_once(" ms  "))
            .map(|(_, what)| what)
            .collect();
        assert!(ours.len() > 20 * 20, "{}", ours.len());
        // With the extended protocol these would be parse, bind and execute.
        let others = ours.iter().find(|what| !what.starts_with("statement: "));
        assert_eq!(others, None);
    }
}

/// A role that may have three connections is refused the fourth, and the server says so.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_databases_stay_within_three_connections() {
    let server = Postgres::builder(18)
        .setting("log_connections", "on")
        .start()
        .await;
    let creator = server.client("postgres", "postgres").await;
    for number in 0..50 {
        rows(&creator, &format!("CREATE DATABASE db{number}")).await;
    }
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    rows(&creator, "ALTER ROLE exporter CONNECTION LIMIT 3").await;
    let watcher = Watcher::start(&server).await;
    let exporter = Exporter::configured(
        &server.dsn("postgres", "exporter"),
        "servers: { main: { databases: { interval: 1s } } }",
    )
    .await;
    wait_for("every database has been visited", || async {
        visited(&exporter.scrape().await) == 51
    })
    .await;
    let before = authorized(&server);
    wait_for("they are visited again", || async {
        let page = exporter.scrape().await;
        assert!(page.value("pg_exporter_connections", &[]) <= Some(3.0));
        authorized(&server) >= before + 50
    })
    .await;
    assert_eq!(
        server.log().lines().find(|line| line.contains("too many")),
        None
    );
    let seen = watcher.stop().await;
    assert!((1..=3).contains(&seen.most), "{}", seen.most);
    assert_eq!(seen.idle_with_snapshot, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_scrapes_leave_no_more_statements_than_two() {
    for major in [13, 18] {
        let server = Postgres::builder(major)
            .pg_stat_statements()
            .setting("pg_stat_statements.track", "all")
            .setting("pg_stat_statements.track_utility", "on")
            .start()
            .await;
        server
            .sql("postgres", "CREATE EXTENSION pg_stat_statements")
            .await;
        server.sql("postgres", "CREATE DATABASE other").await;
        server.sql("other", "CREATE TABLE t (a text)").await;
        Role::Strict
            .create(&server, "exporter", &["postgres"])
            .await;
        // Far from the next step of the timeouts, however slow the machine is; what is remembered
        // is read again all the time.
        let exporter = Exporter::configured(
            &server.dsn("postgres", "exporter"),
            "{ scrape: { timeout: 15s }, servers: { main: { databases: { interval: 1s } } }, \
               collectors: { table_size: { ttl: 1s } } }",
        )
        .await;
        exporter.complete().await;
        // Another visit, by a connection that has seen one.
        let other = [("collector", "stat_user_tables"), ("datname", "other")];
        let age = async || {
            exporter
                .scrape()
                .await
                .value("pg_exporter_collector_age_seconds", &other)
        };
        let first = age().await;
        wait_for("the other database is visited again", || async {
            age().await < first
        })
        .await;
        let entries = "SELECT s.dbid, s.query FROM pg_stat_statements s \
                       JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'exporter'";
        let before: BTreeSet<_> = server.sql("postgres", entries).await.into_iter().collect();
        for number in 0..100 {
            if number % 10 == 0 {
                server
                    .sql("other", &format!("CREATE TABLE t{number} (a text)"))
                    .await;
            }
            exporter.scrape().await;
        }
        let after = server.sql("postgres", entries).await;
        let new: Vec<_> = after
            .iter()
            .filter(|entry| !before.contains(*entry))
            .collect();
        assert_eq!(new, Vec::<&Vec<_>>::new(), "{major}");

        let cost = "SELECT max(max_exec_time), sum(temp_blks_written) \
                    FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
                    WHERE r.rolname = 'exporter'";
        let cost = server.sql("postgres", cost).await.remove(0);
        let [milliseconds, temporary] =
            [0, 1].map(|column| cost[column].as_ref().unwrap().parse::<f64>().unwrap());
        assert!(milliseconds < 1000.0, "{milliseconds}");
        assert_eq!(temporary, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stays_idle() {
    for major in [13, 18] {
        let server = Postgres::builder(major)
            .setting("autovacuum", "off")
            .setting("wal_level", "minimal")
            .setting("max_wal_senders", "0")
            .setting("checkpoint_timeout", "1h")
            .start()
            .await;
        Role::Strict
            .create(&server, "exporter", &["postgres"])
            .await;
        let exporter = Exporter::watch(&server.dsn("postgres", "exporter"), &[]).await;
        exporter.complete().await;
        server.sql("postgres", "VACUUM").await;
        let counters = "SELECT sum(xact_rollback), sum(temp_files), sum(deadlocks), \
                               (SELECT pg_current_wal_insert_lsn()) FROM pg_stat_database";
        let commits = "SELECT sum(xact_commit)::bigint FROM pg_stat_database";
        let number = async || {
            server
                .value("postgres", commits)
                .await
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let before = (server.sql("postgres", counters).await, number().await);
        for _ in 0..20 {
            exporter.scrape().await;
        }
        wait_for("the statistics have come in", || async {
            number().await > before.1 + 200
        })
        .await;
        assert_eq!(server.sql("postgres", counters).await, before.0, "{major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_complained_of_in_the_servers_log() {
    for major in [13, 18] {
        for role in [Role::Strict, Role::PgMonitor, Role::Plain] {
            let server = Postgres::start(major).await;
            role.create(&server, "exporter", &["postgres"]).await;
            let exporter = Exporter::watch(&server.dsn("postgres", "exporter"), &[]).await;
            exporter.complete().await;
            for _ in 0..20 {
                exporter.scrape().await;
            }
            let log = server.log();
            let complaints = complaints(&log);
            match role {
                // What is refused is asked for once in a few minutes.
                Role::Plain => {
                    assert!(
                        complaints.values().all(|times| *times == 1),
                        "{complaints:?}"
                    );
                }
                _ => assert_eq!(complaints, BTreeMap::new(), "{major} {role:?}"),
            }
        }
    }
}

/// How many databases have given their tables.
fn visited(page: &Page) -> usize {
    page.samples("pg_exporter_collector_age_seconds")
        .filter(|sample| sample.labels["collector"] == "table_size")
        .count()
}

/// How often the exporter's role has logged in.
fn authorized(server: &Postgres) -> usize {
    let log = server.log();
    log.lines()
        .filter(|line| line.contains("connection authorized: user=exporter"))
        .count()
}

/// What the log complains of, and how often.
fn complaints(log: &str) -> BTreeMap<&str, u32> {
    let mut complaints = BTreeMap::new();
    for line in log.lines() {
        for level in ["WARNING:", "ERROR:", "FATAL:", "PANIC:"] {
            if let Some((_, what)) = line.split_once(level) {
                *complaints.entry(what.trim()).or_default() += 1;
            }
        }
    }
    complaints
}

/// However often something else is due in a database, and however much there is in its catalog.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_may_do_is_asked_now_and_then() {
    let server = Postgres::builder(18)
        .setting("log_min_duration_statement", "0")
        .setting("log_line_prefix", "'%a %d|'")
        .start()
        .await;
    server.sql("postgres", "CREATE TABLE t ()").await;
    Role::Strict
        .create(&server, "exporter", &["postgres"])
        .await;
    let yaml = "collectors: { table_size: { ttl: 1ms } }";
    let exporter = Exporter::configured(&server.dsn("postgres", "exporter"), yaml).await;
    exporter.complete().await;
    let asked = async || {
        let log = server.log_so_far().await;
        ["pg_indexes_size(", "prosecdef"].map(|words| log.matches(words).count())
    };
    let before = asked().await;
    assert!(before[1] > 0);
    let started = Instant::now();
    wait_for("sizes are read many times", || async {
        exporter.scrape().await;
        asked().await[0] >= before[0] + 10
    })
    .await;
    // Each databases.interval, which is a minute, at most.
    let most = 1 + started.elapsed().as_secs() as usize / 60;
    let more = asked().await[1] - before[1];
    assert!(more <= most, "{more} of {most}");
}
