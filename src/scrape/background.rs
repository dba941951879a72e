//! What goes on behind the scrapes.
//!
//! A database that is not kept warm is visited by a short connection; what a collector serves
//! from memory is refreshed. A scrape finds what is due and leaves it here. One database is
//! worked on at a time, so that the budget always leaves a connection to a scrape.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::target::Target;

/// How long the work on one database may take.
const JOB_LIMIT: Duration = Duration::from_secs(60);

/// The databases that wait for their turn.
pub struct Background {
    queue: Mutex<Queue>,
    /// Changes whenever the work on a database has ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    databases: VecDeque<String>,
    worker: Option<JoinHandle<()>>,
    closed: bool,
}

impl Background {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self {
            queue: Mutex::default(),
            ended: watch::Sender::new(0),
        }
    }

    /// Puts databases at the end of the queue, if they are not in it.
    pub fn enqueue(&self, target: &Arc<Target>, databases: impl IntoIterator<Item = String>) {
        let mut queue = self.queue();
        for database in databases {
            if !queue.databases.contains(&database) {
                queue.databases.push_back(database);
            }
        }
        let working = queue
            .worker
            .as_ref()
            .is_some_and(|worker| !worker.is_finished());
        if !working && !queue.closed && !queue.databases.is_empty() {
            queue.worker = Some(tokio::spawn(work(target.clone())));
        }
    }

    /// Waits until none of these is in the queue any more.
    pub async fn ended(&self, databases: &BTreeSet<String>) {
        let mut ended = self.ended.subscribe();
        while self
            .queue()
            .databases
            .iter()
            .any(|database| databases.contains(database))
        {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends all work, now.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.databases.clear();
        if let Some(worker) = queue.worker.take() {
            worker.abort();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works through the queue. A database stays at its head until the work on it has ended.
async fn work(target: Arc<Target>) {
    loop {
        let background = target.background();
        let next = {
            let mut queue = background.queue();
            let next = queue.databases.front().cloned();
            if next.is_none() {
                // Under the lock, so that whoever adds one sees that nobody works.
                queue.worker = None;
            }
            next
        };
        let Some(database) = next else { return };
        let deadline = Instant::now() + JOB_LIMIT;
        target.refresh(&database, deadline).await;
        background.queue().databases.pop_front();
        background.ended.send_modify(|count| *count += 1);
    }
}
