//! The exporter within the test, where the collectors or changes of the configuration are the test's.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors::Registry;
use matrix_postgres_exporter::config::{Config, Layer, Sources, load};
use matrix_postgres_exporter::exposition::{Format, render};
use matrix_postgres_exporter::scrape::{Request, Scraper};

use super::exposition::{self, Page};
use super::process::{PATIENCE, pause, scratch};

/// The configuration that a file gives.
pub fn configuration(yaml: &str, registry: &Registry) -> Config {
    let dir = scratch();
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, yaml).unwrap();
    let sources = Sources {
        file: Some(file),
        environment: Layer::default(),
        flags: Layer::default(),
        switches: Vec::new(),
        variable: &|_| None,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let loaded = load(sources, registry);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}\n{yaml}"))
        .config
}

/// Scrapes, with as much time as a test has.
pub async fn scrape(scraper: &Scraper) -> Page {
    scrape_of(scraper, &BTreeSet::new()).await
}

/// The same, of these collectors alone; of each enabled one, if there are none.
pub async fn scrape_of(scraper: &Scraper, collect: &BTreeSet<String>) -> Page {
    let since = Instant::now();
    let request = Request {
        since,
        deadline: since + PATIENCE,
        collect: collect.clone(),
    };
    let snapshot = scraper.scrape(request).await.unwrap();
    let page = render(snapshot, Format::Text);
    exposition::Page::parse(page.as_bytes(), exposition::Format::Text)
        .unwrap_or_else(|fault| panic!("{fault}:\n{page}"))
}

/// Scrapes until a page says what it is to say.
pub async fn scrape_until(scraper: &Scraper, what: &str, holds: impl Fn(&Page) -> bool) -> Page {
    let start = Instant::now();
    loop {
        let page = scrape(scraper).await;
        if holds(&page) {
            return page;
        }
        let patient = start.elapsed() < PATIENCE + Duration::from_secs(30);
        assert!(patient, "{what}: {:?}", page.skipped());
        pause(start).await;
    }
}
