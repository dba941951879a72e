//! Places in the budget, and who makes room for whom.

use std::cmp::Reverse;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{Inner, LeaseError, STEP, Warm, idle};
use crate::time::timeout;

/// How long a place in the budget is waited for before looking whether any will come free.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long before a connection makes room in whose place no other could be opened.
const LAST_RESORT: Duration = Duration::from_secs(3);

impl Inner {
    /// A place in the budget; an idle connection makes room. While a login hangs none does: one
    /// that works would be given for another that hangs.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, LeaseError> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let mut waited = Duration::ZERO;
        let mut room = None;
        let mut permit = pin!(self.permits.clone().acquire_owned());
        loop {
            let in_login = self.logins.load(Ordering::Relaxed) > 0;
            // Again now and then, since what was closed for one caller may have served another.
            room = room.filter(|(asked, _): &(Instant, _)| asked.elapsed() < PATIENCE);
            if !in_login && room.is_none() {
                let unserved = !self.close_one_idle(waited >= LAST_RESORT);
                let unserved = unserved.then(|| Unserved::new(&self.unserved));
                room = Some((Instant::now(), unserved));
            }
            if let Ok(permit) = timeout(STEP, &mut permit).await {
                return Ok(permit.expect("nobody closes the semaphore"));
            }
            waited += STEP;
            if waited >= PATIENCE && (in_login || self.all_hang()) {
                return Err(self.hanging());
            }
        }
    }

    /// The place of the background work, once the backend of its last connection is gone.
    pub(super) async fn background_place(&self) -> Result<OwnedSemaphorePermit, LeaseError> {
        let place = timeout(PATIENCE, self.background.clone().acquire_owned()).await;
        let place = place.map_err(|_| self.hanging())?;
        Ok(place.expect("nobody closes the semaphore"))
    }

    fn hanging(&self) -> LeaseError {
        LeaseError::Hanging {
            address: self.dialer.address(),
            budget: self.budget,
        }
    }

    /// Whether every connection was given up, and is still there: none idle, none in use but by
    /// callers who wait for a permit, as the one who asks does.
    fn all_hang(&self) -> bool {
        let idle = |entry: &Warm| idle(&entry.pool) > 0;
        self.held.load(Ordering::Relaxed) == 0 && !self.warm().values().any(idle)
    }

    /// Closes an idle connection, if there is any; the last one of a database whose logins would be
    /// likely to hang only if that is said.
    fn close_one_idle(&self, irreplaceable_too: bool) -> bool {
        let warm = self.warm();
        // A database keeps its last one as long as another has several.
        let spare = warm
            .iter()
            .map(|(name, entry)| (idle(&entry.pool), name, entry))
            .filter(|(idle, name, _)| match idle {
                0 => false,
                1 => irreplaceable_too || self.does_not_hang(name).is_ok(),
                _ => true,
            })
            .max_by_key(|(idle, _, entry)| (*idle, Reverse(entry.used)));
        let mut closed = false;
        if let Some((.., entry)) = spare {
            entry
                .pool
                .retain(|_, _| std::mem::replace(&mut closed, true));
        }
        closed
    }
}

/// Asks for one connection to be closed when it comes back.
struct Unserved<'a>(&'a AtomicUsize);

impl<'a> Unserved<'a> {
    fn new(unserved: &'a AtomicUsize) -> Self {
        unserved.fetch_add(1, Ordering::Relaxed);
        Self(unserved)
    }
}

impl Drop for Unserved<'_> {
    fn drop(&mut self) {
        take_one(self.0);
    }
}

/// Takes one away, if there is one.
pub(super) fn take_one(counter: &AtomicUsize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            count.checked_sub(1)
        })
        .is_ok()
}
