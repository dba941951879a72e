//! The commands, a file for each.
//!
//! - `serve`: answers Prometheus; what runs when no command is named
//! - `scrape`: scrapes once, to standard output
//! - `check`: says what is wrong with configuration, server and role
//! - `grants`: prints the SQL that gives a role what the collectors need
//! - `metrics`: prints the catalogue
//! - `healthcheck`: asks a running exporter whether it answers
//! - `flags`: the flags that most of them share
//!
//! The environment is read here and nowhere else.

mod check;
#[cfg(test)]
mod documented;
mod flags;
mod grants;
mod healthcheck;
mod metrics;
mod scrape;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};
use tokio::runtime::Runtime;

use crate::catalogue;
use crate::collectors::Registry;
use crate::config::{self, Config, Problems, Variable};
use crate::telemetry;

/// Runs the command that the arguments name. Wrong arguments end the process, with a message.
///
/// # Errors
///
/// Fails with a message that is ready to be shown.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    variable: Variable<'_>,
) -> Result<(), Error> {
    let registry = Registry::built_in();
    let before = flags::arguments::read(&command(&registry), &registry, arguments)?;
    let Some((name, after)) = before.subcommand() else {
        return match before.get_flag(flags::DUMPMAPS) {
            true => print(&catalogue::render(&registry, catalogue::Format::Text)),
            false => serve::run(&configure(&[&before], variable, &registry)?, &registry),
        };
    };
    let both = [after, &before];
    match name {
        "scrape" => scrape::run(&configure(&both, variable, &registry)?, &registry),
        "check" => check::run(&configure(&both, variable, &registry)?, &registry),
        "grants" => nothing_before(name, &before).and_then(|()| grants::run(after, &registry)),
        "metrics" => nothing_before(name, &before).and_then(|()| metrics::run(after, &registry)),
        "healthcheck" => healthcheck::run(&both, variable, &registry),
        _ => serve::run(&configure(&both, variable, &registry)?, &registry),
    }
}

/// Refuses flags before a command that has none of them.
fn nothing_before(command: &str, before: &ArgMatches) -> Result<(), Error> {
    let said = |id: &&Id| before.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    match before.ids().find(said) {
        Some(flag) => Err(Error::Usage(format!(
            "the command {command} takes no --{flag}"
        ))),
        None => Ok(()),
    }
}

/// An environment variable; an empty one counts as not set, as in container templates. Where `USER`
/// is not set, as in containers, it is what the system calls the user, as libpq has it.
pub fn variable(name: &str) -> Option<String> {
    let given = std::env::var(name).ok().filter(|value| !value.is_empty());
    given.or_else(|| if name == "USER" { user_name() } else { None })
}

#[cfg(target_os = "linux")]
fn user_name() -> Option<String> {
    let id = procfs::process::Process::myself().ok()?.uid().ok()?;
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let found = fields.get(2)?.parse() == Ok(id);
        found.then(|| fields[0].to_owned())
    })
}

#[cfg(not(target_os = "linux"))]
fn user_name() -> Option<String> {
    None
}

/// The names of all environment variables.
fn variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// Why a command failed; shown as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The log cannot be written as configured.
    #[error(transparent)]
    Log(#[from] telemetry::Error),
    /// The configuration is fine, but what it asks for did not work.
    #[error("{0}")]
    Failed(String),
    /// Whoever reads standard output has seen enough, as `head`. That is not a failure, and nothing is
    /// left to do.
    #[error("standard output is closed")]
    Unread,
}

impl Error {
    /// 0 where nobody reads on, 1 for what failed at run time, 2 for usage and configuration.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Configuration(_) | Self::Log(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Unread => ExitCode::SUCCESS,
        }
    }
}

fn command(registry: &Registry) -> Command {
    flags::add(Command::new(env!("CARGO_PKG_NAME")), registry)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Prometheus exporter for PostgreSQL, made for servers that run Matrix Synapse")
        .after_help(AFTER_HELP)
        .max_term_width(100)
        .override_usage(concat!(env!("CARGO_PKG_NAME"), " [COMMAND] [OPTIONS]"))
        .arg(
            Arg::new(flags::DUMPMAPS)
                .long(flags::DUMPMAPS)
                .action(ArgAction::SetTrue)
                .hide(true),
        )
        .subcommands([
            serve::command(registry),
            scrape::command(registry),
            check::command(registry),
            grants::command(registry),
            metrics::command(),
            healthcheck::command(registry),
        ])
}

/// Loads the configuration and starts the log, with what the configuration's author should know.
fn configure(
    matches: &[&ArgMatches],
    variable: Variable<'_>,
    registry: &Registry,
) -> Result<Config, Error> {
    let config::Loaded {
        config,
        mut warnings,
    } = config::load(flags::sources(matches, variable, registry), registry)?;
    warnings.extend(flags::misspelt::warnings(registry, variables()));
    let labels = config
        .servers
        .iter()
        .flat_map(|server| server.labels.keys());
    warnings.extend(labels.filter_map(|label| replaced(registry, label)));
    telemetry::init(&config.log.level, config.log.format)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Which labels a constant label takes the place of, if any.
fn replaced(registry: &Registry, label: &str) -> Option<String> {
    let metrics = catalogue::labelled(registry, label);
    let named = metrics
        .iter()
        .take(3)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let others = match metrics.len() {
        0 => return None,
        1..=3 => String::new(),
        all => format!(" and {} other metrics", all - 3),
    };
    Some(format!(
        "the constant label {label:?} replaces the label {label:?} of {named}{others}; of series \
         that then have the same labels, one is served"
    ))
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start threads: {error}")))
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Unread,
        _ => Error::Failed(format!("cannot write to standard output: {error}")),
    })
}

const AFTER_HELP: &str = "\
Without flags it connects as psql would: PGHOST and the other PG* variables, else the local socket.
A flag wins over its environment variable (--web.listen-address is PG_EXPORTER_WEB_LISTEN_ADDRESS),
and that over the file. --collector.NAME and --no-collector.NAME switch a collector on and off;
`metrics` lists all. The flags and variables of postgres_exporter are accepted, too.

Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.";
