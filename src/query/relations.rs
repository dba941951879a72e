//! Statements that touch tables run in chunks, around what is locked.
//!
//! A size function takes an ACCESS SHARE lock, so that one table that somebody rewrites would
//! cost all sizes. The tables that are locked ACCESS EXCLUSIVE, or will be once a waiting
//! statement gets its turn (themselves, their indexes, their TOAST tables or the indexes of
//! these), are left out and keep their last value. A lock that comes in between costs a lock
//! timeout; then the locks are read again, and what is left of the chunk is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::harvest::Kept;
use super::message::Message;
use super::rows::{Reader, snapshot_of};
use super::{Cost, Harvest, QueryError, Reason, Scope, Skip, Sql, Statement};
use crate::snapshot::Snapshot;

/// The placeholder of an `oid[]` of tables.
pub const PLACEHOLDER: &str = "relations";

/// How many tables one statement asks for.
const CHUNK: usize = 200;

/// How often a chunk is tried after a lock timeout.
const RETRIES: u32 = 2;

/// Every table that is not a system's or a session's own, and whether it is to be left out.
const TABLES: &str = "
    WITH locked AS MATERIALIZED (
        SELECT l.relation AS oid
          FROM pg_catalog.pg_locks l
         WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
           AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                              WHERE d.datname = current_database())
    ), held AS MATERIALIZED (
        SELECT oid FROM locked
        UNION
        SELECT i.indrelid FROM pg_catalog.pg_index i JOIN locked ON i.indexrelid = locked.oid
    )
    SELECT c.oid,
           c.oid IN (SELECT held.oid FROM held)
           OR c.reltoastrelid IN (SELECT held.oid FROM held) AS locked
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

/// Runs a statement that holds the placeholder over every table of the database.
pub(super) async fn run(
    statement: &Statement,
    reader: &Reader<'_>,
    previous: Option<&BTreeMap<u32, Kept>>,
    harvest: &mut Harvest,
) -> Result<Snapshot, QueryError> {
    let mut tables = Tables::read(reader, &mut harvest.cost).await?;
    let beyond = tables.free.len().saturating_sub(reader.context.limit);
    tables.free.truncate(reader.context.limit);
    harvest.cost.cut += beyond as u64;
    let mut left_out = tables.locked.clone();
    let mut chunks: Vec<(Vec<u32>, u32)> = tables
        .free
        .chunks(CHUNK)
        .map(|chunk| (chunk.to_vec(), RETRIES))
        .collect();
    while let Some((mut chunk, retries)) = chunks.pop() {
        let part = (PLACEHOLDER, oid_array(&chunk));
        let sql = reader.context.fill(statement, &[part])?;
        match reader.read(&sql, &mut harvest.cost).await {
            Ok(rows) => {
                let at = Instant::now();
                for row in rows {
                    let Some(relation) = row.relation else {
                        return Err(QueryError::MissingColumn("relid"));
                    };
                    let samples = row.samples;
                    harvest.kept.insert(relation, Kept { at, samples });
                }
            }
            Err(error) if error.reason() == Reason::LockTimeout && retries > 0 => {
                let now = Tables::read(reader, &mut harvest.cost).await?;
                left_out.extend(chunk.iter().filter(|oid| now.locked.contains(oid)));
                chunk.retain(|oid| !now.locked.contains(oid));
                let half = chunk.split_off(chunk.len() / 2);
                chunks.extend(
                    [chunk, half]
                        .into_iter()
                        .filter(|chunk| !chunk.is_empty())
                        .map(|chunk| (chunk, retries - 1)),
                );
            }
            Err(error) if error.reason() == Reason::LockTimeout => left_out.extend(chunk),
            Err(error) => return Err(error),
        }
    }
    if let Some(previous) = previous {
        for oid in &left_out {
            if let Some(kept) = previous.get(oid) {
                harvest.kept.insert(*oid, kept.clone());
            }
        }
    }
    if !left_out.is_empty() {
        harvest.skipped.push(Skip {
            reason: Reason::LockTimeout,
            message: format!(
                "{} tables are locked and keep their last values",
                left_out.len()
            ),
        });
    }
    // Each statement has kept to the limit; together they may not.
    while harvest.kept.len() > reader.context.limit {
        harvest.kept.pop_last();
        harvest.cost.cut += 1;
    }
    let samples = harvest
        .kept
        .values()
        .flat_map(|kept| kept.samples.iter().cloned());
    Ok(snapshot_of(samples, reader.query.merge))
}

struct Tables {
    free: Vec<u32>,
    locked: BTreeSet<u32>,
}

impl Tables {
    async fn read(reader: &Reader<'_>, cost: &mut Cost) -> Result<Self, QueryError> {
        let mut tables = Self {
            free: Vec::new(),
            locked: BTreeSet::new(),
        };
        cost.statements += 1;
        let message = Message {
            sql: &Sql::from(TABLES),
            timeout: reader.context.timeout(Scope::Database),
            version: reader.context.version,
            scope: Scope::Database,
        };
        message
            .send(reader.client, |_, cells| {
                let Some(oid) = cells.number(0, "oid")? else {
                    return Ok(());
                };
                if cells.truth(1)? {
                    tables.locked.insert(oid as u32);
                } else {
                    tables.free.push(oid as u32);
                }
                Ok(())
            })
            .await?;
        Ok(tables)
    }
}

fn oid_array(oids: &[u32]) -> Sql {
    Sql::from("'{")
        .with(Sql::join(oids.iter().copied(), ","))
        .with("}'::pg_catalog.oid[]")
}
