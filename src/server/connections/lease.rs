//! A connection in use.
//!
//! A future that is dropped does not stop the server: the statement runs on, and the next one on
//! that connection waits behind it. So a lease that is dropped in the middle of a statement asks
//! the server to cancel it and never gives the connection to anybody else.

use deadpool_postgres::Object;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::Client;

use super::{Connections, Counted, InUse};

/// A connection, for as long as it is held.
pub struct Lease {
    connections: Connections,
    connection: Option<Connection>,
    generation: u64,
    busy: bool,
    _held: Counted,
    _slot: Option<OwnedSemaphorePermit>,
}

enum Connection {
    Pooled(Object),
    Short(Client, #[expect(dead_code, reason = "it is dropped")] InUse),
}

impl Lease {
    pub(super) fn pooled(
        connections: Connections,
        object: Object,
        generation: u64,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            _held: connections.hold(),
            connections,
            connection: Some(Connection::Pooled(object)),
            generation,
            busy: false,
            _slot: slot,
        }
    }

    pub(super) fn short(
        connections: Connections,
        client: Client,
        in_use: InUse,
        generation: u64,
    ) -> Self {
        Self {
            _held: connections.hold(),
            connections,
            connection: Some(Connection::Short(client, in_use)),
            generation,
            busy: false,
            _slot: None,
        }
    }

    /// Uses the connection; if this is dropped before its end, the connection is given up.
    pub async fn run<T>(&mut self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        let client: &Client = match self.connection.as_ref() {
            Some(Connection::Pooled(object)) => object,
            Some(Connection::Short(client, _)) => client,
            None => unreachable!("a lease holds its connection until it is dropped"),
        };
        self.busy = true;
        let result = work(client).await;
        self.busy = false;
        result
    }

    /// Ends a connection that has broken. It may not know so itself yet, and would be taken for
    /// sound.
    pub fn discard(mut self) {
        if let Some(Connection::Pooled(object)) = self.connection.take() {
            drop(Object::take(object));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match (self.connection.take(), self.busy) {
            // Without its client a connection says goodbye once the statement has ended.
            (Some(Connection::Pooled(object)), true) => {
                self.connections.cancel(Object::take(object).cancel_token());
            }
            (Some(Connection::Short(client, _)), true) => {
                self.connections.cancel(client.cancel_token());
            }
            (Some(Connection::Pooled(object)), false) => {
                self.connections.give_back(object, self.generation);
            }
            (Some(Connection::Short(..)) | None, _) => {}
        }
    }
}
