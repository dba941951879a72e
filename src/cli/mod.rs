//! The commands, a file for each.
//!
//! - `serve`: answers Prometheus; what runs when no command is named
//! - `scrape`: scrapes once, to standard output
//! - `check`: says what is wrong with configuration, server and role
//! - `grants`: prints the SQL that gives a role what the collectors need
//! - `metrics`: prints the catalogue
//! - `healthcheck`: asks a running exporter whether it lives
//! - `flags`: the flags that most of them share
//!
//! The environment is read here and nowhere else.

mod check;
mod flags;
mod grants;
mod healthcheck;
mod metrics;
mod scrape;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use tokio::runtime::Runtime;

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
    let matches = command().get_matches_from(arguments);
    match matches.subcommand() {
        Some(("scrape", matches)) => scrape::run(&configure(matches, variable)?),
        Some(("check", matches)) => check::run(&configure(matches, variable)?),
        Some(("grants", matches)) => grants::run(matches),
        Some(("metrics", matches)) => metrics::run(matches),
        Some(("healthcheck", matches)) => healthcheck::run(matches, variable),
        Some((_, matches)) => serve::run(&configure(matches, variable)?),
        None => serve::run(&configure(&matches, variable)?),
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

/// Why a command failed; shown as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The log cannot be had as configured.
    #[error(transparent)]
    Log(#[from] telemetry::Error),
    /// The configuration is fine, but what it asks for did not work.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// 1 for what failed at run time, 2 for usage and configuration.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) | Self::Log(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

fn command() -> Command {
    flags::add(Command::new(env!("CARGO_PKG_NAME")))
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Tells Prometheus everything worth knowing about the PostgreSQL under Matrix Synapse",
        )
        .after_help(AFTER_HELP)
        .max_term_width(100)
        .disable_help_subcommand(true)
        .args_conflicts_with_subcommands(true)
        .subcommands([
            serve::command(),
            scrape::command(),
            check::command(),
            grants::command(),
            metrics::command(),
            healthcheck::command(),
        ])
}

/// Loads the configuration and starts the log, with what the configuration's author should know.
fn configure(matches: &ArgMatches, variable: Variable<'_>) -> Result<Config, Error> {
    let config::Loaded { config, warnings } = config::load(flags::sources(matches, variable))?;
    telemetry::init(&config.log.level, config.log.format)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start threads: {error}")))
}

/// Writes to standard output. A reader who has seen enough, as `head`, is no failure.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

const AFTER_HELP: &str = "\
Without flags, the server is the one that psql would reach: PGHOST and the other PG* variables, else
the local socket. A flag wins over its environment variable (--web.listen-address is
PG_EXPORTER_WEB_LISTEN_ADDRESS), that over the file. --[no-]collector.NAME switches a collector;
`metrics` lists them. Flags and variables of postgres_exporter are taken as well.

Exit codes: 0 fine, 1 something failed, 2 usage or configuration.";
