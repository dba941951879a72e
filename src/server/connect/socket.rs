//! Sockets that tell when their other end is closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::config::dsn::Keepalives;

/// How a dead connection is noticed.
pub(super) fn tune(socket: &TcpStream, keepalives: &Keepalives) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    if keepalives.on {
        let mut probes = TcpKeepalive::new();
        if let Some(idle) = keepalives.idle {
            probes = probes.with_time(idle);
        }
        if let Some(interval) = keepalives.interval {
            probes = probes.with_interval(interval);
        }
        if let Some(count) = keepalives.probes {
            probes = probes.with_retries(count);
        }
        socket.set_tcp_keepalive(&probes)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(keepalives.user_timeout)?;
    Ok(())
}

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}

/// A connection to the server, of TCP or of a socket file.
pub(super) type Socket = Box<dyn ReadWrite>;

/// A socket on loan to the driver. When the driver has done with it, for good or for bad, it comes
/// back, still open, and one can close it or wait for the server to close its end.
pub(super) struct Lent {
    socket: Socket,
    back: Option<oneshot::Sender<Socket>>,
}

impl Lent {
    pub(super) fn new(socket: Socket) -> (Self, oneshot::Receiver<Socket>) {
        let (back, returned) = oneshot::channel();
        let back = Some(back);
        (Self { socket, back }, returned)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let socket = std::mem::replace(&mut self.socket, Box::new(tokio::io::empty()));
        // Where nobody waits for it, it is closed.
        self.back.take().map(|back| back.send(socket));
    }
}

/// Closes our end of a socket that comes back from the driver, and waits until the server has
/// closed its own.
pub(super) async fn close(back: oneshot::Receiver<Socket>) {
    if let Ok(mut socket) = back.await {
        // A socket that breaks is a closed one.
        let _ = socket.shutdown().await;
        drain(socket).await;
    }
}

/// Waits until the server has closed its end of a socket that comes back from the driver.
pub(super) async fn until_closed(back: oneshot::Receiver<Socket>) {
    if let Ok(socket) = back.await {
        drain(socket).await;
    }
}

async fn drain(mut socket: Socket) {
    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// Leaves our end open: PgBouncer 1.18 and 1.19.0 die if a cancel request ends before they
    /// have passed it on.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
