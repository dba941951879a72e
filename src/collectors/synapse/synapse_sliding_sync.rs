//! Sliding sync: what Synapse remembers of clients that ask for little at a time.

use super::counted;
use crate::query::Collector;

/// From `sliding_sync_connections`, `sliding_sync_connection_positions` and
/// `sliding_sync_joined_rooms_to_recalculate`.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_sliding_sync",
        "Connections of sliding sync, and rooms that Synapse has yet to prepare for it",
    )
    .ttl(300)
    .query(counted!(
        "sliding_sync_connections",
        "sliding_sync_connections",
        "Connections that clients may resume"
    ))
    .query(counted!(
        "sliding_sync_connection_positions",
        "sliding_sync_connection_positions",
        "Positions that are kept of these connections; a client that makes progress has one or two of each"
    ))
    .query(counted!(
        "sliding_sync_joined_rooms_to_recalculate",
        "sliding_sync_rooms_to_recalculate",
        "Rooms whose state Synapse has still to compute for sliding sync"
    ))
}
