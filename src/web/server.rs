//! The accept loop: who gets a connection, for how long, and how it all ends.

use std::future::Future;
use std::net::SocketAddr;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::{ServiceExt, service_fn};
use tracing::{debug, warn};

use super::connection::Connection;

/// How patient the server is with its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait until one ends.
    pub connections: usize,
    /// From a connection's beginning, or a request's first byte, to the end of its headers.
    pub headers: Duration,
    /// For a client that takes no more of its answer.
    pub stall: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// For requests that are under way when the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            headers: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            drain: Duration::from_secs(5),
        }
    }
}

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
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, peer) = accept(&mut listeners), if connections.len() < limits.connections => {
                let router = router.clone();
                connections.spawn(converse(stream, peer, router, limits, graceful.watcher()));
            }
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

/// Answers one client until either side has had enough.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    watcher: Watcher,
) {
    // An answer goes out whole; without this its last packet waits for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let connection = Connection::new(stream, limits);
    let answering = connection.answering();
    let service = service_fn(move |request: Request<_>| {
        let answering = answering.start();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().oneshot(request);
        async move {
            let response = answer.await;
            drop(answering);
            response
        }
    });
    let served = Builder::new(TokioExecutor::new())
        .http1_only()
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(service))
        .into_owned();
    if let Err(error) = watcher.watch(served).await {
        debug!(%peer, %error, "a connection ended early");
    }
}
