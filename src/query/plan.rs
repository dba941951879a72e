//! A definition made ready, and its run on one database.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::harvest::Answer;
use super::pages::Pace;
use super::route::Route;
use super::rows::{QueryPlan, Reader, RowSamples, snapshot_of};
use super::walk::Walk;
use super::{
    Collector, ColumnKind, Context, Harvest, Query, QueryError, Reason, Skip, Statement, Tables,
};
use super::{relations, shared};
use crate::snapshot::{Sample, Snapshot};

/// How long a run that was interrupted may wait to be gone on with.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a query is not sent that the server has refused for a reason that stays.
const REST: Duration = Duration::from_secs(180);

/// A collector with everything that does not change from run to run.
#[derive(Debug)]
pub struct Plan {
    /// The definition.
    pub collector: Arc<Collector>,
    queries: Vec<QueryPlan>,
}

/// What a run leaves to the next.
#[derive(Debug, Default)]
pub struct Holds {
    /// Queries that rest, since asking again would bring the same refusal.
    resting: HashMap<usize, (Skip, Instant)>,
    /// How fast the table of a query was read.
    paces: HashMap<usize, Pace>,
    paused: Option<Paused>,
}

/// A run that others have interrupted.
#[derive(Debug)]
struct Paused {
    at: Instant,
    spent: Duration,
    answers: BTreeMap<usize, Answer>,
    /// The query that goes on, and how far it is.
    index: usize,
    walk: Walk,
}

/// How the run of a query has ended.
enum Ended {
    Answered(Answer),
    Paused(Walk),
}

impl Plan {
    /// Makes a definition ready.
    pub fn new(collector: impl Into<Arc<Collector>>) -> Self {
        let collector = collector.into();
        let queries = collector.queries.iter();
        let queries = queries
            .map(|query| QueryPlan::new(&collector, query))
            .collect();
        Self { collector, queries }
    }

    /// Whether any of what it asks is to be expected among these tables; a source that
    /// remembers needs all.
    pub fn concerns(&self, tables: &Tables) -> bool {
        let mut queries = self.collector.queries.iter();
        match self.collector.source {
            Some(_) => queries.all(|query| tables.concern(query)),
            None => queries.any(|query| tables.concern(query)),
        }
    }

    /// Adds a sample of a column that was read in this database, with these values for the labels of
    /// its query in their order.
    pub fn push(
        &self,
        page: &mut Snapshot,
        database: &Arc<str>,
        column: &str,
        labels: &[&str],
        value: f64,
    ) {
        let queries = self.collector.queries.iter().zip(&self.queries);
        let found = queries.into_iter().find_map(|(query, plan)| {
            let at = query.columns.iter().position(|c| c.name == column)?;
            Some((query, plan, plan.metrics[at].as_ref()?))
        });
        let Some((query, plan, metric)) = found else {
            debug_assert!(false, "{column} is not defined");
            return;
        };
        let columns = query.columns.iter().zip(&plan.labels);
        let names = columns.filter(|(column, _)| column.kind == ColumnKind::Label);
        let own = names
            .zip(labels)
            .map(|((_, name), value)| (name.clone(), Arc::from(*value)));
        let database = plan.database.clone().map(|name| (name, database.clone()));
        let labels = database.into_iter().chain(own).collect();
        page.push(metric, Sample { labels, value });
    }

    /// Runs the queries one after the other; one that fails costs its own samples only, and of
    /// those the last ones are kept for a while.
    pub async fn run(
        &self,
        client: &Client,
        context: &Context<'_>,
        holds: &mut Holds,
        previous: Option<&Harvest>,
    ) -> Harvest {
        let started = Instant::now();
        let mut harvest = Harvest::empty();
        let paused = holds.paused.take();
        let paused = paused.filter(|paused| paused.at.elapsed() < PATIENCE);
        let spent = paused
            .as_ref()
            .map_or(Duration::ZERO, |paused| paused.spent);
        let (mut answers, mut left) = match paused {
            Some(paused) => (paused.answers, Some((paused.index, paused.walk))),
            None => Default::default(),
        };
        let mut shared = match self.collector.ttl.is_zero() {
            true => self.read_shared(client, context, holds, &mut harvest).await,
            false => BTreeMap::new(),
        };
        let mut unanswered = Vec::new();
        for (index, (query, plan)) in self.collector.queries.iter().zip(&self.queries).enumerate() {
            if let Some(answer) = answers.remove(&index) {
                harvest.take(index, answer, context);
                continue;
            }
            if context.tables.is_some_and(|tables| !tables.concern(query)) {
                continue;
            }
            if let Some(skip) = holds.pauses(index) {
                harvest.skipped.push(skip);
                continue;
            }
            if harvest.paused {
                unanswered.push(index);
                continue;
            }
            let walk = left.take_if(|(of, _)| *of == index).map(|(_, walk)| walk);
            let pace = holds.paces.entry(index).or_default();
            let reader = self.reader(client, context, (query, plan));
            let run = match shared.remove(&index) {
                Some(rows) => Ok(Ended::Answered(reader.answer(rows, &mut harvest))),
                None => reader.run(previous, walk, pace, &mut harvest).await,
            };
            let error = match run {
                Ok(Ended::Answered(answer)) => {
                    harvest.take(index, answer, context);
                    continue;
                }
                Ok(Ended::Paused(walk)) => {
                    harvest.paused = true;
                    holds.paused = Some(Paused {
                        at: Instant::now(),
                        spent,
                        answers: harvest.answers.clone(),
                        index,
                        walk,
                    });
                    QueryError::Unavailable(
                        Reason::Deadline,
                        "other collectors wait for the connection; it continues in the next run"
                            .into(),
                    )
                }
                Err(error) => error,
            };
            let skip = holds.skip(index, &error);
            if skip.reason.is_failure() {
                unanswered.push(index);
            }
            harvest.skipped.push(skip);
            if matches!(error, QueryError::Broken(_)) {
                break;
            }
        }
        for index in unanswered {
            harvest.keep(index, previous, context);
        }
        if harvest.cost.cut > 0 {
            harvest.skipped.push(Skip {
                reason: Reason::SeriesLimit,
                message: format!(
                    "{} rows beyond the limit of {} are not served; collectors.{}.limit raises it",
                    harvest.cost.cut, context.limit, self.collector.name
                ),
            });
        }
        harvest.cost.duration = started.elapsed().saturating_sub(harvest.rested);
        harvest.spent = spent + harvest.cost.duration;
        if let Some(paused) = &mut holds.paused {
            paused.spent = harvest.spent;
        }
        harvest.at = Instant::now();
        let kept = harvest.kept.values().map(|kept| kept.at);
        let answers = harvest.answers.values().map(|answer| answer.at);
        harvest.oldest = kept.chain(answers).fold(harvest.at, Instant::min);
        harvest
    }

    /// The rows of the queries that could be asked in one message.
    async fn read_shared(
        &self,
        client: &Client,
        context: &Context<'_>,
        holds: &mut Holds,
        harvest: &mut Harvest,
    ) -> BTreeMap<usize, Vec<RowSamples>> {
        let queries = self.collector.queries.iter().zip(&self.queries).enumerate();
        let asked = queries.filter(|(index, (query, _))| {
            context.tables.is_none_or(|tables| tables.concern(query))
                && holds.pauses(*index).is_none()
        });
        let readers = asked.map(|(index, of)| (index, self.reader(client, context, of)));
        let readers: Vec<_> = readers.collect();
        shared::read(&readers, &mut harvest.cost).await
    }

    fn reader<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        (query, plan): (&'a Query, &'a QueryPlan),
    ) -> Reader<'a> {
        Reader {
            client,
            collector: &self.collector,
            query,
            plan,
            context,
        }
    }
}

impl Holds {
    /// What keeps a query from running now.
    pub fn pauses(&mut self, index: usize) -> Option<Skip> {
        match self.resting.get(&index) {
            Some((skip, until)) if Instant::now() < *until => Some(skip.clone()),
            _ => {
                self.resting.remove(&index);
                None
            }
        }
    }

    /// Notes that a query failed; it is not sent for a while if the server would refuse it again.
    pub fn skip(&mut self, index: usize, error: &QueryError) -> Skip {
        let skip = Skip {
            reason: error.reason(),
            message: error.to_string(),
        };
        let refused = matches!(error, QueryError::Refused { .. });
        if refused && skip.reason.lasts() {
            let until = Instant::now() + REST;
            self.resting.insert(index, (skip.clone(), until));
        }
        skip
    }
}

impl Reader<'_> {
    /// The statement for this server.
    pub fn statement(&self) -> Result<&Statement, QueryError> {
        let (query, context, name) = (self.query, self.context, &*self.collector.name);
        if let Some(reason) = context.missing(query.role, query.setting) {
            let on = query.setting.unwrap_or(query.role.as_str());
            return Err(QueryError::Unavailable(
                reason,
                format!("{name} exists only with {on}"),
            ));
        }
        let Some(statement) = query.covers(context.version) else {
            return Err(QueryError::Unavailable(
                Reason::UnsupportedVersion,
                format!(
                    "PostgreSQL {} does not have what {name} reads",
                    context.version
                ),
            ));
        };
        if let Some(tables) = context.tables {
            tables.check(query)?;
        }
        Ok(statement)
    }

    /// Asks the query.
    async fn run(
        &self,
        previous: Option<&Harvest>,
        walk: Option<Walk>,
        pace: &mut Pace,
        harvest: &mut Harvest,
    ) -> Result<Ended, QueryError> {
        let Self { query, context, .. } = *self;
        let statement = self.statement()?;
        let answer = |snapshot| Answer {
            at: Instant::now(),
            snapshot,
            walked: None,
        };
        if let Some(covered) = query.covered
            && !harvest.covers(covered, previous)
        {
            return Ok(Ended::Answered(answer(Snapshot::default())));
        }
        if let Some(walk_of) = &query.walk {
            let mut walk = walk.unwrap_or_else(|| Walk::begin(walk_of));
            let route = Route {
                statement,
                reader: self,
            };
            let walked = walk.go_on(&route, pace, harvest).await?;
            let Some(answer) = walked else {
                return Ok(Ended::Paused(walk));
            };
            harvest.leave_out(self.columns_left_out(), &self.collector.name);
            return Ok(Ended::Answered(answer));
        }
        let began = Instant::now();
        let answer = if statement.has(relations::PLACEHOLDER) {
            let kept = previous.map(|harvest| &harvest.kept);
            answer(relations::run(statement, self, kept, harvest).await?)
        } else {
            let sql = context.fill(statement, &[])?;
            let rows = self.read(&sql, &mut harvest.cost).await?;
            self.answer(rows, harvest)
        };
        Ok(Ended::Answered(Answer {
            at: began,
            ..answer
        }))
    }

    /// What these rows say.
    fn answer(&self, rows: Vec<RowSamples>, harvest: &mut Harvest) -> Answer {
        let unknown = rows.iter().filter_map(|row| row.unknown);
        harvest.leave_out(unknown.chain(self.columns_left_out()), &self.collector.name);
        let samples = rows.into_iter().flat_map(|row| row.samples);
        Answer {
            at: Instant::now(),
            snapshot: snapshot_of(samples, self.query.merge),
            walked: None,
        }
    }
}
