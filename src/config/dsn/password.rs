//! Where the password comes from: the connection string, a file that holds it, or libpq's
//! passfile. Files are read again at every connect, since passwords rotate.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{fs, io};

use secrecy::{ExposeSecret, SecretString};

use super::{Dsn, Host, SOCKET_DIRECTORIES};

/// A password, or the file that holds nothing else.
#[derive(Clone)]
pub(super) enum Password {
    Given(SecretString),
    File(PathBuf),
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Given(one), Self::Given(other)) => one.expose_secret() == other.expose_secret(),
            (Self::File(one), Self::File(other)) => one == other,
            _ => false,
        }
    }
}

/// Why the password file gives no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The operating system does not let us.
    #[error("{} (password_file) cannot be read: {reason}", named(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// There is nothing in it.
    #[error("{} (password_file) is empty", named(.path))]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Dsn {
    /// The password for this database at this moment, if there is any.
    pub(crate) fn password(&self, database: &str) -> Result<Option<SecretString>, PasswordError> {
        match &self.password {
            Some(Password::Given(password)) => Ok(Some(password.clone())),
            Some(Password::File(path)) => read(path).map(Some),
            None => Ok(self
                .passfile
                .as_deref()
                .and_then(read_passfile)
                .and_then(|text| {
                    let login = [
                        &self.passfile_host(),
                        &self.port.to_string(),
                        database,
                        &self.user,
                    ];
                    find(text.expose_secret(), login)
                })),
        }
    }

    /// The host as the passfile names it.
    fn passfile_host(&self) -> String {
        match (&self.host, self.hostaddr) {
            (Host::Name(name), _) => name.clone(),
            (_, Some(address)) => address.to_string(),
            (Host::Socket(directory), None)
                if !SOCKET_DIRECTORIES
                    .iter()
                    .any(|usual| Path::new(usual) == directory) =>
            {
                directory.display().to_string()
            }
            _ => "localhost".to_owned(),
        }
    }
}

/// The file of a password in a message. What is not an absolute path may be the password itself.
pub(crate) fn named(path: &Path) -> String {
    match path.is_absolute() {
        true => format!("the password file {}", path.display()),
        false => "the password file".to_owned(),
    }
}

fn read(path: &Path) -> Result<SecretString, PasswordError> {
    let text = fs::read_to_string(path).map_err(|reason| PasswordError::Unreadable {
        path: path.to_owned(),
        reason,
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(PasswordError::Empty {
            path: path.to_owned(),
        }),
        password => Ok(password.into()),
    }
}

/// The passfile's text. As for libpq, one that is missing or that others can read does not count.
fn read_passfile(path: &Path) -> Option<SecretString> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        // It is read at every connect; once is enough.
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            tracing::warn!(
                "the passfile {} is ignored: it must be a regular file that only its owner can \
                 read (chmod 0600)",
                path.display()
            );
        });
        return None;
    }
    fs::read_to_string(path).ok().map(Into::into)
}

/// The password on the first line whose fields match host, port, database and role.
fn find(text: &str, login: [&str; 4]) -> Option<SecretString> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut rest = line;
            for wanted in login {
                let (field, more) = split_field(rest)?;
                if field != "*" && unescape(field) != wanted {
                    return None;
                }
                rest = more;
            }
            let password = split_field(rest).map_or(rest, |(field, _)| field);
            (!password.is_empty()).then(|| unescape(password).into())
        })
}

/// A field and what follows its colon.
fn split_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.find(|character| {
        let ends = character == ':' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

/// Without the backslashes that make `:` and `\` plain characters.
fn unescape(field: &str) -> String {
    let mut characters = field.chars();
    let mut plain = String::with_capacity(field.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}
