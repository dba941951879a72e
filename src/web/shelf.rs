//! The pages that somebody reads, and the memory that they take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::door::Seat;
use crate::telemetry::Refusal;

/// Every page that somebody reads.
pub(super) struct Shelf {
    /// Bytes of pages that may be kept; the newest page may be, however large.
    bound: usize,
    pages: Mutex<BTreeMap<u64, Entry>>,
    /// A page has gone.
    gone: Notify,
    next: AtomicU64,
}

struct Entry {
    /// Whether it is of all collectors, and not of chosen ones.
    all: bool,
    bytes: usize,
    made: Instant,
    readers: BTreeMap<u64, Weak<Seat>>,
}

impl Shelf {
    /// An empty shelf.
    pub(super) fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            bound,
            pages: Mutex::default(),
            gone: Notify::new(),
            next: AtomicU64::new(0),
        })
    }

    /// Waits a while for room for another page; says whether there is some. For a page of all
    /// collectors readers are cut off in the end, first those of pages of chosen ones, then those
    /// of the oldest. For a page of chosen collectors only others of its kind are.
    pub(super) async fn has_room(&self, all: bool) -> bool {
        let end = Instant::now() + 2 * GRACE;
        loop {
            let gone = self.gone.notified();
            if self.make_room(all, Instant::now() >= end) {
                return true;
            }
            if Instant::now() >= end + GRACE {
                return false;
            }
            let _ = timeout(LOOK, gone).await;
        }
    }

    /// Whether there is room; cuts off readers who have had their time, in the end of every page
    /// but the newest.
    fn make_room(&self, all: bool, in_the_end: bool) -> bool {
        let mut pages = self.lock();
        let newest = pages.keys().next_back().copied();
        let bound = self
            .bound
            .max(newest.map_or(0, |newest| pages[&newest].bytes));
        let mut kept: usize = pages.values().map(|entry| entry.bytes).sum();
        if kept <= bound {
            return true;
        }
        for of_all in [false, true] {
            let others = pages.iter_mut().filter(|(id, entry)| {
                let had_time = entry.made.elapsed() >= GRACE && (in_the_end || !of_all);
                entry.all == of_all && (all || !of_all) && Some(**id) != newest && had_time
            });
            for (_, entry) in others {
                if kept <= bound {
                    break;
                }
                kept -= entry.bytes;
                let readers = std::mem::take(&mut entry.readers).into_values();
                for seat in readers.filter_map(|seat| seat.upgrade()) {
                    seat.cut(Refusal::UnreadPage);
                }
            }
        }
        // Those who are cut off are gone in a moment.
        false
    }

    /// Another page.
    pub(super) fn put(self: &Arc<Self>, bytes: Vec<u8>, all: bool) -> Page {
        let id = self.next();
        let entry = Entry {
            all,
            bytes: bytes.len(),
            made: Instant::now(),
            readers: BTreeMap::new(),
        };
        self.lock().insert(id, entry);
        Page {
            id,
            bytes,
            shelf: self.clone(),
        }
    }

    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.pages.lock()
    }
}

/// How long a page is left to its readers in any case.
const GRACE: Duration = Duration::from_secs(1);

/// How often it is looked whether there is room.
const LOOK: Duration = Duration::from_millis(100);

/// A page, for all who have asked for it.
pub(super) struct Page {
    id: u64,
    bytes: Vec<u8>,
    shelf: Arc<Shelf>,
}

impl Page {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Somebody begins to read it.
    pub(super) fn read_by(self: &Arc<Self>, seat: Option<&Arc<Seat>>) -> Reading {
        let reader = self.shelf.next();
        if let Some(seat) = seat
            && let Some(entry) = self.shelf.lock().get_mut(&self.id)
        {
            entry.readers.insert(reader, Arc::downgrade(seat));
        }
        Reading {
            reader,
            page: self.clone(),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.shelf.lock().remove(&self.id);
        self.shelf.gone.notify_waiters();
    }
}

/// A page that somebody reads, until all of it is sent.
pub(super) struct Reading {
    reader: u64,
    page: Arc<Page>,
}

impl AsRef<[u8]> for Reading {
    fn as_ref(&self) -> &[u8] {
        self.page.bytes()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(entry) = self.page.shelf.lock().get_mut(&self.page.id) {
            entry.readers.remove(&self.reader);
        }
    }
}
