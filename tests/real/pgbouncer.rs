//! Through PgBouncer in transaction mode, on the one session that the application uses itself.

use std::collections::BTreeSet;

use tokio_postgres::{Client, NoTls};

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::pgbouncer::PgBouncer;
use super::support::postgres::{Postgres, password, rows};
use super::support::process::wait_for;
use super::support::synapse::{NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn the_application_keeps_its_session_on_13() {
    the_application_keeps_its_session(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_keeps_its_session_on_18() {
    the_application_keeps_its_session(18, NEW).await;
}

async fn the_application_keeps_its_session(major: u32, synapse: &str) {
    let (server, role) = server_with_synapse(major, synapse).await;
    let bouncer = PgBouncer::start(&server, &[&role]).await;
    let application = Application::connect(&bouncer, &server, &role).await;
    let exporter = Exporter::configured(
        &bouncer.dsn("synapse", &role),
        "{ openmetrics: true, scrape: { statement_cap: 4s } }",
    )
    .await;

    let direct = Exporter::watch(&server.dsn("synapse", &role), &[]).await;
    wait_for_all(&direct).await;
    let as_of = "synapse_db_events_as_of_timestamp_seconds";
    wait_for("the events are counted", || async {
        direct.scrape().await.samples(as_of).next().is_some()
    })
    .await;
    let names = owned(&direct.scrape().await);
    drop(direct);
    wait_for("every metric comes through PgBouncer", || async {
        owned(&exporter.scrape().await) == names
    })
    .await;
    for _ in 0..20 {
        let page = exporter.scrape().await;
        assert_eq!(page.value("pg_up", &[]), Some(1.0));
        assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
        assert_eq!(owned(&page), names);
    }
    application.is_as_before().await;

    // An error in the middle of the message.
    let locker = server.client("synapse", "postgres").await;
    rows(&locker, "BEGIN; LOCK TABLE pg_catalog.pg_class").await;
    let page = exporter.scrape().await;
    assert!(skipped(&page, "lock_timeout"), "{page:?}");
    rows(&locker, "ROLLBACK").await;
    application.is_as_before().await;

    application.is_fit().await;
    let page = exporter.scrape().await;
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
}

/// Behind a pooler a name may lead to another database, whose numbers would be served under it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_another_database_brings_nothing() {
    let server = Postgres::start(18).await;
    server
        .sql(
            "postgres",
            "CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher",
        )
        .await;
    let alter = format!("ALTER ROLE watcher PASSWORD '{}'", password("watcher"));
    server.sql("postgres", &alter).await;
    for database in ["shop", "stock"] {
        let create = format!("CREATE DATABASE {database}");
        server.sql("postgres", &create).await;
        let create = format!("CREATE TABLE of_{database} (n int)");
        server.sql(database, &create).await;
    }
    let names = [("shop", "stock"), ("home", "postgres")];
    let bouncer = PgBouncer::with_names(&server, &["watcher"], &names).await;
    // The DSN's own may have any name.
    let exporter = Exporter::watch(&bouncer.dsn("home", "watcher"), &[]).await;
    let tables = "pg_stat_user_tables_n_live_tup";
    let of = |page: &Page, database: &str| {
        let tables = page.samples(tables);
        let tables = tables.filter(|sample| sample.labels["datname"] == database);
        tables
            .map(|sample| sample.labels["relname"].clone())
            .collect::<Vec<_>>()
    };
    wait_for("every database has been visited", || async {
        let page = exporter.scrape().await;
        !of(&page, "stock").is_empty() && skipped(&page, "database_skipped")
    })
    .await;
    let page = exporter.scrape().await;
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    assert_eq!(of(&page, "stock"), ["of_stock"]);
    assert_eq!(of(&page, "shop"), Vec::<String>::new());
    let log = exporter.output();
    let said = "a connection to database \\\"shop\\\" at";
    assert!(
        log.contains(said) && log.contains("reached another one"),
        "{log}"
    );
}

/// A server with a database of Synapse, which has ended; the role that owns it may log in with a
/// password.
async fn server_with_synapse(major: u32, synapse: &str) -> (Postgres, String) {
    let (server, made) = Synapse::leave(Postgres::builder(major), synapse).await;
    let role = made.role;
    let alter = format!(
        "ALTER ROLE {role} PASSWORD '{}'; ALTER ROLE {role} SET statement_timeout = '71s'",
        password(&role)
    );
    server.sql("postgres", &alter).await;
    (server, role)
}

/// The application, behind PgBouncer, with settings that PgBouncer does not keep for its clients.
struct Application<'a> {
    client: Client,
    server: &'a Postgres,
    session: String,
    settings: BTreeSet<(String, String)>,
}

impl<'a> Application<'a> {
    async fn connect(bouncer: &PgBouncer, server: &'a Postgres, role: &str) -> Self {
        let dsn = bouncer.dsn("synapse", role) + " application_name=synapse";
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
        tokio::spawn(connection);
        let own = "CREATE SCHEMA own; CREATE TABLE own.written (at timestamptz); \
                   SET search_path = own, public; SET lock_timeout = '72s'; SET jit = on; \
                   SET max_parallel_workers_per_gather = 1; SET default_transaction_read_only = off; \
                   SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; \
                   SET TimeZone = 'Asia/Kathmandu'";
        rows(&client, own).await;
        let mut application = Self {
            client,
            server,
            session: String::new(),
            settings: BTreeSet::new(),
        };
        application.session = application.session().await;
        application.settings = application.settings().await;
        application
    }

    /// It has the very session that it had, with every setting, and can do its work.
    async fn is_as_before(&self) {
        assert_eq!(self.session().await, self.session);
        let settings = self.settings().await;
        let others: Vec<_> = settings.symmetric_difference(&self.settings).collect();
        assert!(others.is_empty(), "{others:?}");
        self.is_fit().await;
    }

    /// It can write, and nothing of the exporter's is left open or prepared.
    async fn is_fit(&self) {
        let write = "INSERT INTO own.written VALUES (now()) RETURNING 'written'";
        assert_eq!(one(rows(&self.client, write).await), "written");
        let timeout = rows(&self.client, "SHOW statement_timeout").await;
        assert_eq!(one(timeout), "71s");
        let prepared = "SELECT count(*) FROM pg_prepared_statements";
        assert_eq!(one(rows(&self.client, prepared).await), "0");
        let open = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = 'synapse' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        assert_eq!(self.server.value("synapse", open).await.unwrap(), "0");
    }

    async fn session(&self) -> String {
        one(rows(&self.client, "SELECT pg_backend_pid()").await)
    }

    async fn settings(&self) -> BTreeSet<(String, String)> {
        let all = rows(&self.client, "SELECT name, setting FROM pg_settings").await;
        all.into_iter()
            .map(|row| {
                let [name, setting] = <[_; 2]>::try_from(row).unwrap();
                (name.unwrap(), setting.unwrap_or_default())
            })
            .collect()
    }
}

/// A page after the first visits to all databases.
async fn wait_for_all(exporter: &Exporter) -> Page {
    wait_for("everything has been read once", || async {
        let page = exporter.scrape().await;
        page.value("synapse_db_devices", &[]).is_some() && !skipped(&page, "deadline")
    })
    .await;
    exporter.scrape().await
}

fn skipped(page: &Page, reason: &str) -> bool {
    page.samples("pg_exporter_collector_skipped")
        .any(|sample| sample.labels["reason"] == reason)
}

fn owned(page: &Page) -> BTreeSet<String> {
    page.names().into_iter().map(str::to_owned).collect()
}

fn one(rows: Vec<Vec<Option<String>>>) -> String {
    rows[0][0].clone().unwrap()
}
