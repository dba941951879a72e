//! What the exporter, and the server for it, take of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use procfs::process::Process;
use procfs::ticks_per_second;
use rustix::process::Pid;

use super::exporter::Exporter;
use super::postgres::Postgres;
use super::process::{children, wait_at_most};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Sees that nothing goes on when nobody asks. The driver is slow in a test's build.
pub async fn rests(exporter: &Exporter) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    wait_at_most(Duration::from_secs(5), "the exporter rests", async || {
        let before = cpu_ticks(exporter);
        tokio::time::sleep(Duration::from_millis(500)).await;
        cpu_ticks(exporter) - before <= 1
    })
    .await;
}

/// Sees that memory, log and landing page are of a reasonable size.
pub async fn is_small(exporter: &Exporter, before: usize) {
    let grown = memory(exporter, "VmHWM").saturating_sub(before);
    let log = exporter.output();
    let longest = log.lines().map(str::len).max().unwrap();
    let landing = exporter.get("/").await.body.len();
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    assert!(longest < 8 * KIB, "a line of {longest} bytes");
    assert!(log.len() < 64 * KIB, "{} bytes of log:\n{log}", log.len());
    assert!(landing < 128 * KIB, "a landing page of {landing} bytes");
}

/// A line of `/proc/PID/status`, in bytes.
pub fn memory(exporter: &Exporter, line: &str) -> usize {
    let path = format!("/proc/{}/status", exporter.pid().as_raw_nonzero());
    let status = fs::read_to_string(path).unwrap();
    let line = status
        .lines()
        .find_map(|found| found.strip_prefix(line))
        .unwrap();
    let kilobytes = line.trim_matches(|c: char| !c.is_ascii_digit());
    kilobytes.parse::<usize>().unwrap() * KIB
}

/// Hundredths of a second of CPU time, user and system.
fn cpu_ticks(exporter: &Exporter) -> u64 {
    let path = format!("/proc/{}/stat", exporter.pid().as_raw_nonzero());
    let stat = fs::read_to_string(path).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The CPU time of a process, more exactly than in the system's ticks.
#[derive(Default)]
pub struct CpuTime {
    /// Nanoseconds of each thread; those of one that has ended, as of the last look.
    threads: BTreeMap<i32, u64>,
}

impl CpuTime {
    /// What it has taken since its start.
    pub fn look(&mut self, pid: Pid) -> Duration {
        let threads = process(pid).tasks().unwrap().flatten();
        let times = threads.filter_map(|thread| {
            let time = thread.schedstat().ok()?;
            Some((thread.tid, time.sum_exec_runtime))
        });
        self.threads.extend(times);
        Duration::from_nanos(self.threads.values().sum())
    }
}

/// The CPU time of all processes of a server since its start. That of those that have ended comes in
/// the system's ticks.
pub fn cpu_of_server(server: &Postgres) -> Duration {
    let postmaster = process(server.pid());
    let running = children(server.pid()).into_iter();
    let running = running.filter_map(|(pid, _)| {
        // It may end at any time.
        let time = Process::new(pid.as_raw_nonzero().get()).ok()?.schedstat();
        Some(time.ok()?.sum_exec_runtime)
    });
    let running = running.sum::<u64>() + postmaster.schedstat().unwrap().sum_exec_runtime;
    let ended = postmaster.stat().unwrap();
    let ended = (ended.cutime + ended.cstime) as f64 / ticks_per_second() as f64;
    Duration::from_nanos(running) + Duration::from_secs_f64(ended)
}

fn process(pid: Pid) -> Process {
    Process::new(pid.as_raw_nonzero().get()).unwrap()
}
