//! Statements on tables that may be large run in pieces along a key.
//!
//! A long statement holds back the removal of dead rows, and a migration has to wait for its end.
//! So the rows are counted in pieces, from one value of the key to another: as many at a time as
//! take about [`AIM`], fewer after a statement timeout. After each piece the walk rests as long as
//! the piece took, with no transaction open. A row has its place by its key, so that it is counted
//! once, whatever is written meanwhile.
//!
//! A piece that does not know its part says NaN, and then the whole is unknown.
//!
//! A walk that is not over when others have their turn goes on from there in the next run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::message::Message;
use super::rows::{Reader, RowSamples, by_metric};
use super::{Harvest, Pieces, QueryError, Reason, Sql, Statement};
use crate::bounds::TEXTS;
use crate::snapshot::{Labels, Metric, Sample, Snapshot};

/// The placeholder of the condition that gives one piece.
pub const PLACEHOLDER: &str = "piece";

/// How long a piece is to take; less where the statement timeout is near.
const AIM: Duration = Duration::from_millis(100);

/// How many rows the first piece has.
const FIRST: u32 = 10_000;

/// Slow pieces get no smaller than this: what is slow may be the way to the server.
const FEW: u32 = 1_000;

/// After a statement timeout they do, down to this.
const FEWEST: u32 = 10;

/// A walk through a table: how far it is, and what it has counted.
#[derive(Debug)]
pub(super) struct Walk {
    /// When it was begun.
    pub begun: Instant,
    /// The key at which the last piece ended.
    after: Option<Vec<String>>,
    /// How many rows the next piece is to have.
    rows: u32,
    sums: Vec<Sums>,
    /// Bytes of their labels.
    texts: usize,
}

/// What was counted for one metric.
#[derive(Debug)]
struct Sums {
    metric: Arc<Metric>,
    by_labels: BTreeMap<Labels, f64>,
    /// Samples of other labels, beyond the limit.
    beyond: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            after: None,
            rows: FIRST,
            sums: Vec::new(),
            texts: 0,
        }
    }
}

impl Walk {
    /// Goes on until the end of the table, or until others have their turn; says whether it is at
    /// the end.
    pub async fn go_on(
        &mut self,
        client: &Client,
        statement: &Statement,
        pieces: Pieces,
        reader: &Reader<'_>,
        harvest: &mut Harvest,
    ) -> Result<bool, QueryError> {
        loop {
            let started = Instant::now();
            let aim = AIM.min(reader.context.timeout(reader.query.scope) / 4);
            match self.piece(client, statement, pieces, reader, harvest).await {
                Ok(Piece { end: None, .. }) => return Ok(true),
                Ok(Piece { end, longest }) => {
                    self.after = end;
                    if longest > aim {
                        self.rows = (self.rows / 2).max(self.rows.min(FEW));
                    } else if longest < aim / 2 {
                        self.rows = self.rows.saturating_mul(2);
                    }
                }
                Err(error) if error.reason() == Reason::StatementTimeout && self.rows > FEWEST => {
                    self.rows = (self.rows / 8).max(FEWEST);
                }
                Err(error) => return Err(error),
            }
            let rest = started.elapsed();
            harvest.rested += rest;
            tokio::time::sleep(rest).await;
            if Instant::now() >= reader.context.pause {
                return Ok(false);
            }
        }
    }

    /// Counts the next piece.
    async fn piece(
        &mut self,
        client: &Client,
        statement: &Statement,
        pieces: Pieces,
        reader: &Reader<'_>,
        harvest: &mut Harvest,
    ) -> Result<Piece, QueryError> {
        let from = match &self.after {
            Some(after) => compare(pieces.key, ">", after),
            None => Sql::from("true"),
        };
        let started = Instant::now();
        let end = self.end_of_piece(client, pieces, &from, reader, harvest);
        let end = end.await?;
        let searched = started.elapsed();
        let condition = match &end {
            Some(end) => Sql::from("(")
                .with(from)
                .with(" AND ")
                .with(compare(pieces.key, "<=", end))
                .with(")"),
            None => from,
        };
        let part = (PLACEHOLDER, &condition);
        let sql = reader.context.fill(statement, Some(part))?;
        let started = Instant::now();
        let rows = reader.read(client, &sql, &mut harvest.cost).await?;
        let longest = searched.max(started.elapsed());
        self.add(rows, reader);
        Ok(Piece { end, longest })
    }

    /// The key that so many rows further on stands.
    async fn end_of_piece(
        &self,
        client: &Client,
        Pieces { table, key }: Pieces,
        from: &Sql,
        reader: &Reader<'_>,
        harvest: &mut Harvest,
    ) -> Result<Option<Vec<String>>, QueryError> {
        let context = reader.context;
        let schema = context.schema().ok_or(QueryError::NoValue("schema"))?;
        let sql = Sql::from("SELECT ")
            .with(key)
            .with(" FROM ")
            .with(Sql::table(schema, table))
            .with(" WHERE ")
            .with(from.clone())
            .with(" ORDER BY ")
            .with(key)
            .with(" OFFSET ")
            .with(self.rows)
            .with(" LIMIT 1");
        let message = Message {
            sql: &sql,
            timeout: context.timeout(reader.query.scope),
            version: context.version,
            scope: reader.query.scope,
        };
        let mut end = None;
        harvest.cost.statements += 1;
        message
            .send(client, |_, cells| {
                let mut values = Vec::new();
                for position in 0..key.split(',').count() {
                    let value = cells.raw(position)?;
                    values.push(value.ok_or(QueryError::MissingColumn(key))?.to_owned());
                }
                end = Some(values);
                harvest.cost.rows += 1;
                Ok(())
            })
            .await?;
        Ok(end)
    }

    fn add(&mut self, rows: Vec<RowSamples>, reader: &Reader<'_>) {
        let samples = rows.into_iter().flat_map(|row| row.samples);
        for (metric, samples) in by_metric(samples) {
            let known = self
                .sums
                .iter()
                .position(|of| of.metric.name == metric.name);
            let at = known.unwrap_or_else(|| {
                self.sums.push(Sums {
                    metric: metric.clone(),
                    by_labels: BTreeMap::new(),
                    beyond: 0,
                });
                self.sums.len() - 1
            });
            let of_largest = |column: &&super::Column| {
                column.largest && reader.query.metric_name(column) == *metric.name
            };
            let largest = reader.query.columns.iter().any(|c| of_largest(&c));
            for Sample { labels, value } in samples {
                let Sums {
                    by_labels, beyond, ..
                } = &mut self.sums[at];
                let full = by_labels.len() >= reader.context.limit || self.texts > TEXTS;
                match by_labels.get_mut(&labels) {
                    Some(sum) if largest && (sum.is_nan() || *sum >= value) => (),
                    Some(sum) if largest => *sum = value,
                    Some(sum) => *sum += value,
                    None if full => *beyond += 1,
                    None => {
                        let texts = labels.iter().map(|(_, value)| value.len());
                        self.texts += texts.sum::<usize>();
                        by_labels.insert(labels, value);
                    }
                }
            }
        }
    }

    /// What was counted.
    pub fn end(self, harvest: &mut Harvest) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let beyond = self.sums.iter().map(|sums| sums.beyond).max();
        for sums in self.sums {
            let known = sums.by_labels.into_iter();
            let known = known.filter(|(_, value)| !value.is_nan());
            let samples = known.map(|(labels, value)| Sample { labels, value });
            snapshot.extend(&sums.metric, samples.collect());
        }
        harvest.cost.cut += beyond.unwrap_or_default();
        snapshot
    }
}

/// Where a piece has ended, none at the end of the table, and its longest statement.
struct Piece {
    end: Option<Vec<String>>,
    longest: Duration,
}

/// How the key compares with this one. How many rows that is, the planner knows of a single column
/// only.
fn compare(key: &'static str, operator: &'static str, values: &[String]) -> Sql {
    let literals = values.iter().map(|value| Sql::literal(value));
    let whole = Sql::from("(")
        .with(key)
        .with(") ")
        .with(operator)
        .with(" (")
        .with(Sql::join(literals, ", "))
        .with(")");
    match (key.split_once(','), values.first()) {
        (Some((column, _)), Some(value)) => Sql::from(column)
            .with(if operator == "<=" { " <= " } else { " >= " })
            .with(Sql::literal(value))
            .with(" AND ")
            .with(whole),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_lies_between_two_keys() {
        let [one, two] = [["a"].as_slice(), &["a", r"it's \'"]]
            .map(|values| values.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(compare("id", ">", &one).as_str(), "(id) > (E'a')");
        assert_eq!(compare("id", "<=", &one).as_str(), "(id) <= (E'a')");
        let whole = r"user_id >= E'a' AND (user_id, id) > (E'a', E'it''s \\''')";
        assert_eq!(compare("user_id, id", ">", &two).as_str(), whole);
    }
}
