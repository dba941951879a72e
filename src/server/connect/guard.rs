//! What the server sends, message by message, before the driver sees it.
//!
//! The driver buffers whatever length a message announces, keeps every parameter that is reported
//! and answers every request for the password. So each message is looked at first, inside the
//! encryption: one that is too large, one too many, and one that is none of PostgreSQL's end the
//! connection. What a server sends beside its answers is of no use here and is left out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::auth::Login;
use super::violation::Violation;
use crate::bounds;
use crate::query::PROTOCOL_VIOLATION;
use crate::text::shown;

/// The type and the length of a message.
const HEADER: usize = 5;

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// How long nothing may come and count as a part of the answer: what is longer may be a time in which
/// this process did not run.
const PAUSE: Duration = Duration::from_secs(1);

/// A stream of the server's messages.
pub(super) struct Guard<S> {
    stream: S,
    /// Until the session begins.
    login: Option<Login>,
    /// What was read; up to `good` the driver may have it.
    buffer: Vec<u8>,
    given: usize,
    good: usize,
    /// What came since the driver last wrote.
    taken: Taken,
    ended: bool,
}

struct Taken {
    last: Instant,
    time: Duration,
    bytes: usize,
    messages: usize,
    results: usize,
    asides: usize,
    asides_bytes: usize,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            time: Duration::ZERO,
            bytes: 0,
            messages: 0,
            results: 0,
            asides: 0,
            asides_bytes: 0,
        }
    }
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S, login: Login) -> Self {
        Self {
            stream,
            login: Some(login),
            buffer: Vec::new(),
            given: 0,
            good: 0,
            taken: Taken::default(),
            ended: false,
        }
    }

    /// Looks at the messages that have arrived whole. Says how many bytes are missing from the next one.
    fn look(&mut self) -> Result<usize, io::Error> {
        loop {
            let rest = &self.buffer[self.good..];
            let Some((&[kind, ref length @ ..], body)) = rest.split_first_chunk::<HEADER>() else {
                return Ok(HEADER - rest.len());
            };
            let length = u32::from_be_bytes(*length) as usize;
            let message = match length {
                _ if length > bounds::MESSAGE => Err(self.too_large(kind, length, rest)),
                // The length counts itself.
                0..4 => Err(Violation::NotPostgres.into()),
                _ if body.len() < length - 4 => return Ok(length - 4 - body.len()),
                _ => Ok(&body[..length - 4]),
            };
            let aside = matches!(kind, b'N' | b'S' | b'A');
            if aside && self.given < self.good {
                return Ok(0);
            }
            let judged = message.and_then(|message| match &mut self.login {
                Some(login) => {
                    self.taken.start_up(kind, length)?;
                    login.judge(kind, message)
                }
                None => Ok(self.taken.session(kind, message)?),
            });
            if let Err(refused) = judged {
                return self.refuse(refused).map(|()| 0);
            }
            if kind == b'Z' && self.login.take().is_some() {
                self.taken = Taken::default();
            }
            self.good += 1 + length;
            if aside {
                self.given = self.good;
            }
        }
    }

    fn too_large(&self, kind: u8, length: usize, message: &[u8]) -> io::Error {
        // A server that cannot start a process says so in the form of an older protocol.
        let is_text = message[1..HEADER]
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~'));
        if kind == b'E' && is_text && self.login.is_some() {
            let words = message[1..].split(|byte| *byte == 0).next();
            let words = String::from_utf8_lossy(words.unwrap_or_default());
            return Violation::Words(shown(words.trim_end()).into_owned()).into();
        }
        Violation::Message(length).into()
    }

    /// Ends the connection. The driver tells nobody why a session has ended, but for what the server
    /// says last.
    fn refuse(&mut self, refused: io::Error) -> io::Result<()> {
        self.buffer.truncate(self.good);
        self.ended = true;
        if self.login.is_some() {
            return Err(refused);
        }
        let fields = format!("SFATAL\0C{PROTOCOL_VIOLATION}\0M{refused}\0\0");
        let length = fields.len() as u32 + 4;
        self.buffer.push(b'E');
        self.buffer.extend(length.to_be_bytes());
        self.buffer.extend(fields.as_bytes());
        self.good = self.buffer.len();
        Ok(())
    }
}

impl Taken {
    fn start_up(&mut self, kind: u8, length: usize) -> Result<(), Violation> {
        self.bytes += length;
        match kind {
            _ if self.bytes > bounds::START_UP => Err(Violation::StartUp),
            b'R' | b'S' | b'K' | b'N' | b'E' | b'Z' => Ok(()),
            _ => Err(Violation::NotPostgres),
        }
    }

    fn session(&mut self, kind: u8, message: &[u8]) -> Result<(), Violation> {
        let length = message.len() + HEADER;
        if let (b'T' | b'D', Some(columns)) = (kind, message.first_chunk()) {
            let columns = usize::from(u16::from_be_bytes(*columns));
            if columns > bounds::COLUMNS {
                return Err(Violation::Columns(columns));
            }
        }
        match kind {
            b'N' | b'S' | b'A' => {
                self.asides += 1;
                self.asides_bytes += length;
                if self.asides > bounds::ASIDES || self.asides_bytes > bounds::ASIDES_BYTES {
                    return Err(Violation::Asides);
                }
            }
            b'T' | b'D' | b'C' | b'I' | b'E' | b'Z' => {
                self.messages += 1;
                self.results += usize::from(kind == b'T');
                self.bytes += length;
                if self.results > bounds::RESULTS {
                    return Err(Violation::Results);
                }
                if self.messages > bounds::ANSWER_MESSAGES || self.bytes > bounds::ANSWER {
                    return Err(Violation::Answer);
                }
                let now = Instant::now();
                self.time += (now - self.last).min(PAUSE);
                self.last = now;
                // An idle session may be ended by an error at any time.
                if kind != b'E' && self.time > bounds::ANSWER_TIME {
                    return Err(Violation::Endless);
                }
            }
            _ => return Err(Violation::NotPostgres),
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads so many bytes at most, and says how many there were.
    fn poll_more(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        self.buffer.drain(..self.given);
        self.good -= std::mem::take(&mut self.given);
        if self.buffer.is_empty() && self.buffer.capacity() > CHUNK {
            self.buffer = Vec::new();
        }
        let before = self.buffer.len();
        self.buffer.resize(before + most, 0);
        let mut space = ReadBuf::new(&mut self.buffer[before..]);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut space);
        let filled = space.filled().len();
        self.buffer.truncate(before + filled);
        read.map_ok(|()| filled)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let missing = if self.ended { 0 } else { self.look()? };
            let good = &self.buffer[self.given..self.good];
            if !good.is_empty() {
                let fits = good.len().min(target.remaining());
                target.put_slice(&good[..fits]);
                self.given += fits;
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let read = ready!(self.poll_more(context, missing.clamp(CHUNK, 4 * CHUNK)))?;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.login.is_none() {
            self.taken = Taken::default();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Guard<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::auth::Channel;
    use super::*;

    #[tokio::test]
    async fn what_stands_beside_an_answer_is_left_out() {
        let said = [
            (b'N', "SNOTICE\0\0"),
            (b'R', "\0\0\0\0"),
            (b'S', "TimeZone\0UTC\0"),
            (b'K', "\0\0\0\x01\0\0\0\x02"),
            (b'Z', "I"),
            (b'T', "\0\0"),
            (b'D', "\0\0"),
            (b'N', "SNOTICE\0\0"),
            (b'A', "\0\0\0\x01c\0m\0"),
            (b'D', "\0\0"),
            (b'S', "TimeZone\0UTC\0"),
            (b'C', "SELECT 2\0"),
            (b'Z', "I"),
        ];
        let bytes = |kinds: &[u8]| -> Vec<u8> {
            let chosen = said.iter().filter(|(kind, _)| kinds.contains(kind));
            chosen
                .flat_map(|(kind, body)| message(*kind, body.as_bytes()))
                .collect()
        };
        let (all, expected) = (bytes(b"NRSKZTDAC"), bytes(b"RKZTDC"));
        // In pieces of any size, as a network may have it.
        for size in [1, 2, 3, 7, 64, all.len()] {
            let (mut server, client) = duplex(size);
            let all = all.clone();
            let sending = tokio::spawn(async move { server.write_all(&all).await });
            let mut heard = Vec::new();
            let read = guard(client).read_to_end(&mut heard).await;
            assert_eq!(read.unwrap(), expected.len());
            assert_eq!(heard, expected, "{size}");
            sending.await.unwrap().unwrap();
        }
    }

    /// In a session it comes as the server's last word, since the driver passes on nothing else.
    #[tokio::test]
    async fn what_is_too_much_ends_the_connection() {
        let huge = [b"D", &0x4000_0000_u32.to_be_bytes()[..], &[0; 100]].concat();
        for (login, flood, violation) in [
            (true, huge.clone(), Violation::Message(0x4000_0000)),
            (true, message(b'!', b""), Violation::NotPostgres),
            (true, [b'R', 0, 0, 0, 3].to_vec(), Violation::NotPostgres),
            (
                true,
                message(b'N', &[0; 1_000]).repeat(300),
                Violation::StartUp,
            ),
            (
                true,
                message(b'R', b"\0\0\0\x0br=x,s=y,i=9000000"),
                Violation::Iterations(9_000_000),
            ),
            (
                true,
                b"Eout of memory\n\0".to_vec(),
                Violation::Words("out of memory".to_owned()),
            ),
            (false, huge, Violation::Message(0x4000_0000)),
            (false, message(b'!', b""), Violation::NotPostgres),
            (false, message(b'N', b"").repeat(1_001), Violation::Asides),
            (
                false,
                message(b'T', b"\0\0").repeat(101),
                Violation::Results,
            ),
            (false, message(b'D', b"\x10\0"), Violation::Columns(4_096)),
            (
                false,
                message(b'D', &[0; 1_000_000]).repeat(68),
                Violation::Answer,
            ),
        ] {
            let (mut server, client) = duplex(1 << 16);
            tokio::spawn(async move {
                if !login {
                    server.write_all(&message(b'Z', b"I")).await?;
                }
                server.write_all(&flood).await
            });
            let mut heard = Vec::new();
            let error = guard(client).read_to_end(&mut heard).await.unwrap_err();
            if login {
                let found = error.get_ref().and_then(|cause| cause.downcast_ref());
                assert_eq!(found, Some(&violation));
            } else {
                let last = format!("SFATAL\0C{PROTOCOL_VIOLATION}\0M{violation}\0\0");
                assert!(
                    heard.ends_with(&message(b'E', last.as_bytes())),
                    "{violation}"
                );
            }
        }
    }

    #[tokio::test]
    async fn an_answer_does_not_take_longer_because_nothing_runs() {
        let (mut server, client) = duplex(64);
        let mut guard = guard(client);
        server.write_all(&message(b'Z', b"I")).await.unwrap();
        guard.read_exact(&mut [0; 6]).await.unwrap();
        for (seconds, row) in [(600, 0), (2, 1)] {
            guard.taken.last -= Duration::from_secs(seconds);
            server.write_all(&message(b'D', &[0, row])).await.unwrap();
            guard.read_exact(&mut [0; 7]).await.unwrap();
        }
        assert!(guard.taken.time >= 2 * PAUSE && guard.taken.time < 3 * PAUSE);
    }

    fn guard<S: AsyncRead>(stream: S) -> Guard<S> {
        Guard::new(stream, Login::new(None, Channel::Open))
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u32 + 4;
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }
}
