//! A connection on its way from a socket to a session: encrypted, or not, before the driver has it.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::socket::Lent;
use super::violation::Violation;

/// A message without a type: its length, and the number that asks for encryption.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Whether a connection is to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    No,
    /// If the server can.
    IfPossible,
    Yes,
}

/// Why there is no encrypted connection.
pub(super) enum NoEncryption {
    /// The two ends do not agree.
    Tls(String),
    /// The server is not there any more, or is none.
    Io(io::Error),
}

/// An encrypted connection, or one that is not.
pub(super) enum Stream {
    Plain(Lent),
    Tls(Box<<MakeRustlsConnect as MakeTlsConnect<Lent>>::Stream>),
}

impl Stream {
    /// Asks the server for encryption, if it is wanted. `name` is what its certificate is for.
    pub(super) async fn negotiate(
        mut socket: Lent,
        wanted: Encryption,
        tls: &MakeRustlsConnect,
        name: &str,
    ) -> Result<Self, NoEncryption> {
        if wanted == Encryption::No {
            return Ok(Self::Plain(socket));
        }
        socket.write_all(&SSL_REQUEST).await?;
        socket.flush().await?;
        match socket.read_u8().await? {
            b'S' => {}
            b'N' if wanted == Encryption::IfPossible => return Ok(Self::Plain(socket)),
            b'N' => return Err(NoEncryption::Tls("server does not support TLS".to_owned())),
            _ => return Err(NoEncryption::Io(Violation::NotPostgres.into())),
        }
        let Ok(connect) = MakeTlsConnect::<Lent>::make_tls_connect(&mut tls.clone(), name);
        match connect.connect(socket).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream))),
            Err(error) => Err(NoEncryption::Tls(super::causes(&error))),
        }
    }

    /// Whether nobody on the way can read it.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl From<io::Error> for NoEncryption {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The driver's question for encryption, answered: the stream is as it is to be.
pub(super) struct Negotiated;

impl<S: TlsStream + Unpin> TlsConnect<S> for Negotiated {
    type Stream = S;
    type Error = io::Error;
    type Future = Ready<io::Result<S>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Tls(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
