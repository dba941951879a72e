//! What becomes of a login that the server refuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Inner, LeaseError};
use crate::server::connect::{ConnectError, Reason};

/// How long a database that has refused is left alone: each login that is refused is a line in
/// the server's log.
const REST: Duration = Duration::from_secs(60);

/// The databases that have refused, when and why.
pub(super) type Refusals = BTreeMap<String, (Instant, Arc<ConnectError>)>;

impl Inner {
    /// Fails as the last login did, where that is not long ago.
    pub(super) fn not_refused(&self, database: &str) -> Result<(), LeaseError> {
        let mut refusals = self.refusals.lock();
        refusals.retain(|_, (at, _)| at.elapsed() < REST);
        match refusals.get(database) {
            Some((_, error)) => Err(LeaseError::Connect(error.clone())),
            None => Ok(()),
        }
    }

    /// Takes in that a login has failed.
    ///
    /// A server that wants to stop waits for its sessions to end, and tells nobody but those who
    /// come: all connections are closed, so that ours are not what it waits for. The database of
    /// the connection string is asked again in each scrape, since it tells whether the server is
    /// up.
    pub(super) fn refused(&self, database: &str, error: ConnectError) -> LeaseError {
        let error = Arc::new(error);
        match error.reason() {
            Reason::ShuttingDown | Reason::StartingUp => self.close_all(),
            _ if matches!(*error, ConnectError::Server { .. })
                && database != self.dialer.database() =>
            {
                let refusal = (Instant::now(), error.clone());
                self.refusals.lock().insert(database.to_owned(), refusal);
            }
            _ => {}
        }
        LeaseError::Connect(error)
    }
}
