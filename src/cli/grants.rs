//! Prints the SQL that gives a role what the collectors need.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::Error;
use crate::collectors::Registry;
use crate::grants::{self, Options};

/// The command.
pub fn command(registry: &Registry) -> Command {
    let applications = registry.applications().into_iter();
    let names: Vec<_> = applications.map(|one| one.name).collect();
    let role = Arg::new("role")
        .long("role")
        .value_name("NAME")
        .default_value("exporter")
        .value_parser(name)
        .help("The role that the exporter logs in as; created if missing");
    let database = Arg::new("database")
        .long("database")
        .value_name("NAME")
        .action(ArgAction::Append)
        .required(true)
        .value_parser(name)
        .help(format!(
            "Database with {}'s tables, repeatable",
            names.join("'s or ")
        ));
    let pg_monitor = Arg::new("pg-monitor")
        .long("pg-monitor")
        .action(ArgAction::SetTrue)
        .help(
            "Grant pg_monitor, which shows the query texts of all sessions, and messages in \
               them",
        );
    let keep_public_create = Arg::new("keep-public-create")
        .long("keep-public-create")
        .action(ArgAction::SetTrue)
        .help(
            "Leave PUBLIC its privileges, such as CREATE on schemas (the default up to \
               PostgreSQL 14)",
        );
    let revoke = Arg::new("revoke")
        .long("revoke")
        .action(ArgAction::SetTrue)
        .conflicts_with("keep-public-create")
        .help("Print the SQL that revokes all of it, and restores what was revoked from others");
    let connections = Arg::new("connections")
        .long("connections")
        .value_name("N")
        .default_value("3")
        .value_parser(value_parser!(u16).range(2..))
        .help("Maximum connections that the exporter is configured with");
    Command::new("grants")
        .about(
            "Print the SQL, for psql, that creates the exporter's role with the privileges \
                that it needs",
        )
        .args([
            role,
            database,
            pg_monitor,
            keep_public_create,
            revoke,
            connections,
        ])
}

/// A name that PostgreSQL keeps as it is.
fn name(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("must not be empty"),
        _ if text.contains('\0') => Err("must not hold the character U+0000"),
        _ if text.len() > 63 => Err("must not be longer than 63 bytes"),
        _ => Ok(text.to_owned()),
    }
}

/// Runs it.
pub fn run(matches: &ArgMatches, registry: &Registry) -> Result<(), Error> {
    let text = |id| matches.get_one::<String>(id).cloned().unwrap_or_default();
    let options = Options {
        role: text("role"),
        databases: matches
            .get_many("database")
            .unwrap_or_default()
            .cloned()
            .collect(),
        pg_monitor: matches.get_flag("pg-monitor"),
        keep_public_create: matches.get_flag("keep-public-create"),
        revoke: matches.get_flag("revoke"),
        connections: matches
            .get_one::<u16>("connections")
            .copied()
            .map_or(3, usize::from),
    };
    super::print(&grants::render(&options, registry))
}
