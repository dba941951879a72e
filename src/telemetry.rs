//! Logs, and what the process says of itself.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::{Span, error_span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::snapshot::{Kind, Metric, Sample, Snapshot, labels};
use crate::text::{escaped_lines, is_obeyed};

/// Sends the logs to standard error, one line per event.
///
/// `level` is a level (`info`), which then holds for this program while its libraries only warn,
/// or a filter as `RUST_LOG` takes it (`info,tokio_postgres=debug`).
///
/// # Errors
///
/// Fails on a filter that cannot be read, and when it is called twice.
pub fn init(level: &str, format: LogFormat) -> Result<(), Error> {
    let filter = filter(level)?;
    let (logfmt, json) = match format {
        LogFormat::Logfmt => {
            let layer = tracing_logfmt::Builder::new()
                .with_span_path(false)
                .layer()
                .with_writer(move || Plain(format));
            (Some(layer), None)
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_writer(move || Plain(format));
            (None, Some(layer))
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(logfmt)
        .with(json)
        .try_init()
        .map_err(|_| Error::Twice)
}

/// The span of the work on a server; lines that are written in it name it.
///
/// Spans are at the level of errors: one that the log's level leaves out would take the names from
/// the lines that it lets through. None stands in another, since JSON has the innermost alone.
pub fn server_span(server: &str) -> Span {
    error_span!(parent: None, "server", server)
}

/// The span of the work in one of its databases.
pub fn database_span(server: &str, database: &str) -> Span {
    error_span!(parent: None, "database", server, database)
}

/// Takes the backslash before a single quote out, which is not an escape of logfmt.
fn plain_quotes(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('\'') => plain.push('\''),
            escaped => plain.extend(std::iter::once(character).chain(escaped)),
        }
    }
    plain
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object.
    Json,
}

/// Standard error, without the characters that a terminal obeys and a format leaves as they are.
struct Plain(LogFormat);

impl Plain {
    fn line(&self, line: &[u8]) -> String {
        let line = String::from_utf8_lossy(line);
        match self.0 {
            LogFormat::Logfmt => plain_quotes(&escaped_lines(&line)),
            LogFormat::Json => {
                let mut plain = String::with_capacity(line.len());
                for character in line.chars() {
                    match is_obeyed(character) && character != '\n' {
                        true => plain.push_str(&format!("\\u{:04x}", u32::from(character))),
                        false => plain.push(character),
                    }
                }
                plain
            }
        }
    }
}

impl io::Write for Plain {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(self.line(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a level nor a filter.
    #[error(
        "the log level is not known: use off, error, warn, info, debug, trace, or a filter such \
         as info,tokio_postgres=debug"
    )]
    Level,
    /// There is a log already.
    #[error("the log is set up already")]
    Twice,
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let directives = match level.parse::<LevelFilter>() {
        Ok(own) => {
            let others = own.min(LevelFilter::WARN);
            // The pool warns of every connection that a restart has cut; what matters, we say.
            let pool = own.min(LevelFilter::ERROR);
            let crate_name = env!("CARGO_CRATE_NAME");
            format!("{others},deadpool.postgres={pool},{crate_name}={own}")
        }
        // A lone word would be taken for the name of a library.
        Err(_) if !level.contains('=') => return Err(Error::Level),
        Err(_) => level.to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|_| Error::Level)
}

/// Why the exporter has refused an HTTP request, or ended a connection before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The connection waited for a request for longest, and another needed its place.
    MadeRoom,
    /// Every connection was in use.
    Connections,
    /// The headers of a request were not complete in time.
    SlowHeaders,
    /// The client took less of its answer than the least rate.
    SlowReader,
    /// The client had an old page, and a new one needed the memory.
    UnreadPage,
    /// It was not the scrape's turn in time, as there were too many different ones.
    Scrapes,
    /// The page could not be made in time.
    Deadline,
}

impl Refusal {
    /// All of them, each with the value of its label.
    const ALL: [(Self, &str); 7] = [
        (Self::MadeRoom, "made_room"),
        (Self::Connections, "connections"),
        (Self::SlowHeaders, "slow_headers"),
        (Self::SlowReader, "slow_reader"),
        (Self::UnreadPage, "unread_page"),
        (Self::Scrapes, "scrapes"),
        (Self::Deadline, "deadline"),
    ];

    /// Counts one more.
    pub fn count(self) {
        REFUSALS[self as usize].fetch_add(1, Ordering::Relaxed);
    }
}

static REFUSALS: [AtomicU64; Refusal::ALL.len()] =
    [const { AtomicU64::new(0) }; Refusal::ALL.len()];

/// What the exporter costs, and which build it is. Where there is no `/proc`, only the build.
pub fn process_metrics() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.push(
        &Metric::new(
            "pg_exporter_build_info",
            Kind::Gauge,
            "Version and source revision of the exporter; always 1",
        ),
        Sample {
            labels: labels([
                ("version", env!("CARGO_PKG_VERSION")),
                (
                    "revision",
                    option_env!("MATRIX_POSTGRES_EXPORTER_REVISION").unwrap_or_default(),
                ),
            ]),
            value: 1.0,
        },
    );
    let refused = Metric::new(
        "pg_exporter_http_refused_total",
        Kind::Counter,
        "HTTP requests that the exporter refused and connections that it closed, by reason: \
         made_room (idle or silent, closed for a new one), connections (all in use), slow_headers, \
         slow_reader, unread_page (closed because a newer page needed the memory), scrapes (too \
         many different collect[] at once), deadline (the page was not ready in time)",
    );
    for (refusal, reason) in Refusal::ALL {
        let labels = labels([("reason", reason)]);
        let value = REFUSALS[refusal as usize].load(Ordering::Relaxed) as f64;
        snapshot.push(&refused, Sample { labels, value });
    }
    #[cfg(target_os = "linux")]
    for (name, kind, help, value) in proc::read() {
        let labels = labels([]);
        snapshot.push(&Metric::new(name, kind, help), Sample { labels, value });
    }
    snapshot
}

#[cfg(target_os = "linux")]
mod proc {
    use procfs::process::{LimitValue, Process};
    use procfs::{ProcResult, WithCurrentSystemInfo};

    use super::Kind::{self, Counter, Gauge};

    type Reading = (&'static str, Kind, &'static str, f64);

    /// Name, type, help and value of what `/proc` gives; what cannot be read is left out.
    pub(super) fn read() -> Vec<Reading> {
        let Ok(process) = Process::myself() else {
            return Vec::new();
        };
        let mut readings = stat(&process).unwrap_or_default();
        if let Ok(fds) = process.fd_count() {
            let help = "Open file descriptors of the exporter";
            readings.push(("process_open_fds", Gauge, help, fds as f64));
        }
        if let Ok(limits) = process.limits() {
            let most = match limits.max_open_files.soft_limit {
                LimitValue::Unlimited => f64::INFINITY,
                LimitValue::Value(most) => most as f64,
            };
            let help = "Maximum number of open file descriptors of the exporter";
            readings.push(("process_max_fds", Gauge, help, most));
        }
        readings
    }

    fn stat(process: &Process) -> ProcResult<Vec<Reading>> {
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let booted = procfs::boot_time_secs()? as f64;
        Ok(vec![
            (
                "process_cpu_seconds_total",
                Counter,
                "User and system CPU time of the exporter, in seconds",
                (stat.utime + stat.stime) as f64 / ticks,
            ),
            (
                "process_resident_memory_bytes",
                Gauge,
                "Resident memory of the exporter, in bytes",
                stat.rss_bytes().get() as f64,
            ),
            (
                "process_virtual_memory_bytes",
                Gauge,
                "Virtual memory of the exporter, in bytes",
                stat.vsize as f64,
            ),
            (
                "process_start_time_seconds",
                Gauge,
                "Start of the exporter, as Unix time in seconds",
                booted + stat.starttime as f64 / ticks,
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_level_quietens_the_libraries() {
        let written = |level| filter(level).map(|filter| filter.to_string());
        let own = env!("CARGO_CRATE_NAME");
        let levels = |own_level, pool, others| {
            format!("{own}={own_level},deadpool.postgres={pool},{others}")
        };
        assert_eq!(written("debug").unwrap(), levels("debug", "error", "warn"));
        assert_eq!(written("INFO").unwrap(), levels("info", "error", "warn"));
        assert_eq!(written("off").unwrap(), levels("off", "off", "off"));
        assert_eq!(written("info,h2=trace").unwrap(), "h2=trace,info");
    }

    #[test]
    fn a_bad_level_says_what_is_possible() {
        for level in ["loud", "a=loud", "info,loud"] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.contains("info,tokio_postgres=debug"), "{error}");
        }
    }

    #[test]
    fn logfmt_has_no_escape_for_a_single_quote() {
        let line = r#"message="it\'s \"x\" \\' C:\\""#;
        assert_eq!(plain_quotes(line), r#"message="it's \"x\" \\' C:\\""#);
    }

    #[test]
    fn no_terminal_obeys_the_log() {
        let line = "msg=a\u{9b}b\u{7f}\n".as_bytes();
        assert_eq!(
            Plain(LogFormat::Logfmt).line(line),
            "msg=a\\u{9b}b\\u{7f}\n"
        );
        assert_eq!(Plain(LogFormat::Json).line(line), "msg=a\\u009bb\\u007f\n");
    }

    #[test]
    fn the_process_says_what_it_costs() {
        let snapshot = process_metrics();
        let values: BTreeMap<_, _> = snapshot
            .families()
            .map(|family| (family.metric.name.to_string(), family.samples[0].value))
            .collect();
        assert_eq!(values["pg_exporter_build_info"], 1.0);
        if !cfg!(target_os = "linux") {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - values["process_start_time_seconds"];
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(values["process_open_fds"] >= 3.0);
        assert!(values["process_open_fds"] < values["process_max_fds"]);
        assert!(values["process_cpu_seconds_total"] >= 0.0);
        let resident = values["process_resident_memory_bytes"];
        assert!((1e6..1e9).contains(&resident), "{resident}");
        assert!(values["process_virtual_memory_bytes"] > resident);
    }
}
