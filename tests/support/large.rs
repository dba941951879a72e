//! A large Synapse: the tables of a real one, filled with what nobody ever wrote.
//!
//! [`fill`] gives everything but events, and [`fill_events`] these; each may go without the other.

use super::postgres::Postgres;

/// Fills the tables as of so many users: see `large/tables.sql`.
pub async fn fill(server: &Postgres, database: &str, users: u64) {
    let script = include_str!("large/tables.sql");
    run(server, database, script, &[("users", users)]).await;
}

/// Adds so many live events, and one in twenty from backfill: see `large/events.sql`.
pub async fn fill_events(server: &Postgres, database: &str, events: u64) {
    let script = include_str!("large/events.sql");
    let numbers = [("users", events / 5), ("events", events)];
    run(server, database, script, &numbers).await;
}

/// Afterwards the planner knows what is there, as if it had been there for long.
async fn run(server: &Postgres, database: &str, script: &str, numbers: &[(&str, u64)]) {
    let of_events = numbers.iter().any(|(name, _)| *name == "events");
    let script = [
        include_str!("large/common.sql"),
        script,
        include_str!("large/indexes.sql"),
    ];
    let mut script = script.concat();
    for (name, number) in numbers {
        script = script.replace(&format!("{{{name}}}"), &number.to_string());
    }
    script = script.replace("{schema}", "public");
    script = script.replace("{of_events}", &of_events.to_string());
    server.sql(database, &script).await;
    server.sql(database, "VACUUM ANALYZE").await;
}

/// Makes each row of a table of Synapse's slow to read, for all but superusers and the owner.
pub async fn slow_down(server: &Postgres, table: &str, seconds: f64) {
    let policy = format!(
        "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep({seconds}); RETURN true; END';
         CREATE POLICY slow ON {table} USING (slow());
         ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    );
    server.sql("synapse", &policy).await;
}
