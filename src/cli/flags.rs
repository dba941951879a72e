//! Every flag, once: its name, the setting it stands for, its help.
//!
//! The names are postgres_exporter's where it has them, and so is the notation: `--flag value`,
//! `--flag=value`, and for switches `--flag`, `--no-flag` and `--flag=false`. Each flag has a twin
//! in the environment: `--web.listen-address` is `PG_EXPORTER_WEB_LISTEN_ADDRESS`.
//!
//! - [`arguments`]: what was written, before clap reads it, and all that is unknown in it
//! - [`misspelt`]: variables that look like ours

use std::collections::BTreeSet;
use std::iter;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use config::{Map, Value};

use crate::collectors::{Registry, postgres_exporter};
use crate::config::{Fault, Layer, Problem, Sources, Switch, Variable};

pub mod arguments;
pub mod misspelt;

/// Every flag but `--config.file` and `--[no-]collector.NAME`. Of two that stand for the same
/// setting the later one wins.
const FLAGS: &[Flag] = &[
    Flag::text("dsn", "servers.*.dsn").shown(
        "Server",
        "DSN",
        "PostgreSQL connection string, a URI or key=value words, without a password, which others \
         could read here [env: DATA_SOURCE_NAME]",
    ),
    Flag::text("connections", "servers.*.connections").shown(
        "Server",
        "N",
        "Maximum connections to the server, 2 or more [default: 3]",
    ),
    Flag::list("include-databases", "servers.*.databases.include").shown(
        "Server",
        "GLOB,...",
        "Collect only from these databases",
    ),
    Flag::list("exclude-databases", "servers.*.databases.exclude").shown(
        "Server",
        "GLOB,...",
        "Collect from all databases except these",
    ),
    Flag::pairs("constantLabels", "servers.*.labels").shown(
        "Server",
        "NAME=VALUE,...",
        "Add these labels to every series; they replace labels of the same name",
    ),
    Flag::list("web.listen-address", "web.listen").shown(
        "Web",
        "ADDRESS",
        "Address to listen on, repeatable [default: :9187]",
    ),
    Flag::text("web.telemetry-path", "web.telemetry_path").shown(
        "Web",
        "PATH",
        "Path of the metrics [default: /metrics]",
    ),
    Flag::truth("openmetrics", "openmetrics").shown(
        "Scrape",
        "BOOL",
        "Serve OpenMetrics to scrapers that accept it",
    ),
    Flag::truth("web.enable-lifecycle", "web.lifecycle").shown(
        "Web",
        "BOOL",
        "Let any host switch collectors off and on by POST, without a login",
    ),
    Flag::text("web.config.file", "web.config_file"),
    Flag::text("collection-timeout", "scrape.timeout"),
    Flag::text("scrape.timeout", "scrape.timeout").shown(
        "Scrape",
        "DURATION",
        "Maximum duration of a scrape [default: 10s]",
    ),
    Flag::text("state-dir", "state_dir").shown(
        "Scrape",
        "FOLDER",
        "Directory that keeps the counts of Synapse's events across restarts",
    ),
    Flag::text("log.level", "log.level").shown(
        "Log",
        "LEVEL",
        "Log level: off, error, warn, info, debug or trace [default: info]",
    ),
    Flag::text("log.format", "log.format").shown(
        "Log",
        "FORMAT",
        "Log format: logfmt or json [default: logfmt]",
    ),
    Flag::without("disable-settings-metrics", "settings", None),
    Flag::without(
        "disable-default-metrics",
        "stat_database_conflicts",
        Some(
            "switches stat_database_conflicts off, as in postgres_exporter 0.20; \
             --no-collector.NAME switches others off",
        ),
    ),
    Flag::ignored(
        "auto-discover-databases",
        "true",
        "has no effect: every database is read; --include-databases restricts that",
    ),
    Flag::ignored(
        "metric-prefix",
        "pg",
        "has no effect: names keep the prefix pg; metric_relabel_configs in Prometheus can rename",
    ),
    Flag::ignored(
        "extend.query-path",
        "",
        "has no effect: custom queries are not supported yet, so their metrics are missing",
    ),
    Flag::ignored(
        "web.systemd-socket",
        "false",
        "has no effect: socket activation by systemd is not supported yet; --web.listen-address \
         says where to listen",
    ),
    Flag::ignored(
        "wrap-large-counters",
        "false",
        "has no effect: counters are served as they are",
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

/// Prints every metric, as postgres_exporter prints its maps, and ends.
pub const DUMPMAPS: &str = "dumpmaps";

/// Adds every flag to a command.
pub fn add(command: Command, registry: &Registry) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .help("Configuration file, in YAML");
    let switches = collector_names(registry)
        .into_iter()
        .flat_map(|name| switch(&format!("collector.{name}")))
        .map(|arg| arg.hide(true));
    command
        .arg(file)
        .args(FLAGS.iter().flat_map(Flag::args))
        .args(switches)
}

/// Leaves the flags under these headings out of the help: the command takes them, and needs none.
pub fn unlisted(command: Command, headings: &[&str]) -> Command {
    command.mut_args(|arg| {
        let unlisted = arg
            .get_help_heading()
            .is_some_and(|heading| headings.contains(&heading));
        let hidden = arg.is_hide_set();
        arg.hide(unlisted || hidden)
    })
}

/// What flags and environment say; of several commands' flags those of the first.
pub fn sources<'a>(
    matches: &[&ArgMatches],
    variable: Variable<'a>,
    registry: &Registry,
) -> Sources<'a> {
    let from_environment = |flag: &str| {
        let twin = twin(flag);
        variable(&twin).map(|value| (twin, vec![value]))
    };
    let of_command = |matches: &ArgMatches, flag: &str| {
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
    let from_flags = |flag: &str| matches.iter().find_map(|matches| of_command(matches, flag));

    let mut said = Said::default();
    let environment = said.layer(registry, &from_environment);
    let flags = said.layer(registry, &from_flags);
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
    /// Switches this collector off, with a warning where there is more to say.
    Without(&'static str, Option<&'static str>),
    /// Nothing, and a warning says so where the value does not fit anyway.
    Ignored(&'static str, &'static str),
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

    const fn without(
        name: &'static str,
        collector: &'static str,
        warning: Option<&'static str>,
    ) -> Self {
        Self::new(name, Effect::Without(collector, warning))
    }

    const fn ignored(name: &'static str, fits: &'static str, warning: &'static str) -> Self {
        Self::new(name, Effect::Ignored(fits, warning))
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
            Effect::Truth(_) | Effect::Without(..) | Effect::Ignored("true" | "false", _) => {
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

fn collector_names(registry: &Registry) -> BTreeSet<&str> {
    let elsewhere = postgres_exporter::COLLECTORS.iter().copied();
    let renamed = postgres_exporter::RENAMED.iter().map(|(old, _)| *old);
    registry.names().chain(elsewhere).chain(renamed).collect()
}

/// The names of all flags that have a variable, but for those of collectors.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    iter::once(FILE)
        .chain(FLAGS.iter().map(|flag| flag.name))
        .map(str::to_owned)
        .collect()
}

/// `constantLabels` is `PG_EXPORTER_CONSTANT_LABELS`.
pub(super) fn twin(flag: &str) -> String {
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
    fn layer(&mut self, registry: &Registry, saying: Saying<'_>) -> Layer {
        let mut layer = Layer::default();
        for flag in FLAGS {
            if let Some((place, values)) = saying(flag.name) {
                self.take(&flag.effect, &mut layer, place, values);
            }
        }
        for collector in collector_names(registry) {
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
                            Fault::Invalid(format!("{part:?} is not NAME=VALUE")),
                        )),
                    }
                }
                layer.set(key, &place, pairs);
            }
            Effect::Without(collector, warning) => {
                if let (Some(warning), "true") = (warning, values.concat().as_str()) {
                    self.warnings.push(format!("{place} {warning}"));
                }
                self.switch(place, &values.concat(), |without| !without, collector);
            }
            Effect::Ignored(fits, warning) => {
                if values.concat() != *fits {
                    self.warnings.push(format!("{place} {warning}"));
                }
            }
        }
    }

    fn switch(&mut self, place: String, value: &str, on: fn(bool) -> bool, collector: &str) {
        let Ok(value) = Value::from(value).into_bool() else {
            self.problems.push(Problem::new(&place, Fault::NotABool));
            return;
        };
        let on = on(value);
        let renamed = postgres_exporter::RENAMED
            .iter()
            .find(|(old, _)| *old == collector);
        let collector = renamed.map_or(collector, |(_, new)| new);
        let otherwise = postgres_exporter::OTHERWISE
            .iter()
            .find(|(name, _)| *name == collector);
        if let (true, Some((_, sentence))) = (on, otherwise) {
            self.warnings.push(format!("{place}: {sentence}"));
        }
        let companion = postgres_exporter::TOGETHER
            .iter()
            .find(|(first, _)| *first == collector);
        for name in iter::once(collector).chain(companion.map(|(_, second)| *second)) {
            self.switches.push(Switch {
                collector: name.to_owned(),
                on,
                place: place.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
