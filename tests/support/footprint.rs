//! What the exporter takes of the machine.

use std::fs;
use std::time::Duration;

use super::exporter::Exporter;
use super::process::wait_at_most;

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
