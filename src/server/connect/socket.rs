//! Sockets that tell when their other end is closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::violation::Violation;
use crate::bounds;
use crate::config::dsn::Keepalives;

/// How long a backend whose connection was reset may take to notice, and to end.
const RESET: Duration = Duration::from_secs(1);

/// So often is read without a pause what nobody waits for, and that long is the pause then.
const SOON: u32 = 32;
const PAUSE: Duration = Duration::from_millis(50);

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
    /// Bytes that came since the last were written, whatever they mean: also encryption can go on
    /// without end.
    received: usize,
    /// Whether nobody waits any more for what comes.
    abandoned: Arc<AtomicBool>,
    pace: Pace,
}

impl Lent {
    pub(super) fn new(
        socket: Socket,
        abandoned: Arc<AtomicBool>,
    ) -> (Self, oneshot::Receiver<Socket>) {
        let (back, returned) = oneshot::channel();
        let back = Some(back);
        let lent = Self {
            socket,
            back,
            received: 0,
            abandoned,
            pace: Pace::default(),
        };
        (lent, returned)
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

/// Reads to the end. A silent server is waited for, which costs nothing; one that does not stop
/// sending is left alone: its next write fails, which ends a backend.
async fn drain(mut socket: Socket) {
    let mut pace = Pace::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
        if !pace.goes_on(read) {
            drop(socket);
            sleep(RESET).await;
            return;
        }
        poll_fn(|context| pace.poll_turn(context)).await;
    }
}

/// How what nobody waits for is read: the rest of an answer soon, and more than that seldom.
struct Pace {
    begun: Option<Instant>,
    reads: u32,
    bytes: usize,
    pause: Pin<Box<Sleep>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            begun: None,
            reads: 0,
            bytes: 0,
            pause: Box::pin(sleep(Duration::ZERO)),
        }
    }
}

impl Pace {
    /// Waits until something may be read.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.reads {
            0..SOON => Poll::Ready(()),
            _ => self.pause.as_mut().poll(context),
        }
    }

    /// Notes that something was read, and says whether anything more may be.
    fn goes_on(&mut self, bytes: usize) -> bool {
        self.reads += 1;
        self.bytes += bytes;
        if self.reads >= SOON {
            let next = tokio::time::Instant::now() + PAUSE;
            self.pause.as_mut().reset(next);
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        self.bytes <= bounds::FAREWELL && begun.elapsed() <= bounds::FAREWELL_TIME
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        if abandoned {
            ready!(self.pace.poll_turn(context));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.received += read;
        if abandoned && !self.pace.goes_on(read) {
            return Poll::Ready(Err(Violation::Endless.into()));
        }
        // Encryption makes an answer a little longer.
        match self.received > bounds::ANSWER + bounds::FAREWELL {
            true => Poll::Ready(Err(Violation::Answer.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.received = 0;
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
