//! Prometheus with the shipped rules, Alertmanager with the shipped routes, and who receives; in less time.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::alertmanager::{Alertmanager, Inbox};
use super::process::{give, scratch};
use super::prometheus::Prometheus;

/// All of them. They end when this is dropped.
pub struct Watchers {
    /// What scrapes, as `job="postgres"`.
    pub prometheus: Prometheus,
    /// What arrives.
    pub inbox: Inbox,
    _alertmanager: Alertmanager,
    _rules: TempDir,
}

/// How many milliseconds a minute and an hour of rules and routes take, and seconds from scrape to scrape.
#[derive(Clone, Copy)]
pub struct Pace {
    pub minute: u64,
    pub hour: u64,
    pub scrape: u64,
}

impl Watchers {
    /// Starts all of them.
    pub async fn start(targets: &[SocketAddr], pace: Pace) -> Self {
        let inbox = Inbox::open().await;
        let alertmanager = Alertmanager::start(&pace.routes(inbox.address())).await;
        let rules = pace.rules();
        let scrape = pace.scrape;
        let targets: Vec<_> = targets.iter().map(SocketAddr::to_string).collect();
        let prometheus = Prometheus::start(&format!(
            "global: {{ scrape_interval: {scrape}s, scrape_timeout: {scrape}s, evaluation_interval: 1s }}\n\
             rule_files: [ \"{}/*.rules.yml\" ]\n\
             alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: [ \"{}\" ] }} ] }} ] }}\n\
             scrape_configs:\n\
             - job_name: postgres\n  \
               static_configs: [ {{ targets: {targets:?} }} ]\n",
            rules.path().display(),
            alertmanager.address(),
        ))
        .await;
        Self {
            prometheus,
            inbox,
            _alertmanager: alertmanager,
            _rules: rules,
        }
    }
}

impl Pace {
    /// The shipped rules.
    fn rules(self) -> TempDir {
        let dir = scratch();
        for file in fs::read_dir(shipped("")).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".rules.yml") {
                let copy = dir.path().join(name);
                fs::write(&copy, self.shorten(&fs::read_to_string(&file).unwrap())).unwrap();
                give(&copy);
            }
        }
        dir
    }

    /// The shipped routes, to a receiver of ours.
    fn routes(self, inbox: SocketAddr) -> String {
        let text = fs::read_to_string(shipped("alertmanager.example.yml")).unwrap();
        let ours = text.replace("127.0.0.1:9095", &inbox.to_string());
        assert_ne!(text, ours);
        self.shorten(&ours)
    }

    /// The text with every duration in seconds, minutes and hours made shorter.
    fn shorten(self, text: &str) -> String {
        let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let words = words.map(|with_end| {
            let word = with_end.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            match self.shorter(word) {
                Some(millis) => with_end.replacen(word, &format!("{millis}ms"), 1),
                None => with_end.to_owned(),
            }
        });
        words.collect()
    }

    fn shorter(self, word: &str) -> Option<u64> {
        let units = [
            ('s', self.minute / 60),
            ('m', self.minute),
            ('h', self.hour),
        ];
        units.into_iter().find_map(|(unit, millis)| {
            let number: u64 = word.strip_suffix(unit)?.parse().ok()?;
            Some(number * millis)
        })
    }
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("alerts")
        .join(file)
}
