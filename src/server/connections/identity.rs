//! Which server and database the connections have reached.

use std::time::Duration;

use tokio_postgres::Client;

use super::{Inner, LeaseError};
use crate::bounds::LABEL;
use crate::query::message::Message;
use crate::query::{QueryError, Reason, Scope, Sql, Version};
use crate::text::cut;

/// How long the question may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Which server it is.
pub(super) struct Identity {
    /// System identifier and start time, once known. Every connection leads to that server; while
    /// one is open, this stays.
    pub known: Option<(String, f64)>,
    /// Its version, or zero as long as it is not known.
    pub version: Version,
    /// Rises whenever the connections that there are must not be used again.
    pub generation: u64,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            known: None,
            version: Version(0),
            generation: 0,
        }
    }
}

impl Inner {
    /// Asks a new connection whom it has reached, and refuses it if that is another server than the
    /// others have reached, or another database than was asked for. The DSN's own may have another
    /// name behind a pooler.
    pub(super) async fn identify(
        &self,
        client: &Client,
        database: &str,
    ) -> Result<u64, LeaseError> {
        let mut found = None;
        let mut reached = None;
        let mut version = Version(0);
        let identity = Message {
            sql: &Sql::from(
                "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
                 extract(epoch FROM pg_catalog.pg_postmaster_start_time()), \
                 pg_catalog.current_setting('server_version_num'), \
                 pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_database()::text, \
                 pg_catalog.getdatabaseencoding()), 'hex')",
            ),
            timeout: TIMEOUT,
            version,
            scope: Scope::Server,
        };
        let answered = identity
            .send(client, |_, cells| {
                let system = cells.raw(0)?.unwrap_or_default();
                let start_time = cells.number(1, "start_time")?;
                let start_time = start_time.ok_or(QueryError::NoRow)?;
                found = Some((cut(system, LABEL).into_owned(), start_time));
                let number = cells.number(2, "server_version_num")?.unwrap_or_default();
                version = Version(number as u32);
                // PostgreSQL always gives it. Without it nothing is compared.
                reached = cells.raw(3).ok().flatten().map(str::to_owned);
                Ok(())
            })
            .await;
        let found = match answered.and_then(|()| found.ok_or(QueryError::NoRow)) {
            Ok(found) => found,
            Err(error) => {
                let address = self.dialer.address();
                let reason = error.to_string();
                return Err(match error.reason() {
                    Reason::Protocol => LeaseError::Protocol { address, reason },
                    _ => LeaseError::Broken { address, reason },
                });
            }
        };
        let wanted: String = database.bytes().map(|byte| format!("{byte:02x}")).collect();
        let is_other = reached.is_some_and(|name| name != wanted);
        if is_other && database != self.dialer.database() {
            return Err(LeaseError::OtherDatabase {
                address: self.dialer.address(),
                database: database.to_owned(),
            });
        }
        let mut identity = self.identity();
        let alone = self.budget - self.permits.available_permits() <= 1;
        match &identity.known {
            Some(known) if *known == found => {}
            // After a restart nothing of the old server is left; whom we reach now is the server.
            None | Some(_) if alone || identity.known.is_none() => identity.known = Some(found),
            _ => {
                drop(identity);
                self.close_all();
                return Err(LeaseError::OtherServer {
                    address: self.dialer.address(),
                    found: found.0,
                });
            }
        }
        identity.version = version;
        Ok(identity.generation)
    }
}
