//! A connection in use.
//!
//! A future that is dropped does not stop the server: the statement runs on, and the next one on
//! that connection waits behind it. So a lease that is dropped in the middle of a statement asks
//! the server to cancel it and never gives the connection to anybody else. Most statements end by
//! themselves in a moment, for which it waits: else a client that comes and leaves again and again
//! would make a connection, and a line in the server's log, each time.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::Client;
use tracing::Instrument;

use super::{Connections, Counted, InUse};
use crate::time::timeout;

/// How long a statement that nobody waits for may go on.
const MOMENT: Duration = Duration::from_millis(100);

/// A connection, for as long as it is held.
pub struct Lease {
    connections: Connections,
    connection: Option<Connection>,
    generation: u64,
    busy: bool,
    places: Option<Places>,
}

/// What is taken as long as the connection is used.
type Places = (Counted, Option<OwnedSemaphorePermit>);

enum Connection {
    Pooled(Object),
    Short(Client, #[expect(dead_code, reason = "it is dropped")] InUse),
}

impl Connection {
    fn client(&self) -> &Client {
        match self {
            Self::Pooled(object) => object,
            Self::Short(client, _) => client,
        }
    }
}

impl Lease {
    pub(super) fn pooled(
        connections: Connections,
        object: Object,
        generation: u64,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            places: Some((connections.hold(), slot)),
            connections,
            connection: Some(Connection::Pooled(object)),
            generation,
            busy: false,
        }
    }

    pub(super) fn short(
        connections: Connections,
        client: Client,
        in_use: InUse,
        generation: u64,
    ) -> Self {
        Self {
            places: Some((connections.hold(), None)),
            connections,
            connection: Some(Connection::Short(client, in_use)),
            generation,
            busy: false,
        }
    }

    /// Uses the connection; if this is dropped before its end, the connection is given up.
    pub async fn run<T>(&mut self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        let Some(connection) = &self.connection else {
            unreachable!("a lease holds its connection until it is dropped");
        };
        self.busy = true;
        let result = work(connection.client()).await;
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
        let Some(connection) = self.connection.take() else {
            return;
        };
        let (connections, generation) = (self.connections.clone(), self.generation);
        if !self.busy {
            return give_back(&connections, connection, generation);
        }
        let places = self.places.take();
        let end = async move {
            let _places = places;
            // Its answer comes behind that of the statement.
            match timeout(MOMENT, connection.client().simple_query("")).await {
                Ok(Ok(_)) => return give_back(&connections, connection, generation),
                // It has broken.
                Ok(Err(_)) => {}
                // Without its client a connection says goodbye once the statement has ended.
                Err(_) => connections.cancel(connection.client().cancel_token()),
            }
            if let Connection::Pooled(object) = connection {
                drop(Object::take(object));
            }
        };
        tokio::spawn(end.in_current_span());
    }
}

/// A short connection ends.
fn give_back(connections: &Connections, connection: Connection, generation: u64) {
    if let Connection::Pooled(object) = connection {
        connections.give_back(object, generation);
    }
}
