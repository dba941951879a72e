//! A server that speaks PostgreSQL's protocol as badly as a test wants.
//!
//! A script runs for each connection, and [`Peer`] has the words for it. What a server rightly says
//! is among them, so that a script can behave until it does not.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What stands in the place of a version: a request for encryption, and one to end a statement.
const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;

/// A bad server on a free port. It ends when this is dropped.
pub struct Hostile {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Hostile {
    /// Starts one that does this to each that connects.
    pub async fn start<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = log.clone();
                // One that hangs up has had enough.
                let stream = Box::new(stream);
                tokio::spawn(script(Peer { stream, seen }));
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// A DSN for it, with a password.
    pub fn dsn(&self) -> String {
        self.dsn_at("127.0.0.1")
    }

    /// The same by another name. At 0.0.0.0 it is reached by an address that is not the host's own
    /// for whoever looks at it.
    pub fn dsn_at(&self, host: &str) -> String {
        let port = self.address.port();
        format!("host={host} port={port} user=exporter dbname=postgres password={PASSWORD}")
    }

    /// Whether anybody has sent these bytes in clear text.
    pub fn has_seen(&self, bytes: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.windows(bytes.len())
            .any(|window| window == bytes.as_bytes())
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The columns in which the databases of a server are told.
pub const DATABASES: [&str; 7] = [
    "datname",
    "oid",
    "datallowconn",
    "invalid",
    "limited",
    "may_connect",
    "owner",
];

/// The password in the DSN.
pub const PASSWORD: &str = "correct-horse-battery";

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One that has connected.
pub struct Peer {
    stream: Box<dyn Stream>,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Peer {
    /// Reads up to the start-up message; encryption is not to be had.
    pub async fn greet(&mut self) -> io::Result<()> {
        while self.start().await? == SSL_REQUEST {
            self.stream.write_all(b"N").await?;
        }
        Ok(())
    }

    /// The same, encrypted, with who has asked for it.
    pub async fn greet_under(mut self, tls: &TlsAcceptor) -> io::Result<Self> {
        if self.start().await? != SSL_REQUEST {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.stream.write_all(b"S").await?;
        let stream = Box::new(tls.accept(self.stream).await?);
        let mut encrypted = Self {
            stream,
            seen: self.seen,
        };
        encrypted.start().await?;
        Ok(encrypted)
    }

    /// Reads up to the start-up message; who asks for encryption is promised it, and gets this.
    pub async fn greet_encrypted(&mut self, garbage: &[u8]) -> io::Result<()> {
        if self.start().await? == SSL_REQUEST {
            self.stream.write_all(b"S").await?;
            self.stream.write_all(garbage).await?;
            // The client's own part of the handshake.
            self.read(1).await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// The number in the next message without a type. A request to end a statement is granted.
    async fn start(&mut self) -> io::Result<u32> {
        let length = self.read_u32().await?;
        let body = self.read(length as usize - 4).await?;
        let number = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        match number {
            CANCEL_REQUEST => Err(io::ErrorKind::ConnectionAborted.into()),
            number => Ok(number),
        }
    }

    /// Lets anybody in.
    pub async fn log_in(&mut self) -> io::Result<()> {
        self.greet().await?;
        self.let_in().await
    }

    /// Lets in whoever was greeted.
    pub async fn let_in(&mut self) -> io::Result<()> {
        self.send(b'R', &[0; 4]).await?;
        self.send(b'S', b"server_version\x0018.1\0").await?;
        self.send(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]).await?;
        self.ready().await
    }

    /// Asks for the password in clear text, and reads it.
    pub async fn ask_in_clear(&mut self) -> io::Result<()> {
        self.send(b'R', &[0, 0, 0, 3]).await?;
        self.listen().await
    }

    /// The nonce with which the client begins SCRAM.
    pub async fn scram_nonce(&mut self) -> io::Result<String> {
        let _kind = self.read(1).await?;
        let length = self.read_u32().await?;
        let body = self.read(length as usize - 4).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let nonce = body.split(",r=").nth(1).unwrap_or_default();
        Ok(nonce.to_owned())
    }

    /// The next statement.
    pub async fn query(&mut self) -> io::Result<String> {
        loop {
            let kind = self.read(1).await?[0];
            let length = self.read_u32().await?;
            let body = self.read(length as usize - 4).await?;
            match kind {
                b'Q' => return Ok(String::from_utf8_lossy(&body).into_owned()),
                b'X' => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }

    /// Answers as a server does what every scrape asks first, and with no rows what comes then.
    pub async fn answer(&mut self, sql: &str) -> io::Result<()> {
        if sql.contains("getdatabaseencoding") {
            // The last is the database's name: postgres.
            self.result(
                &["system_identifier", "start", "version", "encode"],
                &["7000000000000000001", "1.5", "180001", "706f737467726573"],
            )
            .await?;
        } else if sql.contains("server_version_num") {
            let columns = [
                "version", "text", "standby", "start", "system", "cluster", "timeline", "role",
                "super", "powers", "archiver",
            ];
            let row = [
                "180001",
                "PostgreSQL 18.1",
                "f",
                "1.5",
                "7000000000000000001",
                "bad",
                "1",
                "exporter",
                "f",
                "",
                "f",
            ];
            self.result(&columns, &row).await?;
            for _ in ["privileges", "settings that are off", "functions"] {
                self.send(b'C', b"SELECT 0\0").await?;
            }
        } else if sql.contains("datallowconn") {
            let row = ["postgres", "5", "t", "f", "f", "t", "10"];
            self.result(&DATABASES, &row).await?;
        } else {
            self.send(b'C', b"SELECT 0\0").await?;
        }
        self.ready().await
    }

    /// Answers until a statement holds these words, which is left open.
    pub async fn answer_until(&mut self, words: &str) -> io::Result<()> {
        loop {
            let sql = self.query().await?;
            if sql.contains(words) {
                return Ok(());
            }
            self.answer(&sql).await?;
        }
    }

    /// One row.
    pub async fn result(&mut self, columns: &[&str], row: &[&str]) -> io::Result<()> {
        self.send(b'T', &description(columns)).await?;
        self.send(b'D', &cells(row)).await?;
        self.send(b'C', b"SELECT 1\0").await
    }

    /// Ready for the next statement.
    pub async fn ready(&mut self) -> io::Result<()> {
        self.send(b'Z', b"I").await
    }

    /// A message.
    pub async fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.send_raw(&message(kind, body)).await
    }

    /// Bytes.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The same bytes, until nobody takes them any more.
    pub async fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        let many = bytes.repeat(65_536_usize.div_ceil(bytes.len()));
        loop {
            self.send_raw(&many).await?;
        }
    }

    /// Reads whatever comes, until it ends.
    pub async fn listen(&mut self) -> io::Result<()> {
        loop {
            self.read(1).await?;
        }
    }

    async fn read_u32(&mut self) -> io::Result<u32> {
        let bytes = self.read(4).await?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    async fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(&bytes);
        Ok(bytes)
    }
}

/// A message: its type, its length, its body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

/// The beginning of a message of this length.
pub fn announcement(kind: u8, length: u32) -> Vec<u8> {
    [&[kind], &length.to_be_bytes()[..]].concat()
}

/// The body of a description of text columns.
pub fn description<S: AsRef<str>>(columns: &[S]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for name in columns {
        body.extend(name.as_ref().as_bytes());
        // No table; the type is text.
        body.extend([
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
        ]);
    }
    body
}

/// The body of a row.
pub fn cells<S: AsRef<[u8]>>(cells: &[S]) -> Vec<u8> {
    let mut body = (cells.len() as u16).to_be_bytes().to_vec();
    for cell in cells {
        body.extend((cell.as_ref().len() as u32).to_be_bytes());
        body.extend(cell.as_ref());
    }
    body
}

/// The body of an error or a notice.
pub fn error(code: &str, words: &str) -> Vec<u8> {
    format!("SERROR\0VERROR\0C{code}\0M{words}\0\0").into_bytes()
}
