//! An application that is not built in: known, granted, read and kept from harm as Synapse is.

use std::collections::BTreeSet;

use matrix_postgres_exporter::catalogue::{self, Format};
use matrix_postgres_exporter::collectors::Registry;
use matrix_postgres_exporter::grants::{self, Options};
use matrix_postgres_exporter::query::{ALL, Application, Collector, Part, Query, Scope};
use matrix_postgres_exporter::scrape::Scraper;

use super::support::exposition::Page;
use super::support::inside::{configuration, scrape, scrape_until};
use super::support::look_alike::SYNAPSE;
use super::support::postgres::Postgres;
use super::support::roles::{Role, run_script};

/// Three tables.
static SHOP: Application = Application {
    key: "shop",
    name: "Shop",
    marks: &["shop_version"],
    parts: &[Part {
        name: "main",
        mark: "orders",
        prefix: "",
    }],
    schema: "public",
    former: &[("orders", "id")],
};

/// Two metrics: one is counted behind the scrapes, the other in each.
fn collectors() -> [Collector; 2] {
    let of_shop = |name: &'static str, about: &'static str| {
        let collector = Collector::new(name, about).scope(Scope::Application(&SHOP));
        collector.prefix("pg_shop")
    };
    let orders = Query::new()
        .reads("orders", &["paid"])
        .by_pages("orders")
        .sql(
            ALL,
            "SELECT paid, count(*) AS orders FROM {schema}.orders WHERE {pages} GROUP BY 1",
        )
        .label("paid")
        .gauge("orders", "Orders");
    let customers = Query::new()
        .reads("customers", &["name"])
        .sql(
            ALL,
            "SELECT count(name) AS customers FROM {schema}.customers",
        )
        .gauge("customers", "Customers");
    [
        of_shop("shop_orders", "Orders of the shop")
            .ttl(300)
            .query(orders),
        of_shop("shop_customers", "Customers of the shop").query(customers),
    ]
}

fn registry() -> Registry {
    Registry::built_in().with(collectors()).unwrap()
}

const TABLES: &str = "
    CREATE TABLE shop_version (version int);
    CREATE TABLE orders (id serial PRIMARY KEY, paid text, note text);
    CREATE TABLE customers (name text, address text);
    INSERT INTO orders (paid, note) SELECT 'yes', 'secret' FROM generate_series(1, 7);
    INSERT INTO orders (paid, note) SELECT 'no', 'secret' FROM generate_series(1, 3);
    INSERT INTO customers SELECT 'c' || i, 'secret' FROM generate_series(1, 4) AS i;";

/// A server with databases of which each holds these tables, and a role that has what `grants` gives.
async fn server(major: u32, databases: &[(&str, &str)], registry: &Registry) -> Postgres {
    let server = Postgres::start(major).await;
    let mut names = Vec::new();
    for (name, sql) in databases {
        server
            .sql("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        server.sql(name, sql).await;
        names.push((*name).to_owned());
    }
    Role::Plain.create(&server, "exporter", &[]).await;
    let script = grants::render(
        &Options {
            role: "exporter".into(),
            databases: names,
            pg_monitor: false,
            keep_public_create: false,
            revoke: false,
            connections: 5,
        },
        registry,
    );
    run_script(&server, &script).await.unwrap();
    server
}

fn scraper(server: &Postgres, registry: &Registry) -> Scraper {
    let yaml = format!(
        "servers: {{ main: {{ dsn: '{}', connections: 5 }} }}\nscrape: {{ statement_cap: 10s }}",
        server.dsn("postgres", "exporter")
    );
    Scraper::new(&configuration(&yaml, registry), registry)
}

fn orders(page: &Page, database: &str) -> [Option<f64>; 3] {
    let orders = |paid| page.value("pg_shop_orders", &[("datname", database), ("paid", paid)]);
    let customers = page.value("pg_shop_customers", &[("datname", database)]);
    [orders("yes"), orders("no"), customers]
}

const ALL_ORDERS: [Option<f64>; 3] = [Some(7.0), Some(3.0), Some(4.0)];

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_are_read_on_13() {
    two_applications_are_read(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_are_read_on_18() {
    two_applications_are_read(18).await;
}

/// Each in a database of its own, and both in one.
async fn two_applications_are_read(major: u32) {
    let registry = registry();
    let together = format!("{SYNAPSE}; {TABLES}");
    let elsewhere = format!("CREATE SCHEMA sales; SET search_path = sales; {TABLES}");
    let databases = [
        ("synapse", SYNAPSE),
        ("shop", TABLES),
        ("together", together.as_str()),
        ("elsewhere", elsewhere.as_str()),
    ];
    let server = server(major, &databases, &registry).await;
    let exporter = server.client("shop", "exporter").await;
    for (sql, allowed) in [
        ("SELECT paid FROM orders", true),
        ("SELECT name FROM customers", true),
        ("SELECT note FROM orders", false),
        ("SELECT address FROM customers", false),
        ("SELECT version FROM shop_version", false),
    ] {
        let read = exporter.simple_query(sql).await;
        assert_eq!(read.is_ok(), allowed, "{sql}");
    }

    let scraper = scraper(&server, &registry);
    let page = scrape_until(&scraper, "all is read", |page| {
        let shops = ["shop", "together", "elsewhere"];
        let synapses = ["synapse", "together"];
        shops.iter().all(|name| orders(page, name) == ALL_ORDERS)
            && synapses.iter().all(|name| {
                let labels = [("datname", *name), ("origin", "live")];
                page.value("synapse_db_events", &labels) == Some(5.0)
            })
    })
    .await;
    assert!(page.up());
    assert_eq!(orders(&page, "synapse"), [None; 3]);
    let labels = [("datname", "shop"), ("origin", "live")];
    assert_eq!(page.value("synapse_db_events", &labels), None);
    for name in ["shop", "together", "elsewhere", "synapse"] {
        let missing = page.value("pg_exporter_privileges_missing", &[("datname", name)]);
        assert_eq!(missing, Some(0.0), "{name}");
    }
    let reports: Vec<_> = page
        .skipped()
        .into_iter()
        .filter(|(collector, ..)| collector.starts_with("shop_"))
        .collect();
    assert_eq!(reports, []);

    let status = scraper.status();
    let lives = |database: &str| {
        let mut databases = status.servers[0].databases.iter();
        let found = databases.find(|one| one.name == database).unwrap();
        let names = found.applications.iter().map(|one| one.name.as_str());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(lives("synapse"), BTreeSet::from(["Synapse"]));
    assert_eq!(lives("shop"), BTreeSet::from(["Shop"]));
    assert_eq!(lives("together"), BTreeSet::from(["Shop", "Synapse"]));
    assert_eq!(lives("postgres"), BTreeSet::new());
    scraper.close().await;

    let listed = catalogue::render(&registry, Format::Text);
    assert!(listed.contains("Scope: each database with Shop's tables"));
    assert!(listed.contains("needs SELECT (name) on `customers`"));
}

/// What the owner of the database plants in place of a table is told, and not run.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_in_another_application_is_not_run() {
    const PLANTS: &str = "
        CREATE FUNCTION planted(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
            $$ BEGIN RAISE LOG 'planted was run by %', session_user; RETURN $1; END $$;
        CREATE TABLE plain (name text);
        DROP TABLE customers;
        CREATE VIEW customers AS SELECT public.planted(name) AS name FROM plain;
        CREATE INDEX ON orders (public.planted(paid));";
    let registry = registry();
    let planted = format!("{TABLES}; {PLANTS}");
    let policy = format!(
        "{TABLES}; ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
         CREATE POLICY few ON orders USING (id < 3)"
    );
    let databases = [
        ("planted", planted.as_str()),
        ("policy", policy.as_str()),
        ("shop", TABLES),
    ];
    let server = server(18, &databases, &registry).await;
    server
        .sql("planted", "GRANT SELECT ON customers TO exporter")
        .await;
    let scraper = scraper(&server, &registry);
    let not_plain = "pg_exporter_tables_not_plain";
    scrape_until(&scraper, "all is known", |page| {
        orders(page, "shop") == ALL_ORDERS
            && page.value(not_plain, &[("datname", "planted")]) == Some(2.0)
            && page.value(not_plain, &[("datname", "policy")]) == Some(1.0)
    })
    .await;
    let page = scrape(&scraper).await;
    assert_eq!(orders(&page, "planted"), [None; 3]);
    assert_eq!(orders(&page, "policy"), [None, None, Some(4.0)]);
    let skipped = page.skipped();
    for skip in [
        ("shop_orders", "not_a_plain_table", "planted"),
        ("shop_customers", "not_a_plain_table", "planted"),
        ("shop_orders", "not_a_plain_table", "policy"),
    ] {
        assert!(skipped.contains(&skip), "{skip:?}: {skipped:?}");
    }
    let status = scraper.status();
    let warned = status.servers[0].warnings.join("\n");
    assert!(warned.contains("it is a view"), "{warned}");
    assert!(warned.contains("row-level security"), "{warned}");
    scraper.close().await;
    let log = server.log_so_far().await;
    assert!(!log.contains("planted was run by exporter"), "{log}");
}
