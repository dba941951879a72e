//! What is asked: one file per collector, definitions only.
//!
//! Adding a collector is adding a file and a word in a list below.

pub mod postgres;
pub mod synapse;

use crate::query::Collector;

/// Every collector, in the order in which the catalogue lists them.
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
