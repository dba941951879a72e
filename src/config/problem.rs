//! What is wrong with a configuration, in sentences.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

/// Everything that is wrong, one sentence per line.
#[derive(Debug, Default, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One thing that is wrong, and where it was said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Problem {
    /// File, line and key; or the flag; or the environment variable.
    pub place: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Problem {
    /// A problem at a place.
    pub fn new(place: &str, fault: Fault) -> Self {
        Self {
            place: place.to_owned(),
            fault,
        }
    }
}

/// What can be wrong. No variant holds a value that could be a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The file of the settings themselves cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// A file that a setting names cannot be read.
    #[error("{path} cannot be read: {reason}")]
    UnreadableFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file that is no YAML.
    #[error("{0}")]
    Syntax(String),
    /// A key that nobody knows, and the nearest that somebody does.
    #[error("there is no such key{}", did_you_mean(.0))]
    UnknownKey(Option<String>),
    /// A key that is known at another place.
    #[error("there is no such key here; it stands in {0}")]
    KeyElsewhere(&'static str),
    /// Keys in one word.
    #[error("keys stand below each other, as in web: {{ listen: [\":9187\"] }}")]
    JoinedKey,
    /// A collector that nobody knows, and the nearest that somebody does.
    #[error(
        "there is no collector {name:?}{}; `matrix-postgres-exporter metrics` lists them",
        did_you_mean(nearest)
    )]
    UnknownCollector {
        /// What was written.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// Something else where keys are expected.
    #[error("must hold keys with values")]
    NotATable,
    /// Something else where text is expected.
    #[error("must be text; put it in quotes")]
    NotText,
    /// Something else where a list of texts is expected; the text, where it is one.
    #[error("must be a list, like {}", example(.0))]
    NotAList(Option<String>),
    /// Something else where yes or no is expected.
    #[error("must be true or false")]
    NotABool,
    /// Something else where a number is expected.
    #[error("must be a whole number, {0} or more")]
    NotACount(usize),
    /// Something else where a number of this range is expected.
    #[error("must be a whole number from {} to {}", .0.start(), .0.end())]
    NotWithin(RangeInclusive<usize>),
    /// Something else where a duration is expected.
    #[error("{0:?} is no duration; write one like 500ms, 60s, 1m30s or 2h")]
    NotADuration(String),
    /// A number where a duration is expected.
    #[error("{number} has no unit; write {written}")]
    NoUnit {
        /// What was written.
        number: String,
        /// What was likely meant.
        written: String,
    },
    /// A duration that nobody can mean.
    #[error("must not be longer than a year")]
    TooLong,
    /// A duration of nothing.
    #[error("must be longer than zero")]
    ZeroDuration,
    /// A word that is none of the possible ones.
    #[error("{word:?} is none of {}", possible.join(", "))]
    NotOneOf {
        /// What was written.
        word: String,
        /// What could have been.
        possible: &'static [&'static str],
    },
    /// What the value itself says is wrong with it.
    #[error("{0}")]
    Invalid(String),
}

impl Fault {
    /// A file that a setting names cannot be read.
    pub fn unreadable(path: impl AsRef<Path>, error: &io::Error) -> Self {
        Self::UnreadableFile {
            path: path.as_ref().display().to_string(),
            reason: error.to_string(),
        }
    }
}

/// The known word that an unknown one was likely meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

fn example(text: &Option<String>) -> String {
    match text {
        Some(text) => format!("[{text:?}]"),
        None => "[\"one\", \"two\"]".to_owned(),
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_a_stranger_finds_none() {
        let known = ["listen", "telemetry_path", "config_file"];
        assert_eq!(nearest("lisen", known), Some("listen".to_owned()));
        assert_eq!(nearest("listenn", known), Some("listen".to_owned()));
        assert_eq!(
            nearest("telemetry-path", known),
            Some("telemetry_path".to_owned())
        );
        assert_eq!(nearest("colour", known), None);
    }
}
