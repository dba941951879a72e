//! HTTP requests, one to a connection or many.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::exposition::{Format, Page};

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as it came out of the transfer encoding.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The body.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body, as it was before it was compressed; panics unless that is gzip.
    pub fn decoded(&self) -> Vec<u8> {
        let Some(coding) = self.header("content-encoding") else {
            return self.body.clone();
        };
        assert_eq!(coding, "gzip");
        let mut decoded = Vec::new();
        GzDecoder::new(&*self.body)
            .read_to_end(&mut decoded)
            .unwrap();
        decoded
    }

    /// The body as a page of metrics, in the format that its type announces; panics when it is
    /// none, or has a fault.
    pub fn page(&self) -> Page {
        assert_eq!(self.status, 200, "{}", self.text());
        let kind = self.header("content-type").unwrap_or_default();
        let format = Format::of(kind).unwrap_or_else(|| panic!("not metrics: {kind}"));
        Page::parse(&self.body, format).unwrap_or_else(|fault| panic!("{fault}\n{}", self.text()))
    }
}

/// Sends a request without a body.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    send(address, method, path, headers, "").await
}

/// Sends a request.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    request += body;
    let start = Instant::now();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        response(&answer).ok_or_else(|| io::Error::other(format!("no answer, but {answer:?}")))
    };
    // Whether nobody is there any more, or just this was cut off, is half of the cause.
    exchange.await.unwrap_or_else(|error| {
        let now = std::net::TcpStream::connect(address).map(|_| "it still listens");
        let after = start.elapsed();
        panic!("{method} {path} of {address}: {error} after {after:?}; {now:?}")
    })
}

/// A client that keeps its connection, and makes another where it was closed between two requests,
/// as Prometheus does.
pub struct Client {
    address: SocketAddr,
    own: IpAddr,
    stream: Option<TcpStream>,
}

impl Client {
    /// A client without a connection yet.
    pub fn new(address: SocketAddr) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, address)
    }

    /// The same, with an address of its own.
    pub fn from(own: Ipv4Addr, address: SocketAddr) -> Self {
        Self {
            address,
            own: own.into(),
            stream: None,
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.own, 0).into())?;
        socket.connect(self.address).await
    }

    /// GETs a path.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        if let Some(mut stream) = self.stream.take()
            && let Ok(response) = ask(&mut stream, &request).await
        {
            self.stream = Some(stream);
            return Ok(response);
        }
        let mut stream = self.connect().await?;
        let response = ask(&mut stream, &request).await?;
        self.stream = Some(stream);
        Ok(response)
    }
}

/// Sends a request, and reads as much as its answer has.
async fn ask(stream: &mut TcpStream, request: &str) -> io::Result<Response> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(64 << 10);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            let length = answer.len();
            return Err(io::Error::other(format!("cut off after {length} bytes")));
        }
        if let Some((head, body)) = split(&answer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(head).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let whole = match length {
                Some(length) => body.len() >= length.parse().unwrap(),
                None => body.ends_with(b"0\r\n\r\n"),
            };
            if whole {
                return response(&answer).ok_or_else(|| io::Error::other("no HTTP"));
            }
        }
    }
}

fn response(answer: &[u8]) -> Option<Response> {
    let (head, body) = split(answer, b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut response = Response {
        status,
        headers: headers.collect(),
        body: body.to_owned(),
    };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = unchunk(body)?;
    } else if let Some(length) = response.header("content-length") {
        // A shorter body was cut off.
        body.get(..length.parse().ok()?)?;
    }
    Some(response)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, chunks) = split(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(chunks.get(..size)?);
        rest = chunks.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..found], &bytes[found + at.len()..]))
}
