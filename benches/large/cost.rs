//! What statements have cost, as the server has measured them.

use super::support::postgres::Postgres;

/// What the statements of a role have cost.
pub struct Cost {
    pub statements: u64,
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
                coalesce(max(max_exec_time), 0),
                coalesce(sum(total_exec_time), 0),
                coalesce(sum(shared_blks_hit + shared_blks_read), 0)
           FROM pg_stat_statements
          WHERE userid = '{role}'::regrole AND query LIKE '{like}'"
        );
        let row = server.sql("synapse", &sql).await.remove(0);
        let [statements, longest, total, blocks] =
            [0, 1, 2, 3].map(|column| row[column].as_ref().unwrap().parse::<f64>().unwrap());
        Self {
            statements: statements as u64,
            longest,
            total,
            blocks,
        }
    }
}

/// Forgets what was measured.
pub async fn reset(server: &Postgres) {
    server
        .sql("synapse", "SELECT pg_stat_statements_reset()")
        .await;
}
