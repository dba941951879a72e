//! A large Synapse: the tables of a real one, filled with what nobody ever wrote.
//!
//! [`fill`] gives everything but events, and [`fill_events`] these; each may go without the other.

use super::postgres::Postgres;

/// Fills the tables as of so many users: see `large/tables.sql`.
pub async fn fill(server: &Postgres, database: &str, users: u64) {
    run(server, database, include_str!("large/tables.sql"), users).await;
}

/// Adds so many live events, and one in twenty from backfill: see `large/events.sql`.
pub async fn fill_events(server: &Postgres, database: &str, events: u64) {
    let script = include_str!("large/events.sql").replace("{events}", &events.to_string());
    run(server, database, &script, events / 5).await;
}

/// Afterwards the planner knows what is there, as if it had been there for long.
async fn run(server: &Postgres, database: &str, script: &str, users: u64) {
    let script = [include_str!("large/common.sql"), script].concat();
    let script = script.replace("{users}", &users.to_string());
    let script = script.replace("{schema}", "public");
    server.sql(database, &script).await;
    server.sql(database, "VACUUM ANALYZE").await;
}
