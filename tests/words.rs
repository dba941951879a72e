//! Words that no text of the tree has: README and other documents, help texts, messages, alerts,
//! dashboards, comments.

// A broken expectation is a failed test.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each with what to write instead; `*` stands for any ending.
const FORBIDDEN: &[(&str, &str)] = &[
    ("reckon*", "compute, count or estimate"),
    ("dear", "expensive"),
    ("in vain", "without success"),
    ("anew", "again"),
    ("for ever", "permanently"),
    ("lack", "is missing, does not have"),
    ("lacks", "is missing, does not have"),
    ("rests", "pauses"),
    ("be had", "is available"),
    ("is had", "is available"),
    ("are had", "are available"),
    ("lives", "is in, contains"),
    ("mend*", "fix"),
    ("stands still", "does not advance"),
    ("stand still", "do not advance"),
    ("guest house", "what is meant; no metaphors"),
    ("behind the scrapes", "in the background"),
    ("out of bounds", "without limit"),
    ("way out", "outbound network"),
    ("joined quickly", "partial state"),
    ("changes of devices", "device list updates"),
    ("clear away", "delete"),
    ("clears away", "deletes"),
    ("by the month", "monthly active"),
    ("nine tenths", "90 %"),
    ("worked off", "processed"),
    ("pile up", "accumulate"),
    ("piles up", "accumulates"),
];

const PLACES: &[&str] = &[
    "src",
    "docs",
    "alerts",
    "dashboards/src",
    "deploy",
    "benches",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "Makefile",
    "Dockerfile",
    "Cargo.toml",
];

const KINDS: &[&str] = &[
    "rs",
    "md",
    "yml",
    "yaml",
    "py",
    "sh",
    "sql",
    "service",
    "toml",
    "Makefile",
    "Dockerfile",
];

#[test]
fn texts_are_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for place in PLACES {
        collect(&root.join(place), &mut files);
    }
    assert!(files.len() > 300, "{}", files.len());
    let mut found = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).unwrap();
        for (line, phrase, instead) in forbidden(&text) {
            found.push(format!("{name}:{line}: {phrase:?}; write: {instead}"));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn what_is_forbidden_is_found() {
    let found = |text| {
        let found = forbidden(text).into_iter();
        found
            .map(|(line, phrase, _)| (line, phrase))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found("It\n// lacks\n// nothing for\n/// ever."),
        [(2, "lacks"), (3, "for ever")]
    );
    assert_eq!(
        found("what was Reckoned is no number"),
        [(1, "reckon*"), (1, "is no")]
    );
    assert_eq!(
        found("There is no number, and it is no longer one; recommended."),
        []
    );
}

/// Line, word and what to write instead.
fn forbidden(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let words: Vec<_> = text
        .lines()
        .enumerate()
        .flat_map(|(line, text)| {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'');
            let words = words.filter(|word| !word.is_empty());
            words.map(move |word| (line + 1, word.to_lowercase()))
        })
        .collect();
    let mut found = Vec::new();
    for (at, (line, word)) in words.iter().enumerate() {
        for (phrase, instead) in FORBIDDEN {
            let mut parts = phrase.split(' ').enumerate();
            let says = parts.all(|(offset, part)| {
                words
                    .get(at + offset)
                    .is_some_and(|(_, word)| match part.strip_suffix('*') {
                        Some(begin) => word.starts_with(begin),
                        None => word == part,
                    })
            });
            if says {
                found.push((*line, *phrase, *instead));
            }
        }
        let before = at
            .checked_sub(1)
            .map_or("", |before| words[before].1.as_str());
        let next = |offset: usize| words.get(at + offset).map_or("", |one| one.1.as_str());
        if ["is", "are", "was", "were"].contains(&word.as_str())
            && next(1) == "no"
            && before != "there"
            && !["longer", "more"].contains(&next(2))
        {
            found.push((*line, "is no", "is not a, does not"));
        }
    }
    found
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for entry in entries {
            collect(&entry, files);
        }
        return;
    }
    let kind = path.extension().or(path.file_name()).unwrap();
    if KINDS.iter().any(|known| *known == kind) {
        files.push(path.to_owned());
    }
}
