//! The accept loop: connections begin, and how it all ends.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::serve::Listener;
use futures_util::future::select_all;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use tower::{ServiceExt, service_fn};
use tracing::{debug, warn};

use super::connection::{Connection, Limits};
use super::door::{Door, Seat};
use crate::telemetry::Refusal;

/// Serves until `shutdown` is ready, then gives the requests under way a moment to end.
///
/// A request is dropped with its connection, and so is whatever its handler was waiting for.
pub async fn serve(
    mut listeners: Vec<TcpListener>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut door = Door::new(limits.connections);
    // Those for whom there is no room yet.
    let mut waiting = VecDeque::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next_with_id() => {
                door.left(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            (stream, peer) = accept(&mut listeners) => waiting.push_back(Client::new(stream, peer)),
            () = sleep(LOOK), if !waiting.is_empty() => {}
        }
        while let Some(client) = next_admitted(&mut waiting, &mut door) {
            let seat = client.seat.clone();
            let talk = client.converse(router.clone(), limits, graceful.watcher());
            door.enter(seat, connections.spawn(talk));
        }
        let too_many = waiting.len().saturating_sub(WAITING);
        waiting.drain(..too_many).for_each(Client::turn_away);
        while let Some(client) = waiting.pop_front_if(|client| client.waits_for_too_long()) {
            client.turn_away();
        }
    }
    drop(listeners);
    if tokio::time::timeout(limits.drain, graceful.shutdown())
        .await
        .is_err()
    {
        warn!("stopped with requests still unanswered");
    }
}

/// The next connection of any listener. Errors, such as too many open files, are logged and
/// waited out.
async fn accept(listeners: &mut [TcpListener]) -> (TcpStream, SocketAddr) {
    let accepts = listeners
        .iter_mut()
        .map(|listener| Box::pin(Listener::accept(listener)));
    select_all(accepts).await.0
}

/// How many may wait for a place, for how long, and how often it is looked whether there is one.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of a request's line and headers; what is longer is answered with 431.
const HEADERS: usize = 32 << 10;

/// Bytes that the system takes of an answer before its client has them.
const SEND_BUFFER: usize = 64 << 10;

/// The first of those who wait for whom there is a place.
fn next_admitted(waiting: &mut VecDeque<Client>, door: &mut Door) -> Option<Client> {
    // What is true of one is true of all from its address.
    let mut refused = HashSet::new();
    let position = waiting.iter().position(|client| {
        let address = client.seat.peer();
        let admitted = !refused.contains(&address) && door.admits(address);
        if !admitted {
            refused.insert(address);
        }
        admitted
    })?;
    waiting.remove(position)
}

/// One who has connected.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    seat: Arc<Seat>,
}

impl Client {
    fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            seat: Seat::new(peer.ip()),
        }
    }

    fn waits_for_too_long(&self) -> bool {
        self.seat.state().since.elapsed() >= PATIENCE
    }

    /// Says why there is no place for it, as well as that can be done at once.
    fn turn_away(self) {
        Refusal::Connections.count();
        let Ok(mut stream) = self.stream.into_std() else {
            return;
        };
        // What was sent and is not read would make the system withdraw the answer.
        let _ = stream.read(&mut [0; 4096]);
        let sentence = "Refused: all connections of the exporter are in use (web.connections).\n";
        let _ = write!(
            stream,
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{sentence}",
            sentence.len()
        );
    }

    /// Is answered until either side has had enough.
    async fn converse(self, router: Router, limits: Limits, watcher: Watcher) {
        let Self { stream, peer, seat } = self;
        // An answer goes out whole; without this its last packet waits for an acknowledgement.
        let _ = stream.set_nodelay(true);
        // The system, too, keeps of a page what its client does not read.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let connection = Connection::new(stream, seat.clone(), limits);
        let service = service_fn(move |request: Request<_>| {
            let answering = seat.answer();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(seat.clone());
            let answer = router.clone().oneshot(request);
            async move {
                // One who sends many requests at once has the next answered after a turn of all others.
                yield_now().await;
                let response = answer.await;
                drop(answering);
                response
            }
        });
        let mut http = Builder::new(TokioExecutor::new()).http1_only();
        http.http1().max_buf_size(HEADERS);
        let served = http
            .serve_connection(TokioIo::new(connection), TowerToHyperService::new(service))
            .into_owned();
        if let Err(error) = watcher.watch(served).await {
            debug!(%peer, %error, "a connection ended early");
        }
    }
}
