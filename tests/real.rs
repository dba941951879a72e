//! Tests on real servers, in parallel. `make test-real` runs them.

mod support;

mod bed;
mod connect;
mod demo;
mod limits;
mod names;
