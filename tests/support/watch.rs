//! What can be seen of servers and of the exporter from outside.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::exporter::Exporter;
use super::exposition::Page;
use super::postgres::{Postgres, rows};
use super::process::{PATIENCE, pause, wait_for};

/// The exporter's `application_name`.
pub const OURS: &str = "matrix-postgres-exporter";

impl Postgres {
    /// How many sessions there are of this application, for which a condition holds.
    pub async fn sessions(&self, application: &str, condition: &str) -> usize {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity \
              WHERE application_name = '{application}' AND ({condition})"
        );
        let count = self.value("postgres", &count).await;
        count.unwrap().parse().unwrap()
    }

    /// The longest that anybody was seen to wait for a lock because of the exporter; from 14 on.
    pub async fn longest_wait_for_us(&self, database: &str, until: &AtomicBool) -> Duration {
        let client = self.client("postgres", "postgres").await;
        let waits = format!(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - w.waitstart)), 0)
               FROM pg_locks w
              WHERE NOT w.granted
                AND w.database = (SELECT oid FROM pg_database WHERE datname = '{database}')
                AND EXISTS (SELECT FROM pg_stat_activity a
                             WHERE a.pid = ANY (pg_blocking_pids(w.pid))
                               AND a.application_name = '{OURS}')"
        );
        let mut longest = 0.0_f64;
        while !until.load(Ordering::Relaxed) {
            let now = rows(&client, &waits).await[0][0].clone().unwrap();
            longest = longest.max(now.parse().unwrap());
        }
        Duration::from_secs_f64(longest)
    }

    /// All that the server has logged until now.
    pub async fn log_so_far(&self) -> String {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("mark {}.", MARKS.fetch_add(1, Ordering::Relaxed));
        let log = format!("DO $$ BEGIN RAISE LOG '{mark}'; END $$");
        self.sql("postgres", &log).await;
        wait_for("the log is read", async || self.log().contains(&mark)).await;
        self.log()
    }

    /// Whether bytes have come over TCP that no process of the server has read.
    pub fn has_unread(&self) -> bool {
        let port = format!(":{:04X}", self.port());
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let received = fields[4].split_once(':').map(|(_, received)| received);
            fields[1].ends_with(&port) && received.is_some_and(|bytes| bytes != "00000000")
        })
    }
}

impl Exporter {
    /// Scrapes until the server, which is gone, is down for this reason. While it goes, a login that is
    /// under way may hear another one.
    pub async fn is_down(&self, reason: &str) -> Page {
        let start = Instant::now();
        loop {
            let page = self.scrape_within(Duration::from_secs(10)).await;
            let said = page.down_reason();
            if said == Some(reason) {
                return page;
            }
            assert!(said.is_some() && start.elapsed() < PATIENCE, "{said:?}");
            pause(start).await;
        }
    }

    /// Scrapes until the server is up and everything is seen, which on a busy machine may be a moment
    /// after its start.
    pub async fn is_whole(&self) -> Page {
        let start = Instant::now();
        loop {
            let page = self.scrape_within(Duration::from_secs(10)).await;
            if page.up() && page.failed().is_empty() || start.elapsed() > PATIENCE {
                page.assert_whole();
                return page;
            }
            pause(start).await;
        }
    }

    /// Waits until it has logged these words.
    pub async fn has_said(&self, words: &str) {
        let what = format!("the log says {words:?}");
        wait_for(&what, async || self.output().contains(words)).await;
    }
}

/// Looks all the time at what the exporter's sessions do.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often it was looked.
    pub looks: u64,
    /// The most sessions at once.
    pub most: u64,
    /// Sessions that did nothing and held a snapshot or a transaction, summed up.
    pub idle_with_snapshot: u64,
    /// For how long one message was worked on, in seconds.
    pub longest: f64,
}

impl Watcher {
    /// Begins.
    pub async fn start(server: &Postgres) -> Self {
        let client = server.client("postgres", "postgres").await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let look = format!(
            "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle%' AND \
                    (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)), \
                    coalesce(max(extract(epoch FROM clock_timestamp() - query_start)) \
                             FILTER (WHERE state = 'active'), 0) \
             FROM pg_stat_activity WHERE application_name = '{OURS}'"
        );
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Relaxed) {
                let row = rows(&client, &look).await.remove(0);
                let [all, idle, longest] =
                    [0, 1, 2].map(|n| row[n].as_ref().unwrap().parse::<f64>().unwrap());
                seen.looks += 1;
                seen.most = seen.most.max(all as u64);
                seen.idle_with_snapshot += idle as u64;
                seen.longest = seen.longest.max(longest);
            }
            seen
        });
        Self { stop, task }
    }

    /// Ends.
    pub async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
