//! Answers Prometheus, until it is told to stop.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use clap::Command;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::{Error, flags};
use crate::collectors::Registry;
use crate::config::Config;
use crate::scrape::Scraper;
use crate::web;

/// The command.
pub fn command(registry: &Registry) -> Command {
    flags::add(Command::new("serve"), registry).about("Run the exporter (the default)")
}

/// Runs it. Ports come first, so that a second instance ends before it touches a database.
pub fn run(config: &Config, registry: &Registry) -> Result<(), Error> {
    let listeners = config
        .web
        .listen
        .iter()
        .map(|address| bind(address))
        .collect::<Result<Vec<_>, _>>()?;
    super::runtime()?.block_on(serve(config, registry, listeners))
}

async fn serve(
    config: &Config,
    registry: &Registry,
    listeners: Vec<TcpListener>,
) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Failed(format!("cannot serve: {error}"));
    let mut stop = Stop::new().map_err(failed)?;
    let listeners = listeners
        .into_iter()
        .map(|listener| {
            listener.set_nonblocking(true)?;
            info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
            tokio::net::TcpListener::from_std(listener)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;

    let scraper = Scraper::new(config, registry);
    let router = web::router(scraper.clone(), &config.web, config.scrape.timeout);
    tell_systemd(NotifyState::Ready);
    let stopped = async {
        let reason = stop.requested().await;
        info!(reason, "stopping");
        tell_systemd(NotifyState::Stopping);
    };
    let limits = web::Limits {
        connections: files_for(config.web.limits.connections),
        ..config.web.limits.into()
    };
    web::serve(listeners, router, limits, stopped).await;
    scraper.keep();
    if tokio::time::timeout(CLOSE, scraper.close()).await.is_err() {
        warn!("stopped with connections to the server still open");
    }
    Ok(())
}

/// Sees to it that there are files for this many connections of clients, and as many for all else;
/// how many connections there may be then.
fn files_for(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * connections as u64;
    let allowed = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let mut files = limit.current.unwrap_or(u64::MAX);
    if files < allowed {
        let raised = Rlimit {
            current: Some(allowed),
            ..limit
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            files = allowed;
        }
    }
    let possible = usize::try_from(files / 2).unwrap_or(usize::MAX);
    if possible < connections {
        warn!(
            files,
            "web.connections is {possible} and not {connections}, half of the limit of open \
             files; raise that limit (ulimit -n, LimitNOFILE)"
        );
    }
    connections.min(possible)
}

/// How long closing connections to a server may take.
const CLOSE: Duration = Duration::from_secs(3);

/// Listens on an address; one without a host stands for all addresses, both families.
fn bind(address: &str) -> Result<TcpListener, Error> {
    match address.strip_prefix(':').and_then(|port| port.parse().ok()) {
        Some(port) => TcpListener::bind(
            &[
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            ][..],
        ),
        None => TcpListener::bind(address),
    }
    .map_err(|error| Error::Failed(cannot_listen(address, &error)))
}

fn cannot_listen(address: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another --web.listen-address"
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one",
        _ => return format!("cannot listen on {address}: {error}"),
    };
    format!("cannot listen on {address}: {advice}")
}

/// The signals that end the program, and the one that does not.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn requested(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    warn!("SIGHUP has no effect: reloading the configuration is not supported \
                           yet; restart");
                }
            }
        }
    }
}

/// Without systemd this does nothing.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot notify systemd");
    }
}
