//! Says what is wrong with configuration, server and role.

use clap::Command;

use super::{Error, flags, scrape};
use crate::config::Config;
use crate::scrape::{Scraper, ServerStatus, State};

/// The command.
pub fn command() -> Command {
    flags::add(Command::new("check")).about(
        "Say what is wrong with configuration, server and role, and what each collector misses",
    )
}

/// Runs it: one scrape, and what it has learnt.
pub fn run(config: &Config) -> Result<(), Error> {
    super::print("The configuration is fine.\n")?;
    let status = super::runtime()?.block_on(async {
        let scraper = Scraper::new(config);
        scrape::once(&scraper, config).await?;
        let status = scraper.status();
        scraper.close().await;
        Ok::<_, Error>(status)
    })?;
    let mut complete = true;
    for server in &status.servers {
        let findings = Findings::of(server);
        super::print(&(findings.sentences.join("\n") + "\n"))?;
        complete &= findings.complete;
    }
    match complete {
        true => Ok(()),
        false => Err(Error::Failed(
            "Not everything that is asked for can be had.".to_owned(),
        )),
    }
}

/// What there is to say of a server, and whether all that is asked for can be had.
struct Findings {
    sentences: Vec<String>,
    complete: bool,
}

impl Findings {
    fn of(server: &ServerStatus) -> Self {
        let mut sentences = Vec::new();
        let at = format!("Server {} at {}", server.name, server.address);
        match &server.state {
            Some(State::Up) => sentences.push(format!(
                "{at} answers: {}, {}.",
                server.version.as_deref().unwrap_or("of unknown version"),
                match server.standby {
                    Some(true) => "a standby",
                    Some(false) => "a primary",
                    None => "primary or standby unknown",
                }
            )),
            Some(State::Down { reason, message }) => {
                sentences.push(format!("{at} does not answer ({reason}): {message}"));
            }
            None => sentences.push(format!("{at} was not asked.")),
        }
        sentences.extend(server.warnings.iter().cloned());
        for database in &server.databases {
            let name = &database.name;
            match (database.application, &database.skipped) {
                (_, Some(reason)) => {
                    sentences.push(format!("Database {name} is not watched: {reason}."));
                }
                (Some(application), None) => {
                    sentences.push(format!(
                        "Database {name} is watched; {application} lives there."
                    ));
                }
                (None, None) => sentences.push(format!("Database {name} is watched.")),
            }
        }

        let mut complete = server.state == Some(State::Up);
        for collector in server.collectors.iter().filter(|one| one.enabled) {
            complete &= collector.success != Some(false);
            for (reason, database) in &collector.skipped {
                let (wrong, why) = explain(reason);
                complete &= !wrong;
                let place = match database.as_str() {
                    "" => String::new(),
                    database => format!(" in database {database}"),
                };
                let name = collector.name;
                sentences.push(format!(
                    "Collector {name} is skipped{place} ({reason}): {why}."
                ));
            }
        }
        if complete {
            sentences.push("Every enabled collector sees what it is meant to see.".to_owned());
        }
        Self {
            sentences,
            complete,
        }
    }
}

/// Whether a reason to skip is something to repair, and what to know about it.
fn explain(reason: &str) -> (bool, &'static str) {
    match reason {
        "no_extension" => (false, "the extension is not installed there"),
        "unsupported_version" => (false, "this version has no such thing"),
        "wrong_role" => (
            false,
            "it is a matter of the other role, primary or standby",
        ),
        "database_skipped" => (false, "the database is not visited"),
        "no_privilege" => (
            true,
            "run what `matrix-postgres-exporter grants` prints, as superuser",
        ),
        "grants_outdated" => (
            true,
            "run what `matrix-postgres-exporter grants` prints once more",
        ),
        "lock_timeout" => (true, "somebody holds a lock; the next scrape tries again"),
        "statement_timeout" => (true, "it takes longer than scrape.statement_cap allows"),
        "deadline" => (true, "it was not ready within scrape.timeout"),
        "recovery_conflict" => (
            true,
            "replay on the standby cancelled it; the next scrape tries again",
        ),
        "series_limit" => (
            true,
            "there are more rows than collectors.<name>.limit allows",
        ),
        _ => (true, "the log says more"),
    }
}
