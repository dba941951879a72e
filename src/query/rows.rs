//! What comes back: the rows of a statement become samples.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use super::message::{Cells, Message};
use super::{
    Collector, Column, ColumnKind, Context, Cost, Merge, Query, QueryError, Reason, Sql, Version,
    Versions,
};
use crate::bounds::{LABEL, TEXTS};
use crate::snapshot::{Kind, Labels, Metric, Sample, Snapshot};
use crate::text::cut;

/// What of a query does not change from run to run.
#[derive(Debug)]
pub(super) struct QueryPlan {
    /// The label that says in which database a value was read, if it was read in one.
    pub database: Option<Arc<str>>,
    pub labels: Vec<Arc<str>>,
    /// For each column, its label that is not a column, if it has one.
    pub own_labels: Vec<Option<(Arc<str>, Arc<str>)>>,
    /// For each column, its metric, if it has one.
    pub metrics: Vec<Option<Arc<Metric>>>,
    /// The metrics of which the largest value of all pieces stays.
    largest: Vec<String>,
    /// The columns that each statement returns.
    returned: Vec<(Versions, Vec<usize>)>,
}

impl QueryPlan {
    /// Makes the parts ready.
    pub fn new(collector: &Collector, query: &Query) -> Self {
        let metrics = query
            .columns
            .iter()
            .map(|column| {
                let kind = match column.kind {
                    ColumnKind::Counter => Kind::Counter,
                    ColumnKind::Gauge => Kind::Gauge,
                    ColumnKind::Untyped => Kind::Untyped,
                    ColumnKind::Label
                    | ColumnKind::Name
                    | ColumnKind::Help
                    | ColumnKind::Reason => return None,
                };
                let name = collector.metric_name(column);
                Some(Metric::new(&name, kind, &column.help))
            })
            .collect();
        let labels = query
            .columns
            .iter()
            .map(|column| column.name.into())
            .collect();
        let own_labels = query.columns.iter().map(|column| {
            let (name, value) = column.label?;
            Some((name.into(), value.into()))
        });
        let largest = query.columns.iter().filter(|column| column.largest);
        let returned = query.statements.iter().map(|(versions, statement)| {
            let columns = query.columns.iter().enumerate();
            let columns = columns.filter(|(_, column)| statement.names(column.name));
            (*versions, columns.map(|(index, _)| index).collect())
        });
        Self {
            database: collector.scope.label().map(Arc::from),
            labels,
            own_labels: own_labels.collect(),
            metrics,
            largest: largest
                .map(|column| collector.metric_name(column))
                .collect(),
            returned: returned.collect(),
        }
    }

    /// Whether the largest value of all pieces stays, instead of their sum.
    pub fn is_largest(&self, metric: &Metric) -> bool {
        self.largest.iter().any(|name| *name == *metric.name)
    }

    /// The columns that the statement of this version returns.
    fn returned(&self, version: Version) -> &[usize] {
        let found = self.returned.iter().find(|(of, _)| of.contains(version));
        found.map_or(&[], |(_, columns)| columns)
    }
}

/// The samples of one row.
#[derive(Clone, Debug)]
pub(super) struct RowSamples {
    /// The table that the row tells of, in a statement that runs in chunks.
    pub relation: Option<u32>,
    /// Why some of its values are not known, if so.
    pub unknown: Option<Reason>,
    pub samples: Vec<(Arc<Metric>, Sample)>,
}

/// Reads the rows of one query, in one message or in several.
pub(super) struct Reader<'a> {
    pub client: &'a Client,
    pub collector: &'a Collector,
    pub query: &'a Query,
    pub plan: &'a QueryPlan,
    pub context: &'a Context<'a>,
}

/// Where the columns of a query stand in a result.
struct Columns {
    /// Column of the definition, position in the result.
    labels: Vec<(usize, usize)>,
    values: Vec<(usize, usize)>,
    name: Option<usize>,
    help: Option<usize>,
    reason: Option<usize>,
    relation: Option<usize>,
}

impl Reader<'_> {
    /// Sends one statement and reads its rows.
    pub async fn read(&self, sql: &Sql, cost: &mut Cost) -> Result<Vec<RowSamples>, QueryError> {
        self.read_and(sql, cost, |_| Ok(())).await
    }

    /// The same, and hands each row to `also`, for what it holds beside; a statement that is asked
    /// again begins again there too.
    pub async fn read_and(
        &self,
        sql: &Sql,
        cost: &mut Cost,
        mut also: impl FnMut(Cells<'_>) -> Result<(), QueryError>,
    ) -> Result<Vec<RowSamples>, QueryError> {
        cost.statements += 1;
        let message = Message {
            sql,
            timeout: self.context.timeout(self.collector.scope),
            version: self.context.version,
            scope: self.collector.scope,
        };
        let text_columns: Vec<_> = self
            .columns_now()
            .filter(|(_, column)| {
                matches!(
                    column.kind,
                    ColumnKind::Label | ColumnKind::Name | ColumnKind::Help
                )
            })
            .map(|(_, column)| column.name)
            .collect();
        let mut reading = Reading::default();
        message
            .send_any_text(
                self.client,
                &text_columns,
                &mut reading,
                |reading| *reading = Reading::default(),
                |reading, cells| {
                    also(cells)?;
                    self.row(reading, cells)
                },
            )
            .await?;
        Ok(reading.end(cost))
    }

    /// Takes in a row.
    pub fn row(&self, reading: &mut Reading, cells: Cells<'_>) -> Result<(), QueryError> {
        if reading.rows.len() >= self.context.limit {
            reading.cut += 1;
            return Ok(());
        }
        let columns = match &reading.columns {
            Some(columns) => columns,
            None => reading.columns.insert(self.locate(cells)?),
        };
        let (row, texts) = self.samples(columns, cells)?;
        reading.texts += texts;
        match reading.texts > TEXTS {
            true => reading.cut += 1,
            false => reading.rows.push(row),
        }
        Ok(())
    }

    /// The columns that this version's statement returns, and this server serves.
    fn columns_now(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.returned()
            .filter(|(_, column)| self.context.lacks_value(column).is_none())
    }

    /// Why this server does not serve other columns.
    pub fn columns_left_out(&self) -> impl Iterator<Item = Reason> {
        self.returned()
            .filter_map(|(_, column)| self.context.lacks_value(column))
    }

    /// The columns that this version's statement returns.
    fn returned(&self) -> impl Iterator<Item = (usize, &Column)> {
        let columns = self.plan.returned(self.context.version).iter();
        columns.filter_map(|&index| Some((index, self.query.columns.get(index)?)))
    }

    fn locate(&self, cells: Cells<'_>) -> Result<Columns, QueryError> {
        let mut columns = Columns {
            labels: Vec::new(),
            values: Vec::new(),
            name: None,
            help: None,
            reason: None,
            relation: cells.position("relid"),
        };
        for (index, column) in self.columns_now() {
            let position = cells
                .position(column.name)
                .ok_or(QueryError::MissingColumn(column.name))?;
            match column.kind {
                ColumnKind::Label => columns.labels.push((index, position)),
                ColumnKind::Counter | ColumnKind::Gauge | ColumnKind::Untyped => {
                    columns.values.push((index, position));
                }
                ColumnKind::Name => columns.name = Some(position),
                ColumnKind::Help => columns.help = Some(position),
                ColumnKind::Reason => columns.reason = Some(position),
            }
        }
        Ok(columns)
    }

    /// The samples of a row, and the bytes of its labels.
    fn samples(
        &self,
        columns: &Columns,
        cells: Cells<'_>,
    ) -> Result<(RowSamples, usize), QueryError> {
        let database = self
            .plan
            .database
            .clone()
            .zip(self.context.database.clone());
        let mut pairs = Vec::with_capacity(columns.labels.len());
        for (index, position) in &columns.labels {
            let value = cells.text(*position)?.unwrap_or_default();
            let value = Arc::<str>::from(cut(&value, LABEL));
            pairs.push((self.plan.labels[*index].clone(), value));
        }
        let all: Labels = database.iter().chain(&pairs).cloned().collect();
        let mut samples = Vec::with_capacity(columns.values.len());
        for (index, position) in &columns.values {
            let column = &self.query.columns[*index];
            let Some(value) = cells.number(*position, column.name)? else {
                continue;
            };
            let labels = match (column.labels, &self.plan.own_labels[*index]) {
                (None, None) => all.clone(),
                (some, own) => {
                    let pairs = pairs.iter();
                    let pairs =
                        pairs.filter(|(name, _)| some.is_none_or(|names| names.contains(&&**name)));
                    database.iter().chain(pairs).chain(own).cloned().collect()
                }
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
        let texts = all.iter().map(|(_, value)| value.len()).sum();
        let unknown = match columns.reason {
            Some(position) => cells.raw(position)?.and_then(Reason::of_row),
            None => None,
        };
        let row = RowSamples {
            relation,
            unknown,
            samples,
        };
        Ok((row, texts))
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
        let name = format!("{}_{name}", self.collector.prefix);
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
        Ok(Some(Metric::new(
            &cut(&name, LABEL),
            kind,
            &cut(&help, LABEL),
        )))
    }
}

/// The rows of a statement so far.
#[derive(Default)]
pub(super) struct Reading {
    columns: Option<Columns>,
    rows: Vec<RowSamples>,
    /// Bytes of the labels so far.
    texts: usize,
    cut: u64,
}

impl Reading {
    /// The rows, on the account of what they cost.
    pub fn end(self, cost: &mut Cost) -> Vec<RowSamples> {
        cost.rows += self.rows.len() as u64 + self.cut;
        cost.cut += self.cut;
        self.rows
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
    let mut places = HashMap::new();
    for (metric, sample) in samples {
        let at = *places.entry(Arc::as_ptr(&metric)).or_insert(groups.len());
        match groups.get_mut(at) {
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
