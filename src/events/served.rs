//! What is served of a count.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::Count;
use super::counts::{Counts, KINDS, ORIGINS};
use super::survey::Survey;
use crate::query::{Context, Cost, Harvest, Holds, Plan, QueryError, Version};
use crate::snapshot::Snapshot;

/// What is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The numbers of events of each origin and kind; what is not known is not there.
    pub counts: [[Option<f64>; KINDS.len()]; 2],
    /// What has arrived.
    pub added: [Counts; 2],
    /// As of when the numbers are exact, in seconds since 1970; if they are not, there is no moment.
    pub as_of: Option<f64>,
    /// What part is counted.
    pub ratio: f64,
    /// How many seconds more the first count will take.
    pub remaining: Option<f64>,
    /// How many buckets there are.
    pub buckets: usize,
    /// How many of them have to be verified.
    pub dirty: usize,
    /// When the one was verified that has waited longest, in seconds since 1970.
    pub verified: Option<f64>,
    /// The rows that were counted.
    pub rows: u64,
}

impl Count {
    /// Counts the ends, and serves all that is known.
    pub async fn harvest(
        &self,
        client: &Client,
        context: &Context<'_>,
        system: &str,
        plan: &Plan,
        holds: &mut Holds,
    ) -> Harvest {
        let mut harvest = Harvest::empty();
        let kept = &plan.collector.queries[0];
        let readable = context.tables.map_or(Ok(()), |tables| tables.check(kept));
        let refused = readable.err().map(|error| holds.skip(0, &error));
        if let Some(skip) = refused.or_else(|| holds.pauses(0)) {
            harvest.skipped.push(skip);
            return harvest;
        }
        let timeout = context.timeout(plan.collector.scope);
        let mut survey = Survey::new(client, context.version, context.schema(), timeout);
        // What reads the sequences is of use, and no more.
        let mut queries = plan.collector.queries.iter();
        survey.sequences = context
            .tables
            .is_some_and(|tables| queries.all(|query| tables.check(query).is_ok()));
        match self.scrape(&mut survey, system, context.version).await {
            Ok(served) => served.write(plan, &self.database, &mut harvest.snapshot),
            Err(error) => harvest.skipped.push(holds.skip(0, &error)),
        }
        harvest.cost = survey.cost;
        harvest
    }

    /// Works in the background for as long as it may, or until somebody else waits; what it cost.
    pub async fn work_on(
        &self,
        client: &Client,
        version: Version,
        schema: Option<&str>,
        statement_cap: Duration,
        others_wait: impl Fn() -> bool,
    ) -> (Cost, Result<(), QueryError>) {
        let mut survey = Survey::new(client, version, schema, statement_cap);
        let worked = self.work(&mut survey, others_wait).await;
        (survey.cost, worked)
    }
}

impl Served {
    fn write(&self, plan: &Plan, database: &Arc<str>, page: &mut Snapshot) {
        let mut push = |column: &str, labels: &[&str], value: Option<f64>| {
            if let Some(value) = value {
                plan.push(page, database, column, labels, value);
            }
        };
        for origin in ORIGINS {
            let labels = [origin.as_str()];
            let (counts, added) = (self.counts[origin as usize], self.added[origin as usize]);
            for (at, (column, kind)) in KINDS.into_iter().enumerate() {
                push(column, &labels, counts[at]);
                let labels = [origin.as_str(), kind];
                push("events_added_total", &labels, Some(added.0[at] as f64));
            }
        }
        for (column, value) in [
            ("events_exact", Some(f64::from(self.as_of.is_some()))),
            ("events_as_of_timestamp_seconds", self.as_of),
            ("events_counted_ratio", Some(self.ratio)),
            ("events_remaining_seconds", self.remaining),
            ("events_ranges", Some(self.buckets as f64)),
            ("events_ranges_pending_recount", Some(self.dirty as f64)),
            ("events_verified_timestamp_seconds", self.verified),
            ("events_rows_counted_total", Some(self.rows as f64)),
        ] {
            push(column, &[], value);
        }
    }
}
