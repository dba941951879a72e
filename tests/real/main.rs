//! Tests on real servers, in parallel. `make test-real` runs them.

// A broken expectation is a failed test, in helpers too.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod amounts;
mod applications;
mod as_of;
mod attacks;
mod bed;
mod broken;
mod budget;
mod catalogue;
mod checked;
mod cli;
mod closed;
mod connect;
mod copies;
mod cost;
mod creation;
mod down;
mod events;
mod generations;
mod grants;
mod hanging;
mod hostile_database;
mod hostile_server;
mod labels;
mod limits;
mod logs;
mod lost;
mod long;
mod names;
mod numbers;
mod passwords;
mod people;
mod pgbouncer;
mod pieces;
mod privacy;
mod prometheus;
mod promtool;
mod refused;
mod remembered;
mod replication;
mod restarts;
mod rights;
mod routes;
mod runbooks;
mod schema;
mod settings;
mod shared;
mod sources;
mod split;
mod started;
mod stopping;
mod switchover;
mod synapse;
mod tracked;
mod triggers;
mod turns;
mod values;
mod waiting;
mod walks;
