//! Several queries of a collector in one message.
//!
//! What is asked in every scrape is cheap, and about half of what it costs is what comes with each
//! message: the settings, and the check of the tables that are read. So the queries of such a
//! collector share one. If the message fails, nothing of it is used, and each query is sent in a
//! message of its own: one that fails costs its own samples only.

use std::collections::BTreeMap;

use super::message::Message;
use super::relations;
use super::rows::{Reader, Reading, RowSamples};
use super::{Cost, QueryError, Reason, Sql};

/// The rows of each query by its number; of those that are to be asked alone there is nothing.
pub(super) async fn read(
    readers: &[(usize, Reader<'_>)],
    cost: &mut Cost,
) -> BTreeMap<usize, Vec<RowSamples>> {
    let statements = readers.iter().filter_map(|(index, reader)| {
        let sql = sql(reader).ok().flatten()?;
        Some((*index, reader, sql))
    });
    let statements: Vec<_> = statements.collect();
    let [(_, first, _), _, ..] = &statements[..] else {
        return BTreeMap::new();
    };
    cost.statements += statements.len() as u64;
    let message = Message {
        sql: &Sql::join(statements.iter().map(|(_, _, sql)| sql.clone()), "; "),
        timeout: first.context.timeout(first.collector.scope),
        version: first.context.version,
        scope: first.collector.scope,
    };
    let mut readings: Vec<_> = statements.iter().map(|_| Reading::default()).collect();
    let sent = message.send(first.client, |select, cells| {
        let of = statements.get(select).zip(readings.get_mut(select));
        let more = "it sent more results than there are statements";
        let more = || QueryError::Unavailable(Reason::Protocol, more.to_owned());
        let ((_, reader, _), reading) = of.ok_or_else(more)?;
        reader.row(reading, cells)
    });
    if sent.await.is_err() {
        return BTreeMap::new();
    }
    let numbers = statements.iter().map(|(index, ..)| *index);
    let readings = readings.into_iter().map(|reading| reading.end(cost));
    numbers.zip(readings).collect()
}

/// The statement of a query that is one cheap statement here.
fn sql(reader: &Reader<'_>) -> Result<Option<Sql>, QueryError> {
    let query = reader.query;
    let statement = reader.statement()?;
    let alone =
        query.walk.is_some() || query.covered.is_some() || statement.has(relations::PLACEHOLDER);
    match alone {
        true => Ok(None),
        false => reader.context.fill(statement, &[]).map(Some),
    }
}
