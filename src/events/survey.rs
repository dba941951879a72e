//! What is asked of the server.
//!
//! Every statement is short, and one message of its own. The two that a scrape sends cost what the
//! rows beyond the marks cost; all others are ranges of `stream_ordering`, which an index has.

mod answer;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use self::answer::{name, optional, read_counts, read_estimate, read_header, read_piece, required};
use super::counts::{Counts, End, KINDS, ORIGINS, Origin};
use crate::bounds::SURVEY_ROWS;
use crate::query::message::{Cells, Message};
use crate::query::{Context, Cost, QueryError, Scope, Sql, Statement, Version};

/// What is read of Synapse's tables.
pub const READS: [(&str, &[&str]); 4] = [
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
    ("events_stream_seq", &["last_value"]),
    ("events_backfill_stream_seq", &["last_value"]),
];

/// The counts of some rows, in the order of [`KINDS`].
const COUNTS: &str = "count(*),
       count(*) FILTER (WHERE type = 'm.room.message'),
       count(*) FILTER (WHERE type = 'm.room.encrypted'),
       count(*) FILTER (WHERE state_key IS NOT NULL),
       count(*) FILTER (WHERE type = 'm.room.redaction'),
       count(*) FILTER (WHERE rejection_reason IS NOT NULL)";

/// The sessions of this database that are in a transaction, by the name of that transaction. Every
/// role may read both views as far as this; an autovacuum worker is not a user, and deletes nothing.
const OPEN: &str = "
SELECT l.virtualxid
  FROM pg_catalog.pg_locks AS l
  JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.locktype = 'virtualxid' AND l.virtualxid = l.virtualtransaction
   AND a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL
   AND a.pid <> pg_catalog.pg_backend_pid()";

/// Where these are of no use.
const NONE_ASKED: &str = "SELECT NULL WHERE false";

/// The counters are read before the rows that they are to tell about, and begin again after a crash
/// as after a reset. A writer that was never heard of has no position. In recovery the timeline is
/// that of the last restartpoint. Any role may set texts of many megabytes for itself, which are not read.
static HEADER: LazyLock<Statement> = LazyLock::new(|| {
    Statement::parse(
        "
SELECT d.oid,
       c.oid,
       pg_catalog.pg_stat_get_tuples_deleted(c.oid),
       pg_catalog.concat_ws(' ',
           extract(epoch FROM pg_catalog.pg_stat_get_db_stat_reset_time(d.oid)),
           extract(epoch FROM pg_catalog.pg_stat_get_bgwriter_stat_reset_time())),
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
       (SELECT received_ts FROM {schema}.events WHERE stream_ordering = {first}),
       (SELECT received_ts FROM {schema}.events WHERE stream_ordering = {second}),
       {given},
       pg_catalog.pg_stat_get_tuples_inserted(c.oid),
       c.relfilenode,
       pg_catalog.current_setting('track_counts') = 'on'
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting AS r
                            CROSS JOIN LATERAL unnest(r.setconfig) AS s (setting)
                            WHERE r.setdatabase IN (0, d.oid)
                              AND pg_catalog.pg_column_size(r.setconfig) < 2000
                              AND s.setting LIKE 'track_counts=%')
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_database AS d ON d.datname = current_database()
 CROSS JOIN (SELECT pg_catalog.pg_current_snapshot() AS now) AS s
 CROSS JOIN (SELECT min(stream_id) FILTER (WHERE stream_name = 'events') AS live_finished,
                    max(stream_id) FILTER (WHERE stream_name = 'events') AS live_reached,
                    -max(stream_id) FILTER (WHERE stream_name = 'backfill') AS backfill_finished,
                    -min(stream_id) FILTER (WHERE stream_name = 'backfill') AS backfill_reached
               FROM {schema}.stream_positions) AS p
 WHERE n.nspname = {schema_name} AND c.relname = 'events'",
    )
});

/// The ids that were given last.
static GIVEN: LazyLock<Statement> = LazyLock::new(|| {
    Statement::parse(
        "(SELECT last_value FROM {schema}.events_stream_seq),
       (SELECT last_value FROM {schema}.events_backfill_stream_seq)",
    )
});

/// Read once more after the rows: what is in them had begun by then.
const XMAX: &str = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())";

/// What the planner knows of the table: a guess at what is not counted yet.
static ESTIMATE: LazyLock<Statement> = LazyLock::new(|| {
    Statement::parse(
        "
WITH s AS (
    SELECT p.attname, p.null_frac, p.most_common_vals, p.most_common_freqs
      FROM pg_catalog.pg_stats AS p
     WHERE p.schemaname = {schema_name} AND p.tablename = 'events' AND NOT p.inherited
), v AS (
    SELECT u.type, u.frequency
      FROM s
     CROSS JOIN LATERAL unnest(s.most_common_vals::text::text[], s.most_common_freqs)
                     AS u (type, frequency)
     WHERE s.attname = 'type'
)
SELECT c.reltuples,
       (SELECT v.frequency FROM v WHERE v.type = 'm.room.message'),
       (SELECT v.frequency FROM v WHERE v.type = 'm.room.encrypted'),
       (SELECT 1 - s.null_frac FROM s WHERE s.attname = 'state_key'),
       (SELECT v.frequency FROM v WHERE v.type = 'm.room.redaction'),
       (SELECT 1 - s.null_frac FROM s WHERE s.attname = 'rejection_reason')
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = {schema_name} AND c.relname = 'events'",
    )
});

/// The newest of some rows, and their counts.
static COUNT: LazyLock<Statement> = LazyLock::new(|| {
    Statement::parse("SELECT max(stream_ordering), {counts} FROM {schema}.events WHERE {range}")
});

/// How many there are.
static TOTAL: LazyLock<Statement> =
    LazyLock::new(|| Statement::parse("SELECT count(*) FROM {schema}.events WHERE {range}"));

/// The time, in the snapshot of the rows that follow it.
const TIME: &str = "SELECT NULL::integer, 0,
       (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint, 0, 0, 0, 0, 0, 0";

/// The rows of a tail, in pieces that begin at some positions.
static TAIL: LazyLock<Statement> = LazyLock::new(|| {
    Statement::parse(
        "SELECT {origin}, width_bucket({position}, '{{begins}}'::bigint[]), {newest}, {counts}
  FROM {schema}.events
 WHERE {range}
 GROUP BY 2",
    )
});

/// An event, told apart from another one at the same position by when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its position among live events.
    pub position: u64,
    /// In milliseconds since 1970.
    pub received: i64,
}

/// What the server counts of a table's changes, also of those by transactions that failed. Sessions
/// report late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Rows inserted since the last reset.
    pub inserted: u64,
    /// Rows deleted since then.
    pub deleted: u64,
    /// When they were reset, as text.
    pub reset: String,
    /// Where the rows are stored: TRUNCATE counts none of those that it takes away.
    pub filenode: u32,
}

/// What is true of the database before its rows are counted.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The database.
    pub database: u32,
    /// The table of events.
    pub relation: u32,
    /// What the server has counted of its changes.
    pub counters: Counters,
    /// Whether every session is to report what it changes; none does in recovery.
    pub reported: bool,
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

/// The rows of both tails, as one snapshot shows them.
#[derive(Clone, Debug, Default)]
pub struct Tails {
    /// Of each origin: the number of the piece, what is in it, the newest position.
    pub pieces: [Vec<(usize, Counts, u64)>; 2],
    /// When it was, by the server's clock, in microseconds since 1970.
    pub at: u64,
    /// The transactions that went on before, where these were asked for.
    pub open: BTreeSet<String>,
}

/// Sends statements to the database of one Synapse.
pub struct Survey<'a> {
    /// The connection.
    pub client: &'a Client,
    /// The server's version.
    pub version: Version,
    /// Where Synapse's tables are.
    pub schema: Option<&'a str>,
    /// Whether the sequences that give the ids can be read.
    pub sequences: bool,
    /// What a statement may take.
    pub timeout: Duration,
    /// What all of it has cost so far.
    pub cost: Cost,
}

impl<'a> Survey<'a> {
    /// Has cost nothing yet.
    pub fn new(client: &'a Client, context: &'a Context<'_>, timeout: Duration) -> Self {
        Self {
            client,
            version: context.version,
            schema: context.schema(),
            sequences: false,
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
        let sql = Sql::join([self.header(events)?, self.fill(&ESTIMATE, [])?], "; ");
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

    /// What is true now, and then the rows of the tails, in pieces that begin at these positions;
    /// before all that the open transactions, if these are wanted.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn tails(
        &mut self,
        events: [Option<u64>; 2],
        pieces: &[Vec<u64>; 2],
        open: bool,
    ) -> Result<(Header, Tails), QueryError> {
        let [live, backfill] = ORIGINS;
        // One statement, hence one snapshot.
        let tails = [
            Sql::from(TIME),
            self.tail(live, &pieces[live as usize])?,
            self.tail(backfill, &pieces[backfill as usize])?,
        ];
        let statements = [
            Sql::from(if open { OPEN } else { NONE_ASKED }),
            self.header(events)?,
            Sql::join(tails, " UNION ALL "),
            Sql::from(XMAX),
        ];
        let sql = Sql::join(statements, "; ");
        let mut found = (Header::default(), Tails::default());
        self.send(&sql, 4, |select, cells| {
            match select {
                0 => drop(found.1.open.insert(name(cells, 0)?)),
                1 => found.0 = read_header(cells, events)?,
                2 => read_piece(cells, &mut found.1)?,
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
        let range = within(origin, from, to);
        let sql = self.fill(&COUNT, [("counts", COUNTS.into()), ("range", range)])?;
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
        let sql = self.fill(&TOTAL, [("range", within(origin, from, to))])?;
        let mut total = Counts::default();
        self.send(&sql, 1, |_, cells| {
            total.0[0] = required(cells, 0)?;
            Ok(())
        })
        .await?;
        Ok(total)
    }

    fn header(&self, events: [Option<u64>; 2]) -> Result<Sql, QueryError> {
        let [first, second] = events.map(|position| position.map_or("NULL".into(), Sql::from));
        let given = match self.sequences {
            true => self.fill(&GIVEN, [])?,
            false => Sql::from("NULL, NULL"),
        };
        let values = [("first", first), ("second", second), ("given", given)];
        self.fill(&HEADER, values)
    }

    fn tail(&self, origin: Origin, pieces: &[u64]) -> Result<Sql, QueryError> {
        let (position, newest) = match origin {
            Origin::Live => ("stream_ordering", "max(stream_ordering)"),
            Origin::Backfill => ("-stream_ordering", "min(stream_ordering)"),
        };
        let values = [
            ("origin", Sql::from(origin as u64)),
            ("position", position.into()),
            ("begins", Sql::join(pieces.iter().copied(), ",")),
            ("newest", newest.into()),
            ("counts", COUNTS.into()),
            ("range", within(origin, pieces[0], END)),
        ];
        self.fill(&TAIL, values)
    }

    /// The statement with its placeholders filled.
    fn fill<const N: usize>(
        &self,
        statement: &Statement,
        values: [(&str, Sql); N],
    ) -> Result<Sql, QueryError> {
        statement.fill(self.schema, |name| {
            let mut values = values.iter();
            let value = values.find(|(placeholder, _)| *placeholder == name);
            Ok(value.map(|(_, value)| value.clone()))
        })
    }

    async fn send(
        &mut self,
        sql: &Sql,
        statements: u64,
        mut each: impl FnMut(usize, Cells<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let message = Message {
            sql,
            timeout: self.timeout,
            version: self.version,
            scope: Scope::Database,
        };
        let started = std::time::Instant::now();
        let mut rows = 0;
        let sent = message
            .send(self.client, |select, cells| {
                rows += 1;
                match rows > SURVEY_ROWS {
                    true => Err(QueryError::Protocol(format!(
                        "more than {SURVEY_ROWS} rows were sent for a count of events"
                    ))),
                    false => each(select, cells),
                }
            })
            .await;
        self.cost.statements += statements;
        self.cost.rows += rows;
        self.cost.duration += started.elapsed();
        sent
    }
}

/// Beyond every position. With both ends a range is taken for a small one where the planner knows
/// nothing of the table, and read by the index.
const END: u64 = i64::MAX as u64;

fn within(origin: Origin, from: u64, to: u64) -> Sql {
    let (lowest, below) = match origin {
        Origin::Live => ("stream_ordering >= ", " AND stream_ordering < "),
        Origin::Backfill => ("stream_ordering <= -", " AND stream_ordering > -"),
    };
    Sql::from(lowest).with(from).with(below).with(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_declared_and_no_more() {
        let statements = [&HEADER, &GIVEN, &ESTIMATE, &COUNT, &TOTAL, &TAIL];
        let read: BTreeSet<_> = statements.iter().flat_map(|one| one.tables()).collect();
        assert_eq!(read, READS.into_iter().map(|(table, _)| table).collect());
        let sql = statements.map(|statement| statement.text()).concat() + COUNTS;
        for (table, columns) in READS {
            for column in columns {
                assert!(
                    sql.contains(column),
                    "{table}.{column} is granted, and never read"
                );
            }
        }
    }

    #[test]
    fn ranges_of_both_ends_hold_the_same_positions() {
        assert_eq!(
            within(Origin::Live, 3, 7).as_str(),
            "stream_ordering >= 3 AND stream_ordering < 7"
        );
        assert_eq!(
            within(Origin::Backfill, 3, 7).as_str(),
            "stream_ordering <= -3 AND stream_ordering > -7"
        );
    }
}
