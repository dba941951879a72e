//! Every flag, once: its name, the setting it stands for, its help.
//!
//! The names are postgres_exporter's where it has them, and so is the notation: `--flag value`,
//! `--flag=value`, and for switches `--flag`, `--no-flag` and `--flag=false`. Each flag has a twin
//! in the environment: `--web.listen-address` is `PG_EXPORTER_WEB_LISTEN_ADDRESS`.

use std::collections::BTreeSet;
use std::iter;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use config::{Map, Value};

use crate::collectors;
use crate::config::{
    Fault, Layer, POSTGRES_EXPORTER_COLLECTORS, Problem, Sources, Switch, Variable,
};

/// Every flag but `--config.file` and `--[no-]collector.NAME`. Of two that stand for the same
/// setting the later one wins.
const FLAGS: &[Flag] = &[
    Flag::text("dsn", "servers.*.dsn").shown(
        "Server",
        "DSN",
        "How to reach it, as libpq takes it [env: DATA_SOURCE_NAME]",
    ),
    Flag::text("connections", "servers.*.connections").shown(
        "Server",
        "N",
        "Connections at most, in all, 2 or more [default: 3]",
    ),
    Flag::list("include-databases", "servers.*.databases.include").shown(
        "Server",
        "GLOB,...",
        "Visit only these databases",
    ),
    Flag::list("exclude-databases", "servers.*.databases.exclude").shown(
        "Server",
        "GLOB,...",
        "Visit all databases but these",
    ),
    Flag::pairs("constantLabels", "servers.*.labels").shown(
        "Server",
        "NAME=VALUE,...",
        "Labels for every series",
    ),
    Flag::list("web.listen-address", "web.listen").shown(
        "Web",
        "ADDRESS",
        "Where to listen, repeatable [default: :9187]",
    ),
    Flag::text("web.telemetry-path", "web.telemetry_path").shown(
        "Web",
        "PATH",
        "Where the metrics are [default: /metrics]",
    ),
    Flag::truth("openmetrics", "openmetrics").shown(
        "Web",
        "BOOL",
        "Serve OpenMetrics to scrapers that ask for it",
    ),
    Flag::truth("web.enable-lifecycle", "web.lifecycle").shown(
        "Web",
        "BOOL",
        "Let other hosts switch collectors, too",
    ),
    Flag::text("web.config.file", "web.config_file"),
    Flag::text("collection-timeout", "scrape.timeout"),
    Flag::text("scrape.timeout", "scrape.timeout").shown(
        "Scrape",
        "DURATION",
        "The longest a scrape may take [default: 10s]",
    ),
    Flag::text("state-dir", "state_dir").shown(
        "Scrape",
        "FOLDER",
        "Keep the count of Synapse's events here, from one start to the next",
    ),
    Flag::text("log.level", "log.level").shown(
        "Log",
        "LEVEL",
        "off, error, warn, info, debug or trace [default: info]",
    ),
    Flag::text("log.format", "log.format").shown(
        "Log",
        "FORMAT",
        "logfmt or json [default: logfmt]",
    ),
    Flag::without("disable-settings-metrics", "settings"),
    Flag::ignored(
        "disable-default-metrics",
        "false",
        "has no effect; --no-collector.NAME switches a collector off",
    ),
    Flag::ignored(
        "auto-discover-databases",
        "true",
        "has no effect, since every database is visited; --include-databases narrows that",
    ),
    Flag::refused(
        "metric-prefix",
        "pg",
        "must be pg; metric_relabel_configs in Prometheus can rename",
    ),
    Flag::refused(
        "extend.query-path",
        "",
        "custom queries are not served yet; take the setting out",
    ),
    Flag::refused(
        "web.systemd-socket",
        "false",
        "sockets of systemd are not taken; --web.listen-address says where to listen",
    ),
    Flag::refused(
        "dumpmaps",
        "false",
        "there are no maps; `matrix-postgres-exporter metrics` prints every metric",
    ),
    Flag::text(
        "collector.stat_statements.limit",
        "collectors.stat_statements.limit",
    ),
    Flag::ignored(
        "collector.stat_statements.include_query",
        "false",
        "has no effect; query texts are never read",
    ),
    Flag::ignored(
        "collector.stat_statements.query_length",
        "120",
        "has no effect; query texts are never read",
    ),
    Flag::ignored(
        "collector.stat_statements.exclude_databases",
        "",
        "has no effect; --exclude-databases leaves databases out",
    ),
    Flag::ignored(
        "collector.stat_statements.exclude_users",
        "",
        "has no effect",
    ),
];

const FILE: &str = "config.file";

/// Adds every flag to a command.
pub fn add(command: Command) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .help("The configuration, in YAML");
    let switches = collector_names()
        .into_iter()
        .flat_map(|name| switch(&format!("collector.{name}")))
        .map(|arg| arg.hide(true));
    command
        .arg(file)
        .args(FLAGS.iter().flat_map(Flag::args))
        .args(switches)
}

/// What flags and environment say.
pub fn sources<'a>(matches: &ArgMatches, variable: Variable<'a>) -> Sources<'a> {
    let from_environment = |flag: &str| {
        let twin = twin(flag);
        variable(&twin).map(|value| (twin, vec![value]))
    };
    let from_flags = |flag: &str| {
        let said = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let negated = format!("no-{flag}");
        if said(flag) {
            let values = matches.get_many::<String>(flag)?.cloned().collect();
            Some((format!("--{flag}"), values))
        } else if matches.try_contains_id(&negated).is_ok() && said(&negated) {
            Some((format!("--{negated}"), vec!["false".to_owned()]))
        } else {
            None
        }
    };

    let mut said = Said::default();
    let environment = said.layer(&from_environment);
    let flags = said.layer(&from_flags);
    Sources {
        file: from_flags(FILE)
            .or_else(|| from_environment(FILE))
            .and_then(|(_, mut values)| values.pop())
            .map(PathBuf::from),
        environment,
        flags,
        switches: said.switches,
        variable,
        problems: said.problems,
        warnings: said.warnings,
    }
}

/// A flag that stands for a setting.
struct Flag {
    /// Without the dashes.
    name: &'static str,
    /// What it means for the configuration.
    effect: Effect,
    /// Heading, value and sentence in the help, where it is listed there.
    help: Option<(&'static str, &'static str, &'static str)>,
}

/// What a flag means for the configuration.
enum Effect {
    /// Sets this key.
    Text(&'static str),
    /// Sets this key to several values, separated by commas or given one by one.
    List(&'static str),
    /// Sets names below this key.
    Pairs(&'static str),
    /// Sets this key to yes or no.
    Truth(&'static str),
    /// Switches this collector off.
    Without(&'static str),
    /// Nothing, and a warning says so where the value does not fit anyway.
    Ignored(&'static str, &'static str),
    /// Only this value is possible; a sentence says why.
    Refused(&'static str, &'static str),
}

impl Flag {
    const fn text(name: &'static str, key: &'static str) -> Self {
        Self::new(name, Effect::Text(key))
    }

    const fn list(name: &'static str, key: &'static str) -> Self {
        Self::new(name, Effect::List(key))
    }

    const fn pairs(name: &'static str, key: &'static str) -> Self {
        Self::new(name, Effect::Pairs(key))
    }

    const fn truth(name: &'static str, key: &'static str) -> Self {
        Self::new(name, Effect::Truth(key))
    }

    const fn without(name: &'static str, collector: &'static str) -> Self {
        Self::new(name, Effect::Without(collector))
    }

    const fn ignored(name: &'static str, fits: &'static str, warning: &'static str) -> Self {
        Self::new(name, Effect::Ignored(fits, warning))
    }

    const fn refused(name: &'static str, fits: &'static str, why: &'static str) -> Self {
        Self::new(name, Effect::Refused(fits, why))
    }

    const fn new(name: &'static str, effect: Effect) -> Self {
        Self {
            name,
            effect,
            help: None,
        }
    }

    const fn shown(
        mut self,
        group: &'static str,
        value: &'static str,
        sentence: &'static str,
    ) -> Self {
        self.help = Some((group, value, sentence));
        self
    }

    fn args(&self) -> impl Iterator<Item = Arg> {
        let (arg, negated) = match self.effect {
            Effect::Truth(_)
            | Effect::Without(_)
            | Effect::Ignored("true" | "false", _)
            | Effect::Refused("false", _) => {
                let [arg, negated] = switch(self.name);
                (arg, Some(negated))
            }
            Effect::List(_) | Effect::Pairs(_) => (long(self.name).action(ArgAction::Append), None),
            _ => (long(self.name), None),
        };
        let arg = match self.help {
            None => arg.hide(true),
            Some((group, value, sentence)) => {
                arg.help_heading(group).value_name(value).help(sentence)
            }
        };
        iter::once(arg).chain(negated)
    }
}

fn long(name: &str) -> Arg {
    Arg::new(name.to_owned()).long(name.to_owned())
}

/// `--name`, `--name=false` and `--no-name`; the last one wins.
fn switch(name: &str) -> [Arg; 2] {
    let negated = format!("no-{name}");
    [
        long(name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .overrides_with_all([name.to_owned(), negated.clone()]),
        long(&negated)
            .num_args(0)
            .action(ArgAction::SetTrue)
            .overrides_with_all([name.to_owned(), negated.clone()])
            .hide(true),
    ]
}

fn collector_names() -> BTreeSet<&'static str> {
    collectors::all()
        .into_iter()
        .map(|collector| collector.name)
        .chain(POSTGRES_EXPORTER_COLLECTORS.iter().copied())
        .collect()
}

/// `constantLabels` is `PG_EXPORTER_CONSTANT_LABELS`.
fn twin(flag: &str) -> String {
    let mut twin = "PG_EXPORTER_".to_owned();
    for c in flag.chars() {
        match c {
            '.' | '-' => twin.push('_'),
            c if c.is_ascii_uppercase() => twin.extend(['_', c]),
            c => twin.push(c.to_ascii_uppercase()),
        }
    }
    twin
}

/// What one source says of a flag: the place and the values.
type Saying<'a> = &'a dyn Fn(&str) -> Option<(String, Vec<String>)>;

/// What was said beside the settings.
#[derive(Default)]
struct Said {
    switches: Vec<Switch>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Said {
    fn layer(&mut self, saying: Saying<'_>) -> Layer {
        let mut layer = Layer::default();
        for flag in FLAGS {
            if let Some((place, values)) = saying(flag.name) {
                self.take(&flag.effect, &mut layer, place, values);
            }
        }
        for collector in collector_names() {
            if let Some((place, values)) = saying(&format!("collector.{collector}")) {
                self.switch(place, &values.concat(), |on| on, collector);
            }
        }
        layer
    }

    fn take(&mut self, effect: &Effect, layer: &mut Layer, place: String, values: Vec<String>) {
        let parts = || {
            values
                .iter()
                .flat_map(|value| value.split(','))
                .map(str::trim)
                .filter(|part| !part.is_empty())
        };
        match effect {
            Effect::Text(key) | Effect::Truth(key) => layer.set(key, &place, values.concat()),
            Effect::List(key) => {
                let items: Vec<_> = parts().map(|part| Value::new(Some(&place), part)).collect();
                layer.set(key, &place, items);
            }
            Effect::Pairs(key) => {
                let mut pairs = Map::new();
                for part in parts() {
                    match part.split_once('=') {
                        Some((name, value)) => {
                            pairs.insert(name.to_owned(), Value::new(Some(&place), value));
                        }
                        None => self.problems.push(Problem::new(
                            &place,
                            Fault::Invalid(format!("{part:?} is no NAME=VALUE")),
                        )),
                    }
                }
                layer.set(key, &place, pairs);
            }
            Effect::Without(collector) => {
                self.switch(place, &values.concat(), |without| !without, collector);
            }
            Effect::Ignored(fits, warning) => {
                if values.concat() != *fits {
                    self.warnings.push(format!("{place} {warning}"));
                }
            }
            Effect::Refused(fits, why) => {
                if values.concat() != *fits {
                    self.problems
                        .push(Problem::new(&place, Fault::Invalid((*why).to_owned())));
                }
            }
        }
    }

    fn switch(&mut self, place: String, value: &str, on: fn(bool) -> bool, collector: &str) {
        match Value::from(value).into_bool() {
            Ok(value) => self.switches.push(Switch {
                collector: collector.to_owned(),
                on: on(value),
                place,
            }),
            Err(_) => self.problems.push(Problem::new(&place, Fault::NotABool)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Loaded, load};

    #[test]
    fn flags_are_taken_in_every_notation() {
        let config = config(
            &[
                "--web.listen-address=:9999",
                "--web.listen-address",
                "127.0.0.1:9998",
                "--openmetrics",
                "--no-web.enable-lifecycle",
                "--collection-timeout=1m",
                "--exclude-databases=a,b",
                "--constantLabels=team=chat,env=prod",
                "--no-collector.stat_archiver",
            ],
            &[],
        );
        assert_eq!(config.web.listen, [":9999", "127.0.0.1:9998"]);
        assert!(config.web.openmetrics && !config.web.lifecycle);
        assert_eq!(config.scrape.timeout.as_secs(), 60);
        assert_eq!(config.servers[0].databases.exclude, ["a", "b"]);
        assert_eq!(config.servers[0].labels["team"], "chat");
        assert_eq!(config.servers[0].labels["env"], "prod");
        assert!(!config.collectors.enabled.contains("stat_archiver"));
        assert!(
            !super::tests::config(&["--openmetrics=false"], &[])
                .web
                .openmetrics
        );
    }

    #[test]
    fn the_last_switch_wins_and_a_flag_wins_over_its_twin() {
        let on = |args: &[&str], env: &[(&str, &str)]| {
            config(args, env)
                .collectors
                .enabled
                .contains("stat_archiver")
        };
        let (yes, no) = ("--collector.stat_archiver", "--no-collector.stat_archiver");
        assert!(!on(&[yes, no], &[]));
        assert!(on(&[no, yes], &[]));
        assert!(!on(&["--collector.stat_archiver=false"], &[]));
        assert!(!on(
            &[],
            &[("PG_EXPORTER_COLLECTOR_STAT_ARCHIVER", "false")]
        ));
        assert!(on(
            &[yes],
            &[("PG_EXPORTER_COLLECTOR_STAT_ARCHIVER", "false")]
        ));
    }

    #[test]
    fn every_flag_has_a_twin() {
        assert_eq!(twin("web.listen-address"), "PG_EXPORTER_WEB_LISTEN_ADDRESS");
        assert_eq!(twin("constantLabels"), "PG_EXPORTER_CONSTANT_LABELS");
        let env = [
            ("PG_EXPORTER_WEB_TELEMETRY_PATH", "/m"),
            ("PG_EXPORTER_SCRAPE_TIMEOUT", "3s"),
            ("PG_EXPORTER_OPENMETRICS", "true"),
        ];
        let config = config(&["--scrape.timeout=4s"], &env);
        assert_eq!(config.web.telemetry_path, "/m");
        assert_eq!(config.scrape.timeout.as_secs(), 4);
        assert!(config.web.openmetrics);
    }

    #[test]
    fn what_has_no_effect_is_said_and_what_fits_anyway_is_not() {
        let warnings = |args: &[&str]| loaded(args, &[]).unwrap().warnings;
        assert_eq!(
            warnings(&["--disable-default-metrics", "--collector.xlog_location"]),
            [
                "--disable-default-metrics has no effect; --no-collector.NAME switches a collector off",
                "--collector.xlog_location: postgres_exporter's collector \"xlog_location\" is not here yet; nothing is collected for it",
            ]
        );
        assert_eq!(
            warnings(&[
                "--auto-discover-databases",
                "--metric-prefix=pg",
                "--no-collector.xlog_location",
                "--no-disable-default-metrics",
            ]),
            [""; 0]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let said = loaded(
            &["--metric-prefix=my", "--constantLabels=x", "--dumpmaps"],
            &[
                ("PG_EXPORTER_EXTEND_QUERY_PATH", "queries.yaml"),
                ("PG_EXPORTER_COLLECTOR_STAT_ARCHIVER", "maybe"),
                ("PG_EXPORTER_SCRAPE_TIMEOUT", "soon"),
            ],
        )
        .unwrap_err()
        .to_string();
        assert_eq!(
            said,
            "PG_EXPORTER_EXTEND_QUERY_PATH: custom queries are not served yet; take the setting out\n\
             PG_EXPORTER_COLLECTOR_STAT_ARCHIVER: must be true or false\n\
             --constantLabels: \"x\" is no NAME=VALUE\n\
             --metric-prefix: must be pg; metric_relabel_configs in Prometheus can rename\n\
             --dumpmaps: there are no maps; `matrix-postgres-exporter metrics` prints every metric\n\
             PG_EXPORTER_SCRAPE_TIMEOUT: must be a duration; write one like 500ms, 60s, 1m30s or 2h"
        );
    }

    fn config(args: &[&str], env: &[(&str, &str)]) -> Config {
        loaded(args, env).unwrap().config
    }

    fn loaded(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded, crate::config::Problems> {
        let command = add(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(args).unwrap();
        let variable = |name: &str| {
            env.iter()
                .chain(&[("PGUSER", "exporter")])
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        load(sources(&matches, &variable))
    }
}
