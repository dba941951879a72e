//! Faults on the wall clock, one at a time. `make test-faults` runs them.

mod support;

mod conflicts;
mod databases;
mod locks;
