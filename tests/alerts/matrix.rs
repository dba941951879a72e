//! Outages, and what is none, played minute by minute in every layout: the series that the exporter
//! and Prometheus would have, as cases for promtool. What arrives stands in a table of
//! `alerts/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The fault begins here, after a past in which all was as it should be.
const FAULT: usize = 60;
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

/// A row of the table.
pub struct Scenario {
    pub name: &'static str,
    /// Servers at the start; the first is the primary.
    servers: usize,
    /// What the minute makes of a world in which all is as it should be.
    play: fn(usize, &mut World),
}

#[derive(Clone, Copy, PartialEq)]
enum Postgres {
    Primary,
    Standby,
    /// It follows nobody.
    Lonely,
    Down(&'static str),
}

#[derive(Clone)]
struct Server {
    name: String,
    cluster_name: String,
    system: &'static str,
    host: bool,
    postgres: Postgres,
    start: usize,
    timeline: usize,
}

/// One minute.
#[derive(Clone)]
pub struct World {
    servers: Vec<Server>,
    /// Prometheus reaches the exporters.
    reachable: bool,
    /// They run.
    exporters: bool,
    /// They serve something about servers.
    served: bool,
    job: &'static str,
    /// Added to the exporters' addresses.
    address: &'static str,
    /// Each server is watched by so many.
    watchers: usize,
    /// Each standby has a slot.
    slots: bool,
}

impl World {
    fn new(servers: usize) -> Self {
        let names = ["a", "b", "c", "d"];
        let server = |(place, name): (usize, &&str)| Server {
            name: (*name).to_owned(),
            cluster_name: "matrix".to_owned(),
            system: "7",
            host: true,
            postgres: if place == 0 {
                Postgres::Primary
            } else {
                Postgres::Standby
            },
            start: 1000 + place,
            timeline: 1,
        };
        Self {
            servers: names.iter().take(servers).enumerate().map(server).collect(),
            reachable: true,
            exporters: true,
            served: true,
            job: "postgres",
            address: "",
            watchers: 1,
            slots: false,
        }
    }

    fn lose(&mut self, place: usize) {
        let server = &mut self.servers[place];
        server.host = false;
        server.postgres = Postgres::Down("timeout");
    }

    fn lose_all(&mut self) {
        (0..self.servers.len()).for_each(|place| self.lose(place));
    }

    fn stop(&mut self, place: usize, reason: &'static str) {
        self.servers[place].postgres = Postgres::Down(reason);
    }

    /// The others have nobody to follow.
    fn orphan(&mut self) {
        for server in &mut self.servers {
            if server.postgres == Postgres::Standby {
                server.postgres = Postgres::Lonely;
            }
        }
    }

    fn promote(&mut self, place: usize) {
        self.servers[place].postgres = Postgres::Primary;
        self.servers.iter_mut().for_each(|one| one.timeline = 2);
    }

    /// A copy of one server, restored from a backup of this cluster beside it.
    fn copy(&mut self) {
        self.servers.push(Server {
            name: "copy".to_owned(),
            cluster_name: "matrix-restored".to_owned(),
            system: "7",
            host: true,
            postgres: Postgres::Primary,
            start: 5000,
            timeline: 2,
        });
    }

    fn names_of_their_own(&mut self) {
        for server in &mut self.servers {
            server.cluster_name = format!("node-{}", server.name);
        }
    }
}

/// The rows of the table.
pub fn scenarios() -> Vec<Scenario> {
    let row = |servers, name, play| Scenario {
        name,
        servers,
        play,
    };
    vec![
        row(1, "1 server is stopped", |t, w| {
            if t >= FAULT {
                w.stop(0, "refused");
            }
        }),
        row(1, "1 server, its host is lost", |t, w| {
            if t >= FAULT {
                w.lose(0);
            }
        }),
        row(2, "2 servers, the primary is stopped", |t, w| {
            if t >= FAULT {
                w.stop(0, "refused");
                w.orphan();
            }
        }),
        row(2, "2 servers, the host of the primary is lost", |t, w| {
            if t >= FAULT {
                w.lose(0);
                w.orphan();
            }
        }),
        row(
            2,
            "2 servers, the same, and the standby takes over",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                    w.promote(1);
                }
            },
        ),
        row(2, "2 servers, the host of the standby is lost", |t, w| {
            if t >= FAULT {
                w.lose(1);
            }
        }),
        row(
            2,
            "2 servers, the standby is cut off from the primary",
            |t, w| {
                if t >= FAULT {
                    w.orphan();
                }
            },
        ),
        row(2, "2 servers, both hosts are lost", |t, w| {
            if t >= FAULT {
                w.lose_all();
            }
        }),
        row(3, "3 servers, the host of the primary is lost", |t, w| {
            if t >= FAULT {
                w.lose(0);
                w.orphan();
            }
        }),
        row(
            3,
            "3 servers, the same, and a standby takes over",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                    w.promote(1);
                }
            },
        ),
        row(3, "3 servers, the host of a standby is lost", |t, w| {
            if t >= FAULT {
                w.lose(2);
            }
        }),
        row(
            3,
            "3 servers with slots, the host of a standby is lost",
            |t, w| {
                w.slots = true;
                if t >= FAULT {
                    w.lose(2);
                }
            },
        ),
        row(3, "3 servers, all hosts are lost", |t, w| {
            if t >= FAULT {
                w.lose_all();
            }
        }),
        row(
            1,
            "1 server, Prometheus is cut off from the exporter",
            |t, w| {
                w.reachable = t < FAULT;
            },
        ),
        row(
            3,
            "3 servers, Prometheus is cut off from the exporters",
            |t, w| {
                w.reachable = t < FAULT;
            },
        ),
        row(
            1,
            "1 server, the exporter answers and knows no server",
            |t, w| {
                w.served = t < FAULT;
            },
        ),
        row(1, "1 server, the password is refused", |t, w| {
            if t >= FAULT {
                w.stop(0, "authentication");
            }
        }),
        row(2, "2 servers, the password is refused", |t, w| {
            if t >= FAULT {
                w.stop(0, "authentication");
                w.stop(1, "authentication");
            }
        }),
        row(
            2,
            "2 servers with names of their own, the host of the primary is lost",
            |t, w| {
                w.names_of_their_own();
                if t >= FAULT {
                    w.lose(0);
                    w.orphan();
                }
            },
        ),
        row(
            2,
            "2 servers with names of their own, the standby takes over",
            |t, w| {
                w.names_of_their_own();
                if t >= FAULT {
                    w.lose(0);
                    w.promote(1);
                }
            },
        ),
        row(
            1,
            "1 server with two exporters, its host is lost",
            |t, w| {
                w.watchers = 2;
                if t >= FAULT {
                    w.lose(0);
                }
            },
        ),
        row(
            1,
            "1 server with a restored copy beside it, its host is lost",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                }
                if t >= 40 {
                    w.copy();
                }
            },
        ),
        row(
            3,
            "3 servers with a restored copy beside them, all hosts but that of the copy are lost",
            |t, w| {
                if t >= FAULT {
                    w.lose_all();
                }
                if t >= 40 {
                    w.copy();
                }
            },
        ),
        row(
            1,
            "1 server is lost, then a copy is restored in another place",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                }
                if t >= FAULT + 20 {
                    w.copy();
                }
            },
        ),
        row(
            2,
            "2 standbys of a primary that is not watched, one is stopped",
            |t, w| {
                w.servers[0].postgres = Postgres::Standby;
                if t >= FAULT {
                    w.stop(0, "refused");
                }
            },
        ),
        row(
            2,
            "2 standbys of a primary that is not watched, both hosts are lost",
            |t, w| {
                w.servers[0].postgres = Postgres::Standby;
                if t >= FAULT {
                    w.lose_all();
                }
            },
        ),
        row(1, "1 server is restarted within two minutes", |t, w| {
            if t >= FAULT {
                w.servers[0].start = 2000;
            }
            if (FAULT..FAULT + 2).contains(&t) {
                w.stop(0, "refused");
            }
        }),
        row(
            2,
            "2 servers, rolling update with a planned switch-over",
            rolling,
        ),
        row(
            3,
            "3 servers, rolling update with a planned switch-over",
            rolling,
        ),
        row(
            2,
            "2 servers with names of their own, planned switch-over",
            |t, w| {
                w.names_of_their_own();
                rolling(t, w);
            },
        ),
        row(3, "3 servers, scaled to 4 and back", scaled),
        row(3, "3 servers with slots, scaled to 4 and back", |t, w| {
            w.slots = true;
            scaled(t, w);
        }),
        row(1, "1 server, the exporter is restarted", restarted),
        row(3, "3 servers, the exporters are restarted", restarted),
        row(1, "1 server, the exporter moves to another address", moved),
        row(3, "3 servers, the exporters move to other addresses", moved),
        row(1, "1 server, the job is renamed", renamed),
        row(3, "3 servers, the job is renamed", renamed),
        row(1, "1 server gets a second exporter", second_exporter),
        row(3, "3 servers get a second exporter", second_exporter),
        row(
            1,
            "1 server, a copy is restored beside it and removed again",
            copied,
        ),
        row(
            3,
            "3 servers, a copy is restored beside them and removed again",
            copied,
        ),
        row(1, "1 server becomes another by pg_upgrade", |t, w| {
            if t >= FAULT {
                w.servers[0].system = "8";
                w.servers[0].start = 9000;
            }
        }),
        row(1, "1 server gets another cluster_name", |t, w| {
            if t >= FAULT {
                w.servers[0].cluster_name = "chat".to_owned();
                w.servers[0].start = 9000;
            }
        }),
    ]
}

/// The standbys one after the other, then the primary, whose place the second takes.
fn rolling(t: usize, world: &mut World) {
    let count = world.servers.len();
    for place in 1..count {
        let from = FAULT + 3 * place;
        if t >= from {
            world.servers[place].start = 2000 + place;
        }
        if (from..from + 2).contains(&t) {
            world.stop(place, "refused");
        }
    }
    let switch = FAULT + 3 * count;
    if t >= switch {
        world.servers[0].postgres = Postgres::Standby;
        world.servers[0].start = 3000;
        world.promote(1);
    }
    if (switch..switch + 2).contains(&t) {
        world.stop(0, "shutting_down");
    }
}

fn scaled(t: usize, world: &mut World) {
    if (40..FAULT).contains(&t) {
        let mut fourth = World::new(4).servers.remove(3);
        fourth.start = 40;
        world.servers.push(fourth);
    }
}

fn restarted(t: usize, world: &mut World) {
    world.exporters = !(FAULT..FAULT + 2).contains(&t);
}

fn moved(t: usize, world: &mut World) {
    world.exporters = t != FAULT;
    if t >= FAULT {
        world.address = "-new";
    }
}

fn renamed(t: usize, world: &mut World) {
    if t >= FAULT {
        world.job = "matrix/postgres";
    }
}

fn second_exporter(t: usize, world: &mut World) {
    if t >= FAULT {
        world.watchers = 2;
    }
}

fn copied(t: usize, world: &mut World) {
    if (40..FAULT).contains(&t) {
        world.copy();
    }
}

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
        self.put("pg_server_info", target, &identity, 1.0);
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
                    (target, answers && !(layout.vanishes && !server.host))
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
/// stays in the record of alerts; each page is one, and goes on to the end.
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
    let by = "by (namespace, alertname, severity)";
    let ever = format!("group {by} (last_over_time({firing}}}[{END}m]))");
    let pages = format!("count {by} ({firing}, severity=\"critical\"}})");
    for (expr, least) in [(ever, "warning"), (pages, "critical")] {
        writeln!(
            text,
            "      - expr: {expr}\n        eval_time: {END}m\n        exp_samples:"
        )
        .unwrap();
        for (scenario, arrives) in expected {
            for (severity, alert) in *arrives {
                if severity == least || least == "warning" {
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
