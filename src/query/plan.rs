//! A definition made ready, and its run on one database.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::message::{Cells, Message, timeout_step};
use super::pieces::Walk;
use super::placeholder::Views;
use super::relations::{self, Kept};
use super::{
    Collector, ColumnKind, Merge, Query, QueryError, Reason, Role, Scope, Tables, Version,
};
use crate::snapshot::{Kind, Labels, Metric, Sample, Snapshot};

/// How long a run that was interrupted may wait to be gone on with.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a query rests that the server has refused for a reason that stays.
const REST: Duration = Duration::from_secs(180);

/// A collector with everything that does not change from run to run.
#[derive(Debug)]
pub struct Plan {
    /// The definition.
    pub collector: Collector,
    queries: Vec<QueryPlan>,
}

#[derive(Debug)]
struct QueryPlan {
    labels: Vec<Arc<str>>,
    /// For each column, its metric, if it has one.
    metrics: Vec<Option<Arc<Metric>>>,
}

/// What a run knows of the server and the database.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The server's version.
    pub version: Version,
    /// Whether it is in recovery.
    pub standby: bool,
    /// The application's tables, if one lives in this database.
    pub tables: Option<&'a Tables>,
    /// How the statistics views can be read here.
    pub views: &'a Views,
    /// When the run is over at the latest.
    pub deadline: Instant,
    /// When others have their turn, so that what runs in pieces goes on in the next run.
    pub pause: Instant,
    /// How old an answer may get while it cannot be had anew.
    pub keep: Duration,
    /// The longest that a statement on the application's tables may take.
    pub statement_cap: Duration,
    /// How many rows are served at most.
    pub limit: usize,
}

impl Context<'_> {
    /// The statement with its placeholders filled.
    pub(super) fn fill<'s>(&self, statement: &'s str) -> Result<Cow<'s, str>, QueryError> {
        self.views.fill(statement, self.schema())
    }

    /// The application's schema, if one lives in this database.
    pub fn schema(&self) -> Option<&str> {
        self.tables.map(|tables| tables.schema.as_str())
    }

    /// What a statement may take: half of what is left, so that one that hangs leaves time to the
    /// next, and no more than the cap where the application's tables are read.
    pub fn timeout(&self, scope: Scope) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now()) / 2;
        timeout_step(match scope {
            Scope::Server | Scope::Database => left,
            Scope::Synapse => left.min(self.statement_cap),
        })
    }
}

/// What a run brought.
#[derive(Clone, Debug)]
pub struct Harvest {
    /// The samples.
    pub snapshot: Snapshot,
    /// What could not be seen.
    pub skipped: Vec<Skip>,
    /// What it cost.
    pub cost: Cost,
    /// When it ended.
    pub at: Instant,
    /// When the oldest of its samples was read.
    pub oldest: Instant,
    /// The samples of each table, where the run was one in chunks.
    pub kept: BTreeMap<u32, Kept>,
    /// The answer to each query, where answers may be kept.
    pub answers: BTreeMap<usize, Answer>,
    /// Whether others have their turn, and the next run goes on with this one.
    pub paused: bool,
    /// How long it took, and the runs that it went on with.
    pub spent: Duration,
    /// How long it has rested between pieces.
    pub(super) rested: Duration,
}

/// What a query brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was asked.
    at: Instant,
    snapshot: Snapshot,
}

/// Something that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The word for it.
    pub reason: Reason,
    /// The whole story.
    pub message: String,
}

/// What a run cost the database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From the first statement to the end of the last answer, without rests.
    pub duration: Duration,
    /// Statements sent.
    pub statements: u64,
    /// Rows received.
    pub rows: u64,
    /// Rows beyond the limit, which are not served.
    pub cut: u64,
}

/// What a run leaves to the next.
#[derive(Debug, Default)]
pub struct Holds {
    /// Queries that rest, since asking again would bring the same refusal.
    resting: HashMap<usize, (Skip, Instant)>,
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
    pub fn new(collector: Collector) -> Self {
        let queries = collector.queries.iter().map(QueryPlan::new).collect();
        Self { collector, queries }
    }

    /// Where its queries run; all of them in the same place.
    pub fn scope(&self) -> Scope {
        self.collector
            .queries
            .first()
            .map_or(Scope::Server, |query| query.scope)
    }

    /// Whether any of its queries runs in pieces.
    pub fn in_pieces(&self) -> bool {
        let mut queries = self.collector.queries.iter();
        queries.any(|query| query.pieces.is_some())
    }

    /// Whether any of what it asks is to be expected among these tables; what is counted needs all.
    pub fn concerns(&self, tables: &Tables) -> bool {
        let mut queries = self.collector.queries.iter();
        match self.collector.counted {
            true => queries.all(|query| tables.concern(query)),
            false => queries.any(|query| tables.concern(query)),
        }
    }

    /// Adds a sample of a column, with these values for the labels of its query in their order.
    pub fn push(&self, page: &mut Snapshot, column: &str, labels: &[&str], value: f64) {
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
        let labels = names
            .zip(labels)
            .map(|((_, name), value)| (name.clone(), Arc::from(*value)))
            .collect();
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
        let mut unanswered = Vec::new();
        for (index, (query, plan)) in self.collector.queries.iter().zip(&self.queries).enumerate() {
            if let Some(answer) = answers.remove(&index) {
                harvest.take(index, answer, context);
                continue;
            }
            if context.tables.is_some_and(|tables| !tables.concern(query)) {
                continue;
            }
            if let Some(skip) = holds.rests(index) {
                harvest.skipped.push(skip);
                continue;
            }
            if harvest.paused {
                unanswered.push(index);
                continue;
            }
            let walk = left.take_if(|(of, _)| *of == index).map(|(_, walk)| walk);
            let run = plan.run(client, query, context, previous, walk, &mut harvest);
            let error = match run.await {
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
                        "it takes longer than others can wait, and goes on in the next run".into(),
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
}

impl Harvest {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self {
            snapshot: Snapshot::default(),
            skipped: Vec::new(),
            cost: Cost::default(),
            at: Instant::now(),
            oldest: Instant::now(),
            kept: BTreeMap::new(),
            answers: BTreeMap::new(),
            paused: false,
            spent: Duration::ZERO,
            rested: Duration::ZERO,
        }
    }

    /// Nothing, for this reason.
    pub fn skipped(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            skipped: vec![Skip {
                reason,
                message: message.into(),
            }],
            ..Self::empty()
        }
    }

    /// Whether nothing failed.
    pub fn success(&self) -> bool {
        !self.skipped.iter().any(|skip| skip.reason.is_failure())
    }

    /// Forgets what was read of these databases.
    pub fn forget(&mut self, databases: &BTreeSet<String>) {
        let answers = self.answers.values_mut();
        for snapshot in answers.map(|answer| &mut answer.snapshot) {
            snapshot.drop_labelled("datname", databases);
        }
        self.snapshot.drop_labelled("datname", databases);
    }

    fn take(&mut self, index: usize, answer: Answer, context: &Context<'_>) {
        if context.keep.is_zero() {
            self.snapshot.append(answer.snapshot);
        } else {
            self.snapshot.merge(&answer.snapshot);
            self.answers.insert(index, answer);
        }
    }

    /// Takes the last answer, where it is not too old.
    fn keep(&mut self, index: usize, previous: Option<&Self>, context: &Context<'_>) {
        let last = previous.and_then(|previous| previous.answers.get(&index));
        let last = last.filter(|answer| answer.at.elapsed() < context.keep);
        if let Some(answer) = last {
            self.take(index, answer.clone(), context);
        }
    }
}

impl Holds {
    /// What keeps a query from running now.
    pub fn rests(&mut self, index: usize) -> Option<Skip> {
        match self.resting.get(&index) {
            Some((skip, until)) if Instant::now() < *until => Some(skip.clone()),
            _ => {
                self.resting.remove(&index);
                None
            }
        }
    }

    /// Notes that a query failed; it rests if the server would refuse it again.
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

impl QueryPlan {
    fn new(query: &Query) -> Self {
        let metrics = query
            .columns
            .iter()
            .map(|column| {
                let kind = match column.kind {
                    ColumnKind::Counter => Kind::Counter,
                    ColumnKind::Gauge => Kind::Gauge,
                    ColumnKind::Untyped => Kind::Untyped,
                    ColumnKind::Label | ColumnKind::Name | ColumnKind::Help => return None,
                };
                Some(Metric::new(&query.metric_name(column), kind, column.help))
            })
            .collect();
        let labels = query
            .columns
            .iter()
            .map(|column| column.name.into())
            .collect();
        Self { labels, metrics }
    }

    async fn run(
        &self,
        client: &Client,
        query: &Query,
        context: &Context<'_>,
        previous: Option<&Harvest>,
        walk: Option<Walk>,
        harvest: &mut Harvest,
    ) -> Result<Ended, QueryError> {
        let role = if context.standby {
            Role::Standby
        } else {
            Role::Primary
        };
        if query.role != Role::Any && query.role != role {
            return Err(QueryError::Unavailable(
                Reason::WrongRole,
                format!("{} is asked on a {:?} only", query.prefix, query.role),
            ));
        }
        let Some(statement) = query.covers(context.version) else {
            return Err(QueryError::Unavailable(
                Reason::UnsupportedVersion,
                format!("PostgreSQL {} has no {}", context.version, query.prefix),
            ));
        };
        if let Some(tables) = context.tables {
            tables.check(query)?;
        }
        let sql = context.fill(statement)?;
        let reader = Reader {
            query,
            plan: self,
            context,
        };
        let mut at = Instant::now();
        let snapshot = if let Some(pieces) = query.pieces {
            let mut walk = walk.unwrap_or_default();
            at = walk.begun;
            let going_on = walk.go_on(client, &sql, pieces, &reader, harvest);
            if !going_on.await? {
                return Ok(Ended::Paused(walk));
            }
            walk.end(context.limit, harvest)
        } else if sql.contains(relations::PLACEHOLDER) {
            let kept = previous.map(|harvest| &harvest.kept);
            relations::run(client, &sql, reader, kept, harvest).await?
        } else {
            let rows = reader.read(client, &sql, &mut harvest.cost).await?;
            let samples = rows.into_iter().flat_map(|row| row.samples);
            snapshot_of(samples, query.merge)
        };
        Ok(Ended::Answered(Answer { at, snapshot }))
    }
}

/// The samples of one query, or of one piece of it.
pub(super) fn snapshot_of(
    samples: impl Iterator<Item = (Arc<Metric>, Sample)>,
    merge: Merge,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (metric, samples) in by_metric(samples) {
        let samples = match merge {
            Merge::Drop => samples,
            Merge::Max => largest(samples),
        };
        snapshot.extend(&metric, samples);
    }
    snapshot
}

/// The samples of each metric, in their order.
pub(super) fn by_metric(
    samples: impl Iterator<Item = (Arc<Metric>, Sample)>,
) -> Vec<(Arc<Metric>, Vec<Sample>)> {
    let mut groups: Vec<(Arc<Metric>, Vec<Sample>)> = Vec::new();
    let mut last = 0;
    for (metric, sample) in samples {
        // A row's metrics follow each other, and so do the rows.
        let here = |at: usize| {
            groups
                .get(at)
                .is_some_and(|group| Arc::ptr_eq(&group.0, &metric))
        };
        let at = [last + 1, 0].into_iter().find(|at| here(*at));
        last = at
            .or_else(|| (0..groups.len()).find(|at| here(*at)))
            .unwrap_or(groups.len());
        match groups.get_mut(last) {
            Some((_, group)) => group.push(sample),
            None => groups.push((metric, vec![sample])),
        }
    }
    groups
}

/// The largest of the samples with the same labels.
fn largest(samples: Vec<Sample>) -> Vec<Sample> {
    let mut largest: HashMap<Labels, f64> = HashMap::with_capacity(samples.len());
    for Sample { labels, value } in samples {
        largest
            .entry(labels)
            .and_modify(|known| *known = known.max(value))
            .or_insert(value);
    }
    let samples = largest.into_iter();
    samples
        .map(|(labels, value)| Sample { labels, value })
        .collect()
}

/// The samples of one row.
#[derive(Clone, Debug)]
pub(super) struct RowSamples {
    /// The table that the row tells of, in a statement that runs in chunks.
    pub relation: Option<u32>,
    pub samples: Vec<(Arc<Metric>, Sample)>,
}

/// Reads the rows of one query, in one message or in several.
pub(super) struct Reader<'a> {
    pub query: &'a Query,
    plan: &'a QueryPlan,
    pub context: &'a Context<'a>,
}

/// Where the columns of a query stand in a result.
struct Columns {
    /// Column of the definition, position in the result.
    labels: Vec<(usize, usize)>,
    values: Vec<(usize, usize)>,
    name: Option<usize>,
    help: Option<usize>,
    relation: Option<usize>,
}

impl Reader<'_> {
    /// Sends one statement and reads its rows.
    pub async fn read(
        &self,
        client: &Client,
        sql: &str,
        cost: &mut Cost,
    ) -> Result<Vec<RowSamples>, QueryError> {
        cost.statements += 1;
        let message = Message {
            sql,
            timeout: self.context.timeout(self.query.scope),
        };
        let text_columns: Vec<_> = self
            .columns_now()
            .filter(|(_, kind)| {
                matches!(
                    kind,
                    ColumnKind::Label | ColumnKind::Name | ColumnKind::Help
                )
            })
            .map(|(index, _)| self.query.columns[index].name)
            .collect();
        let mut reading = Reading::default();
        message
            .send_any_text(
                client,
                &text_columns,
                &mut reading,
                |reading| *reading = Reading::default(),
                |reading, cells| self.row(reading, cells),
            )
            .await?;
        cost.rows += reading.rows.len() as u64 + reading.cut;
        cost.cut += reading.cut;
        Ok(reading.rows)
    }

    fn row(&self, reading: &mut Reading, cells: Cells<'_>) -> Result<(), QueryError> {
        if reading.rows.len() >= self.context.limit {
            reading.cut += 1;
            return Ok(());
        }
        let columns = match &reading.columns {
            Some(columns) => columns,
            None => reading.columns.insert(self.locate(cells)?),
        };
        let row = self.samples(columns, cells)?;
        reading.rows.push(row);
        Ok(())
    }

    /// The columns that this version's statement returns.
    fn columns_now(&self) -> impl Iterator<Item = (usize, ColumnKind)> {
        self.query
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.versions.contains(self.context.version))
            .map(|(index, column)| (index, column.kind))
    }

    fn locate(&self, cells: Cells<'_>) -> Result<Columns, QueryError> {
        let mut columns = Columns {
            labels: Vec::new(),
            values: Vec::new(),
            name: None,
            help: None,
            relation: cells.position("relid"),
        };
        for (index, kind) in self.columns_now() {
            let name = self.query.columns[index].name;
            let position = cells
                .position(name)
                .ok_or(QueryError::MissingColumn(name))?;
            match kind {
                ColumnKind::Label => columns.labels.push((index, position)),
                ColumnKind::Counter | ColumnKind::Gauge | ColumnKind::Untyped => {
                    columns.values.push((index, position));
                }
                ColumnKind::Name => columns.name = Some(position),
                ColumnKind::Help => columns.help = Some(position),
            }
        }
        Ok(columns)
    }

    fn samples(&self, columns: &Columns, cells: Cells<'_>) -> Result<RowSamples, QueryError> {
        let mut pairs = Vec::with_capacity(columns.labels.len());
        for (index, position) in &columns.labels {
            let value = cells.text(*position)?.unwrap_or_default();
            pairs.push((self.plan.labels[*index].clone(), Arc::<str>::from(value)));
        }
        let all: Labels = pairs.as_slice().into();
        let mut samples = Vec::with_capacity(columns.values.len());
        for (index, position) in &columns.values {
            let column = &self.query.columns[*index];
            let Some(value) = cells.number(*position, column.name)? else {
                continue;
            };
            let labels = match column.labels {
                None => all.clone(),
                Some(names) => pairs
                    .iter()
                    .filter(|(name, _)| names.contains(&&**name))
                    .cloned()
                    .collect(),
            };
            let metric = match (columns.name, &self.plan.metrics[*index]) {
                (Some(name), Some(metric)) => {
                    self.metric_of_row(metric.kind, name, columns.help, cells)?
                }
                (None, Some(metric)) => Some(metric.clone()),
                (_, None) => None,
            };
            if let Some(metric) = metric {
                samples.push((metric, Sample { labels, value }));
            }
        }
        let relation = match columns.relation {
            Some(position) => cells.number(position, "relid")?.map(|oid| oid as u32),
            None => None,
        };
        Ok(RowSamples { relation, samples })
    }

    /// The metric that a row names itself.
    fn metric_of_row(
        &self,
        kind: Kind,
        name: usize,
        help: Option<usize>,
        cells: Cells<'_>,
    ) -> Result<Option<Arc<Metric>>, QueryError> {
        let Some(name) = cells.text(name)? else {
            return Ok(None);
        };
        let name = format!("{}_{name}", self.query.prefix);
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
        {
            return Ok(None);
        }
        let help = match help {
            Some(position) => cells.text(position)?.unwrap_or_default(),
            None => Default::default(),
        };
        Ok(Some(Metric::new(&name, kind, &help)))
    }
}

#[derive(Default)]
struct Reading {
    columns: Option<Columns>,
    rows: Vec<RowSamples>,
    cut: u64,
}
