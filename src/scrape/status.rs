//! What is known of a server, for a person.

use std::time::Duration;

use super::collector::CollectorState;
use super::target::Target;
use super::{ApplicationStatus, CollectorStatus, DatabaseStatus, ServerStatus, State};
use crate::text::{escaped, shown};

impl Target {
    /// Whether the server answers, as far as that is known.
    pub fn state(&self) -> Option<State> {
        let memory = self.memory.lock();
        match (&memory.down, &memory.facts) {
            (Some((_, down)), _) => Some(State::Down {
                reason: down.reason,
                message: escaped(&down.message).into_owned(),
            }),
            (None, Some(_)) => Some(State::Up),
            (None, None) => None,
        }
    }

    /// What is known, without asking the server.
    pub fn status(&self) -> ServerStatus {
        let state = self.state();
        let memory = self.memory.lock();
        let databases = memory.facts.iter().flat_map(|facts| &facts.databases);
        let databases = databases
            .map(|database| {
                let known = memory.databases.get(&*database.name);
                let skipped = match (known, database.closed) {
                    (_, Some(why)) => Some(why.to_owned()),
                    (None, None) => {
                        Some("databases.include or databases.exclude leaves it out".to_owned())
                    }
                    (Some(known), None) => {
                        let failure = known.failure.as_ref();
                        failure.map(|(_, message)| escaped(message).into_owned())
                    }
                };
                let found = known.into_iter().flat_map(|known| &known.applications);
                let applications = found.map(|found| ApplicationStatus {
                    application: found.application,
                    name: found.to_string(),
                });
                DatabaseStatus {
                    name: shown(&database.name).into_owned(),
                    applications: applications.collect(),
                    skipped,
                }
            })
            .collect();
        let warnings = memory.warnings().into_iter();
        let warnings = warnings.map(|warning| escaped(&warning).into_owned());
        let warnings = warnings.collect();
        let facts = memory.facts.clone();
        let asked = memory.asked;
        drop(memory);
        ServerStatus {
            name: self.name().to_owned(),
            address: self.connections.address(),
            state,
            asked,
            version: facts
                .as_ref()
                .map(|facts| shown(&facts.version_text).into_owned()),
            standby: facts.as_ref().map(|facts| facts.standby),
            databases,
            warnings,
            collectors: self.collectors.iter().map(|one| one.status()).collect(),
        }
    }
}

impl CollectorState {
    fn status(&self) -> CollectorStatus {
        let mut status = CollectorStatus {
            name: self.name().clone(),
            about: self.plan.collector.about.clone(),
            application: self.scope().application(),
            enabled: self.is_on(),
            success: None,
            skipped: Vec::new(),
            age: None,
            duration: Duration::ZERO,
            rows: 0,
            statements: 0,
        };
        for (place, unit) in &*self.units() {
            let Some((_, harvest)) = unit.cell.latest() else {
                continue;
            };
            let success = harvest.success();
            status.success = Some(status.success.unwrap_or(true) && success);
            for skip in &harvest.skipped {
                let database = shown(place.name()).into_owned();
                status.skipped.push((skip.reason.as_str(), database));
            }
            status.age = status.age.max(Some(harvest.oldest.elapsed()));
            status.duration += harvest.cost.duration;
            status.rows += harvest.cost.rows;
            status.statements += harvest.cost.statements;
        }
        status.skipped.sort_unstable();
        status.skipped.dedup();
        status
    }
}
