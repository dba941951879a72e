//! What was measured, as a table.

use std::fmt::Write;

use super::shared::median;
use super::turn::Turn;

type Row = (&'static str, &'static str, fn(&Turn) -> f64);

const ROWS: [Row; 13] = [
    ("answered in (median)", "ms", |turn| turn.latency),
    ("CPU of the exporter", "ms", |turn| turn.cpu),
    ("memory (VmRSS)", "MB", |turn| turn.memory),
    ("memory at its peak (VmHWM)", "MB", |turn| {
        turn.memory_at_most
    }),
    ("statements, without SET", "", |turn| turn.statements),
    ("SET", "", |turn| turn.settings),
    ("time of statements in the database", "ms", |turn| {
        turn.database
    }),
    ("CPU of the server's processes", "ms", |turn| {
        turn.server_cpu
    }),
    ("new connections", "", |turn| turn.connections),
    ("series", "", |turn| turn.series),
    ("page", "kB", |turn| turn.page),
    ("page, compressed", "kB", |turn| turn.sent),
    (
        "time of statements from the start to the first measured scrape",
        "ms",
        |turn| turn.start,
    ),
];

/// What was measured of one exporter, or in the place of one.
pub struct Column {
    pub name: &'static str,
    pub version: String,
    pub turns: Vec<Turn>,
}

/// The medians of the turns, and what those of the first column are in parts of the others.
pub fn table(columns: &[Column]) -> String {
    let (first, others) = columns.split_first().unwrap();
    let mut table = "| for each scrape |".to_owned();
    for Column { name, version, .. } in columns {
        write!(table, " {} |", format!("{name} {version}").trim_end()).unwrap();
    }
    for other in others {
        write!(table, " {} / {} |", first.name, other.name).unwrap();
    }
    table += "\n|---|";
    table += &"--:|".repeat(columns.len() + others.len());
    table += "\n";
    for (name, unit, of) in ROWS {
        let middle =
            |column: &Column| median(column.turns.iter().map(of).collect(), |value| *value);
        let values: Vec<f64> = columns.iter().map(middle).collect();
        write!(table, "| {name} |").unwrap();
        for value in &values {
            write!(table, " {} |", with_unit(*value, unit)).unwrap();
        }
        for other in &values[1..] {
            let ratio = values[0] / other;
            match ratio.is_finite() {
                true => write!(table, " {ratio:.2} |").unwrap(),
                false => table += " |",
            }
        }
        table += "\n";
    }
    table
}

/// Three digits, which is more than can be relied on.
fn with_unit(value: f64, unit: &str) -> String {
    let digits = match value {
        _ if value.is_nan() => return String::new(),
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let value = format!("{value:.digits$}");
    let value = match value.contains('.') {
        true => value.trim_end_matches('0').trim_end_matches('.'),
        false => &value,
    };
    format!("{value} {unit}").trim_end().to_owned()
}
