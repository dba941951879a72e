//! Logins that do not end.
//!
//! Whoever owns a database can make each login to it wait as long as they like: a new backend reads
//! `pg_class`, and `VACUUM FULL pg_class` behind an open transaction keeps it from that. Such a
//! backend does not notice that nobody waits for it any more, and no timeout ends it. Once given
//! up, a login leaves the budget to the others, and no database of the same owner is logged in to.
//! Where those of a few owners hang, only databases of superusers are.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::{Counted, Inner, LeaseError};
use crate::server::connect::ConnectError;
use crate::server::facts::Owner;

/// Once so many logins hang, no database of a role that is not a superuser is logged in to; with two
/// more, none at all. With three connections that is as many as `grants` lets the role have.
const MOST: usize = 3;

/// The logins that hang.
pub(super) type Hanging = Vec<Arc<Hung>>;

/// One of them.
pub(super) struct Hung {
    owner: Owner,
    database: String,
}

/// What a connection keeps until its backend is gone.
#[derive(Clone)]
pub(super) struct Place(Arc<Mutex<Kept>>);

struct Kept {
    budget: Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)>,
    login: Option<Counted>,
    hangs: Option<Hangs>,
}

impl Place {
    /// One place in the budget, and for the background work its own.
    pub fn new(
        permit: OwnedSemaphorePermit,
        background: Option<OwnedSemaphorePermit>,
        login: Counted,
    ) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            budget: Some((permit, background)),
            login: Some(login),
            hangs: None,
        })))
    }
}

/// A login that goes on. If it is dropped before it has ended, it was given up.
pub(super) struct Login<'a> {
    inner: &'a Inner,
    database: &'a str,
    /// As it was at the beginning: the database may be hidden, or given away, meanwhile.
    owner: Owner,
    place: Option<Place>,
}

impl<'a> Login<'a> {
    pub fn new(inner: &'a Inner, database: &'a str, place: &Place) -> Self {
        Self {
            inner,
            database,
            owner: inner.owner(database),
            place: Some(place.clone()),
        }
    }

    /// Takes in how it has ended.
    pub fn ended<T>(mut self, result: &Result<T, ConnectError>) {
        match result {
            Err(ConnectError::Timeout { .. }) => {}
            Err(_) => self.place = None,
            Ok(_) => {
                if let Some(place) = self.place.take() {
                    place.0.lock().login = None;
                }
            }
        }
    }
}

impl Drop for Login<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.inner.given_up(self.database, &self.owner, &place);
        }
    }
}

/// Keeps one in the list for as long as the backend is there.
struct Hangs {
    hanging: Arc<Mutex<Hanging>>,
    hung: Arc<Hung>,
}

impl Drop for Hangs {
    fn drop(&mut self) {
        self.hanging
            .lock()
            .retain(|hung| !Arc::ptr_eq(hung, &self.hung));
    }
}

impl Inner {
    /// Fails where a login would be likely to hang. The database of the connection string is left
    /// out: where its logins hang the server itself does, and is asked again.
    pub(super) fn does_not_hang(&self, database: &str) -> Result<(), LeaseError> {
        if database == self.dialer.database() {
            return Ok(());
        }
        let owner = self.owner(database);
        let hanging = self.hanging.lock();
        if let Some(hung) = hanging.iter().find(|hung| hung.owner == owner) {
            return Err(LeaseError::LoginHangs {
                database: hung.database.clone(),
            });
        }
        let most = match owner {
            Owner::Role(_) => MOST,
            Owner::Superuser(_) => MOST + 2,
        };
        match hanging.len() < most {
            true => Ok(()),
            false => Err(LeaseError::LoginsHang),
        }
    }

    /// Whether so many hang that most databases are not logged in to.
    pub(super) fn many_hang(&self) -> bool {
        self.hanging.lock().len() >= MOST
    }

    /// A login was given up: it goes on beside the budget.
    fn given_up(&self, database: &str, owner: &Owner, place: &Place) {
        if database == self.dialer.database() {
            return;
        }
        let hung = Arc::new(Hung {
            owner: owner.clone(),
            database: database.to_owned(),
        });
        self.hanging.lock().push(hung.clone());
        let mut kept = place.0.lock();
        kept.hangs = Some(Hangs {
            hanging: self.hanging.clone(),
            hung,
        });
        kept.login = None;
        kept.budget = None;
    }

    /// Whose a database is, as far as is known.
    pub(super) fn owner(&self, database: &str) -> Owner {
        let known = self.owners.lock().get(database).cloned();
        known.unwrap_or_else(|| Owner::Superuser(database.to_owned()))
    }
}
