//! Clients that mean no good, each one task and one socket, and a scraper among them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant as Clock, MissedTickBehavior, interval, sleep, timeout};

use super::http::{Client, Response};

/// How long after it was cut off a client comes back.
const RETURN: Duration = Duration::from_secs(1);

/// Lets this process open as many files as the system allows it.
pub fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Clients that stay until this is dropped.
pub struct Crowd(JoinSet<()>);

impl Crowd {
    /// So many clients, each doing this again when it has ended.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        clients: usize,
        act: impl Fn(usize) -> F + Clone + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let act = act.clone();
            tasks.spawn(async move {
                loop {
                    act(client).await;
                    sleep(RETURN).await;
                }
            });
        }
        Self(tasks)
    }

    /// The clients leave, and their sockets are closed. Panics if one of them has.
    pub async fn leave(mut self) {
        self.0.abort_all();
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

/// Sends this, and reads to the end of the connection, whenever that comes.
pub async fn send_and_wait(address: SocketAddr, request: &[u8]) {
    if let Ok(mut stream) = TcpStream::connect(address).await
        && stream.write_all(request).await.is_ok()
    {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

/// Sends a header that never ends, a byte at a time.
pub async fn drip(address: SocketAddr) {
    if let Ok(mut stream) = TcpStream::connect(address).await
        && stream
            .write_all(b"GET /metrics HTTP/1.1\r\nX: ")
            .await
            .is_ok()
    {
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Asks for the page, and reads `rate` bytes of it a second, until it is cut off.
pub async fn read_slowly(address: SocketAddr, rate: usize) {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let _ = stream.write_all(request).await;
    let mut part = vec![0; rate.max(1)];
    loop {
        sleep(Duration::from_secs(1)).await;
        // An error says that the connection was reset, even to who does not read.
        let ended = match rate {
            0 => {
                stream.take_error().ok().flatten().is_some() || stream.write_all(b"").await.is_err()
            }
            _ => !stream.read(&mut part).await.is_ok_and(|read| read > 0),
        };
        if ended {
            return;
        }
    }
}

/// What a scraper has seen.
#[derive(Debug, Default)]
pub struct Scrapes {
    /// The answers.
    pub answers: usize,
    /// The longest that one took.
    pub longest: Duration,
}

/// Who scrapes what.
#[derive(Clone, Copy, Debug)]
pub struct Scraper {
    /// Where it comes from.
    pub own: Ipv4Addr,
    /// What it asks for.
    pub path: &'static str,
    /// How large the page is.
    pub bytes: usize,
    /// How long it waits.
    pub patience: Duration,
}

impl Scraper {
    /// Scrapes every second as Prometheus does that gives up after `patience`: plain and compressed,
    /// on a connection of its own that is kept and on a new one each time. Panics unless each answer
    /// is in time, a page, and as large as it should be nearly.
    pub async fn scrape_each_second(self, address: SocketAddr, duration: Duration) -> Scrapes {
        let mut scrapers = JoinSet::new();
        for kept in [true, false] {
            for coding in ["identity", "gzip"] {
                scrapers.spawn(self.scrape_on(address, duration, kept, coding));
            }
        }
        let all = scrapers.join_all().await.into_iter();
        all.fold(Scrapes::default(), |all, one| Scrapes {
            answers: all.answers + one.answers,
            longest: all.longest.max(one.longest),
        })
    }

    async fn scrape_on(
        self,
        address: SocketAddr,
        duration: Duration,
        kept: bool,
        coding: &'static str,
    ) -> Scrapes {
        let Self {
            own,
            path,
            bytes,
            patience,
        } = self;
        let seconds = patience.as_secs().to_string();
        let headers = [
            ("X-Prometheus-Scrape-Timeout-Seconds", seconds.as_str()),
            ("Accept-Encoding", coding),
        ];
        let mut client = Client::from(own, address);
        let mut scrapes = Scrapes::default();
        let end = Clock::now() + duration;
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while seconds.tick().await < end {
            if !kept {
                client = Client::from(own, address);
            }
            let start = Instant::now();
            let which = format!("{path} by {own}, {coding}, kept: {kept}, after {scrapes:?}");
            let answer = timeout(patience, client.get(path, &headers)).await;
            let answer = answer.unwrap_or_else(|_| panic!("no answer in {patience:?}: {which}"));
            scrapes.longest = scrapes.longest.max(start.elapsed());
            scrapes.answers += 1;
            let answer = answer.unwrap_or_else(|error| panic!("{error}: {which}"));
            assert_whole(answer, bytes, &which).await;
        }
        scrapes
    }
}

/// Reading 20 MB line by line would be the larger load.
async fn assert_whole(answer: Response, bytes: usize, which: &str) {
    if answer.status != 200 {
        let said = String::from_utf8_lossy(&answer.body);
        panic!("{}: {said} ({which})", answer.status);
    }
    let decode = tokio::task::spawn_blocking(move || answer.decoded());
    let page = decode.await.unwrap();
    assert!(page.ends_with(b"\n"), "{which}");
    assert!(page.len() > bytes * 9 / 10, "{which}: {} bytes", page.len());
    assert_up(std::str::from_utf8(&page).unwrap(), which);
}

/// Panics unless the page says that the server is up, and nothing came too late.
pub fn assert_up(page: &str, which: &str) {
    // A line of a large page may be long.
    let mut heads = page.lines().map(|line| &line[..line.len().min(200)]);
    let down = heads.find(|line| {
        line.starts_with("pg_exporter_down_reason{")
            || line.starts_with("pg_exporter_collector_skipped{")
                && line.contains("reason=\"deadline\"")
    });
    assert_eq!(down, None, "{which}");
    assert!(
        page.lines().any(|line| line.starts_with("pg_up")),
        "{which}"
    );
}
