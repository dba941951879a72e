//! How a definition runs.
//!
//! - [`application`]: what an application is: its parts, and the tables by which it is known
//! - [`definition`]: what a collector says: scope, SQL by version range, columns, role
//! - [`sql`]: the text of a statement: parsed once, values appended
//! - [`version`]: server versions and ranges of them
//! - [`view`]: statistics views that the strict role reads through functions
//! - [`tables`]: the tables of an application, as a role finds them in one database
//! - [`plan`]: a definition made ready, and its run on one database
//! - [`relations`]: statements that touch tables run in chunks, around what is locked
//! - `shared`: several queries of a collector in one message
//! - [`source`]: what a collector asks: its queries, or a source that remembers
//! - `walk`: tables that may be large are read in pieces
//! - [`pages`]: a walk by ranges of pages
//! - [`keys`]: a walk in the order of a key
//! - `route`: what both have in common
//! - `tally`: what the pieces say, added up
//! - [`cache`]: how fast walks may fill the server's cache
//! - `rows`: the rows of a statement become samples
//! - `harvest`: what a run knows, and what it brings
//! - `guard`: what is checked right before an application's tables are read
//! - [`message`]: one statement in one guarded message, and its rows
//! - [`reason`]: why something could not be seen

pub mod application;
pub mod cache;
pub mod definition;
mod guard;
mod harvest;
pub mod keys;
pub mod message;
pub mod pages;
pub mod plan;
pub mod reason;
pub mod relations;
mod route;
mod rows;
mod shared;
pub mod source;
pub mod sql;
pub mod tables;
mod tally;
pub mod version;
pub mod view;
mod walk;

pub use application::{Application, Part};
pub use cache::CacheShare;
pub use definition::{
    CTID, Collector, Column, ColumnKind, DefinedMetric, Key, Merge, Query, Role, Scope, Text, Walk,
};
pub use guard::MOST_OBJECTS;
pub use harvest::{Context, Cost, Harvest, Quality, Skip};
pub use plan::{Holds, Plan};
pub use reason::{PROTOCOL_VIOLATION, QueryError, Reason};
pub use source::{Source, SourcePlace, SourceSettings};
pub use sql::{Sql, Statement};
pub use tables::Tables;
pub use version::{ALL, Version, Versions, before, between, since};
pub use view::Views;
