//! Connection strings as libpq takes them. To come.

use std::path::PathBuf;

use secrecy::SecretString;

/// A parsed connection string.
#[derive(Clone, Debug, Default)]
pub struct Dsn;

/// What is wrong with a connection string.
#[derive(Debug, thiserror::Error)]
#[error("not a connection string")]
pub struct DsnError;

impl Dsn {
    /// Parses either form.
    ///
    /// # Errors
    ///
    /// Fails on what is no connection string.
    pub fn parse(_text: &str) -> Result<Self, DsnError> {
        Ok(Self)
    }

    /// Fills what is missing from the environment.
    pub fn with_defaults(self, _env: &dyn Fn(&str) -> Option<String>) -> Self {
        self
    }

    /// Sets the role.
    pub fn user(self, _user: &str) -> Self {
        self
    }

    /// Sets the password.
    pub fn password(self, _password: SecretString) -> Self {
        self
    }

    /// Sets the password's file.
    pub fn password_file(self, _path: PathBuf) -> Self {
        self
    }
}
