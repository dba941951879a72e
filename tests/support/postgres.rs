//! PostgreSQL of every supported version, standbys, frozen servers.
//!
//! ```ignore
//! let server = Postgres::builder(18).setting("max_connections", "20").start().await;
//! let rows = server.sql("postgres", "SELECT 1").await;
//! let standby = server.standby().start().await;
//! ```
//!
//! Every role gets in by the socket without a password, and over TCP with the one that
//! [`password`] gives.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::certificates::Certificates;
use super::process::{
    Process, User, children, command, deps, give, installed, run, scratch, start_on_free_port,
    stat, wait_for,
};

/// The supported versions.
pub const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// The password that the test bed gives to a role.
pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

/// A server. It stops, and its files go, when this is dropped.
pub struct Postgres {
    major: u32,
    port: u16,
    process: Option<Process>,
    dir: TempDir,
}

impl Postgres {
    /// Starts a server of this major version as it comes out of the box.
    pub async fn start(major: u32) -> Self {
        Self::builder(major).start().await
    }

    /// A server of this major version, to be set up before it starts.
    pub fn builder(major: u32) -> Builder<'static> {
        Builder {
            major,
            files: Files::OfVersion,
            settings: Vec::new(),
            hba: Vec::new(),
        }
    }

    /// A streaming standby of this server, to be set up before it starts.
    pub fn standby(&self) -> Builder<'_> {
        let conninfo = format!("'{}'", self.dsn("", "postgres").replace('\'', "''"));
        Builder {
            files: Files::OfPrimary(self),
            ..Self::builder(self.major)
        }
        .setting("primary_conninfo", &conninfo)
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The process that starts all others.
    pub fn pid(&self) -> Pid {
        self.process.as_ref().unwrap().pid()
    }

    /// The port, of the socket and of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of the database.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A DSN in keyword form, over the socket.
    pub fn dsn(&self, db: &str, user: &str) -> String {
        let host = self.socket_dir().display();
        dsn(&host.to_string(), self.port, db, user)
    }

    /// A DSN in keyword form, over TCP, with the password that the test bed gives.
    pub fn tcp_dsn(&self, db: &str, user: &str) -> String {
        let dsn = dsn("127.0.0.1", self.port, db, user);
        format!("{dsn} password={}", password(user))
    }

    /// Connects over the socket.
    pub async fn client(&self, db: &str, user: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.dsn(db, user), NoTls)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}\n{}", self.dsn(db, user), self.log()));
        tokio::spawn(connection);
        client
    }

    /// Runs statements as superuser; the rows of all of them, as text.
    pub async fn sql(&self, db: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        let client = self.client(db, "postgres").await;
        rows(&client, sql).await
    }

    /// Runs a statement as superuser; the first value of its first row.
    pub async fn value(&self, db: &str, sql: &str) -> Option<String> {
        let rows = self.sql(db, sql).await;
        rows.into_iter().next()?.into_iter().next()?
    }

    /// What the server has logged since its last start.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// Stops as an operator would: sessions end, nothing is lost. The port stays ours, nothing
    /// listens there.
    pub async fn stop(&mut self) {
        self.end(Signal::INT).await;
    }

    /// Stops as in a crash.
    pub async fn stop_immediate(&mut self) {
        self.end(Signal::QUIT).await;
    }

    /// Starts again, on the same port; stops first, where still running.
    pub async fn restart(&mut self) {
        self.restart_until(READY).await;
    }

    /// Starts again, and returns when the log says so.
    pub async fn restart_until(&mut self, line: &str) {
        self.stop().await;
        let process = Process::start(postgres(self.major, self.dir.path(), self.port));
        let started = process.wait_for_line(line).await;
        started.unwrap_or_else(|log| panic!("PostgreSQL does not start again:\n{log}"));
        self.process = Some(process);
    }

    /// Keeps a copy of everything, as a backup does that was made while the server was down; it
    /// must not run.
    pub fn back_up(&self) {
        assert!(self.process.is_none(), "the server runs");
        copy(&self.data_dir(), &self.dir.path().join("backup"));
    }

    /// Puts the copy in the place of what there is now; the server must not run.
    pub fn restore(&self) {
        assert!(self.process.is_none(), "the server runs");
        fs::remove_dir_all(self.data_dir()).unwrap();
        copy(&self.dir.path().join("backup"), &self.data_dir());
    }

    /// Comes back as a standby of another server, which has taken its place; it must not run.
    pub async fn follow(&mut self, primary: &Self) {
        assert!(self.process.is_none(), "the server runs");
        let signal = self.data_dir().join("standby.signal");
        fs::write(&signal, "").unwrap();
        give(&signal);
        let conf = self.data_dir().join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text += &format!("primary_conninfo = '{}'\n", primary.dsn("", "postgres"));
        fs::write(&conf, text).unwrap();
        self.restart().await;
    }

    /// Makes a standby a primary.
    pub async fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote()").await;
    }

    /// Stops the clock of every process of the server: connections are taken by the kernel, and
    /// nothing ever answers.
    pub async fn freeze(&self) {
        let Some(process) = &self.process else { return };
        let pid = process.pid();
        process.signal(Signal::STOP);
        // Only a stopped postmaster starts no more children.
        let stopped =
            || async { stat(pid.as_raw_nonzero().get()).is_none_or(|(state, _)| state == 'T') };
        wait_for("the postmaster freezes", stopped).await;
        self.signal_children(Signal::STOP);
        let stopped = || async { children(pid).iter().all(|(_, state)| "TZ".contains(*state)) };
        wait_for("the server freezes", stopped).await;
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal_children(Signal::CONT);
        if let Some(process) = &self.process {
            process.signal(Signal::CONT);
        }
    }

    fn signal_children(&self, signal: Signal) {
        for (pid, _) in self
            .process
            .iter()
            .flat_map(|process| children(process.pid()))
        {
            // A backend may end at any time.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    async fn end(&mut self, signal: Signal) {
        self.thaw();
        if let Some(process) = self.process.take() {
            process.signal(signal);
            process.wait_for_end().await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        if let Some(process) = &mut self.process {
            process.end(Signal::QUIT);
        }
    }
}

/// A server that has not started.
pub struct Builder<'a> {
    major: u32,
    files: Files<'a>,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
}

/// What a server begins with.
enum Files<'a> {
    /// What the installer has made, once for each version.
    OfVersion,
    /// What `initdb` makes.
    Fresh,
    /// Those of a server that has stopped.
    Of(&'a Path),
    /// Those of a server that runs.
    OfPrimary(&'a Postgres),
}

impl<'a> Builder<'a> {
    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A line of postgresql.conf, the value as it is to be written there.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of pg_hba.conf, above all others.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// With pg_stat_statements ready for CREATE EXTENSION.
    pub fn pg_stat_statements(self) -> Self {
        self.setting("shared_preload_libraries", "'pg_stat_statements'")
    }

    /// With TLS; a client's certificate is checked where it shows one.
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        for (setting, file) in [
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
            ("ssl_ca_file", "ca.crt"),
        ] {
            let path = format!("'{}'", certificates.path(file).display());
            self = self.setting(setting, &path);
        }
        self.setting("ssl", "on")
    }

    /// With a system identifier of its own; without this, all servers of a version have the same,
    /// as clusters do that were restored from one backup. Takes a second more.
    pub fn fresh(mut self) -> Self {
        self.files = Files::Fresh;
        self
    }

    /// With a copy of the databases and roles in the folder of a server of the same version, which has
    /// stopped.
    pub fn with_files_of(mut self, data: &'a Path) -> Self {
        assert!(matches!(self.files, Files::OfVersion));
        self.files = Files::Of(data);
        self
    }

    /// Starts the server and waits until it takes connections.
    pub async fn start(self) -> Postgres {
        self.start_until(READY).await
    }

    /// Starts the server and returns when its log says so, for those that never take connections.
    pub async fn start_until(self, line: &str) -> Postgres {
        let dir = scratch();
        self.fill(&dir.path().join("data")).await;
        let started = start_on_free_port(line, |port| postgres(self.major, dir.path(), port)).await;
        let (process, port) = started
            .unwrap_or_else(|log| panic!("PostgreSQL {} does not start:\n{log}", self.major));
        Postgres {
            major: self.major,
            port,
            process: Some(process),
            dir,
        }
    }

    async fn fill(&self, data: &Path) {
        let cluster = servers().join(format!("clusters/{}", self.major));
        match self.files {
            Files::OfVersion => copy(&cluster, data),
            Files::Fresh => self.initdb(data),
            Files::Of(stopped) => {
                copy(stopped, data);
                for file in ["postgresql.conf", "pg_hba.conf"] {
                    fs::copy(cluster.join(file), data.join(file)).unwrap();
                }
            }
            // What is on the disk of a frozen server is what it would wake up with after a crash.
            Files::OfPrimary(primary) => {
                primary.freeze().await;
                copy(&primary.data_dir(), data);
                primary.thaw();
                // A primary that does not run has none.
                let _ = fs::remove_file(data.join("postmaster.pid"));
                fs::write(data.join("standby.signal"), "").unwrap();
                give(&data.join("standby.signal"));
            }
        }
        let conf = data.join("postgresql.conf");
        let mut conf = OpenOptions::new().append(true).open(conf).unwrap();
        // PostgreSQL's default; half of it per minute is what the exporter reads of large tables.
        writeln!(conf, "fsync = off\nshared_buffers = 128MB").unwrap();
        for (name, value) in &self.settings {
            writeln!(conf, "{name} = {value}").unwrap();
        }
        let hba = data.join("pg_hba.conf");
        let rest = fs::read_to_string(&hba).unwrap();
        fs::write(&hba, format!("{}\n{rest}", self.hba.join("\n"))).unwrap();
    }

    fn initdb(&self, data: &Path) {
        let password = servers().join("password");
        run(command(User::Nobody, program(self.major, "initdb"))
            .arg("--pgdata")
            .arg(data)
            .arg("--pwfile")
            .arg(password)
            .args([
                "--no-sync",
                "--username=postgres",
                "--locale=C",
                "--encoding=UTF8",
            ])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"]));
    }
}

/// The rows of all the statements, as text.
pub async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        (0..row.len())
            .map(|i| row.get(i).map(str::to_owned))
            .collect()
    })
    .collect()
}

const READY: &str = "database system is ready to accept";

fn postgres(major: u32, dir: &Path, port: u16) -> Command {
    let mut command = command(User::Nobody, program(major, "postgres"));
    command
        .arg("-D")
        .arg(dir.join("data"))
        .arg("-k")
        .arg(dir)
        .args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    command
}

fn program(major: u32, name: &str) -> PathBuf {
    installed(&servers().join(format!("node_modules/postgres-{major}/native/bin/{name}")))
}

fn servers() -> PathBuf {
    deps().join("postgres")
}

fn copy(from: &Path, to: &Path) {
    run(command(User::Nobody, "cp")
        .args(["-r", "--reflink=auto"])
        .args([from, to]));
}

fn dsn(host: &str, port: u16, db: &str, user: &str) -> String {
    let dsn = format!("host={host} port={port} user={user}");
    if db.is_empty() {
        dsn
    } else {
        format!("{dsn} dbname={db}")
    }
}
