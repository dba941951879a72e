//! What a page says of the scrape that made it.

use std::collections::BTreeSet;

use super::exposition::Page;

impl Page {
    /// Whether the server answered.
    pub fn up(&self) -> bool {
        self.value("pg_up", &[]).unwrap() == 1.0
    }

    /// Why the server is down, if it is; panics unless this and `pg_up` agree.
    pub fn down_reason(&self) -> Option<&str> {
        let mut reasons = self.samples("pg_exporter_down_reason");
        let reason = reasons
            .next()
            .map(|sample| sample.labels["reason"].as_str());
        assert!(reasons.next().is_none(), "one reason is enough");
        assert_eq!(self.up(), reason.is_none());
        reason
    }

    /// What could not be seen: collector, reason and database.
    pub fn skipped(&self) -> BTreeSet<(&str, &str, &str)> {
        let samples = self.samples("pg_exporter_collector_skipped");
        let skipped = samples.map(|sample| {
            let label = |name| sample.labels[name].as_str();
            (label("collector"), label("reason"), label("datname"))
        });
        skipped.collect()
    }

    /// The collectors that failed.
    pub fn failed(&self) -> BTreeSet<&str> {
        let samples = self.samples("pg_scrape_collector_success");
        let failed = samples.filter(|sample| sample.value == 0.0);
        failed
            .map(|sample| sample.labels["collector"].as_str())
            .collect()
    }

    /// The collectors that the page reports on.
    pub fn collectors(&self) -> BTreeSet<&str> {
        let samples = self.samples("pg_scrape_collector_success");
        samples
            .map(|sample| sample.labels["collector"].as_str())
            .collect()
    }

    /// The names of what was read from the server, by this scrape or earlier.
    pub fn readings(&self) -> BTreeSet<&str> {
        let mut names = self.names();
        names.retain(|name| {
            let ours = ["pg_exporter_", "pg_scrape_collector_", "process_"];
            *name != "pg_up" && !ours.iter().any(|prefix| name.starts_with(prefix))
        });
        names
    }

    /// Panics unless the server is up, no collector failed and each has brought something.
    pub fn assert_whole(&self) {
        assert_eq!(self.down_reason(), None);
        assert_eq!(self.failed(), BTreeSet::new(), "{:?}", self.skipped());
        assert_eq!(self.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
        for name in [
            "pg_static",
            "pg_server_info",
            "pg_postmaster_start_time_seconds",
            "pg_settings_max_connections",
        ] {
            assert!(self.samples(name).next().is_some(), "{name} is missing");
        }
    }
}
