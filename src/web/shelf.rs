//! The pages that somebody reads, and the memory that they take.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

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

    /// Waits until there is room for another page. Who is slow to read an old one is cut off.
    pub(super) async fn room(&self) {
        let end = Instant::now() + 2 * GRACE;
        loop {
            let gone = self.gone.notified();
            let ControlFlow::Continue(wait) = self.make_room() else {
                return;
            };
            let wait = wait.min(end.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                return;
            }
            let _ = timeout(wait, gone).await;
        }
    }

    /// Cuts off the readers of the oldest pages as far as that is needed; says how long to wait
    /// before it is looked at again.
    fn make_room(&self) -> ControlFlow<(), Duration> {
        let mut pages = self.lock();
        let newest = pages.values().next_back().map_or(0, |entry| entry.bytes);
        let bound = self.bound.max(newest);
        let mut kept: usize = pages.values().map(|entry| entry.bytes).sum();
        if kept <= bound {
            return ControlFlow::Break(());
        }
        for entry in pages.values_mut() {
            if kept <= bound {
                break;
            }
            let left = GRACE.saturating_sub(entry.made.elapsed());
            if !left.is_zero() {
                return ControlFlow::Continue(left);
            }
            kept -= entry.bytes;
            let readers = std::mem::take(&mut entry.readers).into_values();
            for seat in readers.filter_map(|seat| seat.upgrade()) {
                seat.cut(Refusal::UnreadPage);
            }
        }
        ControlFlow::Continue(GRACE)
    }

    /// Another page.
    pub(super) fn put(self: &Arc<Self>, bytes: Vec<u8>) -> Page {
        let id = self.next();
        let entry = Entry {
            bytes: bytes.capacity(),
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
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a page is left to its readers.
const GRACE: Duration = Duration::from_secs(1);

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
