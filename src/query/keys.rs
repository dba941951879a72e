//! A walk in the order of a key.
//!
//! Where a DISTINCT is counted, rows of the same value have to come together. A piece is so many
//! rows, or groups of rows with the same value, in the order of an index that begins with the key;
//! rows that are equal in the whole key are in one piece. A row has its place by its key, so that it
//! is counted once, whatever is written meanwhile.
//!
//! Rows of a single value may still take longer than a statement may. Then they are left out, and
//! what is served says that it is at least so much.

use std::time::Instant;

use super::cache::{filled, measured};
use super::harvest::{Answer, Quality};
use super::message::Message;
use super::route::{Refusals, Route};
use super::tally::Tally;
use super::{Harvest, Key, QueryError, Reason, Sql};

/// The placeholder of the rows of a piece, as a relation.
pub const PIECE: &str = "piece";

/// The placeholder of the condition that holds for rows whose first value was in no piece before.
pub const BEGINS: &str = "begins";

/// The key at the end of a piece, beside what is counted.
const ENDS: [&str; 3] = ["piece_end_1", "piece_end_2", "piece_end_3"];

/// How many rows the first piece has.
const FIRST: u32 = 8_000;

/// Fast pieces get no larger than this: more would not fit into the `work_mem` of a message, and be
/// written to disk.
const MOST: u32 = 32_000;

/// Slow pieces get no smaller than this: what is slow may be the way to the server.
const FEW: u32 = 1_000;

/// After a statement timeout they do, down to the rows of a single value.
const FEWEST: u32 = 1;

/// How far a walk is.
#[derive(Debug)]
pub(super) struct Keys {
    begun: Instant,
    table: &'static str,
    key: Key,
    /// The key at which the last piece ended, or its first values.
    after: Option<Vec<String>>,
    /// How many rows the next piece is to have.
    rows: u32,
    /// Whether the next value alone has taken too long once: it may have been the machine.
    slow: bool,
    /// Whether any rows were left out.
    left_out: bool,
    refusals: Refusals,
    tally: Tally,
}

impl Keys {
    pub fn begin(table: &'static str, key: Key) -> Self {
        Self {
            begun: Instant::now(),
            table,
            key,
            after: None,
            rows: FIRST,
            slow: false,
            left_out: false,
            refusals: Refusals::default(),
            tally: Tally::default(),
        }
    }

    pub async fn go_on(
        &mut self,
        route: &Route<'_>,
        harvest: &mut Harvest,
    ) -> Result<Option<Answer>, QueryError> {
        loop {
            if route.wait(route.reader.context.cache.free(), harvest).await {
                return Ok(None);
            }
            let started = Instant::now();
            let aim = route.aim();
            let at_end = match self.piece(route, harvest).await {
                Ok(at_end) => {
                    let took = started.elapsed();
                    if took > aim {
                        self.rows = (self.rows / 2).max(self.rows.min(FEW));
                    } else if took < aim / 2 {
                        self.rows = (2 * self.rows).min(MOST);
                    }
                    self.refusals.clear();
                    self.slow = false;
                    at_end
                }
                Err(error) if error.reason() == Reason::StatementTimeout => {
                    if self.rows > FEWEST {
                        self.rows = (self.rows / 32).max(FEWEST);
                        false
                    } else if !std::mem::replace(&mut self.slow, true) {
                        false
                    } else {
                        self.slow = false;
                        self.left_out = true;
                        self.rows = FEW;
                        self.skip_value(route, harvest).await?
                    }
                }
                Err(error) if self.refusals.may_pass(&error) => false,
                Err(error) => return Err(error),
            };
            if at_end {
                let tally = std::mem::take(&mut self.tally);
                let quality = Quality {
                    at_least: Some(self.left_out),
                    ..Quality::default()
                };
                return Ok(Some(Answer {
                    at: self.begun,
                    snapshot: tally.end(&mut harvest.cost),
                    walked: Some((self.table, quality)),
                }));
            }
            let rested = started + 2 * started.elapsed();
            if route.rest(rested, harvest).await {
                return Ok(None);
            }
        }
    }

    /// Counts the next piece; says whether it was the last.
    async fn piece(
        &mut self,
        route: &Route<'_>,
        harvest: &mut Harvest,
    ) -> Result<bool, QueryError> {
        let reader = route.reader;
        let sql = measured(self.statement(route)?);
        let width = self.key.columns().count();
        let (mut end, mut charged) = (Vec::new(), 0.0);
        let read = reader.read_and(&sql, &mut harvest.cost, |cells| {
            let place = |name| cells.position(name).ok_or(QueryError::MissingColumn(name));
            charged = filled(cells)?.unwrap_or_default();
            end.clear();
            for name in &ENDS[..width] {
                end.extend(cells.raw(place(name)?)?.map(str::to_owned));
            }
            Ok(())
        });
        let rows = read.await?;
        reader.context.cache.charge(charged);
        self.tally.add(rows, reader.plan, reader.context.limit);
        let at_end = end.len() < width;
        if !at_end {
            self.after = Some(end);
        }
        Ok(at_end)
    }

    /// What is counted of the next piece, and beside it where the piece ends, unless it has fewer rows
    /// than were asked for. It is read in the order in which it was made, so that it is sorted once.
    fn statement(&self, route: &Route<'_>) -> Result<Sql, QueryError> {
        let first = self.after.as_ref().and_then(|after| after.first());
        let begins = match (self.key.columns().next(), first) {
            (Some(column), Some(value)) => Sql::from("(")
                .with(column)
                .with(" <> ")
                .with(Sql::literal(value))
                .with(")"),
            _ => Sql::from("true"),
        };
        let parts = [(PIECE, Sql::from("piece")), (BEGINS, begins)];
        let counted = route.reader.context.fill(route.statement, &parts)?;
        let ends = self.key.columns().zip(ENDS);
        let ends = ends.map(|(column, end)| Sql::from(column).with(" AS ").with(end));
        Ok(Sql::from("WITH piece AS MATERIALIZED (")
            .with(self.rest_of_rows(route)?)
            .with(" FETCH FIRST ")
            .with(self.rows)
            .with(match self.key.unique {
                true => " ROWS ONLY",
                false => " ROWS WITH TIES",
            })
            .with(") SELECT q.*, e.* FROM (VALUES (1)) AS one LEFT JOIN (SELECT ")
            .with(Sql::join(ends, ", "))
            .with(" FROM piece OFFSET ")
            .with(self.rows - 1)
            .with(" LIMIT 1) AS e ON true LEFT JOIN (")
            .with(counted)
            .with(") AS q ON true"))
    }

    /// The rows that are still to be read, in order.
    fn rest_of_rows(&self, route: &Route<'_>) -> Result<Sql, QueryError> {
        let rows = route.reader.context.fill(&self.key.rows, &[])?;
        let sql = Sql::from("SELECT r.* FROM (").with(rows).with(") AS r");
        let sql = sql.with(self.where_beyond());
        Ok(sql.with(" ORDER BY ").with(self.key.columns))
    }

    /// What comes after that at which the last piece ended. Nothing beside it says the same of the first
    /// column: the scan of an index could begin there, at the first row of a value that has many.
    fn where_beyond(&self) -> Sql {
        let Some(values) = &self.after else {
            return Sql::default();
        };
        let columns = self.key.columns().take(values.len());
        let literals = values.iter().map(|value| Sql::literal(value));
        Sql::from(" WHERE (")
            .with(Sql::join(columns, ", "))
            .with(") > (")
            .with(Sql::join(literals, ", "))
            .with(")")
    }

    /// Leaves out what has the next value, of which it reads a single row; says whether there is none.
    async fn skip_value(
        &mut self,
        route: &Route<'_>,
        harvest: &mut Harvest,
    ) -> Result<bool, QueryError> {
        let Some(column) = self.key.columns().next() else {
            return Ok(true);
        };
        let context = route.reader.context;
        let schema = context.schema().ok_or(QueryError::NoValue("schema"))?;
        let sql = Sql::from("SELECT ")
            .with(column)
            .with(" FROM ")
            .with(Sql::table(schema, self.table))
            .with(self.where_beyond())
            .with(" ORDER BY ")
            .with(self.key.columns)
            .with(" LIMIT 1");
        let message = Message {
            sql: &sql,
            timeout: route.timeout(),
            version: context.version,
            scope: route.reader.collector.scope,
        };
        let mut next = None;
        harvest.cost.statements += 1;
        message
            .send(route.reader.client, |_, cells| {
                next = cells.raw(0)?.map(str::to_owned);
                harvest.cost.rows += 1;
                Ok(())
            })
            .await?;
        let at_end = next.is_none();
        self.after = next.map(|value| vec![value]).or(self.after.take());
        Ok(at_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Statement;

    #[test]
    fn a_piece_comes_after_what_was_read() {
        let beyond = |columns, values: &[&str]| {
            let rows = Statement::parse("SELECT 1");
            let unique = false;
            let mut keys = Keys::begin(
                "t",
                Key {
                    columns,
                    rows,
                    unique,
                },
            );
            keys.after = Some(values.iter().map(ToString::to_string).collect());
            keys.where_beyond().as_str().to_owned()
        };
        assert_eq!(beyond("id", &["a"]), " WHERE (id) > (E'a')");
        assert_eq!(beyond("user_id, id", &["a"]), " WHERE (user_id) > (E'a')");
        let whole = r" WHERE (user_id, id) > (E'a', E'it''s \\''')";
        assert_eq!(beyond("user_id, id", &["a", r"it's \'"]), whole);
    }
}
