//! What is known of a server, for a person.

use std::collections::BTreeSet;
use std::time::Duration;

use super::target::Target;
use super::{CollectorStatus, DatabaseStatus, ServerStatus, State};
use crate::query::Plan;

impl Target {
    /// What is known, without asking the server.
    pub fn status(&self, enabled: &BTreeSet<&'static str>) -> ServerStatus {
        let memory = self.memory();
        let state = match (&memory.down, &memory.facts) {
            (Some((_, down)), _) => Some(State::Down {
                reason: down.reason,
                message: down.message.clone(),
            }),
            (None, Some(_)) => Some(State::Up),
            (None, None) => None,
        };
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
                        known.failure.as_ref().map(|(_, message)| message.clone())
                    }
                };
                let application = known
                    .and_then(|known| known.application.as_ref())
                    .map(|found| found.name);
                DatabaseStatus {
                    name: database.name.clone(),
                    application,
                    skipped,
                }
            })
            .collect();
        let warnings = memory.warnings();
        let facts = memory.facts.clone();
        let asked = memory.asked;
        drop(memory);
        ServerStatus {
            name: self.config.name.clone(),
            address: self.connections.address(),
            state,
            asked,
            version: facts.as_ref().map(|facts| facts.version_text.clone()),
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
        for ((_, database), unit) in self.units().iter().filter(|((of, _), _)| *of == name) {
            let Some((_, harvest)) = unit.cell.latest() else {
                continue;
            };
            let success = harvest.success();
            status.success = Some(status.success.unwrap_or(true) && success);
            for skip in &harvest.skipped {
                let database = database.clone().unwrap_or_default();
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
