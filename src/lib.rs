//! A Prometheus exporter for PostgreSQL, made for the databases under Matrix Synapse.
//!
//! # Modules
//!
//! ```text
//! web  ->  scrape  ->  server  ->  query  ->  snapshot  ->  exposition
//! ```
//!
//! The modules stand below in that order, and a module uses only what stands below it.
//!
//! - [`cli`]: the commands; reads flags and environment, then calls the rest
//! - [`web`]: HTTP in front of a scrape: routes, compression, landing page
//! - [`catalogue`]: every collector and metric on paper, with what each needs
//! - [`scrape`]: one scrape: deadline, sharing between concurrent scrapes, cache by TTL
//! - [`server`]: one PostgreSQL: connections under one budget, facts, databases
//! - [`grants`]: the SQL that gives a role what the collectors need, and no more
//! - [`config`]: file, environment and flags become one validated configuration
//! - [`collectors`]: what is asked: definitions only
//! - [`events`]: how Synapse's events are counted
//! - [`query`]: how a definition runs: versions, placeholders, safety, rows to samples
//! - [`telemetry`]: logs, and what the process says of itself
//! - [`exposition`]: a snapshot as text, in both formats
//! - [`snapshot`]: the families of one scrape: merge, duplicates, limits
//! - [`state_file`]: what is kept from one run of the program to the next
//! - [`time`]: time limits that count only while the process runs
//! - [`text`]: texts of others, made fit to be logged and shown
//! - [`bounds`]: how much is taken from others at most

pub mod cli;
pub mod web;
pub mod catalogue;
pub mod scrape;
pub mod server;
pub mod grants;
pub mod config;
pub mod collectors;
pub mod events;
pub mod query;
pub mod telemetry;
pub mod exposition;
pub mod snapshot;
pub mod state_file;
pub mod time;
pub mod text;
pub mod bounds;
