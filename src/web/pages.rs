//! Pages for Prometheus, each made once for all who want the same.
//!
//! Requests for the same collectors that come within a moment share what is read since it began.
//! Each gathers until its own deadline; those that have gathered the same share the page, and the
//! compressed one. A page is made on a thread of its own, one at a time, and only while somebody
//! waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::coding::Coding;
use super::door::Seat;
use super::shelf::{Page, Reading, Shelf};
use super::turns::{Turn, Turns};
use crate::config::WebLimits;
use crate::exposition::{Format, mapped, render};
use crate::scrape::{Gathering, Missing, Request, Scraper};
use crate::telemetry::process_metrics;

/// What somebody wants, and by when.
pub(super) struct Wanted {
    /// Only these collectors; empty means every enabled one.
    pub(super) collect: BTreeSet<String>,
    pub(super) format: Format,
    pub(super) coding: Coding,
    /// When the values have to be there.
    pub(super) deadline: Instant,
}

/// Makes pages, and shares them.
#[derive(Clone)]
pub(super) struct Pages(Arc<Inner>);

struct Inner {
    scraper: Scraper,
    moments: Mutex<BTreeMap<BTreeSet<String>, Weak<Moment>>>,
    /// For scrapes of chosen collectors: those of all are shared, and need no bound.
    scrapes: Arc<Turns>,
    /// One page is made at a time.
    maker: Arc<Semaphore>,
    /// Pages of chosen collectors wait here for each other, so that one of all waits for one.
    chosen: Arc<Turns>,
    shelf: Arc<Shelf>,
    /// How long it took to make the last page of all collectors, and to compress it.
    took: Mutex<[Duration; 2]>,
}

impl Pages {
    pub(super) fn new(scraper: Scraper, limits: WebLimits) -> Self {
        Self(Arc::new(Inner {
            scraper,
            moments: Mutex::default(),
            // Those who wait leave connections to others.
            scrapes: Turns::new(limits.scrapes, limits.connections / 2),
            maker: Arc::new(Semaphore::new(1)),
            chosen: Turns::new(1, limits.connections),
            shelf: Shelf::new(limits.unread),
            took: Mutex::default(),
        }))
    }

    /// The page, for a client on this connection.
    pub(super) async fn page(
        &self,
        wanted: Wanted,
        seat: Option<&Arc<Seat>>,
    ) -> Result<Taken, Refused> {
        let latest = wanted.deadline + WAY_BACK;
        match timeout_at(latest.into(), self.shared(wanted, seat)).await {
            Ok(taken) => taken,
            Err(_) => Err(Refused::Deadline),
        }
    }

    async fn shared(&self, wanted: Wanted, seat: Option<&Arc<Seat>>) -> Result<Taken, Refused> {
        let peer = seat.map_or(Ipv4Addr::UNSPECIFIED.into(), |seat| seat.peer());
        let moment = self.0.join(&wanted, peer).await?;
        // By the deadline the page has to be made, too.
        let left = wanted.deadline.saturating_duration_since(Instant::now());
        let making = (2 * self.0.time_to_make()).max(left / 20).min(left / 2);
        let chosen_by = (!wanted.collect.is_empty()).then_some(peer);
        let request = Request {
            since: moment.began,
            deadline: wanted.deadline - making,
            collect: wanted.collect,
        };
        let gathering = self.0.scraper.gather(&request).await;
        let key = Key {
            format: wanted.format,
            missing: gathering.missing(),
            coding: wanted.coding,
        };
        let making = moment.making(key, gathering, chosen_by, &self.0);
        let page = making.clone().await?;
        Ok(Taken {
            reading: page.read_by(seat),
            _making: making,
        })
    }

    /// Whoever comes now does not share what was read before.
    pub(super) fn begin_anew(&self) {
        self.0.moments().clear();
    }
}

/// How long after the last value a page has to be on its way.
const WAY_BACK: Duration = Duration::from_millis(400);

/// The longest that a moment lasts.
const MOMENT: Duration = Duration::from_secs(1);

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are too many different scrapes, and it was not its turn in time.
    Scrapes,
    /// It was not made in time.
    Deadline,
    /// It could not be made at all.
    Failed,
}

impl Inner {
    /// The moment to share with others who want the same; with chosen collectors, when it is the
    /// address's turn.
    async fn join(&self, wanted: &Wanted, peer: IpAddr) -> Result<Arc<Moment>, Refused> {
        let (asked, collect) = (Instant::now(), &wanted.collect);
        if let Some(moment) = self.present(collect, asked) {
            return Ok(moment);
        }
        let turn = match collect.is_empty() {
            true => None,
            false => {
                let left = wanted.deadline.saturating_duration_since(asked);
                let turn = timeout(left / 4 * 3, self.scrapes.take(peer)).await;
                Some(turn.ok().flatten().ok_or(Refused::Scrapes)?)
            }
        };
        // Another may have begun one meanwhile.
        if let Some(moment) = self.present(collect, asked) {
            return Ok(moment);
        }
        let moment = Arc::new(Moment {
            began: asked,
            made: Mutex::default(),
            _turn: turn,
        });
        let mut moments = self.moments();
        moments.retain(|_, moment| moment.strong_count() > 0);
        moments.insert(collect.clone(), Arc::downgrade(&moment));
        Ok(moment)
    }

    /// The moment for one who has asked at this time, if it has not passed by then.
    fn present(&self, collect: &BTreeSet<String>, asked: Instant) -> Option<Arc<Moment>> {
        // While there is time to make each a page, nobody has to share what is older than that.
        let lasts = match self.maker.available_permits() {
            0 => MOMENT,
            _ => MOMENT.min(2 * self.time_to_make()),
        };
        let moment = self.moments().get(collect).and_then(Weak::upgrade)?;
        (asked.saturating_duration_since(moment.began) < lasts).then_some(moment)
    }

    fn moments(&self) -> MutexGuard<'_, BTreeMap<BTreeSet<String>, Weak<Moment>>> {
        self.moments.lock()
    }

    fn time_to_make(&self) -> Duration {
        self.took.lock().iter().sum()
    }

    /// Puts a page together.
    async fn make(
        self: Arc<Self>,
        gathering: Gathering,
        format: Format,
        chosen_by: Option<IpAddr>,
    ) -> Result<Arc<Page>, Refused> {
        let turn = match chosen_by {
            None => None,
            Some(peer) => {
                let turn = self.chosen.take(peer).await.ok_or(Refused::Deadline)?;
                if !self.shelf.has_room().await {
                    return Err(Refused::Deadline);
                }
                Some(turn)
            }
        };
        let permit = self.maker.clone().acquire_owned().await;
        if turn.is_none() {
            self.shelf.has_room().await;
        }
        let begun = Instant::now();
        let page = work(permit.ok(), move |is_wanted| {
            if !is_wanted() {
                return Vec::new();
            }
            let mut snapshot = gathering.assemble();
            snapshot.append(process_metrics());
            match is_wanted() {
                true => render(snapshot, format).into_bytes(),
                false => Vec::new(),
            }
        });
        let page = page.await?;
        let took = begun.elapsed();
        if turn.is_none() {
            self.took.lock()[0] = took;
        }
        Ok(Arc::new(self.shelf.put(page, took)))
    }

    /// Compresses a page that others may wait for as it is.
    async fn compress(self: Arc<Self>, page: Making, all: bool) -> Result<Arc<Page>, Refused> {
        let page = page.await?;
        let permit = self.maker.clone().acquire_owned().await;
        let begun = Instant::now();
        let compressed = work(permit.ok(), move |is_wanted| {
            let room = Vec::with_capacity(mapped(page.bytes().len() / 8));
            let mut encoder = GzEncoder::new(room, Compression::fast());
            let mut parts = page.bytes().chunks(PART).take_while(|_| is_wanted());
            parts
                .try_for_each(|part| encoder.write_all(part))
                .and_then(|()| encoder.finish())
        });
        let compressed = compressed.await?.map_err(|_| Refused::Failed)?;
        let took = begun.elapsed();
        if all {
            self.took.lock()[1] = took;
        }
        Ok(Arc::new(self.shelf.put(compressed, took)))
    }
}

/// How much is compressed before it is looked whether anybody still wants it.
const PART: usize = 1 << 20;

/// Does work on a thread that may block; it is told when nobody waits for it any more.
async fn work<T: Send + 'static>(
    permit: Option<OwnedSemaphorePermit>,
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> Result<T, Refused> {
    let waiting = Arc::new(());
    let waits = Arc::downgrade(&waiting);
    let worked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work(&|| waits.strong_count() > 0)
    });
    let worked = worked.await;
    drop(waiting);
    worked.map_err(|error| {
        tracing::error!(%error, "a page could not be made");
        Refused::Failed
    })
}

/// A moment in which all who ask for the same get the same.
struct Moment {
    /// When the first of them asked. What was read since is new to all.
    began: Instant,
    made: Mutex<Vec<(Key, WeakMaking)>>,
    _turn: Option<Turn>,
}

/// What is the same for all who share a page of a moment.
#[derive(Clone, PartialEq)]
struct Key {
    format: Format,
    missing: Missing,
    coding: Coding,
}

/// A page that is there, or will be; its making goes on while somebody waits for it.
type Making = Shared<BoxFuture<'static, Result<Arc<Page>, Refused>>>;
type WeakMaking = WeakShared<BoxFuture<'static, Result<Arc<Page>, Refused>>>;

impl Moment {
    /// The making of a page: one that goes on or has ended, or another.
    fn making(
        &self,
        key: Key,
        gathering: Gathering,
        chosen_by: Option<IpAddr>,
        inner: &Arc<Inner>,
    ) -> Making {
        let mut made = self.made.lock();
        made.retain(|(_, making)| making.upgrade().is_some());
        let plain = Key {
            coding: Coding::Identity,
            ..key.clone()
        };
        if let Some(making) = find(&made, &key) {
            return making;
        }
        let text = find(&made, &plain).unwrap_or_else(|| {
            let making = inner.clone().make(gathering, key.format, chosen_by);
            begin(&mut made, plain, making.boxed())
        });
        match key.coding {
            Coding::Identity => text,
            Coding::Gzip => {
                let making = inner.clone().compress(text, chosen_by.is_none());
                begin(&mut made, key, making.boxed())
            }
        }
    }
}

fn find(made: &[(Key, WeakMaking)], key: &Key) -> Option<Making> {
    let (_, making) = made.iter().find(|(known, _)| known == key)?;
    making.upgrade()
}

fn begin(
    made: &mut Vec<(Key, WeakMaking)>,
    key: Key,
    making: BoxFuture<'static, Result<Arc<Page>, Refused>>,
) -> Making {
    let making = making.shared();
    made.extend(making.downgrade().map(|weak| (key, weak)));
    making
}

/// A page that a client takes, until all of it is sent.
pub(super) struct Taken {
    reading: Reading,
    /// As long as somebody has the page, others can have it.
    _making: Making,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        self.reading.as_ref()
    }
}
