//! What is asked of the server.
//!
//! Every statement is short, and one message of its own. The two that a scrape sends cost what the
//! rows beyond the marks cost; all others are ranges of `stream_ordering`, which an index has.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::buckets::{Counts, End, KINDS, ORIGINS, Origin};
use crate::query::message::{Cells, Message};
use crate::query::{Cost, QueryError, Scope, Version, quoted};

/// What is read of Synapse's tables.
pub const READS: [(&str, &[&str]); 2] = [
    (
        "events",
        &[
            "stream_ordering",
            "type",
            "state_key",
            "rejection_reason",
            "received_ts",
        ],
    ),
    ("stream_positions", &["stream_name", "stream_id"]),
];

/// The counts of some rows, in the order of [`KINDS`].
const COUNTS: &str = "count(*),
       count(*) FILTER (WHERE type = 'm.room.message'),
       count(*) FILTER (WHERE type = 'm.room.encrypted'),
       count(*) FILTER (WHERE state_key IS NOT NULL),
       count(*) FILTER (WHERE type = 'm.room.redaction'),
       count(*) FILTER (WHERE rejection_reason IS NOT NULL)";

/// The counter of deletes is read before the rows that it is to tell about. A writer that was
/// never heard of has no position. In recovery the timeline is that of the last restartpoint.
const HEADER: &str = "
SELECT d.oid,
       c.oid,
       pg_catalog.pg_stat_get_tuples_deleted(c.oid),
       extract(epoch FROM pg_catalog.pg_stat_get_db_stat_reset_time(d.oid)),
       CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN (SELECT k.timeline_id FROM pg_catalog.pg_control_checkpoint() AS k)
            ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))
                 ::bit(32)::integer END,
       pg_catalog.pg_wal_lsn_diff(
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_flush_lsn() END, '0/0'),
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.pg_snapshot_xmin(s.now),
       pg_catalog.pg_snapshot_xmax(s.now),
       p.live_finished, p.live_reached, p.backfill_finished, p.backfill_reached,
       (SELECT max(stream_ordering) FROM {schema}.events),
       (SELECT min(stream_ordering) FROM {schema}.events),
       (SELECT received_ts FROM {schema}.events WHERE stream_ordering = $first),
       (SELECT received_ts FROM {schema}.events WHERE stream_ordering = $second)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_database AS d ON d.datname = current_database()
 CROSS JOIN (SELECT pg_catalog.pg_current_snapshot() AS now) AS s
 CROSS JOIN (SELECT min(stream_id) FILTER (WHERE stream_name = 'events') AS live_finished,
                    max(stream_id) FILTER (WHERE stream_name = 'events') AS live_reached,
                    -max(stream_id) FILTER (WHERE stream_name = 'backfill') AS backfill_finished,
                    -min(stream_id) FILTER (WHERE stream_name = 'backfill') AS backfill_reached
               FROM {schema}.stream_positions) AS p
 WHERE n.nspname = $schema AND c.relname = 'events'";

/// Read once more after the rows: what is in them had begun by then.
const XMAX: &str = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())";

/// What the planner knows of the table: a guess at what is not counted yet.
const ESTIMATE: &str = "
SELECT c.reltuples,
       (SELECT v.frequency FROM v WHERE v.type = 'm.room.message'),
       (SELECT v.frequency FROM v WHERE v.type = 'm.room.encrypted'),
       (SELECT 1 - s.null_frac FROM s WHERE s.attname = 'state_key'),
       (SELECT v.frequency FROM v WHERE v.type = 'm.room.redaction'),
       (SELECT 1 - s.null_frac FROM s WHERE s.attname = 'rejection_reason')
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $schema AND c.relname = 'events'";

const STATISTICS: &str = "
WITH s AS (
    SELECT p.attname, p.null_frac, p.most_common_vals, p.most_common_freqs
      FROM pg_catalog.pg_stats AS p
     WHERE p.schemaname = $schema AND p.tablename = 'events' AND NOT p.inherited
), v AS (
    SELECT u.type, u.frequency
      FROM s
     CROSS JOIN LATERAL unnest(s.most_common_vals::text::text[], s.most_common_freqs)
                     AS u (type, frequency)
     WHERE s.attname = 'type'
)";

/// An event, told apart from another one at the same position by when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its position among live events.
    pub position: u64,
    /// In milliseconds since 1970.
    pub received: i64,
}

/// What is true of the database before its rows are counted.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The database.
    pub database: u32,
    /// The table of events.
    pub relation: u32,
    /// Rows deleted from it since the statistics were reset, also by transactions that failed. It
    /// follows within seconds, and stands still in recovery.
    pub deleted: u64,
    /// When the statistics were reset.
    pub stats_reset: Option<String>,
    /// The timeline.
    pub timeline: u32,
    /// How far the WAL is known to be safe, or is replayed.
    pub lsn: u64,
    /// Whether the server is in recovery.
    pub standby: bool,
    /// The oldest transaction that goes on.
    pub xmin: u64,
    /// The first transaction that has not begun.
    pub xmax: u64,
    /// How far the ends have grown.
    pub ends: [End; 2],
    /// The events that were asked for, as far as they are there.
    pub events: [Option<Event>; 2],
}

/// What the planner thinks of the table, as far as it thinks at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    /// All rows.
    pub rows: Option<f64>,
    /// What part of them is of each kind.
    pub shares: [Option<f64>; KINDS.len()],
}

/// The rows of both tails: the number of the piece, what is in it, the newest position.
pub type Tails = [Vec<(usize, Counts, u64)>; 2];

/// Sends statements to the database of one Synapse.
pub struct Survey<'a> {
    /// The connection.
    pub client: &'a Client,
    /// The server's version.
    pub version: Version,
    /// Where Synapse's tables are.
    pub schema: &'a str,
    /// What a statement may take.
    pub timeout: Duration,
    /// What all of it has cost so far.
    pub cost: Cost,
}

impl<'a> Survey<'a> {
    /// Has cost nothing yet.
    pub fn new(
        client: &'a Client,
        version: Version,
        schema: Option<&'a str>,
        timeout: Duration,
    ) -> Self {
        Self {
            client,
            version,
            schema: schema.unwrap_or("public"),
            timeout,
            cost: Cost::default(),
        }
    }

    /// What is true now, and what the planner thinks.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn look(
        &mut self,
        events: [Option<u64>; 2],
    ) -> Result<(Header, Estimate), QueryError> {
        let sql = format!("{}; {STATISTICS}{ESTIMATE}", header(events));
        let mut found = (Header::default(), Estimate::default());
        self.send(&sql, 2, |select, cells| {
            match select {
                0 => found.0 = read_header(cells, events)?,
                _ => found.1 = read_estimate(cells)?,
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// What is true now, and then the rows of the tails, in pieces that begin at these positions.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn tails(
        &mut self,
        events: [Option<u64>; 2],
        pieces: &[Vec<u64>; 2],
    ) -> Result<(Header, Tails), QueryError> {
        let [live, backfill] = ORIGINS.map(|origin| tail(origin, &pieces[origin as usize]));
        let sql = format!("{}; {live}; {backfill}; {XMAX}", header(events));
        let mut found = (Header::default(), Tails::default());
        self.send(&sql, 4, |select, cells| {
            match select {
                0 => found.0 = read_header(cells, events)?,
                1 | 2 => found.1[select - 1].push(read_piece(cells)?),
                _ => found.0.xmax = required(cells, 0)?,
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Counts a range of positions; the newest of them, too.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn count(
        &mut self,
        origin: Origin,
        from: u64,
        to: u64,
    ) -> Result<(Counts, Option<u64>), QueryError> {
        let sql = format!(
            "SELECT max(stream_ordering), {COUNTS}\n  FROM {{schema}}.events\n WHERE {}",
            within(origin, from, to)
        );
        let mut found = (Counts::default(), None);
        self.send(&sql, 1, |_, cells| {
            let newest: Option<i64> = optional(cells, 0)?;
            found = (read_counts(cells, 1)?, newest.map(i64::unsigned_abs));
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Counts the rows of a range of positions, and nothing of what they are: an index tells.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn total(
        &mut self,
        origin: Origin,
        from: u64,
        to: u64,
    ) -> Result<Counts, QueryError> {
        let sql = format!(
            "SELECT count(*) FROM {{schema}}.events WHERE {}",
            within(origin, from, to)
        );
        let mut total = Counts::default();
        self.send(&sql, 1, |_, cells| {
            total.0[0] = required(cells, 0)?;
            Ok(())
        })
        .await?;
        Ok(total)
    }

    async fn send(
        &mut self,
        sql: &str,
        statements: u64,
        mut each: impl FnMut(usize, Cells<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let sql = sql
            .replace("$schema", &literal(self.schema))
            .replace("{schema}", &quoted(self.schema));
        let message = Message {
            sql: &sql,
            timeout: self.timeout,
            version: self.version,
            scope: Scope::Synapse,
        };
        let started = std::time::Instant::now();
        let mut rows = 0;
        let sent = message
            .send(self.client, |select, cells| {
                rows += 1;
                each(select, cells)
            })
            .await;
        self.cost.statements += statements;
        self.cost.rows += rows;
        self.cost.duration += started.elapsed();
        sent
    }
}

fn header(events: [Option<u64>; 2]) -> String {
    let [first, second] =
        events.map(|position| position.map_or("NULL".to_owned(), |position| position.to_string()));
    HEADER.replace("$first", &first).replace("$second", &second)
}

fn tail(origin: Origin, pieces: &[u64]) -> String {
    let (position, newest) = match origin {
        Origin::Live => ("stream_ordering", "max(stream_ordering)"),
        Origin::Backfill => ("-stream_ordering", "min(stream_ordering)"),
    };
    let begins: Vec<_> = pieces.iter().map(u64::to_string).collect();
    format!(
        "SELECT width_bucket({position}, '{{{}}}'::bigint[]), {newest}, {COUNTS}
  FROM {{schema}}.events
 WHERE {}
 GROUP BY 1",
        begins.join(","),
        within(origin, pieces[0], END)
    )
}

/// Beyond every position. With both ends a range is taken for a small one where the planner knows
/// nothing of the table, and read by the index.
const END: u64 = i64::MAX as u64;

fn within(origin: Origin, from: u64, to: u64) -> String {
    match origin {
        Origin::Live => format!("stream_ordering >= {from} AND stream_ordering < {to}"),
        Origin::Backfill => format!("stream_ordering <= -{from} AND stream_ordering > -{to}"),
    }
}

fn read_header(cells: Cells<'_>, asked: [Option<u64>; 2]) -> Result<Header, QueryError> {
    let newest: Option<i64> = optional(cells, 13)?;
    let oldest: Option<i64> = optional(cells, 14)?;
    let beyond = |position: Option<i64>| {
        position
            .and_then(|position| u64::try_from(position).ok())
            .map(|position| position + 1)
    };
    let end = |finished, reached, last: Option<i64>, lowest: Origin| -> Result<End, QueryError> {
        let reached = beyond(optional(cells, reached)?).max(beyond(last));
        Ok(End {
            finished: beyond(optional(cells, finished)?),
            reached: reached.unwrap_or(0).max(lowest.lowest()),
        })
    };
    let event = |column, asked: Option<u64>| -> Result<Option<Event>, QueryError> {
        let received = optional(cells, column)?;
        let event = asked.zip(received);
        Ok(event.map(|(position, received)| Event { position, received }))
    };
    Ok(Header {
        database: required(cells, 0)?,
        relation: required(cells, 1)?,
        deleted: required(cells, 2)?,
        stats_reset: cells.raw(3)?.map(str::to_owned),
        timeline: required(cells, 4)?,
        lsn: required(cells, 5)?,
        standby: cells.truth(6)?,
        xmin: required(cells, 7)?,
        xmax: required(cells, 8)?,
        ends: [
            end(9, 10, newest, Origin::Live)?,
            end(11, 12, oldest.map(|oldest| -oldest), Origin::Backfill)?,
        ],
        events: [event(15, asked[0])?, event(16, asked[1])?],
    })
}

fn read_estimate(cells: Cells<'_>) -> Result<Estimate, QueryError> {
    let mut shares = [Some(1.0); KINDS.len()];
    for (at, share) in shares.iter_mut().enumerate().skip(1) {
        *share = cells.number(at, "share")?;
    }
    // A table that was never analyzed has no rows, as the planner says, or less than none.
    let rows = cells.number(0, "reltuples")?.filter(|rows| *rows > 0.0);
    Ok(Estimate { rows, shares })
}

fn read_piece(cells: Cells<'_>) -> Result<(usize, Counts, u64), QueryError> {
    let number: usize = required(cells, 0)?;
    let newest: i64 = required(cells, 1)?;
    let counts = read_counts(cells, 2)?;
    Ok((number.saturating_sub(1), counts, newest.unsigned_abs()))
}

fn read_counts(cells: Cells<'_>, first: usize) -> Result<Counts, QueryError> {
    let mut counts = Counts::default();
    for (at, count) in counts.0.iter_mut().enumerate() {
        *count = required(cells, first + at)?;
    }
    Ok(counts)
}

fn optional<T: std::str::FromStr>(
    cells: Cells<'_>,
    position: usize,
) -> Result<Option<T>, QueryError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| QueryError::NotANumber {
            column: "of a count",
            text: text.to_owned(),
        })
    };
    cells.raw(position)?.map(parse).transpose()
}

fn required<T: std::str::FromStr>(cells: Cells<'_>, position: usize) -> Result<T, QueryError> {
    optional(cells, position)?.ok_or(QueryError::MissingColumn("of a count"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_declared_and_no_more() {
        let tails = ORIGINS.map(|origin| tail(origin, &[7]));
        let sql = format!("{HEADER} {STATISTICS}{ESTIMATE} {}", tails.concat());
        for (table, columns) in READS {
            assert!(sql.contains(&format!("{{schema}}.{table}")), "{table}");
            for column in columns {
                assert!(
                    sql.contains(column),
                    "{table}.{column} is granted, and never read"
                );
            }
        }
        for rest in sql.split("{schema}.").skip(1) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let table = &rest[..end.unwrap_or(rest.len())];
            assert!(READS.iter().any(|(known, _)| *known == table), "{table}");
        }
    }

    #[test]
    fn ranges_of_both_ends_hold_the_same_positions() {
        assert_eq!(
            within(Origin::Live, 3, 7),
            "stream_ordering >= 3 AND stream_ordering < 7"
        );
        assert_eq!(
            within(Origin::Backfill, 3, 7),
            "stream_ordering <= -3 AND stream_ordering > -7"
        );
    }
}
