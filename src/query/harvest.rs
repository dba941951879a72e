//! What a run knows, and what it brings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::definition::Coverage;
use super::message::timeout_step;
use super::{
    CacheShare, Column, QueryError, Reason, Role, Scope, Sql, Statement, Tables, Version, Views,
};
use crate::snapshot::{Metric, Sample, Snapshot};

/// What a run knows of the server and the database.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The server's system identifier.
    pub system: &'a str,
    /// The server's version.
    pub version: Version,
    /// Whether it is in recovery.
    pub standby: bool,
    /// Whether it archives WAL.
    pub archiver: bool,
    /// Which of [`super::definition::SETTINGS`] are off.
    pub settings_off: &'a BTreeSet<&'static str>,
    /// The database, where the collector runs in one.
    pub database: Option<Arc<str>>,
    /// The application's tables, if it is in this database.
    pub tables: Option<&'a Tables>,
    /// How the statistics views can be read here.
    pub views: &'a Views,
    /// When the run is over at the latest.
    pub deadline: Instant,
    /// When others have their turn, so that what runs in pieces goes on in the next run.
    pub pause: Instant,
    /// How old an answer may get while it cannot be refreshed.
    pub keep: Duration,
    /// The longest that a statement on the application's tables may take.
    pub statement_cap: Duration,
    /// How many rows are served at most.
    pub limit: usize,
    /// How fast the server's cache may be filled.
    pub cache: &'a CacheShare,
}

impl Context<'_> {
    /// The statement with its placeholders filled; `parts` are those that say of which part of the
    /// tables it is.
    pub(super) fn fill(
        &self,
        statement: &Statement,
        parts: &[(&'static str, Sql)],
    ) -> Result<Sql, QueryError> {
        statement.fill(self.schema(), |name| {
            if let Some((_, part)) = parts.iter().find(|(placeholder, _)| *placeholder == name) {
                return Ok(Some(part.clone()));
            }
            if let Some((table, column)) = name.split_once('.') {
                let there = self.lacks_column(table, column).is_none();
                return Ok(Some(Sql::from(if there { column } else { "NULL" })));
            }
            self.views.value(name, statement)
        })
    }

    /// Why a column of an application's table is not read here, if it is not.
    pub(super) fn lacks_column(&self, table: &str, column: &str) -> Option<Reason> {
        self.tables.and_then(|tables| tables.missing(table, column))
    }

    /// Why this server, or this version of the application, does not serve a value column.
    pub(super) fn lacks_value(&self, column: &Column) -> Option<Reason> {
        let missing = |(table, column)| self.lacks_column(table, column);
        self.missing(column.role, column.setting)
            .or_else(|| column.from.and_then(missing))
    }

    /// Why this server has nothing to tell of what belongs to a role, or needs a setting.
    pub(super) fn missing(&self, role: Role, setting: Option<&'static str>) -> Option<Reason> {
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

    /// The application's schema, if it is in this database.
    pub fn schema(&self) -> Option<&str> {
        self.tables.map(|tables| tables.schema.as_str())
    }

    /// What a statement may take: half of what is left, so that one that hangs leaves time to the
    /// next, and no more than the cap where the application's tables are read.
    pub fn timeout(&self, scope: Scope) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now()) / 2;
        timeout_step(match scope {
            Scope::Server | Scope::Database => left,
            Scope::Application(_) => left.min(self.statement_cap),
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
    /// When it would have been over at the latest, where somebody was waiting for it.
    pub deadline: Option<Instant>,
    /// When the oldest of its samples was read.
    pub oldest: Instant,
    /// The samples of each table, where the run was one in chunks.
    pub kept: BTreeMap<u32, Kept>,
    /// The answer to each query, where answers may be kept.
    pub answers: BTreeMap<usize, Answer>,
    /// The application's tables that were walked through, and how far what was counted there can
    /// be off.
    pub walked: BTreeMap<&'static str, Quality>,
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
    /// The table that was walked through, if any, and how far what was counted there can be off.
    pub(super) walked: Option<(&'static str, Quality)>,
}

/// How far what was counted in a table can be off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Whether more rows moved meanwhile than may, or nobody knows how many did.
    pub estimated: bool,
    /// Whether rows were left out, where that can be.
    pub at_least: Option<bool>,
    /// How many rows the planner expects, where nothing could be counted.
    pub planner_rows: Option<f64>,
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
    /// From the first statement to the end of the last answer, without pauses.
    pub duration: Duration,
    /// Statements sent.
    pub statements: u64,
    /// Rows received.
    pub rows: u64,
    /// Rows beyond the limit, which are not served.
    pub cut: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.duration += other.duration;
        self.statements += other.statements;
        self.rows += other.rows;
        self.cut += other.cut;
    }
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
            deadline: None,
            oldest: Instant::now(),
            kept: BTreeMap::new(),
            answers: BTreeMap::new(),
            walked: BTreeMap::new(),
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

    /// Whether something is missing that could be there with this deadline, which is later than its
    /// own.
    pub fn was_hasty(&self, deadline: Instant) -> bool {
        let late = |skip: &Skip| matches!(skip.reason, Reason::Deadline | Reason::StatementTimeout);
        self.deadline.is_some_and(|own| own < deadline) && self.skipped.iter().any(late)
    }

    /// Notes why not all of a collector is known.
    pub(super) fn leave_out(&mut self, reasons: impl Iterator<Item = Reason>, collector: &str) {
        for reason in reasons.collect::<BTreeSet<_>>() {
            let message = format!("{collector} is incomplete here");
            self.skipped.push(Skip { reason, message });
        }
    }

    /// Whether no more is missing than a hundredth, as far as that is known now, or was before.
    pub(super) fn covers(&self, covered: Coverage, previous: Option<&Self>) -> bool {
        let known = |name: &str| {
            let runs = [Some(self), previous].into_iter().flatten();
            runs.map(|run| run.snapshot.sum(name)).find_map(|sum| sum)
        };
        match (known(covered.missing), known(covered.of)) {
            (Some(missing), Some(of)) => 100.0 * missing <= of,
            _ => false,
        }
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
        self.walked.extend(answer.walked);
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
