//! One PostgreSQL server.
//!
//! - [`connect`], [`tls`]: one connection
//! - [`connections`]: all connections of a server: a pool per warm database, one budget, one identity
//! - `carried`: errors of ours that travel as errors of the driver
//! - [`facts`]: what every scrape asks first: version, role, privileges, databases
//! - [`application`]: which application a database has
//! - [`rights`]: what the role may do there beside reading

pub mod application;
mod carried;
pub mod connect;
pub mod connections;
pub mod facts;
pub mod rights;
pub mod tls;

pub use application::{Installation, Search};
pub use connections::{Connections, Lease, LeaseError, Purpose};
pub use facts::{Database, Facts, Owner};
pub use rights::{Listed, Rights, RightsQuery};
