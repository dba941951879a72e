//! What can be seen of a server from outside.

use std::fs;

use super::postgres::Postgres;

/// The exporter's `application_name`.
pub const OURS: &str = "matrix-postgres-exporter";

impl Postgres {
    /// How many sessions there are of this application, for which a condition holds.
    pub async fn sessions(&self, application: &str, condition: &str) -> usize {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity \
              WHERE application_name = '{application}' AND ({condition})"
        );
        let count = self.value("postgres", &count).await;
        count.unwrap().parse().unwrap()
    }

    /// Whether bytes have come over TCP that no process of the server has read.
    pub fn has_unread(&self) -> bool {
        let port = format!(":{:04X}", self.port());
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let received = fields[4].split_once(':').map(|(_, received)| received);
            fields[1].ends_with(&port) && received.is_some_and(|bytes| bytes != "00000000")
        })
    }
}
