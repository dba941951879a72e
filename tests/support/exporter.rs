//! The program itself, as users run it.

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors;
use rustix::process::{Pid, Signal};

use super::exposition::Page;
use super::http::{Response, request};
use super::process::{PATIENCE, Process, User, command, pause, scratch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_matrix-postgres-exporter");

/// A running exporter, on a port of its own choice. It ends when this is dropped.
pub struct Exporter {
    process: Process,
    address: SocketAddr,
}

impl Exporter {
    /// Starts one for a server, with further flags.
    pub async fn watch(dsn: &str, args: &[&str]) -> Self {
        Self::start(args, &[("DATA_SOURCE_NAME", dsn)]).await
    }

    /// Starts one for a server, with this configuration file.
    pub async fn configured(dsn: &str, yaml: &str) -> Self {
        let dir = scratch();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, yaml).unwrap();
        Self::watch(dsn, &["--config.file", &file.display().to_string()]).await
    }

    /// Starts one that serves nothing from memory, and looks at every database each second.
    pub async fn without_memory(dsn: &str) -> Self {
        let collectors = collectors::all().into_iter();
        let collectors = collectors.filter(|collector| !collector.ttl.is_zero());
        let ttls = collectors.map(|collector| format!("{}: {{ ttl: 0s }}", collector.name));
        let yaml = format!(
            "{{ servers: {{ main: {{ databases: {{ interval: 1s }} }} }}, collectors: {{ {} }} }}",
            ttls.collect::<Vec<_>>().join(", ")
        );
        Self::configured(dsn, &yaml).await
    }

    /// Starts one with these flags and variables, and no others.
    pub async fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = command(User::Same, PROGRAM);
        command
            .args(["--web.listen-address", "127.0.0.1:0"])
            .args(args)
            .envs(env.iter().copied());
        let process = Process::start(command);
        let line = process.wait_for_line("listening").await;
        let line = line.unwrap_or_else(|output| panic!("the exporter does not start:\n{output}"));
        let address = line
            .split([' ', '=', '"'])
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no address in: {line}"));
        Self { process, address }
    }

    /// One of another program, which listens already.
    pub fn of_other_program(process: Process, address: SocketAddr) -> Self {
        Self { process, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, for what the system knows of it.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// What it has logged so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Response {
        self.get_with_headers(path, &[]).await
    }

    /// GETs a path with further headers.
    pub async fn get_with_headers(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        request(self.address, "GET", path, headers).await
    }

    /// POSTs to a path.
    pub async fn post(&self, path: &str) -> Response {
        request(self.address, "POST", path, &[]).await
    }

    /// Scrapes; panics unless the page is without fault. An exporter that a busy machine gives no
    /// time to make a page says so, and is asked again.
    pub async fn scrape(&self) -> Page {
        let start = Instant::now();
        loop {
            let answer = self.get("/metrics").await;
            let busy = answer.status == 503 && answer.text().contains("too much to do");
            if !busy || start.elapsed() > PATIENCE {
                return answer.page();
            }
        }
    }

    /// Scrapes until a page says what it is to say, and returns that page.
    pub async fn scrape_until(
        &self,
        patience: Duration,
        what: &str,
        holds: impl Fn(&Page) -> bool,
    ) -> Page {
        let start = Instant::now();
        loop {
            let page = self.scrape().await;
            if holds(&page) {
                return page;
            }
            let patient = start.elapsed() < patience;
            assert!(
                patient,
                "{what}: not after {patience:?}: {:?}",
                page.skipped()
            );
            pause(start).await;
        }
    }

    /// Scrapes as Prometheus does that gives up after `timeout`; panics when it would have.
    pub async fn scrape_within(&self, timeout: Duration) -> Page {
        let seconds = timeout.as_secs_f64().to_string();
        let start = Instant::now();
        let headers = [("X-Prometheus-Scrape-Timeout-Seconds", seconds.as_str())];
        let answer = self.get_with_headers("/metrics", &headers).await;
        let took = start.elapsed();
        assert!(took < timeout, "took {took:?} of {timeout:?}");
        answer.page()
    }

    /// Scrapes until everything has been read that is read in the background, and says so twice.
    pub async fn complete(&self) -> Page {
        self.complete_within(PATIENCE).await
    }

    /// The same, for what takes longer by its nature. What a busy machine was too slow for is tried
    /// again by the exporter, and waited for.
    pub async fn complete_within(&self, patience: Duration) -> Page {
        let start = Instant::now();
        let mut was_whole = false;
        loop {
            let page = self.scrape().await;
            let skipped = page.skipped();
            let is_late = |reason: &str| ["deadline", "statement_timeout"].contains(&reason);
            let late: Vec<_> = skipped.iter().filter(|skip| is_late(skip.1)).collect();
            if late.is_empty() {
                if was_whole {
                    return page;
                }
                was_whole = true;
                continue;
            }
            was_whole = false;
            assert!(
                start.elapsed() < patience,
                "not read after {patience:?}: {late:?}"
            );
            pause(start).await;
        }
    }

    /// Asks it to end; how it ended, and all it has logged.
    pub async fn stop(self) -> (ExitStatus, String) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait_for_end().await;
        (status, self.process.output())
    }
}

/// The collectors that did not see everything that they should.
pub fn failures(page: &Page) -> Vec<&str> {
    let all = page.samples("pg_scrape_collector_success");
    let failed = all.filter(|sample| sample.value != 1.0);
    failed
        .map(|sample| sample.labels["collector"].as_str())
        .collect()
}

/// The program with these arguments, for commands that end by themselves; it sees nothing of the
/// environment but the path.
pub fn exporter_command(args: &[&str]) -> assert_cmd::Command {
    let mut command = command(User::Same, PROGRAM);
    command.args(args);
    assert_cmd::Command::from_std(command)
}
