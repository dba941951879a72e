//! What statements have cost, as the server has measured them.

use crate::support::postgres::Postgres;

/// Where the extension pg_stat_statements is; it measures in all databases.
pub const DATABASE: &str = "postgres";

/// What the statements of a role have cost.
pub struct Cost {
    /// Without those that only set something.
    pub statements: u64,
    pub settings: u64,
    /// Milliseconds.
    pub longest: f64,
    pub total: f64,
    pub blocks: f64,
}

impl Cost {
    /// Of those with a text like this.
    pub async fn of(server: &Postgres, role: &str, like: &str) -> Self {
        let sql = format!(
            "SELECT coalesce(sum(calls) FILTER (WHERE query NOT LIKE 'SET %'), 0),
                coalesce(sum(calls) FILTER (WHERE query LIKE 'SET %'), 0),
                coalesce(max(max_exec_time), 0),
                coalesce(sum(total_exec_time), 0),
                coalesce(sum(shared_blks_hit + shared_blks_read), 0)
           FROM pg_stat_statements
          WHERE userid = '{role}'::regrole AND query LIKE '{like}'"
        );
        let row = server.sql(DATABASE, &sql).await.remove(0);
        let [statements, settings, longest, total, blocks] =
            [0, 1, 2, 3, 4].map(|column| row[column].as_ref().unwrap().parse::<f64>().unwrap());
        Self {
            statements: statements as u64,
            settings: settings as u64,
            longest,
            total,
            blocks,
        }
    }
}

/// Begins to measure, on a server that has `pg_stat_statements()`.
pub async fn begin(server: &Postgres) {
    server
        .sql(DATABASE, "CREATE EXTENSION pg_stat_statements")
        .await;
}

/// Forgets what was measured.
pub async fn reset(server: &Postgres) {
    server
        .sql(DATABASE, "SELECT pg_stat_statements_reset()")
        .await;
}
