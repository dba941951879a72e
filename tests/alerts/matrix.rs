//! Outages, and what is none, played minute by minute in every layout: the series that the exporter
//! and Prometheus would have, as cases for promtool. What arrives stands in a table of
//! `alerts/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

#[path = "outages.rs"]
mod outages;

pub use outages::scenarios;
use outages::{FAULT, Postgres, Scenario, Server, World};

const END: usize = FAULT + 60;

/// Where exporters are, and what becomes of a target that cannot be reached.
#[derive(Clone, Copy)]
pub struct Layout {
    pub name: &'static str,
    /// One exporter for all servers, on a host of its own.
    central: bool,
    /// Discovery forgets what is gone, as in Kubernetes; a list of addresses does not.
    vanishes: bool,
}

/// In the order of the table's columns.
pub const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "beside, stays",
        central: false,
        vanishes: false,
    },
    Layout {
        name: "beside, vanishes",
        central: false,
        vanishes: true,
    },
    Layout {
        name: "central, stays",
        central: true,
        vanishes: false,
    },
    Layout {
        name: "central, vanishes",
        central: true,
        vanishes: true,
    },
];

/// Series and their values, minute by minute.
type Series = BTreeMap<String, Vec<Option<f64>>>;

/// What is served in a minute is written here.
struct Minute<'a> {
    series: &'a mut Series,
    at: usize,
}

impl Minute<'_> {
    fn put(&mut self, name: &str, target: &str, labels: &str, value: f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let values = self
            .series
            .entry(format!("{name}{{{target}{comma}{labels}}}"))
            .or_insert_with(|| vec![None; END + 1]);
        values[self.at] = Some(value);
    }

    fn server(&mut self, world: &World, server: &Server, target: &str) {
        let identity = format!(
            "system_identifier=\"{}\",cluster_name=\"{}\"",
            server.system, server.cluster_name
        );
        let down = matches!(server.postgres, Postgres::Down(_));
        if !(down && world.forgotten) {
            self.put("pg_server_info", target, &identity, 1.0);
        }
        if let Postgres::Down(reason) = server.postgres {
            self.put("pg_up", target, "", 0.0);
            let reason = format!("reason=\"{reason}\"");
            return self.put("pg_exporter_down_reason", target, &reason, 1.0);
        }
        let primary = server.postgres == Postgres::Primary;
        self.put("pg_up", target, "", 1.0);
        self.put("pg_in_recovery", target, "", f64::from(!primary));
        self.put("pg_timeline_id", target, "", number(server.timeline));
        let start = number(server.start) + 0.5;
        self.put("pg_postmaster_start_time_seconds", target, "", start);
        if !primary {
            let streaming = server.postgres == Postgres::Standby;
            self.put(
                "pg_stat_wal_receiver_streaming",
                target,
                "",
                f64::from(streaming),
            );
            return self.put("pg_replication_lag_seconds", target, "", 0.0);
        }
        self.put("pg_replication_lag_seconds", target, "", 0.0);
        let others = world.servers.iter().filter(|other| {
            other.name != server.name && other.system == server.system && server.name != "copy"
        });
        for other in others.filter(|other| other.name != "copy") {
            let streaming = other.postgres == Postgres::Standby;
            let slot = if world.slots { other.name.as_str() } else { "" };
            if streaming {
                let labels = format!(
                    "application_name=\"{}\",state=\"streaming\",slot_name=\"{slot}\"",
                    other.name
                );
                self.put("pg_stat_replication_pg_wal_lsn_diff", target, &labels, 0.0);
            }
            if world.slots {
                let labels = format!("slot_name=\"{slot}\",slot_type=\"physical\"");
                let active = f64::from(streaming);
                self.put(
                    "pg_replication_slots_slot_is_active",
                    target,
                    &labels,
                    active,
                );
            }
        }
    }

    fn exporter(&mut self, target: &str, reached: bool, vanishes: bool) {
        if reached {
            self.put("up", target, "", 1.0);
            self.put("pg_exporter_build_info", target, "version=\"1\"", 1.0);
        } else if !vanishes {
            self.put("up", target, "", 0.0);
        }
    }
}

fn number(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap())
}

fn series(scenario: &Scenario, layout: Layout) -> Series {
    let mut series = Series::new();
    for at in 0..=END {
        let mut world = World::new(scenario.servers);
        (scenario.play)(at, &mut world);
        let mut minute = Minute {
            series: &mut series,
            at,
        };
        let answers = world.reachable && world.exporters;
        for watcher in 0..world.watchers {
            let job = world.job;
            let at = |host: &str| {
                let address = world.address;
                format!(
                    "namespace=\"{}\",job=\"{job}\",instance=\"{host}{address}:918{watcher}\"",
                    scenario.name
                )
            };
            if layout.central {
                minute.exporter(&at("central"), answers, layout.vanishes);
            }
            for server in &world.servers {
                let (target, reached) = if layout.central {
                    let target = format!("{},server=\"{}\"", at("central"), server.name);
                    (target, answers && (server.host || !layout.vanishes))
                } else {
                    let reached = answers && server.host;
                    minute.exporter(&at(&server.name), reached, layout.vanishes);
                    (at(&server.name), reached)
                };
                if reached && world.served {
                    minute.server(&world, server, &target);
                }
            }
        }
    }
    series
}

/// What arrives: severity and alert.
pub type Arrives = BTreeSet<(String, String)>;

/// The table: a row's name, and what arrives in each layout.
pub fn table(readme: &str) -> BTreeMap<String, Vec<Arrives>> {
    let rows = readme
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| {
            let cells = line.trim_matches('|').split('|').map(str::trim);
            cells.collect::<Vec<_>>()
        });
    let rows = rows.filter(|cells| cells.len() == LAYOUTS.len() + 1);
    rows.skip(1)
        .map(|cells| {
            let arrives = cells[1..].iter().map(|cell| arrives(cell)).collect();
            (cells[0].to_owned(), arrives)
        })
        .collect()
}

/// "page X; ticket Y, Z" or "nothing".
fn arrives(cell: &str) -> Arrives {
    let mut all = Arrives::new();
    for part in cell.split(';').map(str::trim) {
        let Some((kind, alerts)) = part.split_once(' ') else {
            assert_eq!(part, "nothing");
            continue;
        };
        let severity = match kind {
            "page" => "critical",
            "ticket" => "warning",
            other => panic!("{other} is neither page nor ticket: {cell}"),
        };
        for alert in alerts.split(',') {
            all.insert((severity.to_owned(), format!("Postgres{}", alert.trim())));
        }
    }
    all
}

/// Every row in one layout as a case for promtool, each in a namespace of its name. Whatever fired
/// stays in the record of alerts; each page is one, and goes on to the end without a break.
pub fn case(layout: Layout, expected: &[(&Scenario, &Arrives)]) -> String {
    let mut text = format!(
        "  - name: {}\n    interval: 1m\n    input_series:\n",
        layout.name
    );
    for (scenario, _) in expected {
        for (name, values) in series(scenario, layout) {
            let values = notation(&values);
            writeln!(text, "      - {{ series: '{name}', values: '{values}' }}").unwrap();
        }
    }
    text.push_str("    promql_expr_test:\n");
    let firing = "ALERTS{alertstate=\"firing\"";
    let pages = format!("{firing}, severity=\"critical\"}}");
    let by = "by (namespace, alertname, severity)";
    let ever = format!("group {by} (last_over_time({firing}}}[{END}m]))");
    let one = format!("count {by} ({pages})");
    let since = format!("({END} - min_over_time(timestamp({pages})[{END}m:1m]) / 60)");
    let broken = format!("count {by} (count_over_time({pages}[{END}m]) < {since})");
    for (expr, least) in [
        (ever, Some("warning")),
        (one, Some("critical")),
        (broken, None),
    ] {
        writeln!(
            text,
            "      - expr: {expr}\n        eval_time: {END}m\n        exp_samples:"
        )
        .unwrap();
        for (scenario, arrives) in expected {
            for (severity, alert) in *arrives {
                if least.is_some_and(|least| severity == least || least == "warning") {
                    let name = scenario.name;
                    writeln!(
                        text,
                        "          - {{ labels: '{{namespace=\"{name}\", alertname=\"{alert}\", \
                         severity=\"{severity}\"}}', value: 1 }}"
                    )
                    .unwrap();
                }
            }
        }
    }
    text
}

/// Values as promtool writes them: `1x4 stale _x9`.
fn notation(values: &[Option<f64>]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = values;
    let mut before = None;
    while let Some(&value) = rest.first() {
        let length = rest.iter().take_while(|other| **other == value).count();
        rest = &rest[length..];
        match (value, before) {
            (Some(value), _) => words.push(format!("{value}x{}", length - 1)),
            (None, Some(_)) if length == 1 => words.push("stale".to_owned()),
            (None, Some(_)) => words.push(format!("stale _x{}", length - 1)),
            (None, None) => words.push(format!("_x{length}")),
        }
        before = value;
    }
    words.join(" ")
}
