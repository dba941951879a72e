//! How many events there are.

use crate::events::Settings;
use crate::events::survey::READS;
use crate::query::{Collector, Query};

/// From `events`, counted as [`crate::events`] says. An event may be of several kinds, or of none.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_events",
        "Events stored by Synapse, counted incrementally",
    )
    .source(Settings::default())
    .query(kept())
    .query(arrived())
    .query(progress())
}

/// What is there. Purges delete, so even a total may fall: these are not counters.
fn kept() -> Query {
    Query::new()
        .reads(READS[0].0, READS[0].1)
        .reads(READS[1].0, READS[1].1)
        .label("origin")
        .gauge(
            "events",
            "Events by origin: live, or backfill (history fetched from remote homeservers), as of \
             synapse_db_events_as_of_timestamp_seconds. Where that has no sample, this is an \
             estimate, or recent deletions are not subtracted yet. Purges delete events, so it \
             may fall",
        )
        .gauge(
            "events_unencrypted_messages",
            "Events of type m.room.message, redacted and rejected ones included; messages in \
             encrypted rooms are of type m.room.encrypted and not included",
        )
        .gauge(
            "events_encrypted",
            "Events of type m.room.encrypted: messages, reactions and edits in encrypted rooms",
        )
        .gauge("events_state", "State events, current or replaced")
        .gauge("events_redactions", "Events of type m.room.redaction")
        .gauge(
            "events_rejected",
            "Events that Synapse has rejected. An event that is rejected after it was counted is \
             included once its range is counted again, within events.recount (24 hours), even \
             while synapse_db_events_exact is 1",
        )
}

/// What came.
fn arrived() -> Query {
    Query::new().label("origin").label("kind").counter(
        "events_added_total",
        "Events that have arrived since the count began. kind=\"event\" is the total, the other \
         kinds overlap it. Late and copied events are added when they are found. Purges do not \
         lower it; an event that is added and deleted between two scrapes is not counted",
    )
}

/// How far the count is.
fn progress() -> Query {
    Query::new()
        .reads(READS[2].0, READS[2].1)
        .reads(READS[3].0, READS[3].1)
        .gauge(
            "events_exact",
            "1 if the numbers of events equal a full count as of \
             synapse_db_events_as_of_timestamp_seconds; 0 if they are estimates, or no such \
             moment within events.max_age is known. While it is 1, events_rejected and \
             events_state are as of the last count of each range, within events.recount (24 \
             hours); and on PostgreSQL 15 and newer, what a superuser deleted with track_counts \
             off is found only when its range is counted again",
        )
        .gauge(
            "events_as_of_timestamp_seconds",
            "Moment as of which the numbers of events equal a full count, as Unix time in seconds \
             by the server's clock. On PostgreSQL 15 and newer it is 12 seconds or one scrape \
             ago, or before the oldest open transaction of the database, since a session reports \
             deletions only after its transaction. On 13 and 14, on standbys and during long \
             transactions it is when all ranges were last compared with the table",
        )
        .gauge(
            "events_counted_ratio",
            "Fraction of the event stream that is counted, 0 to 1",
        )
        .gauge(
            "events_remaining_seconds",
            "Estimated time until the first count is complete, in seconds",
        )
        .gauge(
            "events_ranges",
            "Ranges of the event stream whose count is stored",
        )
        .gauge(
            "events_ranges_pending_recount",
            "Ranges of the event stream that have to be counted again, since events were deleted, \
             or added below the newest ones",
        )
        .gauge(
            "events_verified_timestamp_seconds",
            "When the least recently verified range of events was verified, as Unix time in \
             seconds",
        )
        .counter(
            "events_rows_counted_total",
            "Rows of the table events that were read for counting since the exporter started",
        )
}
