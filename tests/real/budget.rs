//! The budget of connections, and those who wait for a place in it.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use matrix_postgres_exporter::config::Dsn;
use matrix_postgres_exporter::server::connect::Dialer;
use matrix_postgres_exporter::server::{Connections, Purpose};
use tokio::time::timeout;

use super::support::postgres::Postgres;
use super::support::process::PATIENCE;

/// Nobody waits while a connection idles, also when others were served with what was closed.
#[tokio::test(flavor = "multi_thread")]
async fn everyone_who_waits_for_a_place_gets_one() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE other").await;
    let dsn = Dsn::parse(&server.dsn("postgres", "postgres")).unwrap();
    let connections = Connections::new("main", Dialer::new(dsn), 2);
    connections.keep_warm(&["postgres", "other"]);
    let lease = |database| connections.lease(database, Purpose::Background);
    let first = lease("postgres").await.unwrap();
    let second = lease("postgres").await.unwrap();
    let waiting = select(Box::pin(lease("other")), Box::pin(lease("other")));
    let mut waiting = pin!(waiting);
    let early = timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "all places are taken");
    drop(first);
    let (_one, other) = timeout(PATIENCE, waiting).await.unwrap().factor_first();
    drop(second);
    let other = timeout(PATIENCE, other).await;
    assert!(
        other.is_ok_and(|lease| lease.is_ok()),
        "the place is not given on"
    );
    assert_eq!(connections.open(), 2);
}
