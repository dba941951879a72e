//! The databases that wait for work in the background.
//!
//! One is worked on at a time, so that the budget always leaves a connection to a scrape. The owners
//! of databases take turns, so that one with many slow databases holds up nobody else for longer than
//! one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::Owner;

/// What is done with a database whose turn it is.
pub trait Work: Send + Sync + 'static {
    fn queue(&self) -> &Queue;

    /// Whose the database is.
    fn owner(&self, database: &str) -> Owner;

    /// Works on the database; says whether there is more to do when others have had their turn.
    fn work_on<'a>(&'a self, database: &'a Arc<str>) -> BoxFuture<'a, bool>;
}

/// The databases that wait for their turn.
pub struct Queue {
    waiting: Mutex<Waiting>,
    /// Changes whenever the work on a database has ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    databases: VecDeque<Arc<str>>,
    /// Those that have had their turn and are not done; they go on when no other waits.
    paused: VecDeque<Arc<str>>,
    /// When the work on a database of each owner last ended.
    served: BTreeMap<Owner, Instant>,
    worker: Option<JoinHandle<()>>,
    closed: bool,
}

impl Queue {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            ended: watch::Sender::new(0),
        }
    }

    /// Puts databases at the end, if they are not in it.
    pub fn enqueue(work: &Arc<impl Work>, databases: impl IntoIterator<Item = Arc<str>>) {
        let mut waiting = work.queue().waiting.lock();
        for database in databases {
            if !waiting.databases.contains(&database) {
                waiting.databases.push_back(database);
            }
        }
        let worker = waiting.worker.as_ref();
        let working = worker.is_some_and(|worker| !worker.is_finished());
        if !working && !waiting.closed && !waiting.databases.is_empty() {
            waiting.worker = Some(tokio::spawn(work_through(work.clone())));
        }
    }

    /// Waits until none of these is in it any more.
    pub async fn ended(&self, databases: &BTreeSet<Arc<str>>) {
        let mut ended = self.ended.subscribe();
        let is_waiting = || {
            let waiting = self.waiting.lock();
            waiting.databases.iter().any(|one| databases.contains(one))
        };
        while is_waiting() {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether more than one database waits.
    pub fn others_wait(&self) -> bool {
        self.waiting.lock().databases.len() > 1
    }

    /// Ends the work that goes on; what is left of it is done when it comes due again.
    pub fn interrupt(&self) {
        if let Some(worker) = self.waiting.lock().worker.take() {
            worker.abort();
        }
    }

    /// Ends all work, now.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.databases.clear();
        waiting.paused.clear();
        if let Some(worker) = waiting.worker.take() {
            worker.abort();
        }
    }
}

impl Waiting {
    /// The database that is next: of the owner who has waited longest, the first in the queue.
    fn next(&self, owner: impl Fn(&str) -> Owner) -> Option<Arc<str>> {
        let served = |database: &&Arc<str>| self.served.get(&owner(database)).copied();
        let waiting = self.databases.iter().min_by_key(served);
        waiting.or(self.paused.front()).cloned()
    }

    /// Notes that the work on a database has ended, for now if there is more of it.
    fn ended(&mut self, database: Arc<str>, owner: Owner, paused: bool) {
        self.databases.retain(|other| *other != database);
        self.paused.retain(|other| *other != database);
        if paused {
            self.paused.push_back(database);
        }
        self.served.insert(owner, Instant::now());
    }
}

/// Works through the queue. A database stays in it until the work on it has ended.
async fn work_through(work: Arc<impl Work>) {
    let queue = work.queue();
    loop {
        let next = {
            let mut waiting = queue.waiting.lock();
            let next = waiting.next(|name| work.owner(name));
            if next.is_none() {
                // Under the lock, so that whoever adds one sees that nobody works.
                waiting.worker = None;
                waiting.served.clear();
            }
            next
        };
        let Some(database) = next else { return };
        let paused = work.work_on(&database).await;
        let owner = work.owner(&database);
        queue.waiting.lock().ended(database, owner, paused);
        queue.ended.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns() {
        let owner = |name: &str| match name.starts_with('m') {
            true => Owner::Role(16_384),
            false => Owner::Superuser(name.to_owned()),
        };
        let mut queue = Waiting {
            databases: ["m1", "m2", "m3", "good"].map(Arc::from).into(),
            ..Waiting::default()
        };
        let mut seen = Vec::new();
        while let Some(next) = queue.next(owner) {
            queue.ended(next.clone(), owner(&next), false);
            // The one comes back as soon as it can.
            if seen.len() < 4 && *next == *"good" {
                queue.databases.push_back(next.clone());
            }
            seen.push(next);
        }
        let seen: Vec<_> = seen.iter().map(|name| &**name).collect();
        assert_eq!(seen, ["m1", "good", "m2", "good", "m3", "good"]);
    }
}
