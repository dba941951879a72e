//! How many events there are.

use crate::events::survey::READS;
use crate::query::{Collector, Query};

/// From `events`, counted as [`crate::events`] says. An event may be of several kinds, or of none.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_events",
        "Events that Synapse keeps, counted exactly at a cost that follows the new ones",
    )
    .counted()
    .query(kept())
    .query(arrived())
    .query(progress())
}

/// What is there. Purges delete, so even a total may fall: these are no counters.
fn kept() -> Query {
    Query::new()
        .reads(READS[0].0, READS[0].1)
        .reads(READS[1].0, READS[1].1)
        .label("origin")
        .gauge(
            "events",
            "Events of every kind, live ones and those fetched from other servers by backfill, as \
             of synapse_db_events_as_of_timestamp_seconds; where that is missing, an estimate, or \
             off by what was deleted lately. Purges delete events, so it may fall",
        )
        .gauge(
            "events_messages",
            "Events of the type m.room.message, redacted and rejected ones too; messages of \
             encrypted rooms are not among them",
        )
        .gauge(
            "events_encrypted",
            "Events of the type m.room.encrypted: messages, reactions and edits of encrypted rooms",
        )
        .gauge("events_state", "State events, current or not")
        .gauge("events_redactions", "Events of the type m.room.redaction")
        .gauge(
            "events_rejected",
            "Events that Synapse has rejected. One that is rejected after it was counted shows when its \
             range is counted again, within events.recount (24 hours), whatever events_exact says",
        )
}

/// What came.
fn arrived() -> Query {
    Query::new().label("origin").label("kind").counter(
        "events_added_total",
        "Events that have arrived since the count began, by kind: event is every one, and \
             others overlap. Late and copied ones count once they are found. Purges do not lower \
             it; an event that comes and goes between two scrapes is not seen",
    )
}

/// How far the count is.
fn progress() -> Query {
    Query::new()
        .reads(READS[2].0, READS[2].1)
        .reads(READS[3].0, READS[3].1)
        .gauge(
            "events_exact",
            "Whether the numbers of events are exact (1): each is that of a full count as of \
             synapse_db_events_as_of_timestamp_seconds, but for what Synapse may change in an event \
             later: events_rejected and events_state are as of when each range was last counted, \
             within events.recount (24 hours). On 15 and newer this rests on what sessions report: \
             what a superuser deletes with track_counts off is found when its range is counted \
             again. If not (0), they are not counted yet, or no such moment is known within \
             events.max_age",
        )
        .gauge(
            "events_as_of_timestamp_seconds",
            "The moment as of which the numbers of events are those of a full count, in seconds \
             since 1970 by the server's clock. A session reports its deletes only after its \
             transaction, so on 15 and newer the moment lies 12 seconds or a scrape back, or before \
             the oldest open transaction of the database. On 13, 14, standbys, and where a \
             transaction goes on for long, it is when all ranges were last found unchanged",
        )
        .gauge(
            "events_counted_ratio",
            "Part of the events, by position in the stream, that is counted",
        )
        .gauge(
            "events_remaining_seconds",
            "Seconds that the first count will still take, at its pace so far",
        )
        .gauge("events_buckets", "Ranges of events whose count is remembered")
        .gauge(
            "events_dirty_buckets",
            "Ranges of events whose count has to be verified, since events were deleted, or have \
             come below the newest ones",
        )
        .gauge(
            "events_verified_timestamp_seconds",
            "When the range of events was last verified that has waited longest, in seconds since \
             1970",
        )
        .counter(
            "events_rows_counted_total",
            "Rows of events that were read to count them since the start of the exporter",
        )
}
