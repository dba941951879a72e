//! Environment variables that look like ours and are none.

use super::{FILE, FLAGS, collector_names, twin};
use crate::collectors::Registry;
use crate::config::nearest;

/// What the names of our variables begin with.
const PREFIXES: [&str; 2] = ["PG_EXPORTER_", "DATA_SOURCE_"];

/// What somebody may take for that, as the program is called so.
const OWN_NAME: &str = "MATRIX_POSTGRES_EXPORTER_";

/// A sentence for each of these variables that was likely meant to be one of ours.
pub fn warnings(registry: &Registry, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let known = known(registry);
    let mut warnings: Vec<_> = names
        .into_iter()
        .filter(|name| !known.contains(name) && !is_of_kubernetes(name))
        .filter_map(|name| {
            let is_ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || name.starts_with(OWN_NAME);
            match meant(&name, &known) {
                Some(meant) => Some(format!("{name} has no effect; did you mean {meant}?")),
                None if is_ours => Some(format!("{name} has no effect; there is no such variable")),
                None => None,
            }
        })
        .collect();
    warnings.sort();
    warnings
}

fn known(registry: &Registry) -> Vec<String> {
    let flags = FLAGS.iter().map(|flag| flag.name).chain([FILE]).map(twin);
    let collectors = collector_names(registry).into_iter();
    let collectors = collectors.map(|name| twin(&format!("collector.{name}")));
    let data_source = ["URI", "USER", "PASS"]
        .into_iter()
        .flat_map(|part| ["", "_FILE"].map(|file| format!("DATA_SOURCE_{part}{file}")));
    flags
        .chain(collectors)
        .chain(data_source)
        .chain(["DATA_SOURCE_NAME".to_owned()])
        .collect()
}

/// The known variable that a name was meant to be: one that has the same rest after the prefix, or
/// nearly, or nearly the same name.
fn meant<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let name = match name.strip_prefix(OWN_NAME) {
        Some(rest) => format!("PG_EXPORTER_{rest}"),
        None => name.to_owned(),
    };
    // As other programs have them.
    let usual = name.replace("PASSWORD", "PASS").replace("USERNAME", "USER");
    let same = known.iter().find(|known| **known == usual);
    same.or_else(|| {
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| name.starts_with(prefix))?;
        let endings = known.iter().filter_map(|known| known.strip_prefix(prefix));
        let rest = nearest(&name[prefix.len()..], endings)?;
        known
            .iter()
            .find(|known| known.strip_prefix(prefix) == Some(&rest))
    })
    .or_else(|| {
        let mut known = known.iter();
        known.find(|known| strsim::damerau_levenshtein(&name, known) <= 2)
    })
}

/// Whether Kubernetes sets it for a Service that has our name.
fn is_of_kubernetes(name: &str) -> bool {
    let numbered = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_PORT")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT_").is_some_and(numbered)
}
