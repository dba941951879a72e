//! Tests on real servers, in parallel. `make test-real` runs them.

// A broken expectation is a failed test, in helpers too.
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

mod bed;
mod broken;
mod budget;
mod catalogue;
mod checked;
mod cli;
mod connect;
mod cost;
mod down;
mod events;
mod grants;
mod labels;
mod limits;
mod names;
mod numbers;
mod people;
mod pgbouncer;
mod pieces;
mod privacy;
mod prometheus;
mod promtool;
mod refused;
mod replication;
mod restarts;
mod rights;
mod schema;
mod split;
mod started;
mod synapse;
mod turns;
mod values;
mod waiting;
