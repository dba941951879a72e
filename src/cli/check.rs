//! Says what is wrong with configuration, server and role.

use std::collections::BTreeMap;

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
        sentences.extend(
            server
                .warnings
                .iter()
                .map(|warning| format!("Warning: {warning}.")),
        );
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
        let mut skipped: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for collector in server.collectors.iter().filter(|one| one.enabled) {
            complete &= collector.success != Some(false);
            for (reason, database) in &collector.skipped {
                let names = skipped.entry((*reason, database.as_str())).or_default();
                names.push(collector.name);
            }
        }
        for ((reason, database), names) in skipped {
            let (wrong, why) = explain(reason);
            complete &= !wrong;
            let place = match database {
                "" => String::new(),
                database => format!(" in database {database}"),
            };
            let names = names.join(", ");
            sentences.push(format!("Skipped{place}, {reason} ({why}): {names}."));
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
        "setting_off" => (
            false,
            "the server does not keep it, since one of its settings is off: track_activities, \
             track_counts, track_io_timing or archive_mode",
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scrape::{CollectorStatus, DatabaseStatus};

    #[test]
    fn what_cannot_be_had_is_told_by_reason() {
        let mut server = ServerStatus {
            name: "main".to_owned(),
            address: "db:5432".to_owned(),
            state: Some(State::Up),
            asked: None,
            version: Some("PostgreSQL 18.1".to_owned()),
            standby: Some(false),
            databases: vec![DatabaseStatus {
                name: "matrix".to_owned(),
                application: Some("Synapse"),
                skipped: None,
            }],
            warnings: vec!["the role could do too much".to_owned()],
            collectors: vec![
                collector("wal", &[("no_privilege", "")]),
                collector("old", &[("unsupported_version", "")]),
                collector("users", &[("no_privilege", "matrix")]),
                collector("rooms", &[("no_privilege", "matrix")]),
            ],
        };
        let findings = Findings::of(&server);
        assert!(!findings.complete);
        assert_eq!(
            findings.sentences,
            [
                "Server main at db:5432 answers: PostgreSQL 18.1, a primary.",
                "Warning: the role could do too much.",
                "Database matrix is watched; Synapse lives there.",
                "Skipped, no_privilege (run what `matrix-postgres-exporter grants` prints, as superuser): wal.",
                "Skipped in database matrix, no_privilege (run what `matrix-postgres-exporter grants` prints, as superuser): users, rooms.",
                "Skipped, unsupported_version (this version has no such thing): old.",
            ]
        );

        server
            .collectors
            .retain(|collector| collector.name == "old");
        let findings = Findings::of(&server);
        assert!(findings.complete);
        assert_eq!(
            findings.sentences.last().map(String::as_str),
            Some("Every enabled collector sees what it is meant to see.")
        );
    }

    fn collector(name: &'static str, skipped: &[(&'static str, &str)]) -> CollectorStatus {
        CollectorStatus {
            name,
            about: "",
            enabled: true,
            success: Some(true),
            skipped: skipped
                .iter()
                .map(|(reason, database)| (*reason, (*database).to_owned()))
                .collect(),
            age: None,
            duration: Duration::ZERO,
            rows: 0,
            statements: 0,
        }
    }
}
