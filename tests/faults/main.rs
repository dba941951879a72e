//! Faults on the wall clock, one at a time. `make test-faults` runs them.

// A broken expectation is a failed test, in helpers too.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod abandoned;
mod catalogues;
mod conflicts;
mod databases;
mod demo;
mod door;
mod frozen;
mod locks;
mod migrations;
mod pages;
mod starved;
mod together;
