//! Says what is wrong with configuration, server and role.

use std::collections::{BTreeMap, BTreeSet};

use clap::Command;

use super::{Error, flags, scrape};
use crate::collectors::Registry;
use crate::config::Config;
use crate::scrape::{CollectorStatus, DatabaseStatus, Scraper, ServerStatus, State};

/// The command.
pub fn command(registry: &Registry) -> Command {
    flags::unlisted(flags::add(Command::new("check"), registry), &["Web"]).about(
        "Report what is wrong with configuration, server and role, and what each collector cannot \
         read",
    )
}

/// Runs it: one scrape, and what it has learnt.
pub fn run(config: &Config, registry: &Registry) -> Result<(), Error> {
    super::print("Configuration: OK.\n")?;
    let status = super::runtime()?.block_on(async {
        let scraper = Scraper::new(config, registry);
        scrape::once(&scraper, config).await?;
        let status = scraper.status();
        scraper.close().await;
        Ok::<_, Error>(status)
    })?;
    let mut problems = Vec::new();
    let mut verdicts = Vec::new();
    for server in &status.servers {
        let findings = Findings::of(server);
        super::print(&(findings.sentences.join("\n") + "\n"))?;
        problems.extend(findings.problems);
        verdicts.push(findings.verdict);
    }
    match problems.is_empty() {
        true => super::print(&format!("OK: {}.\n", verdicts.join("; "))),
        false => Err(Error::Failed(format!("FAILED: {}.", problems.join("; ")))),
    }
}

/// What there is to say of a server.
struct Findings {
    sentences: Vec<String>,
    /// What is to be repaired, in a few words each.
    problems: Vec<String>,
    /// What there is to say where nothing is.
    verdict: String,
}

impl Findings {
    fn of(server: &ServerStatus) -> Self {
        let mut sentences = Vec::new();
        let mut problems = Vec::new();
        let at = format!("Server {} at {}", server.name, server.address);
        match &server.state {
            Some(State::Up) => sentences.push(format!(
                "{at} answers: {}, {}.",
                server.version.as_deref().map_or("unknown version", short),
                match server.standby {
                    Some(true) => "a standby",
                    Some(false) => "a primary",
                    None => "primary or standby unknown",
                }
            )),
            Some(State::Down { reason, message }) => {
                sentences.push(format!("{at} does not answer ({reason}): {message}"));
                problems.push(format!("server {} does not answer ({reason})", server.name));
            }
            None => {
                sentences.push(format!("{at} was not asked."));
                problems.push(format!("server {} was not asked", server.name));
            }
        }
        sentences.extend(
            server
                .warnings
                .iter()
                .map(|warning| format!("Warning: {warning}.")),
        );
        sentences.extend(server.databases.iter().map(database));
        let watched = |database: &&DatabaseStatus| database.skipped.is_none();
        if server.state == Some(State::Up) && !server.databases.iter().any(|one| watched(&one)) {
            problems.push("no database is monitored".to_owned());
        }
        let mut skips = Skips::of(&server.collectors, server.standby);
        sentences.append(&mut skips.sentences);
        problems.append(&mut skips.problems);
        problems.extend(strangers(server));
        Self {
            verdict: verdict(server),
            sentences,
            problems,
        }
    }
}

/// `PostgreSQL 18.4` of all that version() says.
fn short(version: &str) -> &str {
    version
        .split_once(" on ")
        .map_or(version, |(short, _)| short)
}

fn database(database: &DatabaseStatus) -> String {
    let name = &database.name;
    if let Some(reason) = &database.skipped {
        return format!("Database {name} is not monitored: {reason}.");
    }
    let applications = database.applications.iter();
    let applications: Vec<_> = applications.map(|found| found.name.as_str()).collect();
    match applications.as_slice() {
        [] => format!("Database {name} is monitored."),
        all => format!(
            "Database {name} is monitored; it contains the tables of {}.",
            all.join(" and ")
        ),
    }
}

/// What collectors could not see.
#[derive(Default)]
struct Skips {
    sentences: Vec<String>,
    problems: Vec<String>,
}

impl Skips {
    fn of(collectors: &[CollectorStatus], standby: Option<bool>) -> Self {
        let mut skips = Self::default();
        let mut by_place: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut by_reason: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for collector in collectors.iter().filter(|one| one.enabled) {
            for (reason, database) in &collector.skipped {
                let names = by_place.entry((*reason, database.as_str())).or_default();
                names.push(&*collector.name);
                if explain(reason).0 {
                    by_reason
                        .entry(*reason)
                        .or_default()
                        .insert(&*collector.name);
                }
            }
            let told = by_reason
                .values()
                .any(|names| names.contains(&*collector.name));
            if collector.success == Some(false) && !told {
                by_reason
                    .entry("failed")
                    .or_default()
                    .insert(&*collector.name);
            }
        }
        for ((reason, database), names) in by_place {
            let place = match database {
                "" => String::new(),
                database => format!(" in database {database}"),
            };
            let why = match (reason, standby) {
                ("wrong_role", Some(true)) => "only a primary has it",
                ("wrong_role", Some(false)) => "only a standby has it",
                _ => explain(reason).1,
            };
            let names = names.join(", ");
            skips
                .sentences
                .push(format!("Skipped{place}, {reason} ({why}): {names}."));
        }
        skips.problems = by_reason
            .into_iter()
            .map(|(reason, names)| format!("{} ({reason})", count(names.len(), "collector")))
            .collect();
        skips
    }
}

/// Where an application is found that most of its collectors do not know, by name of the database.
fn strangers(server: &ServerStatus) -> Vec<String> {
    let found = server.databases.iter().flat_map(|database| {
        let applications = database.applications.iter();
        applications.map(move |found| (database, found))
    });
    let found = found.filter_map(|(database, found)| {
        let collectors = server.collectors.iter();
        let enabled: Vec<_> = collectors
            .filter(|one| one.enabled && one.application == Some(found.application))
            .collect();
        let place = ("unsupported_version", database.name.clone());
        let lacking = enabled
            .iter()
            .filter(|one| one.skipped.contains(&place))
            .count();
        (2 * lacking > enabled.len()).then(|| {
            format!(
                "in database {}, {lacking} of {} collectors for {} do not find the tables or columns \
                 that they need",
                database.name,
                enabled.len(),
                found.name
            )
        })
    });
    found.collect()
}

/// What was seen, where there is nothing to repair.
fn verdict(server: &ServerStatus) -> String {
    let (mut whole, mut partly, mut idle) = (0, 0, 0);
    for collector in server.collectors.iter().filter(|one| one.enabled) {
        match (collector.success, collector.skipped.is_empty()) {
            (_, false) => partly += 1,
            (Some(_), true) => whole += 1,
            (None, true) => idle += 1,
        }
    }
    let mut parts = vec![format!("{} complete", count(whole, "collector"))];
    if partly > 0 {
        parts.push(format!(
            "{partly} incomplete or skipped for the reasons above"
        ));
    }
    if idle > 0 {
        parts.push(format!("{idle} with nothing to read"));
    }
    let mut databases = server.databases.iter();
    if databases.all(|database| database.applications.is_empty()) {
        let known = server.collectors.iter().filter_map(|one| one.application);
        let known: BTreeSet<_> = known.map(|application| application.name).collect();
        let known: Vec<_> = known.into_iter().collect();
        parts.push(format!(
            "no {} found in the monitored databases",
            known.join(" or ")
        ));
    }
    parts.join(", ")
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Whether a reason to skip is something to repair, and what to know about it.
fn explain(reason: &str) -> (bool, &'static str) {
    match reason {
        "no_extension" => (false, "the extension is not installed"),
        "unsupported_version" => (
            false,
            "this version of PostgreSQL, or of the application, has no such table or column",
        ),
        "wrong_role" => (
            false,
            "it exists only on a primary or only on a standby, and this server is the other",
        ),
        "database_skipped" => (
            false,
            "databases.include or databases.exclude leaves it out, or it does not allow \
             connections",
        ),
        "setting_off" => (
            false,
            "all or some of the data needs a setting that is off on the server: track_activities, \
             track_counts, track_io_timing or archive_mode",
        ),
        "no_privilege" => (
            true,
            "run what `matrix-postgres-exporter grants` prints, as superuser",
        ),
        "grants_outdated" => (
            true,
            "run again what `matrix-postgres-exporter grants` prints, as superuser: it was \
             printed by an older version",
        ),
        "too_large" => (
            false,
            "counting a table takes longer than scrape.statement_cap allows, and PostgreSQL 13 \
             cannot read it in batches",
        ),
        "not_a_plain_table" => (
            true,
            "reading the table could run code of its owner; the warnings name the table and the \
             cause",
        ),
        "lock_timeout" => (
            true,
            "another session holds a lock; the next scrape tries again",
        ),
        "statement_timeout" => (true, "it takes longer than scrape.statement_cap allows"),
        "deadline" => (true, "it was not finished within scrape.timeout"),
        "recovery_conflict" => (
            true,
            "replay on the standby cancelled it; the next scrape tries again",
        ),
        "protocol" => (
            true,
            "the server sent data that is not PostgreSQL's protocol, or more than the exporter \
             accepts",
        ),
        "series_limit" => (
            true,
            "there are more rows than collectors.NAME.limit or servers.NAME.page_mib allows; the \
             rest is dropped",
        ),
        _ => (true, "the log has the details"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collectors::synapse::SYNAPSE;
    use crate::scrape::ApplicationStatus;

    #[test]
    fn what_cannot_be_had_is_told_by_reason() {
        let mut server = ServerStatus {
            name: "main".to_owned(),
            address: "db:5432".to_owned(),
            state: Some(State::Up),
            asked: None,
            version: Some("PostgreSQL 18.1 on x86_64-pc-linux-gnu".to_owned()),
            standby: Some(false),
            databases: vec![DatabaseStatus {
                name: "matrix".to_owned(),
                applications: vec![synapse()],
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
        assert_eq!(findings.problems, ["3 collectors (no_privilege)"]);
        assert_eq!(
            findings.sentences,
            [
                "Server main at db:5432 answers: PostgreSQL 18.1, a primary.",
                "Warning: the role could do too much.",
                "Database matrix is monitored; it contains the tables of Synapse.",
                "Skipped, no_privilege (run what `matrix-postgres-exporter grants` prints, as superuser): wal.",
                "Skipped in database matrix, no_privilege (run what `matrix-postgres-exporter grants` prints, as superuser): users, rooms.",
                "Skipped, unsupported_version (this version of PostgreSQL, or of the application, has no such table or column): old.",
            ]
        );

        server
            .collectors
            .retain(|collector| collector.name == "old");
        let findings = Findings::of(&server);
        assert_eq!(findings.problems, [""; 0]);
        assert_eq!(
            findings.verdict,
            "0 collectors complete, 1 incomplete or skipped for the reasons above"
        );
    }

    #[test]
    fn no_database_and_a_strange_schema_are_no_success() {
        let registry = Registry::built_in();
        let readers = registry.iter();
        let readers = readers.filter(|one| one.scope.application() == Some(&SYNAPSE));
        let strange = [("unsupported_version", "matrix")];
        let mut server = ServerStatus {
            name: "main".to_owned(),
            address: "db:5432".to_owned(),
            state: Some(State::Up),
            asked: None,
            version: None,
            standby: Some(false),
            databases: vec![DatabaseStatus {
                name: "matrix".to_owned(),
                applications: vec![synapse()],
                skipped: None,
            }],
            warnings: Vec::new(),
            collectors: readers.map(|one| collector(&one.name, &strange)).collect(),
        };
        let problems = Findings::of(&server).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("in database matrix, "),
            "{problems:?}"
        );

        server.collectors.clear();
        server.databases[0].skipped = Some("left out".to_owned());
        assert_eq!(Findings::of(&server).problems, ["no database is monitored"]);
    }

    fn synapse() -> ApplicationStatus {
        ApplicationStatus {
            application: &SYNAPSE,
            name: "Synapse".to_owned(),
        }
    }

    fn collector(name: &str, skipped: &[(&'static str, &str)]) -> CollectorStatus {
        CollectorStatus {
            name: name.to_owned().into(),
            about: "".into(),
            application: Some(&SYNAPSE),
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
