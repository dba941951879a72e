//! Asks a running exporter whether it answers, for containers that have no curl.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use axum::http::Uri;
use clap::{Arg, ArgMatches, Command};

use super::{Error, flags};
use crate::collectors::Registry;
use crate::config::{self, Variable};

/// The command.
pub fn command(registry: &Registry) -> Command {
    let url = Arg::new("url")
        .long("url")
        .value_name("URL")
        .help("URL to request [default: /-/healthy at the first listen address]");
    flags::unlisted(
        flags::add(Command::new("healthcheck").arg(url), registry),
        &["Server", "Scrape", "Log"],
    )
    .about("Exit with 0 if a running exporter answers; for containers")
}

/// Runs it.
pub fn run(
    matches: &[&ArgMatches; 2],
    variable: Variable<'_>,
    registry: &Registry,
) -> Result<(), Error> {
    let url = match matches[0].get_one::<String>("url") {
        Some(url) => url.clone(),
        None => {
            let web = config::load_web(flags::sources(matches, variable, registry))?;
            format!("http://{}/-/healthy", reachable(&web.listen[0]))
        }
    };
    match ask(&url) {
        Ok(status) if status.starts_with("200") => Ok(()),
        Ok(status) => Err(Error::Failed(format!("{url} answers {status}"))),
        Err(error) => Err(Error::Failed(format!("{url} does not answer: {error}"))),
    }
}

/// How long it all may take.
const LIMIT: Duration = Duration::from_secs(3);

/// The address to ask for one to listen on: every address of this host includes its own.
fn reachable(listen: &str) -> String {
    ["0.0.0.0:", "[::]:", ":"]
        .iter()
        .find_map(|all| listen.strip_prefix(all))
        .map_or_else(|| listen.to_owned(), |port| format!("localhost:{port}"))
}

/// The status of an answer to GET, like `200 OK`.
fn ask(url: &str) -> io::Result<String> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let uri: Uri = url
        .parse()
        .map_err(|_| invalid("write it like http://localhost:9187/-/healthy"))?;
    if uri.scheme_str() != Some("http") {
        return Err(invalid("only http:// is supported"));
    }
    let host = uri.host().unwrap_or_default();
    let deadline = Instant::now() + LIMIT;
    let mut stream = connect(host, uri.port_u16().unwrap_or(80), deadline)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;

    let mut answer = Vec::new();
    let mut part = [0; 256];
    while !answer.contains(&b'\n') && answer.len() < 1024 {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split_once(' '));
    match status {
        Some((_, status)) => Ok(status.trim_end().to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is not HTTP",
        )),
    }
}

/// Connects to the first address that takes the call: `localhost` may have two.
fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer within 3 s",
        )),
        left => Ok(left),
    }
}
