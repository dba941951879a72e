//! What one source says, before the sources are laid over each other.

use std::fmt;

use ::config::{ConfigError, Map, Source, Value, ValueKind};

/// Settings of one source, each with the place where it was said.
#[derive(Clone, Default)]
pub struct Layer(Map<String, Value>);

impl Layer {
    /// Adds a setting. In `key`, `servers.*` stands for the server, whatever its name.
    pub fn set(&mut self, key: &str, place: &str, value: impl Into<ValueKind>) {
        self.0
            .insert(key.to_owned(), Value::new(Some(&place.to_owned()), value));
    }

    /// Whether it says anything of this key.
    pub fn has(&self, key: &str) -> bool {
        self.0
            .get(key)
            .is_some_and(|value| value.kind != ValueKind::Nil)
    }

    /// The same settings, for the server of this name.
    pub fn for_server(self, name: &str) -> Self {
        let named = |key: String| key.replacen("servers.*", &format!("servers.{name}"), 1);
        Self(
            self.0
                .into_iter()
                .map(|(key, value)| (named(key), value))
                .collect(),
        )
    }

    /// Lays itself over the layers below. Where it has a connection string of its own and so has
    /// one `below`, the user and password there go with that one: a password never follows to
    /// another server than the one that it was written for.
    pub fn displace(&mut self, below: bool) {
        let displaced: &[&str] = if below && self.has(DSN) {
            &[USER, PASSWORD, PASSWORD_FILE]
        } else if self.has(PASSWORD) {
            &[PASSWORD_FILE]
        } else if self.has(PASSWORD_FILE) {
            &[PASSWORD]
        } else {
            &[]
        };
        for key in displaced {
            if !self.has(key) {
                self.set(key, "", ValueKind::Nil);
            }
        }
    }
}

impl From<Map<String, Value>> for Layer {
    fn from(settings: Map<String, Value>) -> Self {
        Self(settings)
    }
}

/// The server's connection string.
pub const DSN: &str = "servers.*.dsn";
/// The role's name.
pub const USER: &str = "servers.*.user";
/// The role's password.
pub const PASSWORD: &str = "servers.*.password";
/// The file with the role's password.
pub const PASSWORD_FILE: &str = "servers.*.password_file";

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Keys only: a value could be a secret.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
