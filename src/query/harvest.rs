//! What a run knows, and what it brings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::timeout_step;
use super::{QueryError, Reason, Role, Scope, Sql, Statement, Tables, Version, Views};
use crate::snapshot::{Metric, Sample, Snapshot};

/// What a run knows of the server and the database.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The server's version.
    pub version: Version,
    /// Whether it is in recovery.
    pub standby: bool,
    /// Whether it archives WAL.
    pub archiver: bool,
    /// Which of [`super::definition::SETTINGS`] are off.
    pub settings_off: &'a BTreeSet<&'static str>,
    /// The application's tables, if one lives in this database.
    pub tables: Option<&'a Tables>,
    /// How the statistics views can be read here.
    pub views: &'a Views,
    /// When the run is over at the latest.
    pub deadline: Instant,
    /// When others have their turn, so that what runs in pieces goes on in the next run.
    pub pause: Instant,
    /// How old an answer may get while it cannot be had anew.
    pub keep: Duration,
    /// The longest that a statement on the application's tables may take.
    pub statement_cap: Duration,
    /// How many rows are served at most.
    pub limit: usize,
}

impl Context<'_> {
    /// The statement with its placeholders filled; `part` says of which part of the tables it is,
    /// where it has a placeholder for that.
    pub(super) fn fill(
        &self,
        statement: &Statement,
        part: Option<(&'static str, &Sql)>,
    ) -> Result<Sql, QueryError> {
        statement.fill(self.schema(), |name| match part {
            Some((placeholder, part)) if placeholder == name => Ok(Some(part.clone())),
            _ => self.views.value(name),
        })
    }

    /// Why this server has nothing to tell of what belongs to a role, or needs a setting.
    pub(super) fn lacks(&self, role: Role, setting: Option<&'static str>) -> Option<Reason> {
        let is_off = |setting| self.settings_off.contains(setting);
        let has_role = match role {
            Role::Any => true,
            Role::Primary => !self.standby,
            Role::Standby => self.standby,
            Role::Archiver => self.archiver,
        };
        match setting {
            Some(setting) if is_off(setting) => Some(Reason::SettingOff),
            _ if has_role => None,
            _ => Some(Reason::WrongRole),
        }
    }

    /// The application's schema, if one lives in this database.
    pub fn schema(&self) -> Option<&str> {
        self.tables.map(|tables| tables.schema.as_str())
    }

    /// What a statement may take: half of what is left, so that one that hangs leaves time to the
    /// next, and no more than the cap where the application's tables are read.
    pub fn timeout(&self, scope: Scope) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now()) / 2;
        timeout_step(match scope {
            Scope::Server | Scope::Database => left,
            Scope::Synapse => left.min(self.statement_cap),
        })
    }
}

/// What a run brought.
#[derive(Clone, Debug)]
pub struct Harvest {
    /// The samples.
    pub snapshot: Snapshot,
    /// What could not be seen.
    pub skipped: Vec<Skip>,
    /// What it cost.
    pub cost: Cost,
    /// When it ended.
    pub at: Instant,
    /// When the oldest of its samples was read.
    pub oldest: Instant,
    /// The samples of each table, where the run was one in chunks.
    pub kept: BTreeMap<u32, Kept>,
    /// The answer to each query, where answers may be kept.
    pub answers: BTreeMap<usize, Answer>,
    /// Whether others have their turn, and the next run goes on with this one.
    pub paused: bool,
    /// How long it took, and the runs that it went on with.
    pub spent: Duration,
    /// How long it has rested between pieces.
    pub(super) rested: Duration,
}

/// What a query brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was asked.
    pub(super) at: Instant,
    pub(super) snapshot: Snapshot,
}

/// Something that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The word for it.
    pub reason: Reason,
    /// The whole story.
    pub message: String,
}

/// What a run cost the database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From the first statement to the end of the last answer, without rests.
    pub duration: Duration,
    /// Statements sent.
    pub statements: u64,
    /// Rows received.
    pub rows: u64,
    /// Rows beyond the limit, which are not served.
    pub cut: u64,
}

/// The samples of one table, and when they were read.
#[derive(Clone, Debug)]
pub struct Kept {
    /// When they were read.
    pub at: Instant,
    pub(super) samples: Vec<(Arc<Metric>, Sample)>,
}

impl Harvest {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self {
            snapshot: Snapshot::default(),
            skipped: Vec::new(),
            cost: Cost::default(),
            at: Instant::now(),
            oldest: Instant::now(),
            kept: BTreeMap::new(),
            answers: BTreeMap::new(),
            paused: false,
            spent: Duration::ZERO,
            rested: Duration::ZERO,
        }
    }

    /// Nothing, for this reason.
    pub fn skipped(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            skipped: vec![Skip {
                reason,
                message: message.into(),
            }],
            ..Self::empty()
        }
    }

    /// Whether nothing failed.
    pub fn success(&self) -> bool {
        !self.skipped.iter().any(|skip| skip.reason.is_failure())
    }

    /// Forgets what was read of these databases.
    pub fn forget(&mut self, databases: &BTreeSet<String>) {
        let answers = self.answers.values_mut();
        for snapshot in answers.map(|answer| &mut answer.snapshot) {
            snapshot.drop_labelled("datname", databases);
        }
        self.snapshot.drop_labelled("datname", databases);
    }

    /// Takes in the answer to a query.
    pub(super) fn take(&mut self, index: usize, answer: Answer, context: &Context<'_>) {
        if context.keep.is_zero() {
            self.snapshot.append(answer.snapshot);
        } else {
            self.snapshot.merge(&answer.snapshot);
            self.answers.insert(index, answer);
        }
    }

    /// Takes the last answer, where it is not too old.
    pub(super) fn keep(&mut self, index: usize, previous: Option<&Self>, context: &Context<'_>) {
        let last = previous.and_then(|previous| previous.answers.get(&index));
        let last = last.filter(|answer| answer.at.elapsed() < context.keep);
        if let Some(answer) = last {
            self.take(index, answer.clone(), context);
        }
    }
}
