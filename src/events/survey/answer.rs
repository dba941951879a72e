//! What the server has answered.

use super::{Counters, Estimate, Event, Header, Tails};
use crate::bounds::{LABEL, SHOWN};
use crate::events::counts::{Counts, End, KINDS, Origin};
use crate::query::QueryError;
use crate::query::message::Cells;
use crate::text::cut;

/// What is true of the database; of these positions, whether there are events.
pub fn read_header(cells: Cells<'_>, asked: [Option<u64>; 2]) -> Result<Header, QueryError> {
    let newest: Option<i64> = optional(cells, 13)?;
    let oldest: Option<i64> = optional(cells, 14)?;
    let beyond = |position: Option<i64>| {
        position
            .and_then(|position| u64::try_from(position).ok())
            .map(|position| position + 1)
    };
    let end = |[finished, reached, given]: [usize; 3], last, lowest: Origin| {
        let reached = beyond(optional(cells, reached)?).max(beyond(last));
        Ok::<_, QueryError>(End {
            finished: beyond(optional(cells, finished)?),
            reached: reached.unwrap_or(0).max(lowest.lowest()),
            given: beyond(optional(cells, given)?).unwrap_or(0),
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
        counters: Counters {
            inserted: required(cells, 19)?,
            deleted: required(cells, 2)?,
            reset: name(cells, 3)?,
            filenode: required(cells, 20)?,
        },
        reported: cells.truth(21)? && !cells.truth(6)?,
        timeline: required(cells, 4)?,
        lsn: required(cells, 5)?,
        standby: cells.truth(6)?,
        xmin: required(cells, 7)?,
        xmax: required(cells, 8)?,
        ends: [
            end([9, 10, 17], newest, Origin::Live)?,
            end([11, 12, 18], oldest.map(|oldest| -oldest), Origin::Backfill)?,
        ],
        events: [event(15, asked[0])?, event(16, asked[1])?],
    })
}

/// What the planner thinks.
pub fn read_estimate(cells: Cells<'_>) -> Result<Estimate, QueryError> {
    let mut shares = [Some(1.0); KINDS.len()];
    for (at, share) in shares.iter_mut().enumerate().skip(1) {
        *share = cells.number(at, "share")?;
    }
    // A table that was never analyzed has no rows, as the planner says, or less than none.
    let rows = cells.number(0, "reltuples")?.filter(|rows| *rows > 0.0);
    Ok(Estimate { rows, shares })
}

/// A piece of a tail, or the time.
pub fn read_piece(cells: Cells<'_>, tails: &mut Tails) -> Result<(), QueryError> {
    let origin: Option<usize> = optional(cells, 0)?;
    let number: usize = required(cells, 1)?;
    let newest: i64 = required(cells, 2)?;
    match origin.and_then(|origin| tails.pieces.get_mut(origin)) {
        None => tails.at = newest.unsigned_abs(),
        Some(tail) => tail.push((
            number.saturating_sub(1),
            read_counts(cells, 3)?,
            newest.unsigned_abs(),
        )),
    }
    Ok(())
}

/// Counts, from a column on.
pub fn read_counts(cells: Cells<'_>, first: usize) -> Result<Counts, QueryError> {
    let mut counts = Counts::default();
    for (at, count) in counts.0.iter_mut().enumerate() {
        *count = required(cells, first + at)?;
    }
    Ok(counts)
}

/// A short text.
pub fn name(cells: Cells<'_>, position: usize) -> Result<String, QueryError> {
    let text = cells.raw(position)?.unwrap_or_default();
    Ok(cut(text, LABEL).into_owned())
}

/// A cell that may be empty.
pub fn optional<T: std::str::FromStr>(
    cells: Cells<'_>,
    position: usize,
) -> Result<Option<T>, QueryError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| QueryError::NotANumber {
            column: "of a count",
            text: cut(text, SHOWN).into_owned(),
        })
    };
    cells.raw(position)?.map(parse).transpose()
}

/// A cell that holds something.
pub fn required<T: std::str::FromStr>(cells: Cells<'_>, position: usize) -> Result<T, QueryError> {
    optional(cells, position)?.ok_or(QueryError::MissingColumn("of a count"))
}
