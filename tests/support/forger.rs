//! A forger stands before a real server and sends the rows of some answers many times.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::postgres::Postgres;

/// What is forged.
#[derive(Clone, Copy)]
pub struct Forgery {
    /// Answers to a message with these words.
    pub words: &'static str,
    /// Each of their rows comes so many times.
    pub times: u64,
    /// With another long text in this cell each time.
    pub cell: usize,
}

/// It ends when this is dropped.
pub struct Forger {
    port: u16,
    forged: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Forger {
    /// Stands before this server.
    pub async fn start(server: &Postgres, forgery: Forgery) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = server
            .socket_dir()
            .join(format!(".s.PGSQL.{}", server.port()));
        let forged = Arc::<AtomicU64>::default();
        let counter = forged.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (socket, forged) = (socket.clone(), counter.clone());
                tokio::spawn(async move {
                    // Whoever hangs up has had enough.
                    let _ = pass_on(client, &socket, forgery, &forged).await;
                });
            }
        });
        Self { port, forged, task }
    }

    /// How many rows it has forged.
    pub fn forged(&self) -> u64 {
        self.forged.load(Ordering::Relaxed)
    }

    /// A DSN that goes through it.
    pub fn dsn(&self, database: &str, user: &str) -> String {
        let port = self.port;
        format!("host=127.0.0.1 port={port} user={user} dbname={database} sslmode=disable")
    }
}

impl Forgery {
    /// The body of a row with another text in the cell.
    fn row(&self, body: &[u8], number: u64) -> Vec<u8> {
        let mut at = 2;
        let mut length = 0;
        // Before each cell stands its length, -1 for NULL.
        for _ in 0..=self.cell {
            at += length;
            let cell = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
            at += 4;
            length = cell.max(0) as usize;
        }
        let text = format!("{number:0>2900}");
        let head = [&body[..at - 4], &(text.len() as u32).to_be_bytes()].concat();
        [&head, text.as_bytes(), &body[at + length..]].concat()
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(
    client: TcpStream,
    socket: &Path,
    forgery: Forgery,
    forged: &AtomicU64,
) -> io::Result<()> {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = UnixStream::connect(socket).await?.into_split();
    let forging = AtomicBool::new(false);
    let asks = async {
        // The start-up message has no type.
        let length = from_client.read_u32().await?;
        to_server.write_u32(length).await?;
        copy(&mut from_client, &mut to_server, length).await?;
        loop {
            let (kind, body) = message(&mut from_client).await?;
            if kind == b'Q' {
                let asked = String::from_utf8_lossy(&body).contains(forgery.words);
                forging.store(asked, Ordering::Relaxed);
            }
            send(&mut to_server, kind, &body).await?;
        }
    };
    let answers = async {
        let mut from_server = tokio::io::BufReader::new(from_server);
        let mut to_client = tokio::io::BufWriter::new(to_client);
        loop {
            let (kind, body) = message(&mut from_server).await?;
            if kind == b'D' && forging.load(Ordering::Relaxed) {
                for number in 0..forgery.times {
                    send(&mut to_client, kind, &forgery.row(&body, number)).await?;
                    forged.fetch_add(1, Ordering::Relaxed);
                }
            } else {
                send(&mut to_client, kind, &body).await?;
            }
            if from_server.buffer().is_empty() {
                to_client.flush().await?;
            }
        }
    };
    tokio::select! {
        end = asks => end,
        end = answers => end,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    length: u32,
) -> io::Result<()> {
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    to.write_all(&body).await
}

async fn message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let mut body = vec![0; from.read_u32().await? as usize - 4];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

async fn send(to: &mut (impl AsyncWrite + Unpin), kind: u8, body: &[u8]) -> io::Result<()> {
    to.write_u8(kind).await?;
    to.write_u32(body.len() as u32 + 4).await?;
    to.write_all(body).await
}
