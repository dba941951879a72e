//! The count as the source of a collector.

use std::any::Any;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_postgres::Client;

use super::count::Count;
use super::settings::Settings;
use super::survey::Survey;
use crate::query::{
    Context, Cost, Harvest, Holds, Plan, QueryError, Source, SourcePlace, SourceSettings,
};

/// What the files are, and their format; another number says that the content means something else.
const FILE: (&str, u32) = ("events", 2);

/// The count of a database, and how it is served.
struct Events {
    plan: Arc<Plan>,
    database: Arc<str>,
    holds: Mutex<Holds>,
    count: Count,
}

impl SourceSettings for Settings {
    fn begin(&self, plan: Arc<Plan>, place: &SourcePlace<'_>) -> Box<dyn Source> {
        Box::new(Events {
            plan,
            database: place.database.cloned().unwrap_or_default(),
            holds: Mutex::default(),
            count: Count::new(self, place.file(FILE)),
        })
    }

    fn equal(&self, other: &dyn SourceSettings) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

impl Source for Events {
    /// Counts the ends, and serves all that is known.
    fn run<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        _previous: Option<&'a Harvest>,
    ) -> BoxFuture<'a, Harvest> {
        async move {
            let mut harvest = Harvest::empty();
            let queries = &self.plan.collector.queries;
            // What reads the sequences is of use, and no more.
            let readable = |query| context.tables.map_or(Ok(()), |tables| tables.check(query));
            let refused = {
                let mut holds = self.holds.lock();
                let refused = readable(&queries[0]).err();
                let refused = refused.map(|error| holds.skip(0, &error));
                refused.or_else(|| holds.pauses(0))
            };
            if let Some(skip) = refused {
                harvest.skipped.push(skip);
                return harvest;
            }
            let timeout = context.timeout(self.plan.collector.scope);
            let mut survey = Survey::new(client, context, timeout);
            survey.sequences = queries.iter().all(|query| readable(query).is_ok());
            let scraped = self.count.scrape(&mut survey, context);
            match scraped.await {
                Ok(served) => served.write(&self.plan, &self.database, &mut harvest.snapshot),
                Err(error) => harvest.skipped.push(self.holds.lock().skip(0, &error)),
            }
            harvest.cost = survey.cost;
            harvest
        }
        .boxed()
    }

    fn ask_again(&self) {
        *self.holds.lock() = Holds::default();
    }

    fn is_due(&self) -> bool {
        self.count.is_due()
    }

    fn work<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        others_wait: &'a (dyn Fn() -> bool + Sync),
    ) -> BoxFuture<'a, (Cost, Result<(), QueryError>)> {
        async move {
            let mut survey = Survey::new(client, context, context.statement_cap);
            let worked = self.count.work(&mut survey, others_wait).await;
            (survey.cost, worked)
        }
        .boxed()
    }

    fn save(&self) {
        self.count.save();
    }
}
