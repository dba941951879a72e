//! A client's connection, which ends when the client keeps the server waiting.
//!
//! hyper has a limit for headers only, and it runs between requests too: it would either cut off
//! a scraper between two scrapes or let a client dawdle over its headers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::door::{Phase, Seat};
use crate::config::WebLimits;
use crate::telemetry::Refusal;

/// How patient the server is with its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; for a further one, one that waits is closed.
    pub connections: usize,
    /// From a connection's beginning, or a request's first byte, to the end of its headers.
    pub headers: Duration,
    /// The time within which it is seen that a client takes too little of its answer.
    pub stall: Duration,
    /// Bytes of its answer that a client has to take in a second.
    pub least_rate: u64,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// For the answer to a client whose side is closed: it may listen, or have left.
    pub closed: Duration,
    /// For requests that are under way when the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        WebLimits::default().into()
    }
}

impl From<WebLimits> for Limits {
    fn from(limits: WebLimits) -> Self {
        Self {
            connections: limits.connections,
            headers: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            least_rate: limits.least_rate,
            idle: Duration::from_secs(120),
            closed: Duration::from_secs(2),
            drain: Duration::from_secs(5),
        }
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when the client oversteps a limit.
pub(super) struct Connection {
    stream: TcpStream,
    seat: Arc<Seat>,
    limits: Limits,
    reading: Pin<Box<Sleep>>,
    writing: Option<Window>,
    /// The phase, by its beginning, in which there was nothing left to read.
    ended: Option<Instant>,
}

/// The time in which a client has to take the bytes of as much time at the least rate.
struct Window {
    end: Pin<Box<Sleep>>,
    taken_before: u64,
}

impl Connection {
    /// A connection whose client is to send its first request.
    pub(super) fn new(stream: TcpStream, seat: Arc<Seat>, limits: Limits) -> Self {
        Self {
            stream,
            seat,
            limits,
            reading: Box::pin(sleep(limits.headers)),
            writing: None,
            ended: None,
        }
    }

    /// Ready when the client has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context) -> Poll<io::Error> {
        let state = self.seat.state();
        let Phase::Waiting { begun } = state.phase else {
            // It is we who are expected to speak.
            return Poll::Pending;
        };
        let limit = match begun {
            true => self.limits.headers,
            false => self.limits.idle,
        };
        ready!(self.poll_until(state.since + limit, cx));
        if begun {
            Refusal::SlowHeaders.count();
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Ready when a client whose side is closed has had its answers, or has waited for one too long.
    fn poll_closed(&mut self, cx: &mut Context) -> Poll<()> {
        self.seat.has_closed();
        let state = self.seat.state();
        match (state.phase, state.closed) {
            (Phase::Answering, Some(closed)) => {
                self.poll_until(closed.max(state.since) + self.limits.closed, cx)
            }
            // When it is sent, this is asked again.
            (Phase::Sending, _) => Poll::Pending,
            // What was read last may be a request whose answer begins now.
            _ if self.ended.replace(state.since) != Some(state.since) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    fn poll_until(&mut self, deadline: Instant, cx: &mut Context) -> Poll<()> {
        if self.reading.deadline() != deadline {
            self.reading.as_mut().reset(deadline);
        }
        self.reading.as_mut().poll(cx)
    }

    /// Passes on what a write came to, unless the client takes too little.
    fn after_write(
        &mut self,
        cx: &mut Context,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.seat.enter(Phase::Sending);
            self.seat.has_taken(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        let (limit, taken) = (self.limits.stall, self.seat.taken());
        let least = (self.limits.least_rate as f64 * limit.as_secs_f64()) as u64;
        loop {
            let window = self.writing.get_or_insert_with(|| Window {
                end: Box::pin(sleep(limit)),
                taken_before: taken,
            });
            ready!(window.end.as_mut().poll(cx));
            if taken - window.taken_before < least.max(1) {
                Refusal::SlowReader.count();
                // What the system still holds for the client is not sent either.
                let _ = self.stream.set_zero_linger();
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.writing = None;
        }
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
            let idle = self.seat.state().phase == Phase::Waiting { begun: false };
            let nothing = buffer.filled().len() == before;
            if idle && !nothing {
                self.seat.enter(Phase::Waiting { begun: true });
            }
            if nothing && read.is_ok() {
                ready!(self.poll_closed(cx));
            }
            return Poll::Ready(read);
        }
        self.seat.has_nothing();
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

    /// hyper calls this when everything is written that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.seat.has_sent() {
            self.writing = None;
            // From now on it is the client who is expected to speak.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Cut off with an answer on its way: the system would go on sending it.
        if self.seat.state().phase == Phase::Sending {
            let _ = self.stream.set_zero_linger();
        }
    }
}
