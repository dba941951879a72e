//! Whether the server answers, and what it says of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::memory::{Down, Known};
use super::target::Target;
use crate::query::{QueryError, Reason};
use crate::server::connect::Reason::ShuttingDown;
use crate::server::{Facts, LeaseError, Purpose};
use crate::time::timeout_at;

/// The database that has the functions of the strict role.
const MAINTENANCE: &str = "postgres";

/// How long a failed connect is remembered, so that probes stay fast.
const DOWN_MEMORY: Duration = Duration::from_secs(1);

/// How long before the functions of the strict role are looked for again.
const PROBE_INTERVAL: Duration = Duration::from_secs(180);

impl Target {
    /// The server's facts, read by this scrape or shared with another.
    pub async fn facts(
        self: &Arc<Self>,
        started: Instant,
        deadline: Instant,
    ) -> Result<Arc<Facts>, Down> {
        // A scrape with less patience may have ended the question: this one asks again.
        let final_for_us = |down: &Down| down.ended.is_none_or(|ended| ended >= deadline);
        if let Some((at, down)) = &self.memory.lock().down
            && at.elapsed() < DOWN_MEMORY
            && final_for_us(down)
        {
            return Err(down.clone());
        }
        let mut since = started;
        loop {
            let longest = self.longest_deadline(deadline);
            let awaited = self.facts.get(since, || {
                let target = self.clone();
                async move { target.read_facts(longest).await }.boxed()
            });
            let Ok(facts) = timeout_at(deadline, awaited).await else {
                return Err(self.timed_out(started, deadline));
            };
            match &*facts {
                Err(down) if !final_for_us(down) => since = Instant::now(),
                _ => return (*facts).clone(),
            }
        }
    }

    fn timed_out(&self, started: Instant, deadline: Instant) -> Down {
        Down {
            reason: "timeout",
            message: format!(
                "{} did not answer within {:.1} s",
                self.connections.address(),
                started.elapsed().as_secs_f64()
            ),
            ended: Some(deadline),
        }
    }

    pub async fn read_facts(self: Arc<Self>, deadline: Instant) -> Result<Arc<Facts>, Down> {
        let started = Instant::now();
        let read = timeout_at(deadline, self.ask_facts(deadline)).await;
        let facts = read.unwrap_or_else(|_| Err(self.timed_out(started, deadline)));
        let mut memory = self.memory.lock();
        match &facts {
            Ok(facts) => {
                if memory.down.take().is_some() {
                    tracing::info!("the server answers again");
                }
                self.connections.owned(&facts.databases);
                let outdated = memory.remember(facts, &self.settings.server);
                self.forget(&outdated);
            }
            Err(down) => {
                let known = memory
                    .down
                    .as_ref()
                    .is_some_and(|(_, known)| known.reason == down.reason);
                if !known {
                    tracing::warn!(reason = down.reason, "{}", down.message);
                }
                memory.down = Some((Instant::now(), down.clone()));
                if down.reason == ShuttingDown.as_str() {
                    self.queue.interrupt();
                }
            }
        }
        drop(memory);
        self.keep_warm();
        facts
    }

    pub async fn ask_facts(&self, deadline: Instant) -> Result<Arc<Facts>, Down> {
        let home = self.memory.lock().home.clone();
        let facts = match self.ask_facts_in(&home, deadline).await {
            Err(Unanswered::Lease(error)) if home != self.own_database => {
                tracing::debug!(%error, "{home} cannot be reached");
                let facts = self.ask_facts_in(&self.own_database, deadline).await;
                // Where the whole server is down, home is where it was.
                if facts.is_ok() {
                    self.memory.lock().home = self.own_database.clone();
                }
                facts
            }
            other => other,
        };
        match facts {
            Ok(facts) => Ok(Arc::new(self.find_functions(facts, deadline).await)),
            // The server answers, if only to refuse this: what was true a moment ago still is.
            Err(Unanswered::Query(error @ QueryError::Refused { .. }))
                if error.reason() != Reason::Connection =>
            {
                let said = error.to_string();
                let known = self.memory.lock().refusal.replace(said.clone());
                if known.as_ref() != Some(&said) {
                    tracing::warn!(error = said, "could not read the server's facts");
                }
                self.memory.lock().facts.clone().ok_or_else(|| Down {
                    reason: error.reason().as_str(),
                    message: format!(
                        "cannot read the version and role of {}: {error}",
                        self.connections.address()
                    ),
                    ended: None,
                })
            }
            Err(error) => Err(Down {
                reason: match &error {
                    Unanswered::Lease(error) => error.reason(),
                    Unanswered::Query(error) => error.reason().as_str(),
                },
                message: error.to_string(),
                ended: None,
            }),
        }
    }

    pub async fn ask_facts_in(
        &self,
        database: &str,
        deadline: Instant,
    ) -> Result<Facts, Unanswered> {
        let mut warm = self.connections.budget();
        loop {
            let mut lease = self.connections.lease(database, Purpose::Scrape).await?;
            let timeout = deadline.saturating_duration_since(Instant::now()) / 2;
            match lease
                .run(async |client| Facts::read(client, self.connections.version(), timeout).await)
                .await
            {
                // A warm connection that has ended since, as after a restart: the server itself
                // may be well.
                Err(error) if error.reason() == Reason::Connection && warm > 0 => {
                    warm -= 1;
                    lease.discard();
                }
                other => return Ok(other?),
            }
        }
    }

    /// Where the role may not read the statistics views itself, the functions that stand in for
    /// them are looked for in the maintenance database.
    pub async fn find_functions(&self, facts: Facts, deadline: Instant) -> Facts {
        let elsewhere = facts
            .databases
            .iter()
            .any(|database| database.name == MAINTENANCE && database.closed.is_none());
        let home = self.memory.lock().home.clone();
        let due = {
            let memory = self.memory.lock();
            memory.probed.is_none_or(|at| at.elapsed() > PROBE_INTERVAL)
        };
        let content = facts.views.strict || facts.views.privileges.contains("pg_read_all_stats");
        if content || *home == *MAINTENANCE || !elsewhere || !due {
            return facts;
        }
        self.memory.lock().probed = Some(Instant::now());
        match self.ask_facts_in(MAINTENANCE, deadline).await {
            Ok(there) if there.views.strict => {
                self.memory.lock().home = MAINTENANCE.into();
                there
            }
            Ok(_) => facts,
            Err(error) => {
                tracing::debug!(%error, "could not look for functions in {MAINTENANCE}");
                facts
            }
        }
    }

    /// The databases whose connections are kept: the home, the DSN's own, and those with an
    /// application, as many as leave a connection to the background work. The others take turns
    /// there.
    pub fn keep_warm(&self) {
        let mut memory = self.memory.lock();
        if memory.left {
            return;
        }
        let mut warm = vec![memory.home.clone(), self.own_database.clone()];
        warm.dedup();
        let room = (self.connections.budget() - 1).saturating_sub(warm.len());
        let known = memory.databases.iter();
        // What was kept for another configuration stays until it has been looked at.
        let stays =
            |name: &str, known: &Known| known.visited.is_none() && self.connections.is_warm(name);
        let mut known: Vec<_> = known
            .filter(|(name, known)| !known.applications.is_empty() || stays(name, known))
            .collect();
        // Where only a smaller part of an application is comes last. Of the others, the one that was
        // made first comes first: somebody who makes another takes no connection from it, whatever is in
        // there.
        known.sort_by_key(|(_, known)| {
            let is_main = known.applications.iter().any(|found| found.is_main());
            (!is_main, known.oid)
        });
        let known = known.into_iter().map(|(name, _)| name.clone());
        let mut others: Vec<_> = known.filter(|name| !warm.contains(name)).collect();
        memory.without_connection = others.split_off(room.min(others.len()));
        warm.extend(others);
        let warm: Vec<_> = warm.iter().map(|name| &**name).collect();
        // Still under the lock: whoever marks this target as left is sure that this has ended.
        self.connections.keep_warm(&warm);
    }
}

/// No connection, or no answer on it.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Unanswered {
    /// Why a database could not be visited.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Query(error) => error.reason(),
            Self::Lease(error) => match error.reason() {
                "no_connect_privilege" | "authentication" => Reason::NoPrivilege,
                "database_missing" => Reason::DatabaseSkipped,
                "other_server" => Reason::OtherServer,
                "protocol" => Reason::Protocol,
                _ => Reason::Connection,
            },
        }
    }
}
