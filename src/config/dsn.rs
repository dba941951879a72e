//! Connection strings as libpq takes them: one server, one role, and how to reach it.
//!
//! - [`parse`]: a string in either form, taken apart into keys and values
//! - [`keys`]: what each key means, and which environment variable stands in for it
//! - [`parameters`]: what is taken and has no effect
//! - [`error`]: what is wrong, in sentences
//! - `auth`: the ways of the login that are allowed
//! - [`password`]: where the password comes from, read again at every connect
//!
//! ```
//! # use matrix_postgres_exporter::config::Dsn;
//! let dsn = Dsn::parse("postgres://exporter@db.example/matrix?sslmode=verify-full")?
//!     .with_defaults(&|variable| std::env::var(variable).ok())?;
//! assert_eq!(dsn.address(), "db.example:5432");
//! # Ok::<(), matrix_postgres_exporter::config::dsn::DsnErrors>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

mod error;
mod auth;
mod keys;
mod parameters;
mod parse;
pub mod password;

pub use auth::{AuthMethod, RequireAuth};
pub use error::{DsnError, DsnErrors};

use keys::{KEYS, Key, Refusal};
use parse::Word;
use password::Password;

/// Where a server's socket lies when nobody says: Debian's place, then PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// A parsed connection string. Neither `Debug` nor `Display` shows a secret.
#[derive(Clone, PartialEq)]
pub struct Dsn {
    /// The keys that have a value; the others take defaults.
    given: BTreeSet<&'static str>,
    user: String,
    database: String,
    password: Option<Password>,
    passfile: Option<PathBuf>,
    fallback_application_name: Option<String>,
    /// Parameters of a session that have no effect.
    parameters: Vec<String>,
    /// What else has no effect, in sentences.
    passed_over: Vec<String>,
    /// The name or place to connect to.
    pub(crate) host: Host,
    /// The address to connect to in place of the host's.
    pub(crate) hostaddr: Option<IpAddr>,
    /// The port, which is also part of a socket's name.
    pub(crate) port: u16,
    /// The longest that a connect may take in all.
    pub(crate) connect_timeout: Duration,
    /// What the server shows of us.
    pub(crate) application_name: String,
    /// Settings for the session, sent when it starts. PgBouncer refuses them.
    pub(crate) options: Option<String>,
    /// Encryption.
    pub(crate) tls: Tls,
    /// Whether the login is tied to the TLS connection.
    pub(crate) channel_binding: ChannelBinding,
    /// What the server may ask for at the login, where that was said.
    pub(crate) require_auth: Option<RequireAuth>,
    /// How a dead connection is noticed.
    pub(crate) keepalives: Keepalives,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// In the first of the usual socket directories that has a socket.
    Local,
    /// At a name or an address.
    Name(String),
    /// In this directory.
    Socket(PathBuf),
}

/// Encryption, and who is trusted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    pub(crate) roots: Roots,
    /// The client certificate and its key.
    pub(crate) certificate: Option<File>,
    pub(crate) key: Option<File>,
    /// Whether the server is told the name it is asked by.
    pub(crate) sni: bool,
    pub(crate) oldest: TlsVersion,
    pub(crate) newest: TlsVersion,
}

/// How much encryption is asked for, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The authorities that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nobody said; and there is no home directory to look in.
    None,
    /// Those of the operating system.
    System,
    File(File),
}

/// A file of certificates or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// It is the default in the home directory, and counts only where it is.
    pub(crate) optional: bool,
}

/// The TLS versions that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

/// Whether SCRAM is tied to the TLS connection that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// How a dead connection is noticed. `None` leaves a value to the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keepalives {
    pub(crate) on: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) probes: Option<u32>,
    /// How long sent data may stay unacknowledged.
    pub(crate) user_timeout: Option<Duration>,
}

impl Dsn {
    /// Takes a connection string apart, a URI or `key=value` words. An empty one is a valid one.
    ///
    /// # Errors
    ///
    /// Fails with everything that is wrong, as far as the string can be read.
    pub fn parse(text: &str) -> Result<Self, DsnErrors> {
        let mut dsn = Self {
            given: BTreeSet::new(),
            user: String::new(),
            database: String::new(),
            password: None,
            passfile: None,
            fallback_application_name: None,
            parameters: Vec::new(),
            passed_over: Vec::new(),
            host: Host::Local,
            hostaddr: None,
            port: 5432,
            connect_timeout: Duration::from_secs(3),
            application_name: env!("CARGO_PKG_NAME").to_owned(),
            options: None,
            tls: Tls {
                mode: SslMode::Prefer,
                roots: Roots::None,
                certificate: None,
                key: None,
                sni: true,
                oldest: TlsVersion::V1_2,
                newest: TlsVersion::V1_3,
            },
            channel_binding: ChannelBinding::Prefer,
            require_auth: None,
            keepalives: Keepalives {
                on: true,
                idle: Some(Duration::from_secs(5)),
                interval: Some(Duration::from_secs(3)),
                probes: Some(3),
                user_timeout: Some(Duration::from_secs(15)),
            },
        };
        let mut errors = Vec::new();
        for (word, value) in parse::pairs(text)? {
            match word {
                Word::Key(key) => errors.extend(dsn.set(key, &value).err().map(|refusal| {
                    let key = key.name;
                    match refusal {
                        Refusal::Expected(expected) => DsnError::Value { key, expected },
                        Refusal::Unsupported(why) => DsnError::Unsupported { key, why },
                    }
                })),
                Word::Parameter(name) => dsn.parameters.push(name),
                Word::Unknown(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(dsn),
            false => Err(DsnErrors(errors)),
        }
    }

    /// Fills what the string left open from libpq's environment variables, the home directory and
    /// libpq's defaults, then checks that the whole makes sense. `env` looks a variable up.
    ///
    /// # Errors
    ///
    /// Fails with every variable that cannot have its value, or with what does not fit together.
    pub fn with_defaults(
        mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DsnErrors> {
        let mut errors = Vec::new();
        for key in KEYS {
            if let Some(variable) = key.variable
                && !self.given.contains(key.name)
                && let Some(value) = env(variable)
                && let Err(refusal) = self.set(key, &value)
            {
                let sentence = match refusal {
                    Refusal::Expected(expected) => format!("must be {expected}"),
                    Refusal::Unsupported(why) => why.to_owned(),
                };
                errors.push(DsnError::Variable { variable, sentence });
            }
        }
        if !errors.is_empty() {
            return Err(DsnErrors(errors));
        }
        if self.user.is_empty() {
            self.user = ["USER", "LOGNAME"]
                .into_iter()
                .filter_map(env)
                .find(|name| !name.is_empty())
                .ok_or(DsnError::NoUser)?;
        }
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
        }
        if !self.given.contains("application_name")
            && let Some(name) = self.fallback_application_name.take()
        {
            self.application_name = name;
        }
        if let Some(home) = env("HOME").filter(|home| !home.is_empty()) {
            self.look_at_home(Path::new(&home));
        }
        self.check_tls()?;
        Ok(self)
    }

    /// What was taken and has no effect, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.passed_over.clone();
        if !self.parameters.is_empty() {
            let (have, names) = match self.parameters.len() {
                1 => ("has", &self.parameters[0]),
                _ => ("have", &self.parameters.join(", ")),
            };
            warnings.push(format!(
                "{names} {have} no effect: every statement brings the settings that it needs"
            ));
        }
        warnings
    }

    /// Whether a password was given.
    pub fn has_password(&self) -> bool {
        self.given.contains("password")
    }

    /// Replaces the role.
    pub fn set_user(&mut self, user: &str) {
        self.user = user.to_owned();
        self.given.insert("user");
    }

    /// Replaces the password; a password file is forgotten.
    pub fn set_password(&mut self, password: SecretString) {
        self.password = Some(Password::Given(password));
        self.given.insert("password");
    }

    /// Takes the password from this file, read again at every connect.
    pub fn set_password_file(&mut self, path: &Path) {
        self.password = Some(Password::File(path.to_owned()));
        self.given.insert("password");
    }

    /// Where the server is: `host:port`, or `directory:port` of a socket.
    pub fn address(&self) -> String {
        match (&self.host, self.hostaddr) {
            (Host::Name(name), _) if name.contains(':') => format!("[{name}]:{}", self.port),
            (Host::Name(name), _) => format!("{name}:{}", self.port),
            (_, Some(address)) => SocketAddr::new(address, self.port).to_string(),
            (Host::Local | Host::Socket(_), None) => {
                format!("{}:{}", self.socket_directory().display(), self.port)
            }
        }
    }

    /// The role; empty until [`Dsn::with_defaults`] where the string names none.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database; empty until [`Dsn::with_defaults`] where the string names none.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The path of the server's socket, unless it is reached over TCP.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        match (&self.host, self.hostaddr) {
            (Host::Name(_), _) | (_, Some(_)) => None,
            _ => Some(self.socket_directory().join(self.socket_name())),
        }
    }

    fn socket_name(&self) -> String {
        format!(".s.PGSQL.{}", self.port)
    }

    fn socket_directory(&self) -> &Path {
        if let Host::Socket(directory) = &self.host {
            return directory;
        }
        SOCKET_DIRECTORIES
            .into_iter()
            .map(Path::new)
            .find(|directory| directory.join(self.socket_name()).exists())
            .unwrap_or(Path::new(SOCKET_DIRECTORIES[0]))
    }

    fn set(&mut self, key: &Key, value: &str) -> Result<(), Refusal> {
        if !value.is_empty() {
            (key.set)(self, value)?;
            self.given.insert(key.name);
        }
        Ok(())
    }

    /// Notes a value that has no effect, and what happens instead.
    fn passed_over(&mut self, key: &str, instead: &str) {
        self.passed_over
            .push(format!("{key} has no effect: {instead}"));
    }

    fn look_at_home(&mut self, home: &Path) {
        let optional = |name: &str| File {
            path: home.join(name),
            optional: true,
        };
        self.passfile.get_or_insert_with(|| home.join(".pgpass"));
        if self.tls.roots == Roots::None {
            self.tls.roots = Roots::File(optional(".postgresql/root.crt"));
        }
        self.tls
            .certificate
            .get_or_insert_with(|| optional(".postgresql/postgresql.crt"));
        self.tls
            .key
            .get_or_insert_with(|| optional(".postgresql/postgresql.key"));
    }

    fn check_tls(&mut self) -> Result<(), DsnError> {
        if self.tls.roots == Roots::System {
            if !self.given.contains("sslmode") {
                self.tls.mode = SslMode::VerifyFull;
            } else if self.tls.mode < SslMode::VerifyFull {
                return Err(DsnError::Together(
                    "sslrootcert=system needs sslmode=verify-full: anyone can have a certificate \
                     from an authority that the system trusts",
                ));
            }
        }
        if self.tls.mode == SslMode::VerifyFull
            && self.hostaddr.is_some()
            && !matches!(self.host, Host::Name(_))
        {
            return Err(DsnError::Together(
                "sslmode=verify-full needs host beside hostaddr: the name is compared with the \
                 server's certificate",
            ));
        }
        if self.tls.oldest > self.tls.newest {
            return Err(DsnError::Together(
                "ssl_min_protocol_version must not be newer than ssl_max_protocol_version",
            ));
        }
        Ok(())
    }
}

/// The string in `key=value` form, less what could be secret.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "address={} dbname={} user={} sslmode={}",
            self.address(),
            self.database,
            self.user,
            self.tls.mode.name()
        )
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

impl SslMode {
    /// Its name as libpq writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

#[cfg(test)]
mod tests;
