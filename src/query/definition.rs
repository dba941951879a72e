//! What a collector says, and nothing of how it is done.
//!
//! A definition is built once at start. From it come the SQL that runs, the help and type that
//! are served, the catalogue (`metrics`), `docs/metrics.md` and the grants.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::application::Application;
use super::source::SourceSettings;
use super::sql::Statement;
use super::version::Versions;

/// A text of a definition: of the program, or of a user.
pub type Text = Cow<'static, str>;

/// One thing that can be switched on and off: a name, a sentence, and its queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    /// The name used in flags, in `collect[]` and in labels.
    pub name: Text,
    /// One sentence: what it tells, and from where.
    pub about: Text,
    /// Where it runs. In a database its metrics have the label `datname`.
    pub scope: Scope,
    /// A column's metric is called `prefix_column`.
    pub prefix: Text,
    /// Whether it runs unless told otherwise.
    pub enabled: bool,
    /// How long its values may be served before they are refreshed; zero means every scrape.
    pub ttl: Duration,
    /// How many rows of one database are served at most.
    pub limit: usize,
    /// The source that it has in place of statements, if it has one; its queries then only say what
    /// that reads and serves.
    pub source: Option<Arc<dyn SourceSettings>>,
    /// What it asks.
    pub queries: Vec<Query>,
}

impl Collector {
    /// A collector that runs in every scrape, once per server.
    pub fn new(name: impl Into<Text>, about: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            scope: Scope::Server,
            prefix: Text::default(),
            enabled: true,
            ttl: Duration::ZERO,
            limit: 10_000,
            source: None,
            queries: Vec::new(),
        }
    }

    /// Where it runs.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// How the names of its metrics begin.
    pub fn prefix(mut self, prefix: impl Into<Text>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Served from memory for so many seconds, then refreshed behind a scrape; later where that
    /// takes long.
    pub fn ttl(mut self, seconds: u64) -> Self {
        self.ttl = Duration::from_secs(seconds);
        self
    }

    /// Asks this source, and not statements of its queries.
    pub fn source(mut self, settings: impl SourceSettings) -> Self {
        self.source = Some(Arc::new(settings));
        self
    }

    /// At most so many rows of one database.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }

    /// One more query.
    pub fn query(mut self, query: Query) -> Self {
        self.queries.push(query);
        self
    }

    /// Whether any of its queries walks through a table.
    pub fn walks(&self) -> bool {
        self.queries.iter().any(|query| query.walk.is_some())
    }

    /// Its metrics, query by query; several queries may bring the same.
    pub fn metrics(&self) -> impl Iterator<Item = DefinedMetric<'_>> {
        self.queries.iter().flat_map(move |query| {
            let columns = query.columns.iter().filter(|column| column.kind.is_value());
            columns.map(move |column| DefinedMetric {
                name: self.metric_name(column),
                labels: self.labels_of(query, column),
                query,
                column,
            })
        })
    }

    /// The full name of a value column's metric.
    pub fn metric_name(&self, column: &Column) -> String {
        match &column.metric {
            Some(name) => name.to_string(),
            None => format!("{}_{}", self.prefix, column.name),
        }
    }

    /// The labels of a value column's metric.
    fn labels_of(&self, query: &Query, column: &Column) -> Vec<&'static str> {
        let database = self.scope.label();
        let labels = query.columns.iter();
        let labels = labels.filter(|label| label.kind == ColumnKind::Label);
        let labels = labels
            .map(|label| label.name)
            .filter(|label| column.labels.is_none_or(|some| some.contains(label)));
        let own = column.label.map(|(name, _)| name);
        database.into_iter().chain(labels).chain(own).collect()
    }
}

/// A metric of a collector.
#[derive(Clone, Debug)]
pub struct DefinedMetric<'a> {
    /// Its full name; only the prefix where each row brings a name of its own.
    pub name: String,
    /// Its labels, in the order in which they are served.
    pub labels: Vec<&'static str>,
    /// The query that brings it.
    pub query: &'a Query,
    /// The column that has its values.
    pub column: &'a Column,
}

/// One SQL statement per range of versions, and what its columns mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// On which servers it runs.
    pub role: Role,
    /// The setting that must be on, so that the server keeps what it asks for.
    pub setting: Option<&'static str>,
    /// The statements; the first whose range holds the server's version runs.
    pub statements: Vec<(Versions, Statement)>,
    /// The columns, labels and values.
    pub columns: Vec<Column>,
    /// Tables and columns of the application that it reads; `grants` gives the role these.
    pub reads: Vec<(&'static str, &'static [&'static str])>,
    /// What becomes of two rows with the same labels.
    pub merge: Merge,
    /// The table that it walks through, in pieces.
    pub walk: Option<Walk>,
    /// Two metrics of the same collector that say whether its answer means anything.
    pub covered: Option<Coverage>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            role: Role::Any,
            setting: None,
            statements: Vec::new(),
            columns: Vec::new(),
            reads: Vec::new(),
            merge: Merge::Drop,
            walk: None,
            covered: None,
        }
    }
}

impl Query {
    /// A query that runs whatever the server's role.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only on servers of this role.
    pub fn on(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Only where this setting is on.
    pub fn needs(mut self, setting: &'static str) -> Self {
        self.setting = Some(setting);
        self
    }

    /// The statement for these versions: one SELECT, no semicolon, named columns, every relation
    /// schema-qualified. `{schema}.users` stands for that table of the application, and
    /// `{schema_name}` for the name of its schema as a string; `{pg_stat_activity}` and its like
    /// (see [`super::view`]) for what the role may read of that view; `{relations}` for an `oid[]`
    /// of tables: such a statement runs in chunks, and returns the table's oid in the column
    /// `relid`. `{users.locked}` stands for that column, or for NULL where it is not there (see
    /// [`Self::if_there`]). For `{pages}`, `{piece}` and `{begins}` see [`Self::by_pages`] and
    /// [`Self::by_key`].
    pub fn sql(mut self, versions: Versions, sql: &'static str) -> Self {
        self.statements.push((versions, Statement::parse(sql)));
        self
    }

    /// A label.
    pub fn label(self, name: &'static str) -> Self {
        self.column(name, ColumnKind::Label, "")
    }

    /// A counter; `help` says what and in which unit.
    pub fn counter(self, name: &'static str, help: impl Into<Text>) -> Self {
        self.column(name, ColumnKind::Counter, help)
    }

    /// A gauge; `help` says what and in which unit.
    pub fn gauge(self, name: &'static str, help: impl Into<Text>) -> Self {
        self.column(name, ColumnKind::Gauge, help)
    }

    /// A value without a type.
    pub fn untyped(self, name: &'static str, help: impl Into<Text>) -> Self {
        self.column(name, ColumnKind::Untyped, help)
    }

    /// A gauge whose name (after the prefix) and help each row brings itself, in the columns
    /// `name` and `help`.
    pub fn gauge_per_row(self, value: &'static str) -> Self {
        self.column("name", ColumnKind::Name, "")
            .column("help", ColumnKind::Help, "")
            .column(value, ColumnKind::Gauge, "")
    }

    /// Only servers of this role serve the column just added.
    pub fn on_role(mut self, role: Role) -> Self {
        self.last().role = role;
        self
    }

    /// The column just added is served only where this setting is on.
    pub fn with_setting(mut self, setting: &'static str) -> Self {
        self.last().setting = Some(setting);
        self
    }

    /// The column `reason`: why values of the row are NULL that are not known; NULL if all are.
    pub fn reason(self) -> Self {
        self.column("reason", ColumnKind::Reason, "")
    }

    /// Of the column just added the largest value of all pieces stays; other values are added up.
    pub fn largest(mut self) -> Self {
        self.last().largest = true;
        self
    }

    /// The column just added gives a metric of this full name, instead of `prefix_column`.
    pub fn named(mut self, metric: impl Into<Text>) -> Self {
        self.last().metric = Some(metric.into());
        self
    }

    /// The value column just added has none of the query's labels.
    pub fn without_labels(self) -> Self {
        self.with_labels(&[])
    }

    /// The value column just added has only these of the query's labels.
    pub fn with_labels(mut self, labels: &'static [&'static str]) -> Self {
        self.last().labels = Some(labels);
        self
    }

    /// Reads these columns of a table of the application, in its schema; of a sequence these are
    /// `last_value` and `is_called`.
    pub fn reads(mut self, table: &'static str, columns: &'static [&'static str]) -> Self {
        self.reads.push((table, columns));
        self
    }

    /// What becomes of two rows with the same labels.
    pub fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// Reads this table of the application, which may be large, by ranges of pages. In the statement
    /// `{pages}` stands for the condition on them; no other stands beside it that an index could
    /// serve. What the pieces say of the same labels is added up, so a DISTINCT would be wrong.
    pub fn by_pages(mut self, table: &'static str) -> Self {
        self.walk = Some(Walk::Pages { table });
        self
    }

    /// Reads a table that may be large in the order of these columns, with which an index of it
    /// begins: `"user_id"`, or `"user_id, device_id"`. They hold no NULL and do not change. `rows`
    /// are the rows to be read. In the statement `{piece}` stands for some of them, and `{begins}`
    /// for the condition that no piece before had the same first value: what the pieces say of the
    /// same labels is added up, so that is what a DISTINCT needs where the key has more columns.
    pub fn by_key(mut self, columns: &'static str, rows: &'static str) -> Self {
        self.walk = Some(Walk::Keys(Key {
            columns,
            rows: Statement::parse(rows),
            unique: false,
        }));
        self
    }

    /// The same where no two of the rows have the same key, as when they are groups by it. Then no row
    /// beyond a piece is read, to see whether it is equal to the last.
    pub fn by_unique_key(self, columns: &'static str, rows: &'static str) -> Self {
        let mut query = self.by_key(columns, rows);
        if let Some(Walk::Keys(key)) = &mut query.walk {
            key.unique = true;
        }
        query
    }

    /// Asks only while the first of these metrics, of a query of the collector before this one, is
    /// at most a hundredth of the second.
    pub fn while_few(mut self, missing: &'static str, of: &'static str) -> Self {
        self.covered = Some(Coverage { missing, of });
        self
    }

    /// The column just added comes from this column of a table of the application, which not each
    /// version of it has. Where it is not there, or may not be read, only this is left out.
    pub fn if_there(mut self, table: &'static str, column: &'static str) -> Self {
        self.last().from = Some((table, column));
        self
    }

    /// The value column just added has this label too, with this value.
    pub fn with_label(mut self, name: &'static str, value: &'static str) -> Self {
        self.last().label = Some((name, value));
        self
    }

    /// The columns of the application's tables that a role has to read for all of it.
    pub fn privileges(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let optional = self.columns.iter().filter_map(|column| column.from);
        self.needed().chain(optional).chain(self.ctid())
    }

    /// Those without which there is nothing.
    pub(super) fn needed(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let reads = self.reads.iter().copied();
        reads.flat_map(|(table, columns)| columns.iter().map(move |column| (table, *column)))
    }

    /// That by which it reads ranges of pages.
    pub(super) fn ctid(&self) -> Option<(&'static str, &'static str)> {
        match self.walk {
            Some(Walk::Pages { table }) => Some((table, CTID)),
            _ => None,
        }
    }

    /// The versions on which the query runs at all.
    pub fn covers(&self, version: super::Version) -> Option<&Statement> {
        self.statements
            .iter()
            .find(|(versions, _)| versions.contains(version))
            .map(|(_, statement)| statement)
    }

    /// Whether this version has a column: its statement names it. What a source serves has no statement,
    /// and each version has it.
    pub fn returns(&self, version: super::Version, column: &Column) -> bool {
        let statement = self.covers(version);
        self.statements.is_empty() || statement.is_some_and(|one| one.names(column.name))
    }

    /// The column just added.
    fn last(&mut self) -> &mut Column {
        self.columns
            .last_mut()
            .expect("a column stands before what is said of it")
    }

    fn column(mut self, name: &'static str, kind: ColumnKind, help: impl Into<Text>) -> Self {
        self.columns.push(Column {
            name,
            kind,
            help: help.into(),
            metric: None,
            labels: None,
            role: Role::Any,
            setting: None,
            largest: false,
            from: None,
            label: None,
        });
        self
    }
}

/// Where a collector runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Once per server.
    Server,
    /// In every connectable database.
    Database,
    /// In every database with this application's tables.
    Application(&'static Application),
}

impl Scope {
    /// The label that says in which database a value was read, if it was read in one.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Server => None,
            Self::Database | Self::Application(_) => Some("datname"),
        }
    }

    /// The application whose tables are read.
    pub const fn application(self) -> Option<&'static Application> {
        match self {
            Self::Server | Self::Database => None,
            Self::Application(application) => Some(application),
        }
    }
}

/// On which servers a query runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// On each.
    Any,
    /// Only where writes are accepted.
    Primary,
    /// Only in recovery.
    Standby,
    /// Only where WAL is archived: a primary with `archive_mode`, a standby where that is `always`.
    Archiver,
}

impl Role {
    /// In one word; nothing for each.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Archiver => "archiver",
        }
    }
}

/// The settings without which the server does not keep what a definition asks for.
pub const SETTINGS: [&str; 4] = [
    "archive_mode",
    "track_activities",
    "track_counts",
    "track_io_timing",
];

/// What becomes of two rows with the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The first stays; the rest are dropped, counted and logged.
    Drop,
    /// The largest value of each metric stays.
    Max,
}

/// How a table that may be large is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Walk {
    /// By ranges of its pages.
    Pages {
        /// The table, of the application.
        table: &'static str,
    },
    /// In the order of a key.
    Keys(Key),
}

impl Walk {
    /// The table, of the application.
    pub fn table(&self) -> &'static str {
        match self {
            Self::Pages { table } => table,
            Self::Keys(key) => key.rows.tables().next().unwrap_or_default(),
        }
    }
}

/// The column of each table that says where a row is; it needs a privilege of its own.
pub const CTID: &str = "ctid";

/// Columns with which an index begins, and the rows that are read in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The columns, separated by commas.
    pub columns: &'static str,
    /// The rows.
    pub rows: Statement,
    /// Whether no two of them have the same key.
    pub unique: bool,
}

impl Key {
    /// The columns, one by one.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.columns.split(", ")
    }
}

/// Two metrics of a collector: how many are missing, of how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coverage {
    /// How many are missing.
    pub missing: &'static str,
    /// Of how many.
    pub of: &'static str,
}

/// A column of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name in the result.
    pub name: &'static str,
    /// What it becomes.
    pub kind: ColumnKind,
    /// The metric's help; empty for labels.
    pub help: Text,
    /// The metric's full name, where it is not `prefix_column`.
    pub metric: Option<Text>,
    /// The labels of this metric, where it has not all of the query's.
    pub labels: Option<&'static [&'static str]>,
    /// The servers that serve it.
    pub role: Role,
    /// The setting that must be on.
    pub setting: Option<&'static str>,
    /// Whether the largest value of all pieces stays, instead of their sum.
    pub largest: bool,
    /// The column of a table of the application without which it is not there.
    pub from: Option<(&'static str, &'static str)>,
    /// A label of this metric that is not a column, and its value.
    pub label: Option<(&'static str, &'static str)>,
}

impl ColumnKind {
    /// Whether it gives a sample.
    pub const fn is_value(self) -> bool {
        matches!(self, Self::Counter | Self::Gauge | Self::Untyped)
    }
}

/// What a column becomes. A NULL value gives no sample, a NULL label the empty string; `t` and
/// `f` give 1 and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A label of the row's samples.
    Label,
    /// A sample that only rises.
    Counter,
    /// A sample that rises and falls.
    Gauge,
    /// A sample without a type.
    Untyped,
    /// The name, after the prefix, of the row's only sample.
    Name,
    /// The help text of the row's only sample.
    Help,
    /// Why some of the row's values are not known, as [`super::Reason`] spells it.
    Reason,
}
