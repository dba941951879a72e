//! Logins that do not end.
//!
//! Whoever owns a database can make each login to it wait as long as they like: a new backend reads
//! `pg_class`, and `VACUUM FULL pg_class` behind an open transaction keeps it from that. Such a
//! backend does not notice that nobody waits for it any more, and no timeout ends it. Once given
//! up, a login leaves the budget to the others. There is one of each owner at most, and as many
//! in all as the budget has places.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::{Counted, Inner, LeaseError, lock};
use crate::server::connect::ConnectError;
use crate::server::facts::Owner;

/// Whose logins hang, since when and in which database.
pub(super) type Hanging = BTreeMap<Owner, (Instant, String)>;

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
    place: Option<Place>,
}

impl<'a> Login<'a> {
    pub fn new(inner: &'a Inner, database: &'a str, place: &Place) -> Self {
        Self {
            inner,
            database,
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
                    lock(&place.0).login = None;
                }
            }
        }
    }
}

impl Drop for Login<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.inner.given_up(self.database, &place);
        }
    }
}

/// Stands in [`Hanging`] for as long as the backend is there.
struct Hangs {
    hanging: Arc<Mutex<Hanging>>,
    owner: Owner,
}

impl Drop for Hangs {
    fn drop(&mut self) {
        lock(&self.hanging).remove(&self.owner);
    }
}

impl Inner {
    /// Fails as long as a login to a database of the same owner hangs.
    pub(super) fn does_not_hang(&self, database: &str) -> Result<(), LeaseError> {
        match lock(&self.hanging).get(&self.owner(database)) {
            Some((since, hangs)) if database != self.dialer.database() => {
                Err(LeaseError::LoginHangs {
                    database: hangs.clone(),
                    since: *since,
                })
            }
            _ => Ok(()),
        }
    }

    /// A login was given up. The database of the connection string is left out: where its logins
    /// hang the server itself does, and is asked again.
    fn given_up(&self, database: &str, place: &Place) {
        let owner = self.owner(database);
        let mut hanging = lock(&self.hanging);
        let beside = database != self.dialer.database()
            && hanging.len() < self.budget
            && !hanging.contains_key(&owner);
        if !beside {
            return;
        }
        hanging.insert(owner.clone(), (Instant::now(), database.to_owned()));
        drop(hanging);
        let mut kept = lock(&place.0);
        kept.hangs = Some(Hangs {
            hanging: self.hanging.clone(),
            owner,
        });
        kept.login = None;
        kept.budget = None;
    }

    /// Whose a database is, as far as is known.
    pub(super) fn owner(&self, database: &str) -> Owner {
        let known = lock(&self.owners).get(database).cloned();
        known.unwrap_or_else(|| Owner::Superuser(database.to_owned()))
    }
}
