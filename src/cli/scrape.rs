//! Scrapes once, to standard output.

use std::collections::BTreeSet;
use std::time::Instant;

use clap::Command;

use super::{Error, flags};
use crate::collectors::Registry;
use crate::config::Config;
use crate::exposition::{self, Format};
use crate::scrape::{Request, Scraper};
use crate::snapshot::Snapshot;

/// The command.
pub fn command(registry: &Registry) -> Command {
    flags::unlisted(flags::add(Command::new("scrape"), registry), &["Web"])
        .about("Print one scrape to standard output; fails if the server is down")
}

/// Runs it.
pub fn run(config: &Config, registry: &Registry) -> Result<(), Error> {
    let snapshot = super::runtime()?.block_on(async {
        let scraper = Scraper::new(config, registry);
        let snapshot = once(&scraper, config).await?;
        scraper.close().await;
        Ok::<_, Error>(snapshot)
    })?;
    let up = is_up(&snapshot);
    let format = match config.web.openmetrics {
        true => Format::OpenMetrics,
        false => Format::Text,
    };
    super::print(&exposition::render(snapshot, format))?;
    match up {
        true => Ok(()),
        false => Err(Error::Failed(
            "the server is down; `matrix-postgres-exporter check` says why".to_owned(),
        )),
    }
}

/// Everything that can be collected within the configured time.
pub async fn once(scraper: &Scraper, config: &Config) -> Result<Snapshot, Error> {
    let since = Instant::now();
    let request = Request {
        since,
        deadline: since + config.scrape.timeout,
        collect: BTreeSet::new(),
    };
    scraper
        .scrape(request)
        .await
        .map_err(|error| Error::Failed(error.to_string()))
}

/// Whether every server answered.
fn is_up(snapshot: &Snapshot) -> bool {
    snapshot
        .families()
        .filter(|family| &*family.metric.name == "pg_up")
        .flat_map(|family| &family.samples)
        .map(|sample| sample.value == 1.0)
        .reduce(|all, up| all && up)
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Kind, Metric, Sample, labels};

    #[test]
    fn up_is_up_only_where_it_was_said() {
        let up = Metric::new("pg_up", Kind::Gauge, "");
        let mut snapshot = Snapshot::default();
        assert!(!is_up(&snapshot));
        for (server, value, expected) in [("a", 1.0, true), ("b", 0.0, false)] {
            let labels = labels([("server", server)]);
            snapshot.push(&up, Sample { labels, value });
            assert_eq!(is_up(&snapshot), expected);
        }
    }
}
