//! PgBouncer in front of a server, in transaction mode.

use std::fmt::Write;
use std::fs;

use tempfile::TempDir;

use super::postgres::{Postgres, password};
use super::process::{Process, User, command, daemon, scratch, start_on_free_port};

/// A running PgBouncer, with the settings of a fresh installation but one: the clients of a role
/// share a single session of each database. It ends when this is dropped.
pub struct PgBouncer {
    _process: Process,
    _dir: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Starts one that knows these roles.
    pub async fn start(server: &Postgres, users: &[&str]) -> Self {
        Self::with_names(server, users, &[]).await
    }

    /// The same, where these names lead to databases of other names.
    pub async fn with_names(server: &Postgres, users: &[&str], names: &[(&str, &str)]) -> Self {
        let dir = scratch();
        let [users_file, config_file] =
            ["users.txt", "config.ini"].map(|name| dir.path().join(name));
        let mut list = String::new();
        for user in users {
            writeln!(list, "\"{user}\" \"{}\"", password(user)).unwrap();
        }
        fs::write(&users_file, list).unwrap();
        let to = format!(
            "host={} port={}",
            server.socket_dir().display(),
            server.port()
        );
        let names = names.iter();
        let names = names.map(|(name, database)| format!("{name} = {to} dbname={database}\n"));
        let names: String = names.collect();
        let started = start_on_free_port("process up", |port| {
            let config = format!(
                "[databases]\n\
                 {names}* = {to}\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\n\
                 listen_port = {port}\n\
                 unix_socket_dir =\n\
                 pool_mode = transaction\n\
                 default_pool_size = 1\n\
                 auth_type = scram-sha-256\n\
                 auth_file = {users}\n",
                users = users_file.display(),
            );
            fs::write(&config_file, config).unwrap();
            let mut command = command(User::Nobody, daemon("pgbouncer"));
            command.arg(&config_file);
            command
        });
        let (process, port) = started
            .await
            .unwrap_or_else(|log| panic!("PgBouncer: {log}"));
        Self {
            _process: process,
            _dir: dir,
            port,
        }
    }

    /// A DSN in keyword form, with the password that the test bed gives.
    pub fn dsn(&self, db: &str, user: &str) -> String {
        let password = password(user);
        format!(
            "host=127.0.0.1 port={} user={user} dbname={db} password={password}",
            self.port
        )
    }
}
