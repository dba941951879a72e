//! Real parts to test on. Each stops, and removes what it wrote, when it goes out of scope.
//!
//! - [`process`]: programs that end with the test, scratch folders, waiting
//! - [`postgres`]: PostgreSQL of every supported version, standbys, frozen servers

// Two test programs share this module, and neither uses all of it.
#![allow(dead_code)]
// A broken test bed is a failed test.
#![allow(clippy::panic, clippy::unwrap_used)]

pub mod postgres;
pub mod process;
