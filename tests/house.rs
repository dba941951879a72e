//! The rules of the tree: a module uses only what stands below it in `src/lib.rs`, no two files use each
//! other, and what runs collectors knows none of them by name.

// A broken expectation is a failed test.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use matrix_postgres_exporter::collectors::Registry;

/// A module, as the parts of its path below the crate.
type Module = Vec<String>;

#[test]
fn a_room_uses_only_what_stands_below_it() {
    let order = rooms();
    let position = |room: &str| order.iter().position(|one| one == room);
    let mut upwards = BTreeSet::new();
    for (module, used) in uses() {
        let from = position(&module[0]).unwrap();
        for target in used {
            let to = position(&target[0]).unwrap();
            if to < from {
                upwards.insert(format!("{} uses {}", module.join("::"), target.join("::")));
            }
        }
    }
    assert_eq!(upwards, BTreeSet::new());
}

/// A file and those in the folder of its name count as one: the first says what all of them share.
#[test]
fn no_files_use_each_other_in_a_circle() {
    let uses = uses();
    let mut circles = BTreeSet::new();
    for module in uses.keys() {
        let mut reached = BTreeSet::new();
        let mut next = vec![module];
        while let Some(one) = next.pop() {
            for target in uses[one].iter().filter(|target| !kin(one, target)) {
                if reached.insert(target) {
                    next.push(target);
                }
            }
        }
        if reached.contains(module) {
            circles.insert(module.join("::"));
        }
    }
    assert_eq!(circles, BTreeSet::new());
}

/// Where collectors and applications are handed in, and none is known by its name.
const NAMELESS: [&str; 5] = ["scrape", "server", "query", "web", "config"];

/// Names of collectors that PostgreSQL has for something else: keys of a connection string, and what a
/// role may do.
const WORDS: [&str; 2] = ["database", "replication"];

/// Comments and tests may name them. Of an application its key and name are no word, and no part of a
/// name, whatever stands around; of a collector the name is no string, and if it is more than a plain word, it is no word of a
/// string either.
#[test]
fn no_collector_and_no_application_is_known_by_name() {
    let registry = Registry::built_in();
    let applications = registry.applications().into_iter();
    let applications: BTreeSet<_> = applications
        .flat_map(|one| [one.key, one.name].map(str::to_lowercase))
        .collect();
    let collectors: BTreeSet<_> = registry
        .names()
        .filter(|name| !WORDS.contains(name))
        .collect();
    let mut files = BTreeMap::new();
    collect(&source(), &mut Vec::new(), &mut files);
    files.retain(|module, _| NAMELESS.contains(&module[0].as_str()));
    assert!(files.len() > 50, "{}", files.len());

    let mut known = BTreeSet::new();
    for (module, code) in &files {
        let module = module.join("::");
        let named = applications.iter().filter(|name| says(code, name));
        known.extend(named.map(|name| format!("{module}: {name}")));
        for string in strings(code) {
            let words = string.split(|c: char| !c.is_alphanumeric() && c != '_');
            let words = words.filter(|word| word.contains('_')).chain([string]);
            let named = words.filter(|word| collectors.contains(word));
            known.extend(named.map(|name| format!("{module}: {name}")));
        }
    }
    assert_eq!(known, BTreeSet::new());
}

/// What they run has a source of its own, or none: which ones there are only definitions and the
/// configuration know.
#[test]
fn no_source_is_known_by_name() {
    let mut files = BTreeMap::new();
    collect(&source(), &mut Vec::new(), &mut files);
    let implement = |code: &str| code.contains("impl SourceSettings for");
    let sources = files.iter().filter(|(_, code)| implement(code));
    let sources: BTreeSet<_> = sources.map(|(module, _)| module[0].clone()).collect();
    assert!(sources.contains("events"), "{sources:?}");

    let nameless = NAMELESS.iter().filter(|room| **room != "config");
    let nameless: BTreeSet<_> = nameless.collect();
    files.retain(|module, _| nameless.contains(&module[0].as_str()));
    let mut known = BTreeSet::new();
    for (module, code) in &files {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let named = words.filter(|word| sources.contains(*word));
        known.extend(named.map(|name| format!("{}: {name}", module.join("::"))));
    }
    assert_eq!(known, BTreeSet::new());
}

/// Whether a name is among the words of a text, of which `a_name` and `AName` have several.
fn says(text: &str, name: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut found = lower.match_indices(name);
    found.any(|(at, _)| {
        let (before, from) = text.split_at(at);
        let begins = from.starts_with(|c: char| c.is_ascii_uppercase());
        let goes_on = from[name.len()..].starts_with(|c: char| c.is_ascii_lowercase());
        !goes_on && (begins || !before.ends_with(|c: char| c.is_ascii_alphabetic()))
    })
}

#[test]
fn names_are_seen_in_names_and_not_in_other_words() {
    for text in ["mas", "mas_db", "MAS", "IsMas", "\"Mas\"", "x.mas()"] {
        assert!(says(text, "mas"), "{text}");
    }
    for text in ["mask", "christmas", "master_of"] {
        assert!(!says(text, "mas"), "{text}");
    }
}

/// What stands between quotes.
fn strings(code: &str) -> Vec<&str> {
    let mut strings = Vec::new();
    let mut begin = None;
    let mut escaped = false;
    for (at, c) in code.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if code[..at].ends_with('\'') && code[at..].starts_with("\"'") => {}
            '"' => match begin.take() {
                Some(begin) => strings.push(&code[begin..at]),
                None => begin = Some(at + 1),
            },
            _ => {}
        }
    }
    strings
}

#[test]
fn names_in_strings_are_seen() {
    let code = r#"a("wal", '"', b"x_y \"z\"")"#;
    assert_eq!(strings(code), ["wal", r#"x_y \"z\""#]);
}

fn kin(one: &Module, other: &Module) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The modules of `src/lib.rs`, from top to bottom.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let lines = text.lines();
    let rooms = lines.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    rooms.map(str::to_owned).collect()
}

/// What each file uses of others, without its tests.
fn uses() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = BTreeMap::new();
    collect(&source(), &mut Vec::new(), &mut files);
    let modules: BTreeSet<_> = files.keys().cloned().collect();
    let uses = files.into_iter().map(|(module, text)| {
        let used = paths(&text).into_iter().filter_map(|path| {
            let path = resolve(&module, path)?;
            let prefixes = (1..=path.len()).rev().map(|length| path[..length].to_vec());
            let mut known = prefixes.filter(|prefix| modules.contains(prefix));
            known.next().filter(|target| *target != module)
        });
        let used = used.collect();
        (module, used)
    });
    uses.collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn collect(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if !["lib", "main", "tests"].contains(&name.as_str()) {
            let mut module = module.clone();
            module.extend(Some(name).filter(|name| name != "mod"));
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines();
            let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
            files.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The paths that a text names: those of its `use` declarations, and all that begin at the crate.
fn paths(code: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        if let Some(end) = code[at..].find(';') {
            expand(&code[at + 4..at + end], &[], &mut paths);
        }
    }
    for (at, _) in code.match_indices("crate::") {
        let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = code[at..].find(|c| !in_path(c));
        let path = &code[at..end.map_or(code.len(), |end| at + end)];
        expand(path, &[], &mut paths);
    }
    paths
}

/// Takes `a::{b, c::{d, e}}` apart.
fn expand(text: &str, before: &[String], paths: &mut Vec<Module>) {
    let text = text.trim();
    let (path, inner) = match text.split_once('{') {
        Some((path, inner)) => (path, inner.strip_suffix('}')),
        None => (text.split(" as ").next().unwrap(), None),
    };
    let parts = path.split("::").map(str::trim);
    let parts = parts.filter(|part| !part.is_empty()).map(str::to_owned);
    let path: Module = before.iter().cloned().chain(parts).collect();
    let Some(inner) = inner else {
        paths.push(path);
        return;
    };
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inner[begin..at], &path, paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// The path below the crate, of one that a module uses; none if it may be of another crate.
fn resolve(module: &Module, path: Module) -> Option<Module> {
    let mut parts = path.into_iter().peekable();
    let mut base = match parts.peek()?.as_str() {
        "crate" => {
            parts.next();
            return Some(parts.collect());
        }
        "super" => module.clone(),
        "self" => {
            parts.next();
            module.clone()
        }
        _ => return None,
    };
    while parts.next_if(|part| part == "super").is_some() {
        base.pop();
    }
    base.extend(parts);
    Some(base)
}
