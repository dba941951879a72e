//! A walk by ranges of pages.
//!
//! Each page of the table is read once, by a TID range scan, which needs SELECT on `ctid` and no
//! key. The last page is known at the start, so a walk ends. Rows that are updated meanwhile may
//! move from a page that was read to one that was not, or the other way round: the server counts how
//! many moved, and what was counted is off by so many at most. Were they too many, or has the whole
//! table been rewritten, the walk begins again, and then says that its numbers are estimates.
//!
//! A table that can be read in one statement is: that is exact, and a sequential scan spares the
//! server's cache. Before version 14, and without the privilege, there is no other way, and what
//! takes too long is not counted at all.

use std::time::{Duration, Instant};

use super::cache::{filled, keeps_to_ring, measured};
use super::harvest::{Answer, Quality};
use super::message::Message;
use super::route::{Refusals, Route};
use super::tally::Tally;
use super::{CTID, Harvest, QueryError, Reason, Scope, Skip, Sql, before, since};

/// The placeholder of the condition that gives one piece.
pub const PLACEHOLDER: &str = "pages";

/// How many pages the first piece has; a table of no more is read in one statement.
const FIRST: u64 = 256;

/// In parts of all rows, how many may have moved.
const MAY_MOVE: f64 = 0.01;

/// How often a walk begins again at most.
const REPEATS: u32 = 2;

/// How long it takes until other sessions have reported what they did: one that goes on does so after a
/// second, and one that is idle after ten; before version 15, with its next transaction.
const REPORTED: Duration = Duration::from_secs(11);

/// How long a table stays too large that could not be read in one statement.
const TOO_LARGE: Duration = Duration::from_secs(24 * 3600);

/// How fast a table was read, from walk to walk.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pages_per_second: Option<f64>,
    too_large_until: Option<Instant>,
}

impl Pace {
    /// How many pages can be read in this time.
    fn pages_in(&self, time: Duration) -> u64 {
        let pages = self.pages_per_second.map(|pace| pace * time.as_secs_f64());
        pages.map_or(FIRST, |pages| (pages as u64).max(1))
    }

    /// Whether all of a table are too many pages for one statement. Where there is no other way, that is
    /// tried as long as nothing speaks against it, and once a day in any case.
    fn is_too_large(&mut self, pages: u64, timeout: Duration, ranges: bool) -> bool {
        let now = Instant::now();
        if self.too_large_until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        let seems = self.pages_per_second.is_some() && pages > self.pages_in(timeout);
        if !ranges && seems {
            self.too_large_until.get_or_insert(now + TOO_LARGE);
        }
        self.too_large_until.is_some()
    }

    fn note(&mut self, pages: u64, took: Duration) {
        let took = took.max(Duration::from_millis(1));
        self.pages_per_second = Some(pages.max(1) as f64 / took.as_secs_f64());
    }
}

/// How far a walk is.
#[derive(Debug)]
pub(super) struct Pages {
    begun: Instant,
    table: &'static str,
    /// The table as it was at the start.
    start: Option<Survey>,
    /// The first page that was not read.
    next: u64,
    /// From when on it is known what moved meanwhile.
    reported: Instant,
    pieces: u32,
    repeats: u32,
    refusals: Refusals,
    tally: Tally,
}

/// What the server knows of a table.
#[derive(Clone, Copy, Debug, Default)]
struct Survey {
    /// Its file, which is another one when all rows were written anew.
    file: f64,
    pages: u64,
    /// As the planner expects.
    rows: Option<f64>,
    /// How many rows have ever moved to another page.
    moved: Option<f64>,
    /// The pages of the server's cache.
    shared_buffers: u64,
}

impl Pages {
    pub fn begin(table: &'static str) -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            table,
            start: None,
            next: 0,
            reported: now,
            pieces: 0,
            repeats: 0,
            refusals: Refusals::default(),
            tally: Tally::default(),
        }
    }

    pub async fn go_on(
        &mut self,
        route: &Route<'_>,
        pace: &mut Pace,
        harvest: &mut Harvest,
    ) -> Result<Option<Answer>, QueryError> {
        let context = route.reader.context;
        let ranges =
            since(14).contains(context.version) && context.lacks_column(self.table, CTID).is_none();
        loop {
            if route
                .wait(context.cache.free().max(self.reported), harvest)
                .await
            {
                return Ok(None);
            }
            let started = Instant::now();
            match self.step(route, ranges, pace, harvest).await {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => self.refusals.clear(),
                Err(error) if self.refusals.may_pass(&error) => {}
                Err(error) => return Err(error),
            }
            let rested = started + 2 * started.elapsed();
            if route.rest(rested, harvest).await {
                return Ok(None);
            }
        }
    }

    /// Reads the next piece, or looks whether what was counted holds.
    async fn step(
        &mut self,
        route: &Route<'_>,
        ranges: bool,
        pace: &mut Pace,
        harvest: &mut Harvest,
    ) -> Result<Option<Answer>, QueryError> {
        let start = match self.start {
            Some(start) => start,
            None => *self.start.insert(self.survey(route, harvest).await?),
        };
        if self.pieces > 0 && self.next >= start.pages {
            return self.judge(route, start, harvest).await;
        }
        let timeout = route.timeout();
        let too_large = pace.is_too_large(start.pages, timeout, ranges);
        if !ranges && too_large {
            return Ok(Some(self.too_large(start, harvest)));
        }
        // The first piece may have shown that one statement does for all. What it has read is read
        // again only where that spares the cache, and then it is little.
        let fits = !ranges || !too_large && start.pages <= pace.pages_in(timeout / 2);
        let ring = keeps_to_ring(start.pages, start.shared_buffers);
        if fits && (self.pieces == 0 || self.pieces == 1 && ring) {
            self.tally = Tally::default();
            let read = self.read(route, start, None, pace, harvest).await;
            match read {
                Ok(()) => return Ok(Some(self.answer(false, harvest))),
                Err(error) if error.reason() != Reason::StatementTimeout => return Err(error),
                // The next step finds that it is too large.
                Err(_) => {
                    pace.too_large_until = Some(Instant::now() + TOO_LARGE);
                    (self.next, self.pieces) = (0, 0);
                    return Ok(None);
                }
            }
        }
        let end = start.pages.min(self.next + pace.pages_in(route.aim()));
        match self.read(route, start, Some(end), pace, harvest).await {
            Ok(()) => {
                self.next = end;
                self.pieces += 1;
                if end == start.pages && start.moved.is_some() {
                    self.reported = Instant::now() + REPORTED;
                }
                Ok(None)
            }
            Err(error) if error.reason() == Reason::StatementTimeout && end > self.next + 1 => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts the pages up to this one, or all.
    async fn read(
        &mut self,
        route: &Route<'_>,
        start: Survey,
        end: Option<u64>,
        pace: &mut Pace,
        harvest: &mut Harvest,
    ) -> Result<(), QueryError> {
        let reader = route.reader;
        let lacks_ctid = reader.context.lacks_column(self.table, CTID).is_some();
        let condition = match end {
            Some(end) => Sql::from("ctid >= '(")
                .with(self.next)
                .with(",0)' AND ctid < '(")
                .with(end)
                .with(",0)'"),
            // Where nothing else is read, it is this privilege that allows to count.
            None => Sql::from(if lacks_ctid {
                "true"
            } else {
                "ctid IS NOT NULL"
            }),
        };
        let pages = end.map_or(start.pages, |end| end - self.next);
        let parts = [(PLACEHOLDER, condition)];
        let sql = measured(reader.context.fill(route.statement, &parts)?);
        let timeout = route.timeout();
        let started = Instant::now();
        let share = pages as f64 / start.shared_buffers.max(1) as f64;
        let mut charged = share;
        let read = reader.read_and(&sql, &mut harvest.cost, |cells| {
            charged = filled(cells)?.map_or(share, |filled| filled.min(share));
            Ok(())
        });
        let read = read.await;
        if !(end.is_none() && keeps_to_ring(start.pages, start.shared_buffers)) {
            reader.context.cache.charge(charged);
        }
        match read {
            Ok(rows) => {
                pace.note(pages, started.elapsed());
                self.tally.add(rows, reader.plan, reader.context.limit);
                Ok(())
            }
            Err(error) => {
                if error.reason() == Reason::StatementTimeout {
                    pace.note(pages, 2 * timeout);
                }
                Err(error)
            }
        }
    }

    /// At the end: what was counted, or nothing, where the walk begins again.
    async fn judge(
        &mut self,
        route: &Route<'_>,
        start: Survey,
        harvest: &mut Harvest,
    ) -> Result<Option<Answer>, QueryError> {
        let end = self.survey(route, harvest).await?;
        let moved = match (start.moved, end.moved) {
            // It was reset where it is smaller.
            (Some(before), Some(after)) if after >= before => Some(after - before),
            _ => None,
        };
        let rows = start.rows.unwrap_or(start.pages as f64);
        let rewritten = start.file != end.file;
        let holds = !rewritten && moved.is_some_and(|moved| moved <= MAY_MOVE * rows);
        // Where nobody counts what moves, it is not known the next time either.
        let repeat = rewritten || moved.is_some() || start.moved.is_some();
        if holds || !repeat || self.repeats >= REPEATS {
            return Ok(Some(self.answer(!holds, harvest)));
        }
        *self = Self {
            repeats: self.repeats + 1,
            ..Self::begin(self.table)
        };
        Ok(None)
    }

    fn answer(&mut self, estimated: bool, harvest: &mut Harvest) -> Answer {
        let tally = std::mem::take(&mut self.tally);
        let quality = Quality {
            estimated,
            ..Quality::default()
        };
        Answer {
            at: self.begun,
            snapshot: tally.end(&mut harvest.cost),
            walked: Some((self.table, quality)),
        }
    }

    /// Nothing but what the planner expects.
    fn too_large(&self, start: Survey, harvest: &mut Harvest) -> Answer {
        harvest.skipped.push(Skip {
            reason: Reason::TooLarge,
            message: format!(
                "{} is too large to be counted in one statement, and PostgreSQL before 14, or a role \
                 without SELECT on ctid, offers no other way",
                self.table
            ),
        });
        let quality = Quality {
            planner_rows: start.rows,
            ..Quality::default()
        };
        Answer {
            at: self.begun,
            snapshot: Default::default(),
            walked: Some((self.table, quality)),
        }
    }

    /// Looks at the table.
    async fn survey(&self, route: &Route<'_>, harvest: &mut Harvest) -> Result<Survey, QueryError> {
        let context = route.reader.context;
        let schema = context.schema().ok_or(QueryError::NoValue("schema"))?;
        let moved = match since(16).contains(context.version) {
            true => "pg_catalog.pg_stat_get_tuples_newpage_updated(c.oid)",
            false => {
                "pg_catalog.pg_stat_get_tuples_updated(c.oid)
                 - pg_catalog.pg_stat_get_tuples_hot_updated(c.oid)"
            }
        };
        let sql = Sql::from(
            "SELECT pg_catalog.pg_relation_filenode(c.oid) AS file,
                    pg_catalog.pg_relation_size(c.oid) / b.bytes AS pages,
                    c.reltuples AS rows,
                    nullif(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) AS live,
                    ",
        )
        .with(moved)
        .with(
            " AS moved,
                    pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')) / b.bytes
                        AS shared_buffers
               FROM pg_catalog.pg_class AS c
              CROSS JOIN (SELECT pg_catalog.current_setting('block_size')::bigint AS bytes) AS b
              WHERE c.oid = pg_catalog.to_regclass(",
        )
        .with(Sql::table_name(schema, self.table))
        .with(")");
        let message = Message {
            sql: &sql,
            timeout: route.timeout(),
            version: context.version,
            scope: Scope::Server,
        };
        let mut found = None;
        harvest.cost.statements += 1;
        message
            .send(route.reader.client, |_, cells| {
                let number = |name| {
                    let place = cells
                        .position(name)
                        .ok_or(QueryError::MissingColumn(name))?;
                    cells.number(place, name)
                };
                let pages = number("pages")?.unwrap_or_default() as u64;
                // A table that nobody has looked at yet is like an empty one before 14.
                let unknown = before(14).contains(context.version) && pages > 0;
                let rows = number("rows")?;
                let rows = rows.filter(|rows| *rows > 0.0 || *rows == 0.0 && !unknown);
                let live = number("live")?;
                let counted = !context.standby && !context.settings_off.contains("track_counts");
                found = Some(Survey {
                    file: number("file")?.unwrap_or_default(),
                    pages,
                    rows: rows.map(|rows| live.map_or(rows, |live| live.min(rows))),
                    moved: number("moved")?.filter(|_| counted),
                    shared_buffers: number("shared_buffers")?.unwrap_or_default() as u64,
                });
                harvest.cost.rows += 1;
                Ok(())
            })
            .await?;
        found.ok_or_else(|| {
            QueryError::Unavailable(
                Reason::UnsupportedVersion,
                format!("there is no table {} any more", self.table),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_large_is_tried_again_after_a_day() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        assert!(!pace.is_too_large(1_000_000, second, false));
        pace.note(1000, second);
        assert!(!pace.is_too_large(900, second, false));
        assert!(!pace.is_too_large(1100, second, true));
        assert!(pace.is_too_large(1100, second, false));
        assert!(pace.too_large_until > Some(Instant::now() + TOO_LARGE / 2));
        pace.too_large_until = Some(Instant::now());
        assert!(!pace.is_too_large(1100, second, false));
    }
}
