//! Sliding sync: what Synapse remembers of clients that ask for little at a time.

use super::counted;
use crate::query::Collector;

/// From `sliding_sync_connections`, `sliding_sync_connection_positions` and
/// `sliding_sync_joined_rooms_to_recalculate`.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_sliding_sync",
        "Sliding sync connections, and rooms whose sliding sync data is out of date",
    )
    .ttl(300)
    .query(counted!(
        "sliding_sync_connections",
        "sliding_sync_connections",
        "Sliding sync connections that clients may resume"
    ))
    .query(counted!(
        "sliding_sync_connection_positions",
        "sliding_sync_connection_positions",
        "Stored positions of sliding sync connections; an active client has one or two for each"
    ))
    .query(counted!(
        "sliding_sync_joined_rooms_to_recalculate",
        "sliding_sync_rooms_to_recalculate",
        "Rooms whose sliding sync data is to be recalculated"
    ))
}
