//! A snapshot as text, in both formats.
//!
//! `prometheus-client` writes the page; what it does not do is done here: escaping of help texts,
//! the types and numbers of the older text format, and names that no format changes.

mod format;

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::snapshot::{Family, Kind, Sample, Snapshot};

pub use format::Format;

/// The page that a scraper gets. Families without samples are left out; duplicates are the
/// snapshot's concern.
pub fn render(snapshot: Snapshot, format: Format) -> String {
    let mut page = Page::new(format, size(&snapshot));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(View { snapshot, format }));
    encode_registry(&mut page, &registry)
        .and_then(|()| match format {
            Format::Text => Ok(()),
            Format::OpenMetrics => encode_eof(&mut page),
        })
        .expect("writing to a string does not fail");
    page.text
}

/// A little more than what the page will need, so that the text never has to move.
fn size(snapshot: &Snapshot) -> usize {
    const NUMBER: usize = 24;
    snapshot
        .families()
        .map(|Family { metric, samples }| {
            let labels: usize = samples
                .iter()
                .flat_map(|sample| sample.labels.iter())
                .map(|(name, value)| name.len() + value.len() + 4)
                .sum();
            let head = 2 * (metric.name.len() + 20) + metric.help.len();
            head + samples.len() * (metric.name.len() + NUMBER + 4) + labels
        })
        .sum::<usize>()
        + 64
}

/// What a large buffer asks for. glibc keeps what is freed of less than 32 MiB; more than that it maps,
/// and gives back. What is not written takes no memory.
pub fn mapped(size: usize) -> usize {
    match size {
        0..LARGE => size,
        _ => size.max((32 << 20) + 1),
    }
}

/// Bytes from which on it matters.
const LARGE: usize = 1 << 20;

/// The snapshot as `prometheus-client` wants to see it.
#[derive(Debug)]
struct View {
    snapshot: Snapshot,
    format: Format,
}

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for Family { metric, samples } in self.snapshot.families() {
            if samples.is_empty() {
                continue;
            }
            // OpenMetrics knows a counter by its suffix, which is not part of the family's name;
            // one without it is `unknown` there, as client_golang has it.
            let (name, kind) = match (self.format, metric.kind) {
                (Format::OpenMetrics, Kind::Counter) => match metric.name.strip_suffix("_total") {
                    Some(stem) => (stem, MetricType::Counter),
                    None => (&*metric.name, MetricType::Unknown),
                },
                (Format::Text, Kind::Counter) => (&*metric.name, MetricType::Counter),
                (_, Kind::Gauge) => (&*metric.name, MetricType::Gauge),
                (_, Kind::Untyped) => (&*metric.name, MetricType::Unknown),
            };
            let suffixed = name.len() < metric.name.len();
            let help = escape_help(&metric.help, self.format);
            let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
            for sample in samples {
                if sample.labels.is_empty() {
                    encode_value(&mut family, sample.value, suffixed)?;
                } else {
                    let labels = LabelsOf(sample);
                    encode_value(&mut family.encode_family(&labels)?, sample.value, suffixed)?;
                }
            }
        }
        Ok(())
    }
}

/// Text 0.0.4 has a backslash and a newline escaped in help texts, OpenMetrics a quote too.
fn escape_help(help: &str, format: Format) -> Cow<'_, str> {
    let quote = format == Format::OpenMetrics;
    if !help.contains(|c| matches!(c, '\\' | '\n') || (quote && c == '"')) {
        return help.into();
    }
    let escaped = help.replace('\\', r"\\").replace('\n', r"\n");
    match quote {
        true => escaped.replace('"', r#"\""#).into(),
        false => escaped.into(),
    }
}

fn encode_value(encoder: &mut MetricEncoder, value: f64, suffixed: bool) -> fmt::Result {
    match suffixed {
        true => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        false => encoder.encode_gauge(&value),
    }
}

struct LabelsOf<'a>(&'a Sample);

impl EncodeLabelSet for LabelsOf<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.0.labels.iter() {
            (&**name, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// The page as it is written, each line brought into the format's dialect when it ends. No line
/// break stands within a line: help texts and label values have theirs escaped.
struct Page {
    text: String,
    format: Format,
    line: usize,
}

impl Page {
    fn new(format: Format, size: usize) -> Self {
        Self {
            text: String::with_capacity(mapped(size)),
            format,
            line: 0,
        }
    }

    fn end_line(&mut self) {
        let line = &self.text[self.line..];
        let (ending, instead) = if line.starts_with('#') {
            match self.format {
                Format::Text if line.starts_with("# TYPE ") => (" unknown", " untyped"),
                _ => return,
            }
        } else if line.ends_with(".0") {
            (".0", "")
        } else if line.ends_with(" inf") {
            (" inf", " +Inf")
        } else {
            (" -inf", " -Inf")
        };
        if line.ends_with(ending) {
            self.text.truncate(self.text.len() - ending.len());
            self.text.push_str(instead);
        }
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        match part.strip_suffix('\n') {
            Some(rest) => {
                self.text.push_str(rest);
                self.end_line();
                self.text.push('\n');
                self.line = self.text.len();
            }
            None => self.text.push_str(part),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::snapshot::{Labels, Metric, labels};

    fn one(name: &str, kind: Kind, help: &str, labels: Labels, value: f64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.push(&Metric::new(name, kind, help), Sample { labels, value });
        snapshot
    }

    fn small() -> Snapshot {
        let mut snapshot = one(
            "pg_stat_database_xact_commit",
            Kind::Counter,
            "Commits\nof \"all\" C:\\",
            labels([("datname", "a\"b\\c\nd"), ("datid", "5")]),
            12_345_678.0,
        );
        snapshot.append(one("pg_up", Kind::Gauge, "Answers", labels([]), 1.0));
        snapshot.append(one("pg_wal_total", Kind::Counter, "WAL", labels([]), 0.5));
        snapshot.append(one("pg_static", Kind::Untyped, "unknown", labels([]), -3.0));
        snapshot
    }

    #[test]
    fn writes_text() {
        assert_eq!(
            render(small(), Format::Text),
            r#"# HELP pg_stat_database_xact_commit Commits\nof "all" C:\\
# TYPE pg_stat_database_xact_commit counter
pg_stat_database_xact_commit{datname="a\"b\\c\nd",datid="5"} 12345678
# HELP pg_static unknown
# TYPE pg_static untyped
pg_static -3
# HELP pg_up Answers
# TYPE pg_up gauge
pg_up 1
# HELP pg_wal_total WAL
# TYPE pg_wal_total counter
pg_wal_total 0.5
"#
        );
    }

    #[test]
    fn writes_openmetrics() {
        assert_eq!(
            render(small(), Format::OpenMetrics),
            r#"# HELP pg_stat_database_xact_commit Commits\nof \"all\" C:\\
# TYPE pg_stat_database_xact_commit unknown
pg_stat_database_xact_commit{datname="a\"b\\c\nd",datid="5"} 12345678
# HELP pg_static unknown
# TYPE pg_static unknown
pg_static -3
# HELP pg_up Answers
# TYPE pg_up gauge
pg_up 1
# HELP pg_wal WAL
# TYPE pg_wal counter
pg_wal_total 0.5
# EOF
"#
        );
    }

    #[test]
    fn writes_numbers() {
        let numbers = [
            (0.0, "0"),
            (-7.0, "-7"),
            (0.25, "0.25"),
            (1e15, "1000000000000000"),
            (1e300, "1e300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for format in [Format::Text, Format::OpenMetrics] {
            for (value, expected) in numbers {
                let snapshot = one("pg_x", Kind::Gauge, "X", labels([("l", "inf")]), value);
                let page = render(snapshot, format);
                let line = format!("pg_x{{l=\"inf\"}} {expected}\n");
                assert!(page.contains(&line), "{page}");
            }
        }
    }

    #[test]
    fn nothing_is_a_page() {
        assert_eq!(render(Snapshot::default(), Format::Text), "");
        assert_eq!(render(Snapshot::default(), Format::OpenMetrics), "# EOF\n");
    }

    #[test]
    fn many_series_take_one_allocation_and_little_time() {
        let mut snapshot = Snapshot::default();
        for family in 0..20 {
            let name = format!("pg_stat_user_tables_metric_{family}_total");
            let metric = Metric::new(&name, Kind::Counter, "A help text of the usual length");
            for table in 0..5_000 {
                let relname = format!("table_name_{table:05}");
                let pairs = [
                    ("datname", "synapse"),
                    ("schemaname", "public"),
                    ("relname", &relname),
                ];
                let value = f64::from(family * table * 7919);
                let labels = labels(pairs);
                snapshot.push(&metric, Sample { labels, value });
            }
        }
        let size = size(&snapshot);
        let start = Instant::now();
        let page = render(snapshot, Format::Text);
        let took = start.elapsed();
        assert_eq!(page.lines().count(), 100_040);
        assert!(page.len() <= size, "the text had to move");
        assert!(page.capacity() <= mapped(2 * page.len()));
        // Unoptimised code on a busy machine; a release build needs some 20 ms.
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}
