//! A snapshot as text, in both formats.
//!
//! `prometheus-client` writes the page; what it does not do is done here: escaping of help texts,
//! the types and numbers of the older text format, and names that no format changes.

mod format;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::snapshot::{Family, Kind, Labels, Snapshot};

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
        // The metrics of one statement share the labels of its rows.
        let mut rows: Vec<Joined<'_>> = Vec::new();
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
            let help = escape(&metric.help, self.format == Format::OpenMetrics);
            let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
            for (at, sample) in samples.iter().enumerate() {
                let is_same = |row: &Joined<'_>| Arc::ptr_eq(row.labels, &sample.labels);
                if !rows.get(at).is_some_and(is_same) {
                    rows.truncate(at);
                    rows.push(Joined::new(&sample.labels));
                }
                match sample.labels.is_empty() {
                    true => encode_value(&mut family, sample.value, suffixed)?,
                    false => {
                        let mut labelled = family.encode_family(&rows[at])?;
                        encode_value(&mut labelled, sample.value, suffixed)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// In help texts of text 0.0.4 a backslash and a newline are escaped, in those of OpenMetrics and in label
/// values a quote too.
fn escape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains(|c| matches!(c, '\\' | '\n') || (quotes && c == '"')) {
        return text.into();
    }
    let escaped = text.replace('\\', r"\\").replace('\n', r"\n");
    match quotes {
        true => escaped.replace('"', r#"\""#).into(),
        false => escaped.into(),
    }
}

fn encode_value(encoder: &mut MetricEncoder, value: f64, suffixed: bool) -> fmt::Result {
    // Most values are whole numbers, which are written faster as such, up to where a float has an exponent.
    let whole = value as i64;
    match suffixed {
        true => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        false if value.abs() < 1e15 && whole as f64 == value => encoder.encode_gauge(&whole),
        false => encoder.encode_gauge(&value),
    }
}

/// A set of labels that is written as if it were one label, once for all metrics of a row: as its name stands
/// all that comes before the last value.
struct Joined<'a> {
    labels: &'a Labels,
    name: String,
    value: &'a str,
}

impl<'a> Joined<'a> {
    fn new(labels: &'a Labels) -> Self {
        let mut name = String::new();
        let mut last = "";
        for (at, (label, value)) in labels.iter().enumerate() {
            if at > 0 {
                name += "=\"";
                name += &escape(last, true);
                name += "\",";
            }
            name += label;
            last = value;
        }
        Self {
            labels,
            name,
            value: last,
        }
    }
}

impl EncodeLabelSet for Joined<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        (self.name.as_str(), self.value).encode(encoder.encode_label())
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
    use crate::snapshot::{Metric, Sample, labels};

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
