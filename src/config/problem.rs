//! What is wrong with a configuration, in sentences.

use std::fmt;
use std::io;
use std::path::Path;

use crate::text::shown;

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
#[error("{}: {}", shown(.place), shown(&.fault.to_string()))]
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

/// What can be wrong. What was written is repeated only where it is almost a word that is known, or
/// the whole path of a file: anything else may be a password that has come to the wrong place.
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
    /// A file that is not YAML.
    #[error("this YAML cannot be read: {0}")]
    Syntax(&'static str),
    /// A key that nobody knows, and the nearest that somebody does.
    #[error("there is no such key{}", did_you_mean(.0))]
    UnknownKey(Option<String>),
    /// A key that is known at another place.
    #[error("there is no such key here; it belongs to {0}")]
    KeyElsewhere(&'static str),
    /// A key that is like none that anybody knows.
    #[error("a key here is unknown")]
    StrangeKey,
    /// Keys in one word.
    #[error("keys are nested, as in web: {{ listen: [\":9187\"] }}")]
    JoinedKey,
    /// A collector that nobody knows, and the nearest that somebody does.
    #[error(
        "there is no such collector{}; `matrix-postgres-exporter metrics` lists them",
        did_you_mean(.0)
    )]
    UnknownCollector(Option<String>),
    /// Something else where keys are expected.
    #[error("must be a mapping of keys to values")]
    NotATable,
    /// Something else where text is expected.
    #[error("must be text; put it in quotes")]
    NotText,
    /// Something else where a list of texts is expected.
    #[error("must be a list, like [\"value\"]")]
    NotAList,
    /// Something else where yes or no is expected.
    #[error("must be true or false")]
    NotABool,
    /// Something else where a number is expected.
    #[error("must be a whole number from {least} to {most}")]
    NotACount {
        /// The smallest.
        least: usize,
        /// The largest.
        most: usize,
    },
    /// Something else where a duration is expected.
    #[error("must be a duration; write one like 500ms, 60s, 1m30s or 2h")]
    NotADuration,
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
    #[error("must be one of {}", .0.join(", "))]
    NotOneOf(&'static [&'static str]),
    /// What the value itself says is wrong with it.
    #[error("{0}")]
    Invalid(String),
}

impl Fault {
    /// A file that a setting names cannot be read.
    pub fn unreadable(path: impl AsRef<Path>, error: &io::Error) -> Self {
        let path = path.as_ref();
        Self::UnreadableFile {
            path: match path.is_absolute() {
                true => path.display().to_string(),
                false => "the file".to_owned(),
            },
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
