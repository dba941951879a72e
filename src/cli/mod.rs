//! The commands. To come.

pub mod flags;
