//! What is asked: one file per collector, definitions only.
//!
//! Adding a collector is adding a file and a word in a list.
//!
//! - [`postgres`], [`synapse`]: the definitions
//! - [`registry`]: all of them as a value
//! - [`faults`]: the rules that a definition keeps
//! - [`postgres_exporter`]: the collectors of postgres_exporter

pub mod faults;
pub mod postgres;
pub mod postgres_exporter;
pub mod registry;
pub mod synapse;

use crate::query::Collector;
pub use faults::Fault;
pub use registry::{Faults, Registry};

/// The built-in definitions, in the order in which the catalogue lists them.
pub fn all() -> Vec<Collector> {
    postgres::all().into_iter().chain(synapse::all()).collect()
}

macro_rules! collectors {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// The collectors of this folder.
        pub fn all() -> Vec<$crate::query::Collector> {
            vec![$($name::collector()),*]
        }
    };
}
use collectors;
