//! What was written on the command line, before clap reads it, and all that is unknown in it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use super::collector_names;
use crate::cli::Error;
use crate::collectors::Registry;
use crate::config::nearest;

/// Reads the arguments. Unknown flags are an error with all of them; for anything else that is
/// wrong, and for help, clap ends the process.
pub fn read(
    command: &Command,
    registry: &Registry,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, Error> {
    let known: Vec<_> = longs(command).chain(["help", "version"]).collect();
    let mut arguments: Vec<_> = arguments
        .into_iter()
        .map(|argument| spelt_as_here(argument, &known))
        .collect();
    let mut unknown = Vec::new();
    loop {
        let error = match command.clone().try_get_matches_from(&arguments) {
            Ok(matches) if unknown.is_empty() => return Ok(matches),
            Ok(_) => break,
            Err(error) => error,
        };
        match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::UnknownArgument, Some(ContextValue::String(flag)))
                if flag.starts_with('-') && take_out(&mut arguments, flag, command) =>
            {
                unknown.push(sentence(flag, command, registry, &arguments));
            }
            _ if unknown.is_empty() => error.exit(),
            _ => break,
        }
    }
    Err(Error::Usage(unknown.join("\n")))
}

/// A flag with a single dash as one with two, and postgres_exporter's forms of `--help` as that.
fn spelt_as_here(argument: OsString, known: &[&str]) -> OsString {
    let Some(text) = argument.to_str() else {
        return argument;
    };
    if ["--help-long", "--help-man"].contains(&text) {
        return "--help".into();
    }
    let name = |rest: &str| rest.split('=').next().unwrap_or_default().to_owned();
    match text.strip_prefix('-') {
        Some(rest) if known.contains(&name(rest).as_str()) => format!("-{text}").into(),
        _ => argument,
    }
}

/// Takes an unknown flag out, with the word after it that was likely its value.
fn take_out(arguments: &mut Vec<OsString>, flag: &str, command: &Command) -> bool {
    let is_it = |argument: &OsString| {
        let rest = argument.to_str().and_then(|text| text.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let Some(at) = arguments.iter().skip(1).position(is_it).map(|at| at + 1) else {
        return false;
    };
    let stands_alone = arguments.remove(at) == flag;
    let is_value = |word: &OsString| {
        let word = word.to_string_lossy();
        !word.starts_with('-') && command.find_subcommand(&*word).is_none()
    };
    if stands_alone && arguments.get(at).is_some_and(is_value) {
        arguments.remove(at);
    }
    true
}

fn sentence(flag: &str, command: &Command, registry: &Registry, arguments: &[OsString]) -> String {
    let name = flag.trim_start_matches('-');
    let plain = name.strip_prefix("no-").unwrap_or(name);
    let mut words = arguments.iter().skip(1);
    let chosen = words.find_map(|word| command.find_subcommand(word));
    let takes = |command: &Command, name: &str| longs(command).any(|long| long == name);
    if let Some(chosen) = chosen
        && command
            .get_subcommands()
            .chain([command])
            .any(|other| takes(other, name))
    {
        return format!("the command {} takes no {flag}", chosen.get_name());
    }
    if let Some(collector) = plain.strip_prefix("collector.") {
        let meant = nearest(collector, collector_names(registry));
        let meant = meant.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
        return format!(
            "there is no collector {collector:?}{meant}; `matrix-postgres-exporter metrics` lists them"
        );
    }
    let flags = longs(chosen.unwrap_or(command)).filter(|long| !long.contains("collector."));
    match nearest(plain, flags) {
        Some(nearest) => format!("there is no flag {flag}; did you mean --{nearest}?"),
        None => {
            format!("there is no flag {flag}; `matrix-postgres-exporter --help` lists them")
        }
    }
}

/// The names of a command's flags.
fn longs(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter_map(|arg| arg.get_long())
}
