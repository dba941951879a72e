//! How a definition runs.
//!
//! - [`definition`]: what a collector says: SQL by version range, columns, scope, role
//! - [`sql`]: the text of a statement: parsed once, values appended
//! - [`version`]: server versions and ranges of them
//! - [`view`]: statistics views that the strict set-up replaces by functions
//! - [`tables`]: the tables of an application, as a role finds them in one database
//! - [`plan`]: a definition made ready, and its run on one database
//! - [`relations`]: statements that touch tables run in chunks, around what is locked
//! - [`pieces`]: statements on tables that may be large run in pieces along a key
//! - `rows`: the rows of a statement become samples
//! - `harvest`: what a run knows, and what it brings
//! - [`message`]: one statement in one guarded message, and its rows
//! - [`reason`]: why something could not be seen

pub mod definition;
mod harvest;
pub mod message;
pub mod pieces;
pub mod plan;
pub mod reason;
pub mod relations;
mod rows;
pub mod sql;
pub mod tables;
pub mod version;
pub mod view;

pub use definition::{Collector, Column, ColumnKind, Merge, Pieces, Query, Role, Scope};
pub use harvest::{Context, Cost, Harvest, Skip};
pub use plan::{Holds, Plan};
pub use reason::{QueryError, Reason};
pub use sql::{Schema, Sql, Statement};
pub use tables::Tables;
pub use version::{ALL, Version, Versions, before, between, since};
pub use view::Views;
