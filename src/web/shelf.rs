//! The pages that somebody reads, and the memory that they take.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
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
    bytes: usize,
    made: Instant,
    /// How long it is left to its readers in any case.
    grace: Duration,
    readers: BTreeMap<u64, Reader>,
}

/// Somebody who reads a page.
struct Reader {
    seat: Weak<Seat>,
    peer: IpAddr,
    since: Instant,
    taken_before: u64,
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

    /// Waits a while for room for another page; says whether there is some. For it are cut off
    /// those who take the least in a second, of an address that reads many all the sooner.
    pub(super) async fn has_room(&self) -> bool {
        let end = Instant::now() + 2 * GRACE;
        loop {
            let gone = self.gone.notified();
            if self.make_room(Instant::now() >= end) {
                return true;
            }
            if Instant::now() >= end + GRACE {
                return false;
            }
            let _ = timeout(LOOK, gone).await;
        }
    }

    /// Whether there is room; cuts off readers who have had their time, of every page but the newest:
    /// at first those who are slow.
    fn make_room(&self, in_the_end: bool) -> bool {
        let mut pages = self.lock();
        let newest = pages.last_entry().map_or(0, |newest| newest.get().bytes);
        let bound = self.bound.max(newest);
        let mut kept: usize = pages.values().map(|entry| entry.bytes).sum();
        if kept <= bound {
            return true;
        }
        let mut readings = HashMap::<IpAddr, f64>::new();
        for reader in pages.values().flat_map(|entry| entry.readers.values()) {
            *readings.entry(reader.peer).or_default() += 1.0;
        }
        let mut old: Vec<_> = pages
            .values_mut()
            .rev()
            .skip(1)
            .filter(|entry| entry.made.elapsed() >= entry.grace)
            .map(|entry| (entry.rates(&readings), entry))
            .filter(|((rate, _), _)| in_the_end || *rate < SLOW)
            .collect();
        old.sort_by(|((_, one), _), ((_, other), _)| one.total_cmp(other));
        for (_, entry) in old {
            if kept <= bound {
                break;
            }
            kept -= entry.bytes;
            let readers = std::mem::take(&mut entry.readers).into_values();
            for seat in readers.filter_map(|reader| reader.seat.upgrade()) {
                seat.cut(Refusal::UnreadPage);
            }
        }
        // Those who are cut off are gone in a moment.
        false
    }

    /// Another page. On a machine that takes long to make one, its readers may take long, too.
    pub(super) fn put(self: &Arc<Self>, bytes: Vec<u8>, took: Duration) -> Page {
        let id = self.next();
        let entry = Entry {
            bytes: bytes.len(),
            made: Instant::now(),
            grace: GRACE.max(2 * took),
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

impl Entry {
    /// Bytes that its best reader takes in a second, and that divided by how many its address reads.
    fn rates(&self, readings: &HashMap<IpAddr, f64>) -> (f64, f64) {
        let rates = self.readers.values().map(|reader| {
            let rate = reader.rate();
            (rate, rate / readings[&reader.peer])
        });
        rates.fold((0.0, 0.0), |best, one| {
            (best.0.max(one.0), best.1.max(one.1))
        })
    }
}

impl Reader {
    fn rate(&self) -> f64 {
        let taken = self.seat.upgrade().map_or(0, |seat| seat.taken());
        let taken = taken.saturating_sub(self.taken_before) as f64;
        taken / self.since.elapsed().as_secs_f64()
    }
}

/// How long a page is left to its readers at least.
const GRACE: Duration = Duration::from_secs(1);

/// Who takes fewer bytes in a second is slow.
const SLOW: f64 = (1 << 20) as f64;

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
            let seat_now = Reader {
                seat: Arc::downgrade(seat),
                peer: seat.peer(),
                since: Instant::now(),
                taken_before: seat.taken(),
            };
            entry.readers.insert(reader, seat_now);
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
