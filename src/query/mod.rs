//! How a definition runs.
//!
//! - [`definition`]: what a collector says: SQL by version range, columns, scope, role
//! - [`version`]: server versions and ranges of them
//! - [`view`]: statistics views that the strict set-up replaces by functions

pub mod definition;
pub mod version;
pub mod view;

pub use definition::{Collector, Column, ColumnKind, Merge, Query, Role, Scope};
pub use version::{ALL, Version, Versions, before, between, since};
