//! How fast walks may fill the server's cache.
//!
//! A large sequential scan keeps to a ring of a few pages; a scan of a range of pages, or of an index,
//! does not, and pushes pages of the application out of `shared_buffers`. So all walks on a server
//! together bring no more than a share of it per minute. What they find there already is free.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::message::Cells;
use super::{QueryError, Sql};

/// In how long walks may read as many pages as `shared_buffers` has.
const WHOLE: Duration = Duration::from_secs(120);

/// What was not read in the last half minute may be read at once.
const SAVED: Duration = Duration::from_secs(30);

/// A sequential scan of a table that is larger than one such part of `shared_buffers` keeps to the
/// ring.
const RING: u64 = 4;

/// When the next page may be read.
#[derive(Debug)]
pub struct CacheShare {
    free: Mutex<Instant>,
}

impl Default for CacheShare {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            free: Mutex::new(now.checked_sub(SAVED).unwrap_or(now)),
        }
    }
}

impl CacheShare {
    /// When the next piece may be read.
    pub(super) fn free(&self) -> Instant {
        *self.free.lock()
    }

    /// So much of the cache was filled.
    pub(super) fn charge(&self, share: f64) {
        let now = Instant::now();
        let saved = now.checked_sub(SAVED).unwrap_or(now);
        let price = WHOLE.mul_f64(share.clamp(0.0, 1.0));
        let mut free = self.free.lock();
        *free = (*free).max(saved) + price;
    }
}

/// The column of [`measured`].
const FILLED: &str = "cache_filled";

/// The statement, and beside each row how much of the cache was filled with pages of its tables and
/// their indexes, of late and by this statement: NULL where the server does not count.
pub(super) fn measured(sql: Sql) -> Sql {
    let names = sql.tables().iter();
    let names = names.map(|name| Sql::literal(name).with("::pg_catalog.regclass"));
    let oids = Sql::from("ARRAY[")
        .with(Sql::join(names, ", "))
        .with("]::pg_catalog.oid[]");
    Sql::from(
        "SELECT q.*,
       (SELECT CASE WHEN sum(pg_catalog.pg_stat_get_xact_blocks_fetched(o.oid)) > 0
               THEN sum(pg_catalog.pg_stat_get_xact_blocks_fetched(o.oid)
                        - pg_catalog.pg_stat_get_xact_blocks_hit(o.oid))::float8 END
               * pg_catalog.current_setting('block_size')::bigint
               / pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers'))
          FROM (SELECT pg_catalog.unnest(",
    )
    .with(oids.clone())
    .with(
        ") AS oid UNION ALL
                SELECT i.indexrelid FROM pg_catalog.pg_index AS i WHERE i.indrelid = ANY (",
    )
    .with(oids)
    .with(")) AS o) AS ")
    .with(FILLED)
    .with(" FROM (")
    .with(sql)
    .with(") AS q")
}

/// What a row says of it.
pub(super) fn filled(cells: Cells<'_>) -> Result<Option<f64>, QueryError> {
    let place = cells.position(FILLED);
    cells.number(place.ok_or(QueryError::MissingColumn(FILLED))?, FILLED)
}

/// Whether a sequential scan of a table of so many pages leaves the cache alone.
pub(super) fn keeps_to_ring(pages: u64, shared_buffers: u64) -> bool {
    pages > shared_buffers / RING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_minute_may_be_saved_and_then_each_page_has_its_time() {
        let share = CacheShare::default();
        // A quarter of the cache in half a minute.
        share.charge(0.25);
        let wait = share.free().saturating_duration_since(Instant::now());
        assert!(wait < Duration::from_secs(1), "{wait:?}");
        share.charge(0.1);
        let wait = share.free().saturating_duration_since(Instant::now());
        assert!((11..=12).contains(&wait.as_secs()), "{wait:?}");
    }
}
