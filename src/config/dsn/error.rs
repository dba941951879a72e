//! What is wrong with a connection string, in sentences.

use std::fmt;

/// Everything that is wrong with a connection string, one sentence per line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub struct DsnErrors(pub Vec<DsnError>);

impl fmt::Display for DsnErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentences: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&sentences.join("\n"))
    }
}

impl From<DsnError> for DsnErrors {
    fn from(error: DsnError) -> Self {
        Self(vec![error])
    }
}

/// What is wrong with a connection string. No message holds a part of it that could be secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DsnError {
    /// A URI of something else.
    #[error("a connection URI begins with postgres:// or postgresql://")]
    Scheme,
    /// Characters that end the part before the host when they are not escaped.
    #[error(
        "the user or password before the host holds {}; or leave the password out and name a \
         file that holds it in password_file (DATA_SOURCE_PASS_FILE)",
        escapes(.0)
    )]
    Unescaped(Vec<char>),
    /// A percent sign that escapes nothing.
    #[error(
        "a \"%\" is not followed by the two hexadecimal digits of an escaped character; write \
         \"%\" itself as %25, in a password too"
    )]
    Percent,
    /// A space in a URI.
    #[error("a connection URI holds no spaces; write a space as %20")]
    Space,
    /// An escape that makes no text.
    #[error("escaped characters must be UTF-8, and %00 is not allowed")]
    NotText,
    /// An address in brackets that is none.
    #[error("a host in brackets is an IPv6 address, as in postgres://[::1]:5432/")]
    Brackets,
    /// What comes after `?` in a URI is not a list of keys and values.
    #[error(
        "after the \"?\" of a URI come key=value pairs with \"&\" between them; write \"=\" in a \
         value as %3D and \"&\" as %26"
    )]
    QueryPair,
    /// A word without `=`.
    #[error(
        "the words of a connection string are key=value{}; write a value with a space in quotes, \
         as in password='two words'",
        word_after(.after)
    )]
    NoEquals {
        /// The key before it.
        after: Option<&'static str>,
    },
    /// A quote that is not closed.
    #[error("the quoted value of {0} is not closed; write a quote inside it as \\'")]
    OpenQuote(&'static str),
    /// A key that libpq does not have.
    #[error("there is no key {key:?}; did you mean {nearest}?")]
    UnknownKey {
        /// What was written.
        key: String,
        /// The known key that is most like it.
        nearest: &'static str,
    },
    /// A key that is like none of libpq's, and may be anything.
    #[error("a connection string takes libpq's keys, and one of its keys is unknown{}", strange_after(.after))]
    StrangeKey {
        /// The key before it.
        after: Option<&'static str>,
    },
    /// A key that libpq does not have, which may be a part of a password.
    #[error(
        "what follows the value of password is not a known key; in key=value form quote a \
         password with spaces, in a URI write \"&\" as %26"
    )]
    UnknownKeyAfterPassword,
    /// A value that a key cannot have.
    #[error("{key} must be {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it can be.
        expected: &'static str,
    },
    /// Something that libpq can do and this program cannot.
    #[error("{key} cannot have this value: {why}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// What an environment variable of libpq says.
    #[error("{variable}: {sentence}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        sentence: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Together(&'static str),
    /// Nobody says as whom to connect.
    #[error("no role to connect as: give user in the connection string, or set PGUSER")]
    NoUser,
}

fn escapes(characters: &[char]) -> String {
    characters
        .iter()
        .map(|&character| {
            format!(
                "an unescaped {character:?}: write it as {}",
                escape(character)
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
        .replace('\'', "\"")
}

fn escape(character: char) -> String {
    percent_encoding::utf8_percent_encode(
        character.encode_utf8(&mut [0; 4]),
        percent_encoding::NON_ALPHANUMERIC,
    )
    .to_string()
}

fn word_after(key: &Option<&'static str>) -> String {
    key.map_or_else(String::new, |key| {
        format!(", and what follows the value of {key} has no \"=\"")
    })
}

fn strange_after(key: &Option<&'static str>) -> String {
    key.map_or_else(String::new, |key| {
        format!(", what follows the value of {key}")
    })
}
