//! Other configurations and other collectors, taken while scrapes go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use matrix_postgres_exporter::collectors::Registry;
use matrix_postgres_exporter::query::{ALL, Collector, Query};
use matrix_postgres_exporter::scrape::{Changes, Scraper};
use tokio::task::JoinHandle;

use super::support::exposition::Page;
use super::support::inside::{configuration, scrape, scrape_until};
use super::support::look_alike::SYNAPSE;
use super::support::postgres::{Postgres, rows};
use super::support::process::scratch;
use super::support::roles::Role;

/// The built-in collectors, and one more.
fn more() -> Registry {
    let query = Query::new()
        .sql(ALL, "SELECT count(*) AS classes FROM pg_catalog.pg_class")
        .gauge("classes", "Rows of pg_class");
    let more = Collector::new("more", "One more").prefix("pg_more");
    Registry::built_in().with([more.query(query)]).unwrap()
}

/// A server with a database that looks like Synapse's, and a strict role.
async fn server() -> Postgres {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    server.sql("synapse", SYNAPSE).await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    server
}

/// The settings of a test, on top of those that it says.
fn yaml(server: &Postgres, of_server: &str, more: &str) -> String {
    let dsn = server.dsn("postgres", "exporter");
    format!(
        "servers: {{ main: {{ dsn: '{dsn}', {of_server} }} }}\nscrape: {{ statement_cap: 30s }}\n{more}"
    )
}

/// Sees how many connections a role has at most, until it is told to stop.
struct Census {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    looks: JoinHandle<()>,
}

impl Census {
    async fn start(server: &Postgres) -> Self {
        const COUNT: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
        let client = server.client("postgres", "postgres").await;
        let (stop, most) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, seen) = (stop.clone(), most.clone());
        let looks = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let now = rows(&client, COUNT).await[0][0].clone().unwrap();
                seen.fetch_max(now.parse().unwrap(), Ordering::Relaxed);
            }
        });
        Self { stop, most, looks }
    }

    /// How many there were at most since the last question.
    fn most(&self) -> usize {
        self.most.swap(0, Ordering::Relaxed)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.looks.await.unwrap();
    }
}

/// Scrapes one after the other; each answer has to be complete. Says how many there were.
fn keep_scraping(scraper: &Scraper, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (scraper, stop) = (scraper.clone(), stop.clone());
    tokio::spawn(async move {
        let registry = Registry::built_in();
        let all: BTreeSet<_> = registry.names().collect();
        let mut scrapes = 0;
        while !stop.load(Ordering::Relaxed) {
            let page = scrape(&scraper).await;
            page.assert_whole();
            let mut told = page.collectors();
            told.remove("more");
            assert_eq!(told, all);
            scrapes += 1;
        }
        scrapes
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_under_parallel_scrapes_cost_no_answer_and_no_connection() {
    const BUDGET: usize = 3;
    let server = server().await;
    let [plain, more] = [Registry::built_in(), more()];
    let base = configuration(&yaml(&server, "", ""), &plain);
    let scraper = Scraper::new(&base, &plain);
    let census = Census::start(&server).await;
    let stop = Arc::<AtomicBool>::default();
    let scrapes: Vec<_> = (0..4).map(|_| keep_scraping(&scraper, &stop)).collect();

    // Reached in the same way, they share their connections.
    for round in 0..80 {
        let labels = format!("labels: {{ round: r{round} }}");
        let (config, registry, kept) = match round % 4 {
            0 => (
                configuration(&yaml(&server, &labels, ""), &plain),
                &plain,
                false,
            ),
            1 => (configuration(&yaml(&server, "", ""), &more), &more, false),
            2 => (base.clone(), &plain, false),
            _ => (
                configuration(&yaml(&server, "", ""), &plain),
                &Registry::built_in(),
                true,
            ),
        };
        let changes = scraper.change(&config, registry).await;
        let expected = match kept {
            true => Changes {
                kept: vec!["main".to_owned()],
                ..Changes::default()
            },
            false => Changes {
                begun: vec!["main".to_owned()],
                ended: vec!["main".to_owned()],
                ..Changes::default()
            },
        };
        assert_eq!(changes, expected, "{round}");
        // What is scraped now is what was configured.
        let page = scrape(&scraper).await;
        let round = format!("r{round}");
        let labelled = page.value("pg_up", &[("round", &round)]).is_some();
        assert_eq!(labelled, config.servers[0].labels.contains_key("round"));
        let has_more = page.value("pg_more_classes", &[]).is_some();
        assert_eq!(has_more, registry.find("more").is_some());
    }
    let most = census.most();
    assert!((1..=BUDGET).contains(&most), "{most} connections");

    // With another number of connections each has its own, until the scrapes of the old one end.
    for round in 0..20 {
        let connections = format!("connections: {}", BUDGET - 1 + round % 2);
        let config = configuration(&yaml(&server, &connections, ""), &plain);
        let changes = scraper.change(&config, &plain).await;
        assert_eq!(changes.begun.len(), 1, "{round}");
    }
    let most = census.most();
    assert!((1..BUDGET + BUDGET).contains(&most), "{most} connections");

    stop.store(true, Ordering::Relaxed);
    for one in scrapes {
        let scrapes = one.await.unwrap();
        assert!(scrapes > 20, "{scrapes}");
    }
    census.end().await;
    scraper.close().await;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
    assert_eq!(server.value("postgres", left).await.as_deref(), Some("0"));
}

/// One of which nothing changes goes on with its counters and its count of events; where something
/// does, the count goes on from its file.
#[tokio::test(flavor = "multi_thread")]
async fn counts_are_kept_with_the_server() {
    let server = server().await;
    let registry = Registry::built_in();
    let dir = scratch();
    let state = format!(
        "state_dir: {}\nevents: {{ settle: 1s, share: 50%, max_age: 10s }}",
        dir.path().display()
    );
    let text = yaml(&server, "", &state);
    let config = configuration(&text, &registry);
    let scraper = Scraper::new(&config, &registry);
    let synapse = [("datname", "synapse")];
    let is_exact = |page: &Page| page.value("synapse_db_events_exact", &synapse) == Some(1.0);
    let statements = |page: &Page| {
        let labels = [("collector", "locks")];
        page.value("pg_exporter_collector_statements_total", &labels)
            .unwrap()
    };
    let counted = |page: &Page| {
        page.value("synapse_db_events_rows_counted_total", &synapse)
            .unwrap()
    };
    let scrapes = |page: &Page| page.value("pg_exporter_scrapes_total", &[]).unwrap();
    let before = scrape_until(&scraper, "the events are counted", is_exact).await;

    for _ in 0..10 {
        let same = configuration(&text, &registry);
        let changes = scraper.change(&same, &Registry::built_in()).await;
        assert_eq!(changes.kept, ["main"]);
    }
    let after = scrape(&scraper).await;
    assert!(is_exact(&after));
    assert_eq!(scrapes(&after), scrapes(&before) + 1.0);
    assert_eq!(statements(&after), statements(&before) + 1.0);
    assert!(counted(&after) >= counted(&before));
    let opened = |page: &Page| {
        page.value("pg_exporter_connections_opened_total", &[])
            .unwrap()
    };
    assert_eq!(opened(&after), opened(&before));

    // A collector that was switched stays so, until the configuration says otherwise.
    scraper.switch("locks", false).unwrap();
    let labels = yaml(&server, "labels: { team: chat }", &state);
    scraper
        .change(&configuration(&labels, &registry), &registry)
        .await;
    let page = scrape_until(&scraper, "the events are counted", is_exact).await;
    assert!(scrapes(&page) <= scrapes(&after), "it has begun");
    assert!(page.skipped().contains(&("locks", "disabled", "")));
    assert_eq!(
        page.value("synapse_db_events_counted_ratio", &synapse),
        Some(1.0)
    );
    // Its file spared it the first count: no event is read again but the newest.
    assert!(counted(&page) <= counted(&after), "{}", counted(&page));
    let off = yaml(
        &server,
        "",
        &format!("{state}\ncollectors: {{ disable: [locks] }}"),
    );
    scraper
        .change(&configuration(&off, &registry), &registry)
        .await;
    scraper.change(&config, &registry).await;
    let page = scrape(&scraper).await;
    assert!(!page.skipped().contains(&("locks", "disabled", "")));
    scraper.close().await;
}
