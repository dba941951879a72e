//! Tests on real servers, in parallel. `make test-real` runs them.

mod support;

mod bed;
mod cli;
mod connect;
mod demo;
mod down;
mod refused;
