//! Connections to one server, from a [`Dsn`].
//!
//! A [`Dialer`] reads passwords and certificates again at every connect. Whatever becomes of a
//! connection, also of one that was given up half made, its place is free only when the server has
//! closed its end: the backend is gone then.
//!
//! - [`error`]: why there is no connection, as a sentence and as a word
//! - `auth`: which of the server's requests for a login are answered
//! - `guard`: what the server sends, within bounds, before the driver sees it
//! - `encryption`: TLS, before the driver has the connection
//! - `socket`: sockets that tell when their other end is closed

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_postgres::config::{self, SslNegotiation};
use tokio_postgres::{CancelToken, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::Span;

use super::carried::carried;
use super::tls;
use crate::config::Dsn;
use crate::config::dsn::{ChannelBinding, Host, SslMode};
use crate::text::shown;
use crate::time::timeout;

mod auth;
mod encryption;
pub mod error;
mod guard;
mod socket;
mod violation;

pub use auth::AuthError;
pub use error::{ConnectError, Reason};
pub use violation::Violation;

use auth::Channel;
use encryption::{Encryption, Negotiated, NoEncryption, Stream};
use error::Login;
use guard::Guard;
use socket::{Lent, Socket, close, tune, until_closed};

/// Opens connections to one server.
#[derive(Debug)]
pub struct Dialer {
    dsn: Dsn,
    /// The address of the last session. It is tried first, so that a name with several addresses
    /// leads to one server, and a cancel request to the server that it is for.
    last: ArcSwapOption<SocketAddr>,
}

impl Dialer {
    /// A dialer for this server; it connects to nothing yet.
    pub fn new(dsn: Dsn) -> Self {
        Self {
            dsn,
            last: ArcSwapOption::empty(),
        }
    }

    /// The database of the connection string.
    pub fn database(&self) -> &str {
        self.dsn.database()
    }

    /// Where the server is, for messages: `host:port`, or `directory:port` of a socket.
    pub fn address(&self) -> String {
        self.dsn.address()
    }

    /// Connects to a database of the server, or to the connection string's own.
    ///
    /// The future drives the connection and must be spawned. It ends when the server has closed
    /// its end, which it does as the last thing that a backend does. Until then, `place` is kept,
    /// also if there is no session or nobody waits for it any more. Once `abandoned` is set, what the
    /// server still sends is read slowly, and not without end.
    pub async fn connect(
        &self,
        database: Option<&str>,
        place: impl Send + Sync + 'static,
        abandoned: Arc<AtomicBool>,
    ) -> Result<(Client, BoxFuture<'static, ()>), ConnectError> {
        let database = database.unwrap_or(self.dsn.database());
        self.in_time(self.log_in(database, Arc::new(place), abandoned))
            .await
    }

    /// Asks the server to cancel what the token's session runs; returns when the server has seen
    /// to it.
    pub async fn cancel(&self, token: &CancelToken) -> Result<(), ConnectError> {
        self.in_time(async {
            let tls = self.read(encryption).await?;
            let (first, second) = self.ways();
            match (self.send_cancel(token, &tls, first).await, second) {
                // As the session itself, after all, is not encrypted either.
                (Err(ConnectError::Tls { .. }), Some(second)) => {
                    self.send_cancel(token, &tls, second).await
                }
                (sent, _) => sent,
            }
        })
        .await
    }

    async fn send_cancel(
        &self,
        token: &CancelToken,
        tls: &MakeRustlsConnect,
        encryption: Encryption,
    ) -> Result<(), ConnectError> {
        let (socket, _) = self.dial().await?;
        let (lent, back) = Lent::new(socket, Arc::default());
        let stream = self.encrypt(lent, encryption, tls).await?;
        token
            .cancel_query_raw(stream, Negotiated)
            .await
            .map_err(|error| self.explain("", &error))?;
        until_closed(back).await;
        Ok(())
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let limit = self.dsn.connect_timeout;
        timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    /// A session, by the ways that `sslmode` allows, in libpq's order.
    async fn log_in(
        &self,
        database: &str,
        place: Arc<impl Send + Sync + 'static>,
        abandoned: Arc<AtomicBool>,
    ) -> Result<(Client, BoxFuture<'static, ()>), ConnectError> {
        let name = database.to_owned();
        let credentials = self
            .read(move |dsn| {
                Ok(Credentials {
                    password: dsn.password(&name)?,
                    tls: encryption(dsn)?,
                })
            })
            .await?;
        let (first, second) = self.ways();
        let session = |encryption, downgraded| {
            let keeps = (place.clone(), abandoned.clone());
            self.start_session(database, &credentials, encryption, downgraded, keeps)
        };
        match (session(first, None).await, second) {
            (Err(error), Some(second)) if error.may_be_for_encryption() => {
                let downgraded = match &error {
                    ConnectError::Tls { reason, .. } => Some(reason.clone()),
                    _ => None,
                };
                match session(second, downgraded).await {
                    Err(again) if again.is_by_rule() => Err(error),
                    other => other,
                }
            }
            (other, _) => other,
        }
    }

    /// Whether a connection is encrypted, and what is tried when that fails.
    fn ways(&self) -> (Encryption, Option<Encryption>) {
        match self.dsn.tls.mode {
            _ if self.dsn.socket().is_some() => (Encryption::No, None),
            SslMode::Disable => (Encryption::No, None),
            SslMode::Allow => (Encryption::No, Some(Encryption::IfPossible)),
            SslMode::Prefer => (Encryption::IfPossible, Some(Encryption::No)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Yes, None),
        }
    }

    /// `downgraded` says why encryption has failed before, if it has.
    async fn start_session(
        &self,
        database: &str,
        credentials: &Credentials,
        encryption: Encryption,
        downgraded: Option<String>,
        (place, abandoned): (Arc<impl Send + Sync + 'static>, Arc<AtomicBool>),
    ) -> Result<(Client, BoxFuture<'static, ()>), ConnectError> {
        let mut config = Config::new();
        config
            .user(self.dsn.user())
            .dbname(database)
            .application_name(&self.dsn.application_name)
            .channel_binding(match self.dsn.channel_binding {
                ChannelBinding::Disable => config::ChannelBinding::Disable,
                ChannelBinding::Prefer => config::ChannelBinding::Prefer,
                ChannelBinding::Require => config::ChannelBinding::Require,
            })
            // The driver asks the server for nothing: the stream is as it is to be.
            .ssl_mode(config::SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(options) = &self.dsn.options {
            config.options(options);
        }
        if let Some(password) = &credentials.password {
            config.password(password.expose_secret());
        }

        let (socket, peer) = self.dial().await?;
        let (lent, back) = Lent::new(socket, abandoned);
        let end = tokio::spawn(async move {
            close(back).await;
            drop(place);
        });
        let stream = self.encrypt(lent, encryption, &credentials.tls).await?;
        let on_this_host = peer.is_none_or(|address| address.ip().is_loopback());
        let channel = match downgraded {
            _ if stream.is_encrypted() || on_this_host => Channel::Private,
            Some(reason) => Channel::Downgraded(reason),
            None => Channel::Open,
        };
        let login = auth::Login::new(self.dsn.require_auth.clone(), channel);
        let (client, connection) = config
            .connect_raw(Guard::new(stream, login), Negotiated)
            .await
            .map_err(|error| self.explain(database, &error))?;
        self.last.store(peer.map(Arc::new));

        let address = self.address();
        let session = async move {
            if let Err(error) = connection.await {
                tracing::debug!(address, error = causes(&error), "a connection broke");
            }
            let _ = end.await;
        };
        Ok((client, Box::pin(session)))
    }

    /// Reads files, away from the threads that must not wait.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Dsn) -> Result<T, ConnectError> + Send + 'static,
    ) -> Result<T, ConnectError> {
        let dsn = self.dsn.clone();
        let span = Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| read(&dsn)))
            .await
            .unwrap_or(Err(ConnectError::Interrupted))
    }

    /// Encrypts a connection, for the name that the server is asked by.
    async fn encrypt(
        &self,
        socket: Lent,
        wanted: Encryption,
        tls: &MakeRustlsConnect,
    ) -> Result<Stream, ConnectError> {
        let name = match (&self.dsn.host, self.dsn.hostaddr) {
            (Host::Name(name), _) => name.clone(),
            (_, Some(address)) => address.to_string(),
            // A socket, which is not encrypted.
            _ => String::new(),
        };
        let negotiated = Stream::negotiate(socket, wanted, tls, &name).await;
        negotiated.map_err(|error| match error {
            NoEncryption::Tls(reason) => ConnectError::Tls {
                address: self.address(),
                reason,
            },
            NoEncryption::Io(error) => self.broken(&error),
        })
    }

    /// A socket that the server listens at, and its address unless it is a file's.
    async fn dial(&self) -> Result<(Socket, Option<SocketAddr>), ConnectError> {
        match self.dsn.socket() {
            Some(path) => match UnixStream::connect(&path).await {
                Ok(socket) => Ok((Box::new(socket), None)),
                Err(reason) => Err(unreachable(path.display().to_string(), reason)),
            },
            None => self.dial_one_of(&self.addresses().await?).await,
        }
    }

    /// The first address that answers; each has an equal share of the time.
    async fn dial_one_of(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(Socket, Option<SocketAddr>), ConnectError> {
        let share = self.dsn.connect_timeout / addresses.len().max(1) as u32;
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let attempt = timeout(share, TcpStream::connect(address)).await;
            match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(socket) => {
                    tune(&socket, &self.dsn.keepalives)
                        .map_err(|reason| unreachable(address.to_string(), reason))?;
                    return Ok((Box::new(socket), Some(*address)));
                }
                Err(reason) => failure = reason,
            }
        }
        if failure.kind() == io::ErrorKind::TimedOut {
            return Err(self.timed_out());
        }
        let tried: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let at = match tried.join(", ") {
            tried if tried == self.address() => tried,
            tried => format!("{} ({tried})", self.address()),
        };
        Err(unreachable(at, failure))
    }

    /// Every address of the server, that of the last session first.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = match (self.dsn.hostaddr, &self.dsn.host) {
            (Some(address), _) => vec![SocketAddr::new(address, self.dsn.port)],
            (None, Host::Name(host)) => lookup_host((host.as_str(), self.dsn.port))
                .await
                .map_err(|reason| ConnectError::Dns {
                    host: host.clone(),
                    reason,
                })?
                .collect(),
            (None, Host::Local | Host::Socket(_)) => Vec::new(),
        };
        Ok(self.last_first(addresses))
    }

    fn last_first(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let last = self.last.load_full();
        addresses.sort_by_key(|address| Some(address) != last.as_deref());
        addresses
    }

    fn timed_out(&self) -> ConnectError {
        ConnectError::Timeout {
            address: self.address(),
            limit: self.dsn.connect_timeout,
        }
    }

    /// What the driver's error means to the person who reads it.
    fn explain(&self, database: &str, error: &tokio_postgres::Error) -> ConnectError {
        let login = Login {
            address: self.address(),
            user: self.dsn.user().to_owned(),
            database: database.to_owned(),
        };
        if let Some(refusal) = error.as_db_error() {
            return ConnectError::Server {
                login,
                code: refusal.code().clone(),
                message: shown(refusal.message()).into_owned(),
            };
        }
        if let Some(error) = carried::<AuthError>(error) {
            let reason = error.to_string();
            return ConnectError::Authentication { login, reason };
        }
        // The driver keeps the kind of an error to itself, but for its text.
        match error.to_string().as_str() {
            "invalid configuration" => ConnectError::NoPassword(login),
            "authentication error" => ConnectError::Authentication {
                login,
                reason: error.source().map_or_else(|| error.to_string(), causes),
            },
            // In TLS 1.3 a server that dislikes our certificate says so after the handshake.
            _ if is_tls(error) => ConnectError::Tls {
                address: login.address,
                reason: error.source().map_or_else(|| error.to_string(), causes),
            },
            _ => self.broken(error),
        }
    }

    /// A connection that has ended before there was a session.
    fn broken(&self, error: &(dyn Error + 'static)) -> ConnectError {
        let address = self.address();
        match carried(error) {
            Some(violation) => ConnectError::Protocol { address, violation },
            None => ConnectError::Closed {
                address,
                reason: causes(error),
            },
        }
    }
}

/// What a session needs beside the connection string, as it was in the files just now.
struct Credentials {
    password: Option<SecretString>,
    tls: MakeRustlsConnect,
}

/// What encrypts connections to the server; nothing over a socket.
fn encryption(dsn: &Dsn) -> Result<MakeRustlsConnect, ConnectError> {
    let mut settings = dsn.tls.clone();
    if dsn.socket().is_some() {
        settings.mode = SslMode::Disable;
    }
    Ok(tls::connector(&settings)?)
}

fn unreachable(address: String, reason: io::Error) -> ConnectError {
    ConnectError::Unreachable { address, reason }
}

/// An error and what is behind it.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    shown(&text).into_owned()
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .and_then(io::Error::get_ref)
        .is_some_and(|cause| cause.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn one_address_that_answers_is_enough() {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let [open, closed, closed_too] = listeners;
        let open = open.await.unwrap();
        let answers = open.local_addr().unwrap();
        let [first, second] = [closed.await.unwrap(), closed_too.await.unwrap()]
            .map(|listener| listener.local_addr().unwrap());
        let dialer = Dialer::new(Dsn::parse("host=name").unwrap());

        let (_, peer) = dialer.dial_one_of(&[first, answers]).await.ok().unwrap();
        assert_eq!(peer, Some(answers));
        let error = dialer.dial_one_of(&[first, second]).await.err().unwrap();
        assert_eq!(error.reason(), Reason::Refused);
        let says = format!("no server can be reached at name:5432 ({first}, {second})");
        assert!(error.to_string().starts_with(&says), "{error}");
    }

    #[tokio::test]
    async fn the_last_address_is_tried_first() {
        let dialer = Dialer::new(Dsn::parse("hostaddr=127.0.0.1").unwrap());
        let [one, two] = ["127.0.0.1:5432", "127.0.0.2:5432"].map(|it| it.parse().unwrap());
        dialer.last.store(Some(Arc::new(two)));
        assert_eq!(dialer.last_first(vec![one, two]), [two, one]);
        // A server that the name leads to no more is not asked again.
        assert_eq!(dialer.last_first(vec![one]), [one]);
    }
}
