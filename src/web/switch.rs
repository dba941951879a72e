//! Collectors off and on, for the incident.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HOST, HeaderMap, LOCATION};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::response::{IntoResponse, Response};
use tower_http::csrf::ProtectionError;

use super::App;

/// Switches a collector on.
pub(super) async fn on(
    State(app): State<App>,
    Path(collector): Path<String>,
    permission: Permission,
    headers: HeaderMap,
) -> Response {
    switch(&app, &collector, permission, &headers, true)
}

/// Switches a collector off.
pub(super) async fn off(
    State(app): State<App>,
    Path(collector): Path<String>,
    permission: Permission,
    headers: HeaderMap,
) -> Response {
    switch(&app, &collector, permission, &headers, false)
}

/// What another site's page gets that makes a browser post here.
pub(super) fn foreign(_: ProtectionError) -> Response {
    let sentence = "Refused: another site's page sent this request.\n";
    (StatusCode::FORBIDDEN, sentence).into_response()
}

/// Whether a client may switch collectors: from this host always, from others with
/// `web.lifecycle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Granted,
    Denied,
}

impl FromRequestParts<App> for Permission {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get().map(|ConnectInfo(peer)| *peer);
        match app.web.lifecycle || is_local(peer, &parts.headers) {
            true => Ok(Self::Granted),
            false => Ok(Self::Denied),
        }
    }
}

/// Whether the request comes from this host, and is meant for it: a page can make a browser
/// here believe that a name of its own is this host's, but cannot make it send another name.
fn is_local(peer: Option<SocketAddr>, headers: &HeaderMap) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    let host = headers
        .get(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let for_us = host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
    });
    for_us && peer.is_some_and(|peer| is_loopback(peer.ip()))
}

fn switch(
    app: &App,
    collector: &str,
    permission: Permission,
    headers: &HeaderMap,
    on: bool,
) -> Response {
    if permission == Permission::Denied {
        let sentence = "Refused: collectors can be switched from the exporter's own host \
                        (http://localhost:...), or from anywhere with web.lifecycle: true.\n";
        return (StatusCode::FORBIDDEN, sentence).into_response();
    }
    if let Err(unknown) = app.scraper.switch(collector, on) {
        return (StatusCode::NOT_FOUND, format!("{unknown}\n")).into_response();
    }
    let position = if on { "on" } else { "off" };
    tracing::warn!(collector, "a collector was switched {position} over HTTP");
    // A browser goes back to the page that has the button.
    let browser = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    if browser {
        return (StatusCode::SEE_OTHER, [(LOCATION, "../../../")]).into_response();
    }
    format!("{collector} is {position} from the next scrape on, until the exporter restarts.\n")
        .into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_this_host_is_local() {
        for (peer, host, expected) in [
            ("127.0.0.1:5000", "localhost:9187", true),
            ("127.0.0.1:5000", "LOCALHOST", true),
            ("127.9.9.9:5000", "127.0.0.1:9187", true),
            ("[::1]:5000", "[::1]:9187", true),
            ("[::ffff:127.0.0.1]:5000", "localhost", true),
            ("10.0.0.1:5000", "localhost:9187", false),
            ("[::ffff:10.0.0.1]:5000", "localhost", false),
            ("127.0.0.1:5000", "rebound.example:9187", false),
            ("127.0.0.1:5000", "localhost.example", false),
            ("127.0.0.1:5000", "10.0.0.1", false),
            ("127.0.0.1:5000", "", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            let peer = peer.parse().unwrap();
            assert_eq!(is_local(Some(peer), &headers), expected, "{peer} {host}");
            assert!(!is_local(None, &headers));
            assert!(!is_local(Some(peer), &HeaderMap::new()));
        }
    }
}
