//! A count that takes long, or is not available, costs nobody else.

use std::time::{Duration, Instant};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::large;
use super::support::postgres::{Postgres, rows};
use super::support::process::{wait_at_most, wait_for};
use super::support::roles::Role;
use super::support::synapse::{Made, NEW, Synapse};

const USERS: &str = "synapse_users";
const ACTIVITY: &str = "synapse_activity";

/// How long before what has failed is tried again, and a while for the trial itself.
const SOON: Duration = Duration::from_secs(45);

/// While active users are counted for longer than a scrape waits, everything else is served, and other
/// databases have their turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_count_gives_others_their_turn() {
    let (server, _) = synapse().await;
    large::fill(&server, "synapse", 600).await;
    let active = server.value("synapse", large::ACTIVE).await.unwrap();
    let active: f64 = active.parse().unwrap();
    let _purge = large::slow_down(&server, 4_000).await;
    server.sql("postgres", "CREATE DATABASE other").await;
    let dsn = server.dsn("synapse", "exporter");
    let exporter = Exporter::configured(&dsn, "scrape: { statement_cap: 250ms }").await;

    wait_for("the other database has its turn", || async {
        let started = Instant::now();
        let page = exporter.scrape().await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(reasons(&page, ACTIVITY), ["deadline"]);
        let size = [("collector", "table_size"), ("datname", "other")];
        page.value("pg_exporter_collector_age_seconds", &size)
            .is_some()
    })
    .await;
    let started = Instant::now();
    let page = exporter.scrape().await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(reasons(&page, ACTIVITY), ["deadline"]);
    assert_eq!(page.value("pg_up", &[]), Some(1.0));

    let page = exporter.complete_within(5 * SOON).await;
    let month = [("within", "30d")];
    let found = page.value("synapse_db_users_active", &month).unwrap();
    let of = [("collector", ACTIVITY), ("table", "user_ips")];
    // On a busy machine the rows of a single user may take too long, and that is said.
    match page.value("pg_exporter_count_at_least", &of) {
        Some(1.0) => assert!(found > 0.0 && found < active, "{found} of {active}"),
        _ => assert_eq!(found, active),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_counted_keeps_its_last_value() {
    let (server, made) = synapse().await;
    let exporter = Exporter::configured(
        &server.dsn("synapse", "exporter"),
        "collectors: { synapse_users: { ttl: 1s } }",
    )
    .await;
    let total = made.users.total as f64;
    assert_eq!(users(&exporter.complete().await), total);

    let locker = server.client("synapse", "postgres").await;
    rows(&locker, "BEGIN; LOCK TABLE users").await;
    wait_for("the lock is met", || async {
        let page = exporter.scrape().await;
        assert_eq!(users(&page), total);
        reasons(&page, USERS) == ["lock_timeout"]
    })
    .await;
    let page = exporter.scrape().await;
    let collector = [("collector", USERS)];
    let success = page.value("pg_scrape_collector_success", &collector);
    assert_eq!(success, Some(0.0));
    assert!(age(&page) > 1.0, "{}", age(&page));

    rows(&locker, "ROLLBACK").await;
    wait_for("they are counted again", || async {
        let page = exporter.scrape().await;
        reasons(&page, USERS).is_empty() && age(&page) < 2.0
    })
    .await;
}

/// Long before the five minutes are over for which a count is served otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_counted_is_tried_again_soon() {
    let (server, made) = synapse().await;
    let locker = server.client("synapse", "postgres").await;
    rows(&locker, "BEGIN; LOCK TABLE users").await;
    let exporter = Exporter::watch(&server.dsn("synapse", "exporter"), &[]).await;
    wait_for("the lock is met", || async {
        let page = exporter.scrape().await;
        reasons(&page, USERS) == ["lock_timeout"]
    })
    .await;
    rows(&locker, "ROLLBACK").await;
    wait_at_most(SOON, "users are counted", || async {
        users(&exporter.scrape().await) == made.users.total as f64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_is_counted_less_often() {
    let (server, _) = synapse().await;
    large::fill(&server, "synapse", 100).await;
    let _purge = large::slow_down(&server, 1_000).await;
    let yaml = "collectors: { synapse_activity: { ttl: 1s } }";
    let exporter = Exporter::configured(&server.dsn("synapse", "exporter"), yaml).await;
    exporter.complete_within(5 * SOON).await;
    wait_for("they are not counted every second", || async {
        age_of(ACTIVITY, &exporter.scrape().await) > 5.0
    })
    .await;
}

/// A Synapse with traffic that is over, and a role for the exporter.
async fn synapse() -> (Postgres, Made) {
    // So large that what is read is found in the cache.
    let server = Postgres::builder(18).setting("shared_buffers", "512MB");
    let (server, made) = Synapse::leave(server, NEW).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    (server, made)
}

fn users(page: &Page) -> f64 {
    let users = page.samples("synapse_db_users");
    users.map(|sample| sample.value).sum()
}

fn age(page: &Page) -> f64 {
    age_of(USERS, page)
}

fn age_of(collector: &str, page: &Page) -> f64 {
    let synapse = [("collector", collector), ("datname", "synapse")];
    page.value("pg_exporter_collector_age_seconds", &synapse)
        .unwrap()
}

fn reasons<'a>(page: &'a Page, collector: &str) -> Vec<&'a str> {
    page.samples("pg_exporter_collector_skipped")
        .filter(|sample| sample.labels["collector"] == collector)
        .map(|sample| sample.labels["reason"].as_str())
        .collect()
}
