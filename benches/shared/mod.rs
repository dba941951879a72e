//! What all benchmarks share.

// Neither benchmark uses all of it.
#![allow(dead_code)]

pub mod cost;
pub mod results;

use std::collections::BTreeSet;

/// The names in a variable, separated by commas; nothing where it is not set.
pub fn chosen(variable: &str) -> Option<BTreeSet<String>> {
    let list = std::env::var(variable).ok()?;
    Some(list.split(',').map(str::to_owned).collect())
}

/// The one in the middle.
pub fn median<T>(mut all: Vec<T>, by: impl Fn(&T) -> f64) -> T {
    all.sort_by(|a, b| by(a).total_cmp(&by(b)));
    let middle = all.len() / 2;
    all.swap_remove(middle)
}
