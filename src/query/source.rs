//! Where the values of a collector come from: the statements of its queries, or what it remembers.
//!
//! Most are a list of queries. A few have to remember something from scrape to scrape, and to work
//! on it between them. Each of these is a [`Source`] with settings of its own, which stand in the
//! definition; what scrapes knows none by name.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_postgres::Client;

use super::{Context, Cost, Harvest, Holds, Plan, QueryError};
use crate::state_file::StateFile;

/// What a collector asks on a server, or in one database.
pub trait Source: Send + Sync {
    /// What it says now, on this connection; `previous` is what it said last.
    fn run<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        previous: Option<&'a Harvest>,
    ) -> BoxFuture<'a, Harvest>;

    /// Sends again what the server has refused.
    fn ask_again(&self);

    /// Whether it has work to do behind scrapes, and time for it.
    fn is_due(&self) -> bool {
        false
    }

    /// Works behind scrapes for as long as it may, or until somebody else waits; what it cost.
    fn work<'a>(
        &'a self,
        _client: &'a Client,
        _context: &'a Context<'a>,
        _others_wait: &'a (dyn Fn() -> bool + Sync),
    ) -> BoxFuture<'a, (Cost, Result<(), QueryError>)> {
        async { (Cost::default(), Ok(())) }.boxed()
    }

    /// Writes what it remembers to its file, if it has one.
    fn save(&self) {}
}

/// The settings of a source that remembers, and how it begins.
pub trait SourceSettings: Any + fmt::Debug + Send + Sync {
    /// It begins in a place, or goes on where its file says.
    fn begin(&self, plan: Arc<Plan>, place: &SourcePlace<'_>) -> Box<dyn Source>;

    /// Whether the other ones are of the same source and say the same.
    fn equal(&self, other: &dyn SourceSettings) -> bool;
}

impl PartialEq for dyn SourceSettings {
    fn eq(&self, other: &Self) -> bool {
        self.equal(other)
    }
}

/// Where a source is asked.
#[derive(Clone, Copy, Debug)]
pub struct SourcePlace<'a> {
    /// The name of the server.
    pub server: &'a str,
    /// The database, where the collector runs in one.
    pub database: Option<&'a Arc<str>>,
    /// Where files are kept, if they are.
    pub state_dir: Option<&'a Path>,
}

impl SourcePlace<'_> {
    /// The file of a kind and format here, if one is kept.
    pub fn file(&self, kind: (&'static str, u32)) -> Option<StateFile> {
        let database = self.database.map(|name| &**name);
        let file = |folder| StateFile::new(folder, self.server, database, kind);
        self.state_dir.map(file)
    }
}

impl Plan {
    /// Its source begins in a place.
    pub fn begin(self: &Arc<Self>, place: &SourcePlace<'_>) -> Box<dyn Source> {
        match &self.collector.source {
            Some(settings) => settings.begin(self.clone(), place),
            None => Box::new(Queries {
                plan: self.clone(),
                holds: Mutex::default(),
            }),
        }
    }
}

/// The queries of a collector, asked again each time.
struct Queries {
    plan: Arc<Plan>,
    holds: Mutex<Holds>,
}

impl Source for Queries {
    fn run<'a>(
        &'a self,
        client: &'a Client,
        context: &'a Context<'a>,
        previous: Option<&'a Harvest>,
    ) -> BoxFuture<'a, Harvest> {
        async move {
            let mut holds = std::mem::take(&mut *self.holds.lock());
            let harvest = self.plan.run(client, context, &mut holds, previous).await;
            *self.holds.lock() = holds;
            harvest
        }
        .boxed()
    }

    fn ask_again(&self) {
        *self.holds.lock() = Holds::default();
    }
}
