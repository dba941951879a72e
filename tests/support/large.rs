//! A large Synapse: the tables of a real one, filled with what nobody ever wrote.
//!
//! [`fill`] gives everything but events, and [`fill_events`] these; each may go without the other.

use tokio_postgres::Client;

use super::postgres::{Postgres, rows};

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

/// How many users were active within 30 days.
pub const ACTIVE: &str = "SELECT count(DISTINCT user_id) FROM user_ips
     WHERE last_seen > (extract(epoch FROM now()) - 2592000) * 1000";

/// Makes each row of `user_ips` slow to reach in the order of its users, as after a purge while
/// somebody has a transaction open: so many deleted rows follow each. They stay as long as that
/// transaction, which is the client's that is returned.
pub async fn slow_down(server: &Postgres, deleted: u32) -> Client {
    // Only the index along which it is read, so that this takes seconds.
    let lean = "DO $$ DECLARE command text; BEGIN
         FOR command IN
             SELECT coalesce('ALTER TABLE user_ips DROP CONSTRAINT ' || k.conname || ' CASCADE',
                             'DROP INDEX ' || x.indexrelid::regclass)
               FROM pg_index AS x LEFT JOIN pg_constraint AS k ON k.conindid = x.indexrelid
                                                              AND k.conrelid = x.indrelid
               JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
              WHERE x.indrelid = 'user_ips'::regclass AND a.attname <> 'user_id'
         LOOP EXECUTE command; END LOOP; END $$";
    server.sql("synapse", lean).await;
    let reader = server.client("synapse", "postgres").await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM user_ips";
    rows(&reader, begin).await;
    let purge = format!(
        "INSERT INTO user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
             SELECT user_id, access_token, device_id, ip || '~' || i, user_agent, last_seen
               FROM user_ips, generate_series(1, {deleted}) AS i;
         DELETE FROM user_ips WHERE ip LIKE '%~%'"
    );
    server.sql("synapse", &purge).await;
    reader
}
