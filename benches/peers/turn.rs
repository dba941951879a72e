//! What an exporter costs while it is the only one.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::time::{MissedTickBehavior, interval};

use super::programs::{Collectors, Program};
use super::shared::cost::{Cost, reset};
use super::shared::median;
use super::support::exporter::Exporter;
use super::support::footprint::{CpuTime, cpu_of_server, memory};
use super::support::http::{Client, Response};
use super::support::postgres::Postgres;

/// A turn takes a minute at the default interval: what an exporter does once a minute belongs to it.
pub const SCRAPES: u32 = 12;

/// How many scrapes are not counted, after a start.
const WARM_UP: u32 = 3;

/// As Prometheus sends them.
const HEADERS: [(&str, &str); 3] = [
    (
        "Accept",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
    ),
    ("Accept-Encoding", "gzip"),
    ("X-Prometheus-Scrape-Timeout-Seconds", "10"),
];

/// What was measured in a turn; what is not memory or a page is for each scrape. NaN is what was not.
#[derive(Debug)]
pub struct Turn {
    /// Milliseconds; the median.
    pub latency: f64,
    /// Milliseconds.
    pub cpu: f64,
    /// MB, at the end and at most.
    pub memory: f64,
    pub memory_at_most: f64,
    pub statements: f64,
    pub settings: f64,
    /// Milliseconds, as the server has measured its statements.
    pub database: f64,
    /// Milliseconds of all processes of the server.
    pub server_cpu: f64,
    pub connections: f64,
    pub series: f64,
    /// kB, before it is compressed and after.
    pub page: f64,
    pub sent: f64,
    /// Milliseconds that the server has spent on statements until the first scrape that counts.
    pub start: f64,
}

impl Turn {
    /// Starts an exporter, and measures it when it is warm.
    pub async fn take(
        server: &Postgres,
        program: &Program,
        collectors: Collectors,
        every: Duration,
    ) -> Self {
        reset(server).await;
        let exporter = program.start(server, collectors).await;
        let mut prometheus = warm(program, &exporter).await;
        let start = Cost::of(server, program.role(), "%").await.total;
        let mut last = None;
        let turn = measure(server, program, exporter.pid(), every, async || {
            last = Some(scrape(&mut prometheus).await);
        });
        let turn = turn.await;
        let answer = last.unwrap();
        let page = answer.decoded();
        let lines = page.split(|byte| *byte == b'\n');
        let series = lines.filter(|line| !line.is_empty() && line[0] != b'#');
        Self {
            memory: megabytes(&exporter, "VmRSS"),
            memory_at_most: megabytes(&exporter, "VmHWM"),
            series: series.count() as f64,
            page: page.len() as f64 / 1e3,
            sent: answer.body.len() as f64 / 1e3,
            start,
            ..turn
        }
    }
}

/// Lets an exporter read all that it reads once, or seldom.
pub async fn warm(program: &Program, exporter: &Exporter) -> Client {
    if program.is_ours() {
        let page = exporter.complete().await;
        let skipped = page.skipped();
        let is_cut = skipped.iter().any(|skip| skip.1 == "series_limit");
        assert!(!is_cut, "not all is served: {skipped:?}");
    }
    let mut prometheus = Client::new(exporter.address());
    for _ in 0..WARM_UP {
        scrape(&mut prometheus).await;
    }
    prometheus
}

/// What it costs a process, and the server, to do this at an interval.
pub async fn measure(
    server: &Postgres,
    program: &Program,
    pid: Pid,
    every: Duration,
    mut scrape: impl AsyncFnMut(),
) -> Turn {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    reset(server).await;
    // Until then its session has ended.
    ticks.tick().await;

    let logins_before = logins(server, program);
    let server_before = cpu_of_server(server);
    let mut cpu = CpuTime::default();
    let cpu_before = cpu.look(pid);
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let asked = Instant::now();
        scrape().await;
        times.push(milliseconds(asked.elapsed()));
        cpu.look(pid);
        ticks.tick().await;
    }
    let cpu = cpu.look(pid) - cpu_before;
    let server_cpu = cpu_of_server(server).saturating_sub(server_before);
    let connections = logins(server, program) - logins_before;
    let cost = Cost::of(server, program.role(), "%").await;
    let each = |sum: f64| sum / f64::from(SCRAPES);
    Turn {
        latency: median(times, |time| *time),
        cpu: each(milliseconds(cpu)),
        statements: each(cost.statements as f64),
        settings: each(cost.settings as f64),
        database: each(cost.total),
        server_cpu: each(milliseconds(server_cpu)),
        connections: each(connections as f64),
        memory: f64::NAN,
        memory_at_most: f64::NAN,
        series: f64::NAN,
        page: f64::NAN,
        sent: f64::NAN,
        start: f64::NAN,
    }
}

/// One scrape, which has to succeed.
pub async fn scrape(prometheus: &mut Client) -> Response {
    let answer = prometheus.get("/metrics", &HEADERS).await.unwrap();
    let said = || String::from_utf8_lossy(&answer.decoded()).into_owned();
    assert_eq!(answer.status, 200, "{}", said());
    answer
}

/// How often it has logged in.
fn logins(server: &Postgres, program: &Program) -> usize {
    let line = format!("connection authorized: user={} ", program.role());
    server.log().matches(&line).count()
}

fn megabytes(exporter: &Exporter, line: &str) -> f64 {
    memory(exporter, line) as f64 / 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
