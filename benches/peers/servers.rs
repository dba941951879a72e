//! The servers that are scraped.

use super::MAJOR;
use super::floor::LOG_LINE_PREFIX;
use super::programs::Program;
use super::shared::cost;
use super::support::postgres::Postgres;

/// The database to which the exporters connect.
pub const DATABASE: &str = "app";

/// A kind of server.
pub struct Kind {
    /// In `BENCH_SERVERS`.
    pub name: &'static str,
    pub title: &'static str,
    /// What there is, as a sentence.
    pub about: &'static str,
    tables: u32,
    databases: u32,
}

/// All of them.
pub const SERVERS: [Kind; 4] = [
    Kind {
        name: "small",
        title: "a small server",
        about: "20 tables with a primary key each, in one database.",
        tables: 20,
        databases: 1,
    },
    Kind {
        name: "tables",
        title: "2000 tables",
        about: "2000 tables with a primary key each, in one database.",
        tables: 2000,
        databases: 1,
    },
    Kind {
        name: "databases",
        title: "50 databases",
        about: "50 databases with 20 tables each, which have a primary key each. postgres_exporter \
                reads tables of one database only.",
        tables: 20,
        databases: 50,
    },
    Kind {
        name: "series",
        title: "100000 series",
        about: "3200 tables with a primary key each, in one database, which give postgres_exporter \
                about 100000 series.",
        tables: 3200,
        databases: 1,
    },
];

impl Kind {
    /// Starts one, and makes a role for each exporter.
    pub async fn start(&self, programs: &[Program]) -> Postgres {
        let server = Postgres::builder(MAJOR)
            .pg_stat_statements()
            .setting("pg_stat_statements.max", "50000")
            .setting("log_connections", "authorization")
            .setting("log_line_prefix", LOG_LINE_PREFIX)
            .setting("max_connections", "200")
            // What it does would be charged to whoever is measured then.
            .setting("autovacuum", "off")
            .start()
            .await;
        cost::begin(&server).await;
        server
            .sql("postgres", &format!("CREATE DATABASE {DATABASE}"))
            .await;
        let extensions = "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_buffercache";
        server.sql(DATABASE, extensions).await;
        // Fewer locks in one transaction than the server has room for.
        for first in (1..=self.tables).step_by(200) {
            let last = self.tables.min(first + 199);
            let create = format!(
                "DO $$ BEGIN FOR n IN {first}..{last} LOOP
                     EXECUTE format('CREATE TABLE table_%s (id bigint PRIMARY KEY, text text)', n);
                     EXECUTE format('INSERT INTO table_%s VALUES (1, '''')', n);
                 END LOOP; END $$"
            );
            server.sql(DATABASE, &create).await;
        }
        server.sql(DATABASE, "VACUUM ANALYZE").await;
        let others: Vec<_> = (2..=self.databases)
            .map(|n| format!("{DATABASE}{n}"))
            .collect();
        for name in &others {
            let create = format!("CREATE DATABASE {name} TEMPLATE {DATABASE}");
            server.sql("postgres", &create).await;
        }
        let mut databases = vec![DATABASE];
        databases.extend(others.iter().map(String::as_str));
        for program in programs {
            program.create_role(&server, &databases).await;
        }
        server.sql("postgres", "CHECKPOINT").await;
        server
    }
}
