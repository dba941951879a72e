//! A client's connection, which ends when the client keeps the server waiting.
//!
//! hyper has a limit for headers only, and it runs between requests too: it would either cut off
//! a scraper between two scrapes or let a client dawdle over its headers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::server::Limits;

/// A stream that fails with [`io::ErrorKind::TimedOut`] when the client oversteps a limit.
pub(super) struct Connection {
    stream: TcpStream,
    limits: Limits,
    answering: Answering,
    /// Whether a request has begun; its headers then have until `since` plus their limit.
    begun: bool,
    /// When the request began, or when anything last moved.
    since: Instant,
    reading: Pin<Box<Sleep>>,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// A connection whose client is to send its first request.
    pub(super) fn new(stream: TcpStream, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            answering: Answering::default(),
            begun: true,
            since: Instant::now(),
            reading: Box::pin(sleep(limits.headers)),
            stalled: None,
        }
    }

    /// To be told when a request is complete, and when its answer is.
    pub(super) fn answering(&self) -> Answering {
        self.answering.clone()
    }

    /// Ready when the client has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context) -> Poll<io::Error> {
        if self.answering.now() {
            // It is we who are expected to speak.
            self.begun = false;
            self.since = Instant::now();
            return Poll::Pending;
        }
        let limit = match self.begun {
            true => self.limits.headers,
            false => self.limits.idle,
        };
        let deadline = self.since + limit;
        if self.reading.deadline() != deadline {
            self.reading.as_mut().reset(deadline);
        }
        ready!(self.reading.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Passes on what a write came to, unless nothing has moved for too long.
    fn after_write(
        &mut self,
        cx: &mut Context,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.begun = false;
            self.since = Instant::now();
            self.stalled = None;
            return written;
        }
        let limit = self.limits.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before && !self.begun {
                self.begun = true;
                self.since = Instant::now();
            }
            return Poll::Ready(read);
        }
        self.poll_silence(cx).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        parts: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether an answer is being prepared: for that long the client has nothing to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Answering(Arc<AtomicBool>);

impl Answering {
    /// A request is complete; its answer is, when the guard is dropped.
    pub(super) fn start(&self) -> AnsweringGuard {
        self.0.store(true, Ordering::Relaxed);
        AnsweringGuard(self.clone())
    }

    fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Held while an answer is being prepared.
pub(super) struct AnsweringGuard(Answering);

impl Drop for AnsweringGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}
