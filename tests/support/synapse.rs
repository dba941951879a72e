//! A real Synapse with real users, rooms and messages.
//!
//! `synapse/driver.py` runs it and sends the traffic; what was made is counted there and asked of
//! Synapse's own admin API.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::process::{Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::postgres::{Builder, Postgres};
use super::process::{Process, User, children, command, deps, lasting_scratch, run, scratch};

/// The newest that is pinned; needs PostgreSQL 14 or later.
pub const NEW: &str = "1.163.2";
/// Two years older; the one for PostgreSQL 13.
pub const OLD: &str = "1.119.0";

/// A running Synapse. It stops when this is dropped; its database stays.
pub struct Synapse {
    process: Process,
    folder: Arc<TempDir>,
    place: Place,
}

/// Where its database is, and its bridge.
#[derive(Clone)]
struct Place {
    host: PathBuf,
    port: u16,
    database: String,
    state_database: String,
    bridge: Option<String>,
}

impl Place {
    fn new(postgres: &Postgres, database: &str, state_database: &str) -> Self {
        Self {
            host: postgres.socket_dir().to_owned(),
            port: postgres.port(),
            database: database.to_owned(),
            state_database: state_database.to_owned(),
            bridge: None,
        }
    }
}

/// What was made on a Synapse so far.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Made {
    /// Its name, the part of a user id after the colon.
    pub server_name: String,
    /// Where its client API is.
    pub url: String,
    /// The database that it uses.
    pub database: String,
    /// The role that owns the database.
    pub role: String,
    /// A text that every message body holds.
    pub marker: String,
    /// Those in `users`.
    pub users: Users,
    /// Those in `rooms`.
    pub rooms: Rooms,
    /// Visible devices.
    pub devices: u64,
    /// Messages in plain text.
    pub messages: u64,
    /// Encrypted messages.
    pub encrypted_messages: u64,
    /// Uploaded files.
    pub media: u64,
    /// More that [`Synapse::use_everything`] has made.
    #[serde(default)]
    pub numbers: Vec<Number>,
}

/// What Synapse's admin API says, or the traffic has counted, under the name by which it is served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Number {
    /// The metric, without its prefix.
    pub metric: String,
    /// Its labels, but for the database.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: u64,
}

/// How many users, and of what kind; one who is of no kind here is just a person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Users {
    /// All of them.
    pub total: u64,
    /// Guests.
    pub guests: u64,
    /// Those that an application service has registered.
    pub bridged: u64,
    /// Server administrators.
    pub admins: u64,
    /// Those who have left.
    pub deactivated: u64,
}

/// How many rooms, and of what kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rooms {
    /// All of them.
    pub total: u64,
    /// Those in the room directory.
    pub published: u64,
    /// Those with encryption.
    pub encrypted: u64,
}

impl Synapse {
    /// A server with the database `synapse`, as that version has left it after some traffic.
    pub async fn leave(builder: Builder<'_>, version: &str) -> (Postgres, Made) {
        let left = Left::of(builder.major(), version).await;
        let postgres = builder.with_files_of(&left.data).start().await;
        (postgres, left.made.clone())
    }

    /// A server with the database `synapse`, and that version on it after some traffic.
    pub async fn go_on(builder: Builder<'_>, version: &str) -> (Postgres, Self, Made) {
        let left = Left::of(builder.major(), version).await;
        let postgres = builder.with_files_of(&left.data).start().await;
        let folder = scratch();
        copy(&left.folder, folder.path());
        let place = Place::new(&postgres, "synapse", "");
        let (synapse, made) = Self::run(version, place, Arc::new(folder)).await;
        (postgres, synapse, made)
    }

    /// Starts that version on a database of its own, `synapse`, makes its schema and sends traffic,
    /// which takes some ten seconds. Most tests are as well off with [`Self::leave`] or
    /// [`Self::go_on`].
    pub async fn start(postgres: &Postgres, version: &str) -> (Self, Made) {
        Self::start_in(postgres, version, "synapse").await
    }

    /// Starts on a database of that name, which is made.
    pub async fn start_in(postgres: &Postgres, version: &str, database: &str) -> (Self, Made) {
        let place = Place::new(postgres, database, "");
        Self::run(version, place, Arc::new(scratch())).await
    }

    /// Starts with a bridge at this address, which is told of what concerns its users,
    /// `@bridged_...`.
    pub async fn start_with_bridge(
        postgres: &Postgres,
        version: &str,
        bridge: SocketAddr,
    ) -> (Self, Made) {
        let place = Place {
            bridge: Some(format!("http://{bridge}")),
            ..Place::new(postgres, "synapse", "")
        };
        Self::run(version, place, Arc::new(scratch())).await
    }

    /// Starts with the state of rooms in a database of its own, `state`.
    pub async fn start_split(postgres: &Postgres, version: &str) -> (Self, Made) {
        let place = Place::new(postgres, "synapse", "state");
        Self::run(version, place, Arc::new(scratch())).await
    }

    /// Ends it and starts another version on the same database, as an upgrade does.
    pub async fn upgrade(self, version: &str) -> (Self, Made) {
        self.stop().await;
        Self::run(version, self.place.clone(), self.folder.clone()).await
    }

    /// The same, where the database has moved to another server.
    pub async fn upgrade_on(self, postgres: &Postgres, version: &str) -> (Self, Made) {
        self.stop().await;
        let place = Place {
            host: postgres.socket_dir().to_owned(),
            port: postgres.port(),
            ..self.place.clone()
        };
        Self::run(version, place, self.folder.clone()).await
    }

    /// Ends it, as an operator does.
    pub async fn stop(&self) {
        self.process.signal(Signal::TERM);
        self.process.wait_for_end().await;
    }

    /// Kills Synapse itself, as the system does where memory runs out.
    pub fn kill(&self) {
        for (synapse, _) in children(self.process.pid()) {
            kill_process(synapse, Signal::KILL).unwrap();
        }
    }

    /// Ends it and starts it again, in vain; what it says.
    pub async fn restart_in_vain(self, version: &str) -> String {
        self.stop().await;
        let again = Self::launch(version, self.place.clone(), self.folder.clone());
        let status = again.process.wait_for_end().await;
        assert!(!status.success(), "{}", again.process.output());
        again.process.output()
    }

    async fn run(version: &str, place: Place, folder: Arc<TempDir>) -> (Self, Made) {
        let synapse = Self::launch(version, place, folder);
        let made = synapse.summary(0).await;
        (synapse, made)
    }

    fn launch(version: &str, place: Place, folder: Arc<TempDir>) -> Self {
        let python = deps().join(format!("synapse-{version}/bin/python"));
        assert!(
            python.exists(),
            "{} is missing: `make deps` installs Synapse to test with",
            python.display()
        );
        let mut command = command(User::Same, python);
        // The project may be read-only.
        command.arg("-B").arg(DRIVER);
        command.arg("--host").arg(&place.host);
        command.arg("--port").arg(place.port.to_string());
        command.arg("--database").arg(&place.database);
        command.arg("--state-database").arg(&place.state_database);
        command.arg("--folder").arg(folder.path());
        if let Some(bridge) = &place.bridge {
            command.arg("--bridge-url").arg(bridge);
        }
        Self {
            process: Process::start(command),
            folder,
            place,
        }
    }

    /// Sends messages until [`Self::hush`]; returns when one has been sent.
    pub async fn talk(&self) -> Made {
        self.tell(Signal::USR1).await
    }

    /// Sends no more messages; what was made until then.
    pub async fn hush(&self) -> Made {
        self.tell(Signal::USR2).await
    }

    /// Deletes a room and purges its history; what is left.
    pub async fn purge(&self) -> Made {
        self.tell(Signal::HUP).await
    }

    /// Purges, bans, quarantines, and does whatever else leaves rows.
    pub async fn use_everything(&self) -> Made {
        self.tell(Signal::ALARM).await
    }

    async fn tell(&self, signal: Signal) -> Made {
        let said = summaries(&self.process.output()).count();
        self.process.signal(signal);
        self.summary(said).await
    }

    /// The summary after so many others. Synapse, its schema and its traffic are three starts and much
    /// work beside, so they get the patience of five.
    async fn summary(&self, others: usize) -> Made {
        for _ in 0..5 {
            let found = self
                .process
                .wait_for_output(|output| summaries(output).nth(others).map(str::to_owned))
                .await;
            if let Ok(summary) = found {
                return serde_saphyr::from_str(&summary).unwrap();
            }
        }
        panic!("Synapse has no traffic: {}", self.process.output());
    }
}

/// What a Synapse has left that had traffic and was stopped, and its server with it. It is made once
/// for all tests.
struct Left {
    data: PathBuf,
    folder: PathBuf,
    made: Made,
}

impl Left {
    async fn of(major: u32, version: &str) -> Arc<Self> {
        type All = BTreeMap<(u32, String), Arc<OnceCell<Arc<Left>>>>;
        static ALL: Mutex<All> = Mutex::new(BTreeMap::new());
        let key = (major, version.to_owned());
        let cell = ALL.lock().unwrap().entry(key).or_default().clone();
        cell.get_or_init(|| Self::make(major, version))
            .await
            .clone()
    }

    async fn make(major: u32, version: &str) -> Arc<Self> {
        // How much has been analyzed does not hang on how long this takes.
        let server = Postgres::builder(major).setting("autovacuum", "off");
        let mut server = server.start().await;
        let (synapse, made) = Synapse::start(&server, version).await;
        synapse.stop().await;
        server.stop().await;
        let dir = lasting_scratch();
        let left = Self {
            data: dir.join("data"),
            folder: dir.join("synapse"),
            made,
        };
        fs::rename(server.data_dir(), &left.data).unwrap();
        fs::create_dir(&left.folder).unwrap();
        copy(synapse.folder.path(), &left.folder);
        Arc::new(left)
    }
}

/// Copies what is in a folder into another, whoever owns it.
fn copy(from: &Path, to: &Path) {
    run(command(User::Same, "cp")
        .arg("-a")
        .args([&from.join("."), to]));
}

/// The whole lines of JSON, which is YAML.
fn summaries(output: &str) -> impl Iterator<Item = &str> {
    let lines = output.split_inclusive('\n');
    lines.filter(|line| line.starts_with('{') && line.ends_with('\n'))
}

impl Drop for Synapse {
    fn drop(&mut self) {
        self.process.end(Signal::TERM);
    }
}

const DRIVER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/support/synapse/driver.py"
);
