//! Prints the catalogue: every collector, every metric, what it means and what it needs.

use clap::{Arg, ArgMatches, Command, value_parser};

use super::Error;
use crate::catalogue::{self, Format};
use crate::collectors::Registry;

/// The command.
pub fn command() -> Command {
    let format = Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(value_parser!(Format))
        .default_value("text")
        .help("Output format");
    Command::new("metrics")
        .about("Print every collector and metric, and what each needs")
        .arg(format)
}

/// Runs it.
pub fn run(matches: &ArgMatches, registry: &Registry) -> Result<(), Error> {
    let format = matches.get_one("format").copied().unwrap_or(Format::Text);
    super::print(&catalogue::render(registry, format))
}
