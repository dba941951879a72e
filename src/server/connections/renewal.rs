//! One connection a minute is replaced.
//!
//! Sessions that are open go on working while the server waits for them to end; only a new login
//! tells that it wants to stop. Where other databases are visited, their logins do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use tokio::time::{sleep, timeout};

use super::{Inner, STEP, idle};
use crate::telemetry::database_span;

/// How long after the last login there is another.
const INTERVAL: Duration = Duration::from_secs(60);

impl Inner {
    /// Sees to it that connections are renewed, as long as they are there.
    pub(super) fn keep_renewing(self: &Arc<Self>) {
        if self.renewing.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut due = INTERVAL;
            loop {
                sleep(due.max(STEP)).await;
                let Some(inner) = inner.upgrade() else { return };
                due = inner.renewal_is_due_in();
                if due.is_zero() {
                    inner.renew_oldest().await;
                    due = inner.renewal_is_due_in();
                }
            }
        });
    }

    fn renewal_is_due_in(&self) -> Duration {
        INTERVAL.saturating_sub(self.dialled.lock().elapsed())
    }

    /// Closes the connection that was opened first, of those that wait for their next use, and
    /// opens another in its place.
    async fn renew_oldest(&self) {
        let Some((database, pool)) = self.pool_of_oldest() else {
            return;
        };
        let generation = self.identity().generation;
        // While others wait in the pool it would give one of these, and open none.
        let mut others = Vec::new();
        while idle(&pool) > 0 {
            match timeout(STEP, pool.get()).await {
                Ok(Ok(object)) => others.push(object),
                _ => break,
            }
        }
        others.sort_by_key(|object| Object::metrics(object).created);
        if !others.is_empty() {
            drop(Object::take(others.remove(0)));
        }
        let give_back = |objects: Vec<Object>| {
            for object in objects {
                self.give_back(object, generation);
            }
        };
        let mut new = std::pin::pin!(pool.get());
        let opened = match timeout(STEP, &mut new).await {
            Ok(opened) => opened,
            // Nobody is to wait for a login that takes long.
            Err(_) => {
                give_back(std::mem::take(&mut others));
                new.await
            }
        };
        give_back(others);
        match opened {
            Ok(object) => self.give_back(object, generation),
            Err(error) => database_span(&self.server, &database)
                .in_scope(|| tracing::debug!(%error, "could not renew a connection")),
        }
    }

    /// The pool with the connection that was opened first, of those that wait, and its database.
    fn pool_of_oldest(&self) -> Option<(String, Pool)> {
        let warm = self.warm();
        let renewable = warm
            .iter()
            .filter(|(name, _)| self.does_not_hang(name).is_ok());
        let oldest = renewable.filter_map(|(name, entry)| {
            let mut oldest: Option<Instant> = None;
            entry.pool.retain(|_, metrics| {
                let created = metrics.created;
                oldest = Some(oldest.map_or(created, |known| known.min(created)));
                true
            });
            Some((oldest?, name, &entry.pool))
        });
        let oldest = oldest.min_by_key(|(created, ..)| *created);
        oldest.map(|(_, name, pool)| (name.clone(), pool.clone()))
    }
}
