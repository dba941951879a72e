//! How many events there are.

use crate::events::survey::READS;
use crate::query::{Collector, Query, Scope};

/// From `events`, counted as [`crate::events`] says. An event may be of several kinds, or of none.
pub fn collector() -> Collector {
    Collector::new(
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
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads(READS[0].0, READS[0].1)
        .reads(READS[1].0, READS[1].1)
        .label("datname")
        .label("origin")
        .gauge(
            "events",
            "Events of every kind, live ones and those fetched from other servers by backfill; \
             an estimate while synapse_db_events_exact is 0. Purges delete events, so it may fall",
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
            "Events that Synapse has rejected; changes to old events show once their turn to be \
             counted anew has come",
        )
}

/// What came.
fn arrived() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .label("datname")
        .label("origin")
        .label("kind")
        .counter(
            "events_added_total",
            "Events that were seen arriving since the count began, by kind: event is every one, \
             and others overlap. Purges do not lower it; what comes and goes between two scrapes \
             is not seen",
        )
}

/// How far the count is.
fn progress() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .label("datname")
        .gauge(
            "events_exact",
            "Whether the numbers of events are exact (1), or estimates, or deletes were seen that \
             are not yet taken in (0)",
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
            "Ranges of events whose count has to be verified, since events were deleted somewhere",
        )
        .gauge(
            "events_verified_timestamp_seconds",
            "When the range was verified that has waited longest, in seconds since 1970",
        )
        .counter(
            "events_rows_counted_total",
            "Rows of events that were read to count them since the start of the exporter",
        )
}
