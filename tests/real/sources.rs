//! A source that is not built in: it is asked once per server, remembers, works behind scrapes, and
//! goes on from its file.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use matrix_postgres_exporter::collectors::Registry;
use matrix_postgres_exporter::query::message::{Message, TIMEOUTS};
use matrix_postgres_exporter::query::{
    Collector, Context, Cost, Harvest, Plan, Query, QueryError, Scope, Source, SourcePlace,
    SourceSettings, Sql,
};
use matrix_postgres_exporter::scrape::Scraper;
use matrix_postgres_exporter::state_file::StateFile;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::support::exposition::Page;
use super::support::inside::{configuration, scrape_of, scrape_until};
use super::support::postgres::Postgres;
use super::support::process::scratch;

/// The positions in the WAL at the latest scrapes.
#[derive(Clone, Debug, PartialEq)]
struct Settings {
    kept: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    system: String,
    positions: Vec<u64>,
    /// How many of them the work behind the scrapes has seen.
    seen: usize,
}

struct Positions {
    settings: Settings,
    plan: Arc<Plan>,
    file: Option<StateFile>,
    state: Mutex<State>,
}

impl SourceSettings for Settings {
    fn begin(&self, plan: Arc<Plan>, place: &SourcePlace<'_>) -> Box<dyn Source> {
        assert_eq!((place.server, place.database), ("main", None));
        let file = place.file(("positions", 1));
        let state = file.as_ref().and_then(|file| file.load().unwrap());
        Box::new(Positions {
            settings: self.clone(),
            plan,
            file,
            state: Mutex::new(state.unwrap_or_default()),
        })
    }

    fn equal(&self, other: &dyn SourceSettings) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

impl Source for Positions {
    fn run<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        _previous: Option<&'a Harvest>,
    ) -> BoxFuture<'a, Harvest> {
        async move {
            let sql = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')";
            let mut position: Option<u64> = None;
            let message = Message {
                sql: &Sql::from(sql),
                timeout: context.timeout(Scope::Server),
                version: context.version,
                scope: Scope::Server,
            };
            let sent = message.send(client, |_, cells| {
                position = cells.raw(0)?.and_then(|text| text.parse().ok());
                Ok(())
            });
            sent.await.unwrap();
            let mut state = self.state.lock();
            state.system = context.system.to_owned();
            state.positions.extend(position);
            let mut harvest = Harvest::empty();
            let known = state.positions.len().min(self.settings.kept);
            let database = Arc::default();
            for (column, value) in [("remembered", known), ("seen", state.seen)] {
                let page = &mut harvest.snapshot;
                self.plan.push(page, &database, column, &[], value as f64);
            }
            harvest
        }
        .boxed()
    }

    fn ask_again(&self) {}

    fn is_due(&self) -> bool {
        let state = self.state.lock();
        state.seen < state.positions.len()
    }

    fn work<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        _others_wait: &'a (dyn Fn() -> bool + Sync),
    ) -> BoxFuture<'a, (Cost, Result<(), QueryError>)> {
        async move {
            let message = Message {
                sql: &Sql::from("SELECT 1"),
                timeout: TIMEOUTS[3],
                version: context.version,
                scope: Scope::Server,
            };
            let worked = message.send(client, |_, _| Ok(())).await;
            let mut state = self.state.lock();
            state.seen = state.positions.len();
            let cost = Cost {
                statements: 1,
                ..Cost::default()
            };
            (cost, worked)
        }
        .boxed()
    }

    fn save(&self) {
        if let Some(file) = &self.file {
            file.save(&*self.state.lock()).unwrap();
        }
    }
}

fn registry(kept: usize) -> Registry {
    let served = Query::new()
        .gauge("remembered", "Positions that are remembered")
        .gauge("seen", "Positions that were looked at");
    let positions = Collector::new("positions", "Positions in the WAL")
        .prefix("pg_positions")
        .source(Settings { kept })
        .query(served);
    Registry::built_in().with([positions]).unwrap()
}

fn known(page: &Page) -> [f64; 2] {
    let value = |name| page.value(name, &[]).unwrap();
    [value("pg_positions_remembered"), value("pg_positions_seen")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_the_server_remembers_works_and_goes_on() {
    let server = Postgres::start(18).await;
    let dir = scratch();
    let yaml = |more: &str| {
        format!(
            "servers: {{ main: {{ dsn: '{}', {more} }} }}\nstate_dir: {}",
            server.dsn("postgres", "postgres"),
            dir.path().display()
        )
    };
    let registry_of_nine = registry(9);
    let config = configuration(&yaml(""), &registry_of_nine);
    let scraper = Scraper::new(&config, &registry_of_nine);
    // Nothing but the source is asked, and it has its work done all the same.
    let only = BTreeSet::from(["positions".to_owned()]);
    let mut scrapes = 0.0;
    loop {
        let page = scrape_of(&scraper, &only).await;
        scrapes += 1.0;
        let [remembered, seen] = known(&page);
        assert_eq!(remembered, f64::min(scrapes, 9.0));
        if seen > 1.0 {
            let labels = [("collector", "positions")];
            let statements = page.value("pg_exporter_collector_statements_total", &labels);
            assert!(statements >= Some(1.0), "{statements:?}");
            break;
        }
    }

    // The same settings keep it, others make another one that goes on from its file.
    let same = configuration(&yaml(""), &registry(9));
    let changes = scraper.change(&same, &registry(9)).await;
    assert_eq!(changes.kept, ["main"]);
    let fewer = registry(1);
    let changes = scraper
        .change(&configuration(&yaml(""), &fewer), &fewer)
        .await;
    assert_eq!(changes.begun, ["main"]);
    let [remembered, seen] = known(&scrape_of(&scraper, &only).await);
    assert_eq!(remembered, 1.0);
    assert!(seen > 1.0, "{seen}");

    scraper.keep();
    scraper.close().await;
    let kept = fs::read_to_string(dir.path().join("main.positions")).unwrap();
    let system = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let system = server.value("postgres", system).await.unwrap();
    assert!(kept.contains(&system), "{kept}");
    let scraper = Scraper::new(&config, &registry_of_nine);
    let page = scrape_until(&scraper, "all is read", |page| page.up()).await;
    let [remembered, seen] = known(&page);
    assert!(
        remembered > scrapes.min(8.0),
        "{remembered} after {scrapes}"
    );
    assert!(seen > 1.0, "{seen}");
    scraper.close().await;
}
