//! What the server does not track is not known, and that is said.

use super::support::answers::{create_roles, wait_until, watch};
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{MAJORS, Postgres, rows};
use super::support::process::wait_for;

const DURATIONS: [&str; 6] = [
    "pg_activity_longest_query_seconds",
    "pg_activity_longest_transaction_seconds",
    "pg_activity_longest_idle_in_transaction_seconds",
    "pg_activity_long_queries",
    "pg_activity_long_transactions",
    "pg_activity_long_idle_in_transaction",
];

/// A session that is not tracked, with an old transaction: what is true of its database is not
/// known, and of others it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_tracked() {
    for major in MAJORS {
        let server = Postgres::start(major).await;
        server.sql("postgres", "CREATE DATABASE matrix").await;
        create_roles(&server, &["matrix"]).await;
        let exporters = watch(&server, "postgres").await;
        let hidden = server.client("matrix", "postgres").await;
        rows(&hidden, "SET track_activities = off; BEGIN; SELECT 1").await;
        wait_until(
            &server,
            "postgres",
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'disabled'",
        )
        .await;
        for exporter in &exporters {
            let page = exporter.scrape().await;
            for name in DURATIONS {
                assert_eq!(count(&page, name, "matrix"), 0, "{major} {name}");
                assert!(count(&page, name, "postgres") > 0, "{major} {name}");
            }
            // The exporters visit the database, and their own sessions are tracked.
            let nobody = [("usename", "")];
            for (name, of) in [
                ("pg_activity_sessions", &[][..]),
                ("pg_stat_activity_count", &nobody[..]),
            ] {
                for state in ["active", "idle in transaction"] {
                    let labels = |datname| {
                        let labels = [("datname", datname), ("state", state)];
                        [&labels[..], of].concat()
                    };
                    let [hidden, other] = ["matrix", "template1"].map(labels);
                    assert_eq!(page.value(name, &hidden), None, "{major} {name} {state}");
                    assert_eq!(
                        page.value(name, &other),
                        Some(0.0),
                        "{major} {name} {state}"
                    );
                }
                let labels = [("datname", "matrix"), ("state", "disabled")];
                assert_eq!(page.value(name, &labels), Some(1.0), "{major} {name}");
            }
            let durations = page.samples("pg_stat_activity_max_tx_duration");
            let mut unknown = durations.filter(|sample| {
                sample.labels["datname"] == "matrix"
                    && (sample.labels["usename"].is_empty() || sample.labels["state"] == "disabled")
            });
            assert_eq!(unknown.next(), None, "{major}");
            not_kept(
                &page,
                &["activity", "stat_activity", "stat_progress_vacuum"],
            );
        }
        // When it is tracked again, it is not known when its transaction has begun.
        rows(&hidden, "SET track_activities = on; SELECT 1").await;
        let open = [("datname", "matrix"), ("state", "idle in transaction")];
        let longest = "pg_activity_longest_transaction_seconds";
        for exporter in &exporters {
            let page = exporter.scrape().await;
            assert_eq!(page.value("pg_activity_sessions", &open), Some(1.0));
            assert_eq!(count(&page, longest, "matrix"), 0, "{major}");
            not_kept(&page, &["activity"]);
        }
        rows(&hidden, "COMMIT").await;
        rows(&hidden, "BEGIN; SELECT 1").await;
        for exporter in &exporters {
            let page = exporter.scrape().await;
            assert_eq!(page.value("pg_activity_sessions", &open), Some(1.0));
            assert!(page.value(longest, &[("datname", "matrix")]) > Some(0.0));
            assert!(!skips(&page).contains(&"activity"), "{major}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tracks_nothing() {
    for major in MAJORS {
        let primary = Postgres::builder(major)
            .setting("track_activities", "off")
            .setting("track_counts", "off")
            .setting("track_io_timing", "off")
            .start()
            .await;
        primary.sql("postgres", "CREATE TABLE t ()").await;
        create_roles(&primary, &["postgres"]).await;
        let standby = primary.standby().start().await;
        for server in [&primary, &standby] {
            let _open = server.client("postgres", "postgres").await;
            for exporter in watch(server, "postgres").await {
                let page = exporter.complete().await;
                page.assert_whole();
                for name in page.names() {
                    let kept = ["numbackends", "stats_reset", "size_bytes"];
                    let counted = ["pg_stat_database_", "pg_stat_user_tables_", "pg_statio_"];
                    let counted = counted.iter().any(|prefix| name.starts_with(prefix));
                    let kept = kept.iter().any(|kept| name.ends_with(kept));
                    assert!(!counted || kept, "{major}: {name} is not counted");
                }
                not_kept(
                    &page,
                    &[
                        "activity",
                        "stat_activity",
                        "stat_database",
                        "stat_database_conflicts",
                        "stat_progress_vacuum",
                        "stat_user_tables",
                        "statio_user_tables",
                    ],
                );
            }
        }
    }
}

/// Times of reading and writing are tracked, or they are not there; what our own role has set says
/// nothing of others.
#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_tracked_or_not() {
    let server = Postgres::start(18).await;
    create_roles(&server, &["postgres"]).await;
    let [exporter, _] = watch(&server, "postgres").await;
    let names = [
        "pg_stat_database_blk_read_time",
        "pg_stat_database_blk_write_time",
    ];
    let page = exporter.scrape().await;
    for name in names {
        assert_eq!(page.samples(name).count(), 0, "{name}");
    }
    not_kept(&page, &["stat_database"]);
    server
        .sql("postgres", "ALTER SYSTEM SET track_io_timing = on")
        .await;
    server.sql("postgres", "SELECT pg_reload_conf()").await;
    wait_for("the times are there", async || {
        let page = exporter.scrape().await;
        names.iter().all(|name| page.samples(name).count() > 0)
            && !skips(&page).contains(&"stat_database")
    })
    .await;
    for setting in ["track_io_timing", "track_counts", "track_activities"] {
        let own = format!("ALTER ROLE monitor SET {setting} = off");
        server.sql("postgres", &own).await;
    }
    let exporter = Exporter::watch(&server.dsn("postgres", "monitor"), &[]).await;
    let page = exporter.complete().await;
    assert!(page.samples(names[0]).count() > 0);
    assert!(page.samples("pg_stat_database_xact_commit").count() > 0);
    // These wait for archive_mode.
    assert_eq!(skips(&page), ["archive_ready", "stat_archiver"]);
}

fn not_kept(page: &Page, collectors: &[&str]) {
    let skips = skips(page);
    for collector in collectors {
        assert!(
            skips.contains(collector),
            "{collector}: {:?}",
            page.skipped()
        );
    }
    assert!(page.failed().is_empty(), "{:?}", page.skipped());
}

/// The collectors that say that the server does not track something.
fn skips(page: &Page) -> Vec<&str> {
    let skipped = page.skipped().into_iter();
    skipped
        .filter(|(_, reason, _)| *reason == "setting_off")
        .map(|(collector, ..)| collector)
        .collect()
}

fn count(page: &Page, name: &str, database: &str) -> usize {
    page.samples(name)
        .filter(|sample| sample.labels["datname"] == database)
        .count()
}
