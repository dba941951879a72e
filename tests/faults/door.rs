//! Clients that would keep others out: idle, silent, slow, deaf, or many.
//!
//! Each stays for `DOOR_SECONDS` (10), and a scraper comes every second meanwhile. With
//! `DOOR_TABLES` the large page is that of so many tables; else it is one whose labels are long.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors;
use rustix::process::Pid;

use super::support::crowd::{Crowd, Scraper, drip, open_many_files, read_slowly, send_and_wait};
use super::support::exporter::Exporter;
use super::support::http::Client;
use super::support::postgres::Postgres;
use super::support::process::wait_for;

/// How long Prometheus waits for a page by default; longer only where the machine is so busy that
/// the exporter alone would need a good part of it.
const PATIENCE: Duration = Duration::from_secs(10);
const TIMES_ALONE: u32 = 20;

/// What clients may cost beyond the page.
const ALLOWED: u64 = 64 << 20;

/// The exporter is as patient as the scraper.
const PATIENT: &str = "scrape: { timeout: 5m }";

/// The large page.
const LARGE: usize = 20 << 20;

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_clients_keep_nobody_out() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let request = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    let crowd = Crowd::new(2_000, move |_| send_and_wait(address, request));
    door.withstands(crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_silent_clients_keep_nobody_out() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let crowd = Crowd::new(2_000, move |_| send_and_wait(address, b""));
    door.withstands(crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_that_drip_their_headers_keep_nobody_out() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let crowd = Crowd::new(500, move |_| drip(address));
    door.withstands(crowd).await;
}

/// As many bytes of headers as the HTTP library takes by default, and no end of them.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_with_long_headers_cost_little() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let header = format!("A: {}\r\n", "b".repeat(8_000));
    let request: Arc<[u8]> = format!("GET / HTTP/1.1\r\n{}", header.repeat(49))
        .into_bytes()
        .into();
    let crowd = Crowd::new(500, move |_| {
        let request = request.clone();
        async move { send_and_wait(address, &request).await }
    });
    door.withstands(crowd).await;
}

/// A scrape is not late because many people look at the other page.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_readers_of_the_landing_page_keep_nobody_out() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    let last = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let requests: Arc<[u8]> = (request + last).into_bytes().into();
    let crowd = Crowd::new(100, move |_| {
        let requests = requests.clone();
        async move { send_and_wait(address, &requests).await }
    });
    door.withstands(crowd).await;
}

/// Each sends a thousand requests at once that are answered in a moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_with_a_thousand_requests_each_keep_nobody_out() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let crowd = Crowd::new(100, move |client| {
        let path = ["/-/ready", "/none"][client % 2];
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let last = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let requests = request.repeat(1_000) + &last;
        async move { send_and_wait(address, requests.as_bytes()).await }
    });
    door.withstands(crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_a_large_page_cost_little() {
    let door = Door::large().await;
    let address = door.exporter.address();
    let crowd = Crowd::new(256, move |_| read_slowly(address, 0));
    door.withstands(crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_a_large_page_slowly_cost_little() {
    let door = Door::large().await;
    let address = door.exporter.address();
    let crowd = Crowd::new(40, move |_| read_slowly(address, 1_500));
    door.withstands(crowd).await;
}

/// Each asks for something else. Who cannot be served is told so in time, and nobody is told that
/// the server is down.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_scrapes_at_once_are_answered_or_refused() {
    let door = Door::large().await;
    let address = door.exporter.address();
    let tally = Arc::new(Mutex::new(BTreeMap::<u16, (usize, Duration)>::new()));
    let counts = tally.clone();
    let patience = door.patience.as_secs().to_string();
    let crowd = Crowd::new(500, move |client| {
        let path = choice(client) + "&collect[]=stat_user_tables";
        let (counts, patience) = (counts.clone(), patience.clone());
        async move {
            let start = Instant::now();
            let timeout = ("X-Prometheus-Scrape-Timeout-Seconds", patience.as_str());
            let answer = Client::new(address).get(&path, &[timeout]).await;
            let took = start.elapsed();
            // Who reads too slowly may be cut off.
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            if let Ok(answer) = answer {
                let mut lines = answer.text().lines();
                match status {
                    200 => assert!(lines.any(|line| line.starts_with("pg_up"))),
                    503 => assert!(answer.header("retry-after").is_some()),
                    _ => panic!("{status}: {}", answer.text()),
                }
                assert!(!lines.any(|line| line.starts_with("pg_exporter_down_reason")));
            }
            let mut counts = counts.lock().unwrap();
            let (count, longest) = counts.entry(status).or_default();
            *count += 1;
            *longest = (*longest).max(took);
        }
    });
    door.withstands(crowd).await;
    let tally = tally.lock().unwrap();
    println!("answers by status, and the longest: {tally:?}");
    let late = tally.values().find(|(_, longest)| *longest > door.patience);
    assert_eq!(late, None);
    assert!(tally.contains_key(&200), "{tally:?}");
}

/// Each address asks for something else, and again as soon as it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_and_fifty_addresses_that_choose_collectors_keep_nobody_out() {
    let door = Door::small().await;
    let address = door.exporter.address();
    let crowd = Crowd::new(250, move |client| {
        let own = Ipv4Addr::new(127, 1, 0, client as u8 + 1);
        let path = choice(client);
        async move {
            let timeout = ("X-Prometheus-Scrape-Timeout-Seconds", "10");
            let _ = Client::from(own, address).get(&path, &[timeout]).await;
        }
    });
    door.withstands(crowd).await;
}

/// The path of two collectors, another for each client.
fn choice(client: usize) -> String {
    let names: Vec<_> = collectors::all().into_iter().map(|one| one.name).collect();
    let (one, other) = (
        &names[client % names.len()],
        &names[(client / names.len() + client + 1) % names.len()],
    );
    format!("/metrics?collect[]={one}&collect[]={other}")
}

/// An exporter with a page, and what it costs at rest.
struct Door {
    _server: Postgres,
    exporter: Exporter,
    page: usize,
    chosen: usize,
    patience: Duration,
    rest: Cost,
}

impl Door {
    async fn small() -> Self {
        let server = Postgres::start(18).await;
        let dsn = server.tcp_dsn("postgres", "postgres");
        let exporter = Exporter::configured(&dsn, PATIENT).await;
        Self::at(server, exporter).await
    }

    async fn large() -> Self {
        let server = Postgres::start(18).await;
        let dsn = server.tcp_dsn("postgres", "postgres");
        let exporter = match from_environment("DOOR_TABLES") {
            Some(tables) => {
                for block in 0..tables.div_ceil(500) {
                    let (first, last) = (block * 500, tables.min((block + 1) * 500));
                    let create = format!(
                        "DO $$BEGIN FOR n IN {first} .. {last} - 1 LOOP
                           EXECUTE format('CREATE TABLE table_number_%s (n int PRIMARY KEY)', n);
                         END LOOP; END$$"
                    );
                    server.sql("postgres", &create).await;
                }
                Exporter::configured(&dsn, "collectors: { stat_user_tables: { limit: 5000 } }")
                    .await
            }
            None => {
                let exporter = Exporter::watch(&dsn, &[]).await;
                let page = exporter.get("/metrics").await;
                let series = page.text().lines().filter(|line| !line.starts_with('#'));
                let long = "x".repeat(LARGE / series.count());
                let labels = format!(
                    "servers: {{ main: {{ labels: {{ long: {long} }} }} }}
{PATIENT}"
                );
                Exporter::configured(&dsn, &labels).await
            }
        };
        Self::at(server, exporter).await
    }

    async fn at(server: Postgres, exporter: Exporter) -> Self {
        open_many_files();
        // Until what is read in the background is there, and memory is what it will be.
        let (mut page, mut settled) = (0_usize, false);
        let mut alone = Duration::ZERO;
        while !settled {
            let start = Instant::now();
            let gzip = [("Accept-Encoding", "gzip")];
            exporter.get_with_headers("/metrics", &gzip).await;
            let answer = exporter.get("/metrics").await;
            let grown = answer.body.len().abs_diff(page) > page / 100;
            settled = !grown && !answer.text().lines().any(is_read_behind);
            page = answer.body.len();
            alone = start.elapsed();
        }
        let chosen = exporter.get(CHOSEN).await.body.len();
        let rest = Cost::of(exporter.pid());
        Self {
            _server: server,
            exporter,
            page,
            chosen,
            patience: PATIENCE.max(alone * TIMES_ALONE),
            rest,
        }
    }

    /// Scrapers are served all the time, one of the crowd's address and one of another that chooses
    /// collectors, memory stays within its bound, and when the crowd has left, all is as it was.
    async fn withstands(&self, crowd: Crowd) {
        let duration = Duration::from_secs(from_environment("DOOR_SECONDS").unwrap_or(10));
        let pid = self.exporter.pid();
        forget_peak(pid);
        let address = self.exporter.address();
        let all = Scraper {
            own: Ipv4Addr::LOCALHOST,
            path: "/metrics",
            bytes: self.page,
            patience: self.patience,
        };
        let chosen = Scraper {
            own: ANOTHER,
            path: CHOSEN,
            bytes: self.chosen,
            ..all
        };
        let scrapes = tokio::join!(
            all.scrape_each_second(address, duration),
            chosen.scrape_each_second(address, duration)
        );
        let peak = Cost::of(pid);
        crowd.leave().await;
        let page = self.page as u64;
        println!(
            "page {:.1} MiB; patience {:?}; at rest {:?}; peak {:?}; {scrapes:?}",
            page as f64 / MIB as f64,
            self.patience,
            self.rest,
            peak
        );
        assert!(
            peak.peak < self.rest.resident + page + ALLOWED,
            "{peak:?} of {:?}",
            self.rest
        );
        // What is freed, glibc may keep for the next crowd: no more than the page and this.
        wait_for("descriptors and memory are back", async || {
            let now = Cost::of(pid);
            now.files <= self.rest.files + 2 && now.resident < self.rest.resident + page + KEPT
        })
        .await;
        println!("afterwards {:?}", Cost::of(pid));
    }
}

/// What a scraper asks for that chooses collectors, and whence.
const CHOSEN: &str = "/metrics?collect[]=stat_database&collect[]=locks";
const ANOTHER: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

/// How much of what it has freed the allocator may keep.
const KEPT: u64 = 48 * MIB;

/// Whether a line says that something is being read for the first time.
fn is_read_behind(line: &str) -> bool {
    line.starts_with("pg_exporter_collector_skipped{")
        && line[..line.len().min(200)].contains("reason=\"deadline\"")
}

/// What a process costs.
#[derive(Clone, Copy)]
struct Cost {
    resident: u64,
    peak: u64,
    files: usize,
}

impl Cost {
    fn of(pid: Pid) -> Self {
        let pid = pid.as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            kilobytes << 10
        };
        Self {
            resident: field("VmRSS:"),
            peak: field("VmHWM:"),
            files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }
}

impl std::fmt::Debug for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes| bytes as f64 / MIB as f64;
        write!(
            f,
            "{:.1} MiB now, {:.1} MiB at most, {} files",
            mib(self.resident),
            mib(self.peak),
            self.files
        )
    }
}

/// The most memory that is told from now on is that from now on.
fn forget_peak(pid: Pid) {
    fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5").unwrap();
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}
