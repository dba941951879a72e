//! A collector that takes as long as a test wants.
//!
//! A role without `pg_monitor` reads statistics by functions that the strict role gives it. Here
//! they are there, and one of them dawdles: `pg_ls_waldir()`, which the collector `wal` calls.

use super::postgres::Postgres;
use super::process::wait_for;
use super::watch::OURS;
use matrix_postgres_exporter::query::view::{SCHEMA, VIEWS};

/// The slow function of a server.
pub struct Slow<'a>(&'a Postgres);

impl<'a> Slow<'a> {
    /// Gives a role the functions in the database `postgres`; none is slow yet.
    pub async fn install(server: &'a Postgres, role: &str) -> Self {
        let mut script = format!(
            "CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.pace (seconds integer);
             INSERT INTO {SCHEMA}.pace VALUES (0);"
        );
        for view in VIEWS {
            let (name, columns, body) = (view.name, view.columns, view.body);
            let wait = match name {
                "pg_ls_waldir" => format!(", pg_sleep((SELECT seconds FROM {SCHEMA}.pace))"),
                _ => String::new(),
            };
            script += &format!(
                "CREATE FUNCTION {SCHEMA}.{name}() RETURNS TABLE ({columns})
                   LANGUAGE sql SECURITY DEFINER AS
                   $$SELECT whole.* FROM ({body}) AS whole{wait}$$;"
            );
        }
        script += &format!("GRANT USAGE ON SCHEMA {SCHEMA} TO \"{role}\"");
        server.sql("postgres", &script).await;
        Self(server)
    }

    /// How many seconds the next call takes.
    pub async fn pace(&self, seconds: u32) {
        let update = format!("UPDATE {SCHEMA}.pace SET seconds = {seconds}");
        self.0.sql("postgres", &update).await;
    }

    /// Waits until a call is under way, and nothing else of the exporter's is.
    pub async fn wait_until_it_runs(&self) {
        wait_for("the slow function runs", async || {
            self.0.sessions(OURS, "wait_event = 'PgSleep'").await == 1
                && self.0.sessions(OURS, "state = 'active'").await == 1
        })
        .await;
    }
}
