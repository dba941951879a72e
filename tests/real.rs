//! Tests on real servers, in parallel. `make test-real` runs them.

// A broken expectation is a failed test, in helpers too.
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

mod bed;
mod cli;
mod connect;
mod down;
mod limits;
mod names;
mod promtool;
mod refused;
mod synapse;
mod restarts;
mod rights;
