//! What is known of a server, for a person.

use std::collections::BTreeSet;
use std::time::Duration;

use super::target::Target;
use super::{CollectorStatus, DatabaseStatus, ServerStatus, State};
use crate::query::Plan;
use crate::text::{escaped, shown};

impl Target {
    /// Whether the server answers, as far as that is known.
    pub fn state(&self) -> Option<State> {
        let memory = self.memory();
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
    pub fn status(&self, enabled: &BTreeSet<&'static str>) -> ServerStatus {
        let state = self.state();
        let memory = self.memory();
        let databases = memory.facts.iter().flat_map(|facts| &facts.databases);
        let databases = databases
            .map(|database| {
                let known = memory.databases.get(&database.name);
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
                let application = known
                    .and_then(|known| known.application.as_ref())
                    .map(|found| found.name);
                DatabaseStatus {
                    name: shown(&database.name).into_owned(),
                    application,
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
            name: self.config.name.clone(),
            address: self.connections.address(),
            state,
            asked,
            version: facts
                .as_ref()
                .map(|facts| shown(&facts.version_text).into_owned()),
            standby: facts.as_ref().map(|facts| facts.standby),
            databases,
            warnings,
            collectors: self
                .plans
                .iter()
                .map(|plan| self.collector_status(plan, enabled))
                .collect(),
        }
    }

    pub fn collector_status(
        &self,
        plan: &Plan,
        enabled: &BTreeSet<&'static str>,
    ) -> CollectorStatus {
        let name = plan.collector.name;
        let mut status = CollectorStatus {
            name,
            about: plan.collector.about,
            enabled: enabled.contains(name),
            success: None,
            skipped: Vec::new(),
            age: None,
            duration: Duration::ZERO,
            rows: 0,
            statements: 0,
        };
        let units = self.units();
        let units = units.range((name, None)..);
        for ((_, database), unit) in units.take_while(|((of, _), _)| *of == name) {
            let Some((_, harvest)) = unit.cell.latest() else {
                continue;
            };
            let success = harvest.success();
            status.success = Some(status.success.unwrap_or(true) && success);
            for skip in &harvest.skipped {
                let database = shown(database.as_deref().unwrap_or_default()).into_owned();
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
