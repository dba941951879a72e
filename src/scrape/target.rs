//! The scrape of one server.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tracing::Span;

use super::Request;
use super::cell::Cell;
use super::collector::{CollectorState, Gathered, Outcome, Place};
use super::memory::{Down, Memory, Outdated};
use super::queue::Queue;
use super::room::Room;
use super::settings::Settings;
use crate::query::{CacheShare, Reason, Text};
use crate::server::{Connections, Facts, RightsQuery, Search};
use crate::snapshot::Snapshot;
use crate::telemetry::server_span;

/// One server, and what is remembered of it. Who takes several locks takes that of `memory` first, then
/// those in a collector.
pub struct Target {
    pub settings: Settings,
    /// What is done here is logged in it.
    pub span: Span,
    pub collectors: Vec<Arc<CollectorState>>,
    pub connections: Connections,
    /// The DSN's database.
    pub own_database: Arc<str>,
    pub facts: Arc<Cell<Result<Arc<Facts>, Down>>>,
    pub memory: Mutex<Memory>,
    /// What is looked for in its databases.
    pub search: Search,
    /// What is asked of the role there.
    pub rights: RightsQuery,
    /// How much of what it says is kept.
    pub room: Mutex<Room>,
    /// The deadlines of the scrapes that go on.
    active: Mutex<Vec<Instant>>,
    /// The databases that wait for work in the background.
    pub queue: Queue,
    /// How fast walks may fill the server's cache.
    pub cache: CacheShare,
}

impl Target {
    pub fn new(
        settings: Settings,
        connections: Connections,
        collectors: Vec<Arc<CollectorState>>,
    ) -> Self {
        let (server, registry) = (&settings.server, &settings.registry);
        let own_database: Arc<str> = server.dsn.database().into();
        if !connections.is_warm(&own_database) {
            connections.keep_warm(&[&own_database]);
        }
        Self {
            span: server_span(&server.name),
            collectors,
            connections,
            facts: Arc::default(),
            search: Search::new(registry),
            rights: RightsQuery::new(registry),
            memory: Mutex::new(Memory::new(own_database.clone())),
            room: Mutex::new(Room::new(server.page)),
            active: Mutex::default(),
            queue: Queue::new(),
            cache: CacheShare::default(),
            own_database,
            settings,
        }
    }

    pub fn name(&self) -> &str {
        &self.settings.server.name
    }

    /// Writes what sources remember to their files.
    pub fn keep(&self) {
        for collector in &self.collectors {
            let units = collector.units().clone();
            for (place, unit) in units {
                self.span_of(&place).in_scope(|| unit.source.save());
            }
        }
    }

    /// What is done in a place is logged in it.
    pub fn span_of(&self, place: &Place) -> Span {
        let memory = self.memory.lock();
        let known = place.database().and_then(|name| memory.databases.get(name));
        known.map_or_else(|| self.span.clone(), |known| known.span.clone())
    }

    pub async fn close(&self) {
        self.queue.close();
        self.connections.close().await;
    }

    /// What was collected by the deadline, and what could not and why.
    pub async fn scrape(self: &Arc<Self>, request: &Request) -> Scraped {
        let started = request.since;
        let _active = Active::new(self, request.deadline);
        {
            let mut memory = self.memory.lock();
            memory.scrapes += 1;
            memory.asked = Some(SystemTime::now());
        }
        let facts = self.facts(started, request.deadline).await;
        let wanted = self.collectors.iter().cloned();
        let wanted = wanted
            .filter(|one| request.collect.is_empty() || request.collect.contains(&**one.name()));
        let (running, off): (Vec<_>, Vec<_>) = wanted.partition(|one| one.is_on());
        let gathered = match &facts {
            Ok(facts) => {
                self.gather(facts, &running, started, request.deadline)
                    .await
            }
            Err(_) => running
                .into_iter()
                .map(|collector| Gathered {
                    collector,
                    place: Place::Server,
                    outcome: Outcome::Missing(Reason::Connection),
                })
                .collect(),
        };
        Scraped {
            target: self.clone(),
            facts,
            gathered,
            off,
            started,
        }
    }

    /// The longest deadline of the scrapes that go on.
    pub fn longest_deadline(&self, own: Instant) -> Instant {
        self.active.lock().iter().copied().fold(own, Instant::max)
    }

    /// Forgets what was read of another server, or of databases that are gone.
    pub fn forget(&self, outdated: &Outdated) {
        match outdated {
            Outdated::Everything => self.room.lock().give_back(None),
            Outdated::Databases(gone) => self.room.lock().give_back(Some(gone)),
        }
        for collector in &self.collectors {
            collector.forget(outdated);
        }
    }
}

/// What a scrape has gathered from one server.
#[derive(Clone)]
pub struct Scraped {
    target: Arc<Target>,
    facts: Result<Arc<Facts>, Down>,
    gathered: Vec<Gathered>,
    off: Vec<Arc<CollectorState>>,
    started: Instant,
}

impl Scraped {
    /// What was not there in time: collector and database, or why the server is down.
    pub fn missing(&self) -> impl Iterator<Item = (Text, Place)> {
        let late = |one: &&Gathered| matches!(one.outcome, Outcome::Missing(Reason::Deadline));
        let late = self.gathered.iter().filter(late);
        let late = late.map(|one| (one.collector.name().clone(), one.place.clone()));
        let down = self.facts.as_ref().err();
        late.chain(down.map(|down| (down.reason.into(), Place::Server)))
    }

    /// The name of the server.
    pub fn server(&self) -> &str {
        self.target.name()
    }

    /// Puts it together.
    pub fn assemble(self) -> Snapshot {
        let Self { target, facts, .. } = &self;
        let assemble = || target.assemble(facts, &self.gathered, &self.off, self.started);
        target.span.in_scope(assemble)
    }
}

/// A scrape that goes on.
struct Active<'a> {
    target: &'a Target,
    deadline: Instant,
}

impl<'a> Active<'a> {
    fn new(target: &'a Target, deadline: Instant) -> Self {
        target.active.lock().push(deadline);
        Self { target, deadline }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut active = self.target.active.lock();
        if let Some(position) = active.iter().position(|one| *one == self.deadline) {
            active.swap_remove(position);
        }
    }
}
