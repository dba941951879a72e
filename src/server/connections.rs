//! All connections of one server.
//!
//! A pool for each database that is kept warm, and short connections to the others. Together they
//! stay within one budget: each connection holds a permit until its backend is gone. Together
//! they reach one server: the first fixes its identity, and one that reaches another server is
//! refused.
//!
//! - `budget`: places in it, and who makes room for whom
//! - [`error`]: why no connection is available
//! - `hanging`: logins that do not end
//! - `identity`: which server it is
//! - [`lease`]: a connection in use; what is given up is cancelled and closed
//! - `refusals`: what becomes of a login that the server refuses
//! - `renewal`: one connection a minute is replaced

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{CancelToken, Client};
use tracing::Instrument;

use super::carried::{carried, carry};
use super::connect::Dialer;
use super::facts::{Database, Facts, Owner};
use crate::query::Version;
use crate::telemetry::database_span;

mod budget;
pub mod error;
mod hanging;
mod identity;
pub mod lease;
mod refusals;
mod renewal;

use budget::take_one;
pub use error::LeaseError;
use hanging::{Hanging, Login, Place};
use identity::Identity;
pub use lease::Lease;
use refusals::Refusals;

/// How long a shutdown waits for the server to close its ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often one who waits for a connection looks for another way to one.
const STEP: Duration = Duration::from_millis(500);

/// How often one looks whether a connection has come back that no other can be opened beside.
const MOMENT: Duration = Duration::from_millis(20);

/// The connections of one server; cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    /// The name of the server, for the log.
    server: String,
    dialer: Dialer,
    budget: usize,
    permits: Arc<Semaphore>,
    warm: Mutex<BTreeMap<String, Warm>>,
    identity: Mutex<Identity>,
    /// The one place of the background work beside the pools.
    background: Arc<Semaphore>,
    /// Connections that somebody uses, or is making.
    held: Arc<AtomicUsize>,
    /// Logins that go on, or were given up and whose backends are still there; those of
    /// `hanging` are not among them.
    logins: Arc<AtomicUsize>,
    /// Logins that were given up, beside the budget.
    hanging: Arc<Mutex<Hanging>>,
    /// Whose the databases are, as far as is known.
    owners: Mutex<BTreeMap<String, Owner>>,
    /// Callers without a permit for whom no idle connection could be closed: so many of those that
    /// come back are closed instead.
    unserved: AtomicUsize,
    opened: AtomicU64,
    refusals: Mutex<Refusals>,
    /// When the server was last asked for a connection.
    dialled: Mutex<Instant>,
    /// Whether somebody sees to it that connections are renewed.
    renewing: AtomicBool,
}

/// A database that is kept warm.
struct Warm {
    pool: Pool,
    /// How many connections scrapes may use here at once.
    slots: Arc<Semaphore>,
    used: Instant,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A scrape waits for it.
    Scrape,
    /// It goes on in the background, one at a time.
    Background,
}

impl Connections {
    /// No connection yet, and at most `budget` later.
    pub fn new(server: &str, dialer: Dialer, budget: usize) -> Self {
        Self(Arc::new(Inner {
            server: server.to_owned(),
            dialer,
            budget,
            permits: Arc::new(Semaphore::new(budget)),
            warm: Mutex::default(),
            identity: Mutex::default(),
            background: Arc::new(Semaphore::new(1)),
            held: Arc::default(),
            logins: Arc::default(),
            hanging: Arc::default(),
            owners: Mutex::default(),
            unserved: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            refusals: Mutex::default(),
            dialled: Mutex::new(Instant::now()),
            renewing: AtomicBool::new(false),
        }))
    }

    /// Whether these are the same connections.
    pub fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where the server is.
    pub fn address(&self) -> String {
        self.0.dialer.address()
    }

    /// How many there are, given up and not yet gone ones included.
    pub fn open(&self) -> usize {
        self.0.budget - self.0.permits.available_permits() + self.0.hanging.lock().len()
    }

    /// How many there may be, beside logins that hang.
    pub fn budget(&self) -> usize {
        self.0.budget
    }

    /// The server's version, or zero before the first connection.
    pub fn version(&self) -> Version {
        self.0.identity().version
    }

    /// How many were ever opened.
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// Takes in whose the databases are.
    pub fn owned(&self, databases: &[Database]) {
        let owners = databases.iter();
        let owners = owners.map(|database| (database.name.clone(), database.owner.clone()));
        *self.0.owners.lock() = owners.collect();
    }

    /// Whose a database is.
    pub fn owner(&self, database: &str) -> Owner {
        self.0.owner(database)
    }

    /// Keeps these databases warm and no other. Scrapes share what the budget leaves beside the
    /// one connection of the background work: several connections where one database is warm.
    pub fn keep_warm(&self, databases: &[&str]) {
        let slots = ((self.0.budget - 1) / databases.len().max(1)).max(1);
        let mut warm = self.0.warm();
        let unchanged = warm.len() == databases.len()
            && databases
                .iter()
                .all(|database| warm.contains_key(*database));
        if unchanged {
            return;
        }
        warm.retain(|name, entry| {
            let stays = databases.contains(&name.as_str());
            if !stays {
                entry.pool.close();
            }
            stays
        });
        for database in databases {
            let slots = Arc::new(Semaphore::new(slots));
            match warm.get_mut(*database) {
                Some(entry) => entry.slots = slots,
                None => {
                    let pool = self.pool(database);
                    let used = Instant::now();
                    let entry = Warm { pool, slots, used };
                    warm.insert((*database).to_owned(), entry);
                }
            }
        }
    }

    /// Whether a database is kept warm.
    pub fn is_warm(&self, database: &str) -> bool {
        self.0.warm().contains_key(database)
    }

    /// A connection to a database of the server that these facts are of.
    ///
    /// # Errors
    ///
    /// Fails as [`Self::lease`] does, and where another server has taken over since.
    pub async fn lease_of(
        &self,
        facts: &Facts,
        database: &str,
        purpose: Purpose,
    ) -> Result<Lease, LeaseError> {
        let lease = self.lease(database, purpose).await?;
        // What is known now is true of the lease: only when no connection is left can it change.
        let known = self.0.identity().known.clone().unwrap_or_default();
        if known == (facts.system_identifier.clone(), facts.start_time) {
            Ok(lease)
        } else {
            Err(LeaseError::OtherServer {
                address: self.address(),
                found: known.0,
            })
        }
    }

    /// A connection to a database: from its pool if it is kept warm, else a short one.
    ///
    /// # Errors
    ///
    /// Fails if none is available; waits while the budget is in use.
    pub async fn lease(&self, database: &str, purpose: Purpose) -> Result<Lease, LeaseError> {
        let warm = self.0.warm().get_mut(database).map(|entry| {
            entry.used = Instant::now();
            (entry.pool.clone(), entry.slots.clone())
        });
        let Some((pool, slots)) = warm else {
            let place = match purpose {
                Purpose::Scrape => None,
                Purpose::Background => Some(self.0.background_place().await?),
            };
            let (client, in_use, generation) = self.0.connect(database, place).await?;
            return Ok(Lease::short(self.clone(), client, in_use, generation));
        };
        let slot = match purpose {
            Purpose::Scrape => slots.acquire_owned().await.ok(),
            Purpose::Background => None,
        };
        let generation = self.0.identity().generation;
        let object = one_of(&pool).await;
        let object = object.map_err(|error| self.lease_error(&error))?;
        Ok(Lease::pooled(self.clone(), object, generation, slot))
    }

    /// Closes every idle connection, lets no pool make another, and waits a moment until the
    /// server has seen it.
    pub async fn close(&self) {
        for entry in std::mem::take(&mut *self.0.warm()).into_values() {
            entry.pool.close();
        }
        let all = u32::try_from(self.0.budget).unwrap_or(u32::MAX);
        let gone = self.0.permits.acquire_many(all);
        let _ = timeout(FAREWELL, gone).await;
    }

    /// Takes a connection back that is fit for use.
    pub(super) fn give_back(&self, object: Object, generation: u64) {
        self.0.give_back(object, generation);
    }

    /// Counts a connection as used.
    pub(super) fn hold(&self) -> Counted {
        Counted::new(&self.0.held)
    }

    /// Ends the statement of a connection that was given up. Until the backend is gone, the
    /// connection's own task holds the permit.
    pub(super) fn cancel(&self, token: CancelToken) {
        let connections = self.clone();
        let cancel = async move {
            if let Err(error) = connections.0.dialer.cancel(&token).await {
                tracing::debug!(%error, "could not ask the server to cancel a statement");
            }
        };
        tokio::spawn(cancel.in_current_span());
    }

    fn pool(&self, database: &str) -> Pool {
        let door = Door {
            connections: Arc::downgrade(&self.0),
            database: database.to_owned(),
        };
        let config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_connect(tokio_postgres::Config::new(), door, config);
        Pool::builder(manager)
            .max_size(self.0.budget)
            .build()
            .expect("a pool without timeouts needs no runtime")
    }

    fn lease_error(&self, error: &PoolError) -> LeaseError {
        carried(error).unwrap_or_else(|| LeaseError::Broken {
            address: self.address(),
            reason: error.to_string(),
        })
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("address", &self.address())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn warm(&self) -> MutexGuard<'_, BTreeMap<String, Warm>> {
        self.warm.lock()
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock()
    }

    /// A new connection within the budget, to the server that the others have reached. `place`
    /// is kept until its backend is gone.
    async fn connect(
        self: &Arc<Self>,
        database: &str,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(Client, InUse, u64), LeaseError> {
        self.not_refused(database)?;
        self.does_not_hang(database)?;
        let permit = self.permit().await?;
        let _held = Counted::new(&self.held);
        let place = Place::new(permit, place, Counted::new(&self.logins));
        let login = Login::new(self, database, &place);
        let abandoned = Arc::<AtomicBool>::default();
        let in_use = InUse(abandoned.clone());
        *self.dialled.lock() = Instant::now();
        let made = self
            .dialer
            .connect(Some(database), place.clone(), abandoned)
            .await;
        login.ended(&made);
        let (client, driver) = made.map_err(|error| self.refused(database, error))?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let span = database_span(&self.server, database);
        tokio::spawn(driver.instrument(span));
        self.keep_renewing();
        let generation = self.identify(&client, database).await?;
        Ok((client, in_use, generation))
    }

    fn give_back(&self, object: Object, generation: u64) {
        // Where many logins hang, it may be that no other could be opened in its place.
        let makes_room = !self.many_hang() && take_one(&self.unserved);
        if makes_room || generation != self.identity().generation {
            drop(Object::take(object));
        }
    }

    /// Closes every connection that waits for its next use, and those in use when they come back.
    fn close_all(&self) {
        self.identity().generation += 1;
        for entry in self.warm().values() {
            entry.pool.retain(|_, _| false);
        }
    }
}

/// A connection of a pool. Where a new one takes long, or would be likely to hang, one that comes back
/// meanwhile will do.
async fn one_of(pool: &Pool) -> Result<Object, PoolError> {
    let mut object = pin!(pool.get());
    loop {
        match timeout(STEP, &mut object).await {
            Ok(Err(error)) if would_hang(&error) && pool.status().size > 0 => {
                sleep(MOMENT).await;
                object.set(pool.get());
            }
            Ok(object) => return object,
            Err(_) if idle(pool) > 0 => object.set(pool.get()),
            Err(_) => {}
        }
    }
}

fn would_hang(error: &PoolError) -> bool {
    matches!(
        carried(error),
        Some(LeaseError::LoginHangs { .. } | LeaseError::LoginsHang)
    )
}

/// The connections that wait for their next use; the pool's own count leaves out those for which
/// another is being made.
fn idle(pool: &Pool) -> usize {
    let mut idle = 0;
    pool.retain(|_, _| {
        idle += 1;
        true
    });
    idle
}

/// How a pool gets its connections.
struct Door {
    connections: std::sync::Weak<Inner>,
    database: String,
}

type Connecting<'a> = Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl Connect for Door {
    fn connect(&self, _: &tokio_postgres::Config) -> Connecting<'_> {
        Box::pin(async {
            let Some(inner) = self.connections.upgrade() else {
                return Err(carry(LeaseError::Broken {
                    address: String::new(),
                    reason: "the exporter is shutting down".to_owned(),
                })
                .await);
            };
            match inner.connect(&self.database, None).await {
                // The pool aborts this task with the client; the connection's own task goes on
                // until the server has closed its end.
                Ok((client, in_use, _)) => {
                    let used = async move {
                        let _in_use = in_use;
                        pending().await
                    };
                    Ok((client, tokio::spawn(used)))
                }
                Err(error) => Err(carry(error).await),
            }
        })
    }
}

/// A connection's client is still there. Without it nobody waits for what the server sends.
pub(super) struct InUse(Arc<AtomicBool>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts one of something for as long as it exists.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
