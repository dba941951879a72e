//! Collectors off and on, for the incident.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::header::{ACCEPT, HOST, HeaderMap, LOCATION};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
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
    let sentence = "Refused: a cross-site request.\n";
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
        match app.web.lifecycle || is_local(peer, &parts.uri, &parts.headers) {
            true => Ok(Self::Granted),
            false => Ok(Self::Denied),
        }
    }
}

/// Whether the request comes from this host, and is meant for it: a page can make a browser
/// here believe that a name of its own is this host's, but cannot make it send another name. What
/// a proxy passes on comes from anywhere.
fn is_local(peer: Option<SocketAddr>, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let authority = uri.authority().map(Authority::as_str);
    authority.is_none_or(|authority| authority.as_bytes() == host.as_bytes())
        && host.to_str().is_ok_and(names_this_host)
        && !headers.keys().any(|name| is_of_a_proxy(name.as_str()))
        && peer.is_some_and(|peer| is_loopback(peer.ip()))
}

/// `localhost` or a loopback address, with or without a port, and nothing else.
fn names_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let v6 = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match v6 {
        Some(v6) => v6
            .parse::<Ipv6Addr>()
            .is_ok_and(|v6| is_loopback(v6.into())),
        None => {
            let v4 = name.parse::<Ipv4Addr>();
            name.eq_ignore_ascii_case("localhost") || v4.is_ok_and(|v4| v4.is_loopback())
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether only a proxy sends such a header: `Via`, `Forwarded`, `X-Forwarded-For`, `X-Real-IP`,
/// `CF-Connecting-IP`, `X-Envoy-External-Address`, ...
fn is_of_a_proxy(header: &str) -> bool {
    const WORDS: [&str; 12] = [
        "via",
        "ip",
        "addr",
        "address",
        "proxy",
        "proxied",
        "proxyuser",
        "envoy",
        "cf",
        "cdn",
        "original",
        "originating",
    ];
    header.contains("forward") || header.split('-').any(|word| WORDS.contains(&word))
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
    app.pages.begin_anew();
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
        let uri = Uri::from_static("/-/collectors/locks/off");
        for (peer, host, expected) in [
            ("127.0.0.1:5000", "localhost:9187", true),
            ("127.0.0.1:5000", "LOCALHOST", true),
            ("127.9.9.9:5000", "127.0.0.1:9187", true),
            ("[::1]:5000", "[::1]:9187", true),
            ("[::1]:5000", "[0:0::1]", true),
            ("[::ffff:127.0.0.1]:5000", "localhost", true),
            ("127.0.0.1:5000", "[::ffff:127.0.0.1]:9187", true),
            ("10.0.0.1:5000", "localhost:9187", false),
            ("[::ffff:10.0.0.1]:5000", "localhost", false),
            ("127.0.0.1:5000", "rebound.example:9187", false),
            ("127.0.0.1:5000", "localhost.example", false),
            ("127.0.0.1:5000", "localhost.", false),
            ("127.0.0.1:5000", "x@localhost", false),
            ("127.0.0.1:5000", "x@localhost:9187", false),
            ("127.0.0.1:5000", "x:1@127.0.0.1:9187", false),
            ("127.0.0.1:5000", "localhost:9187@rebound.example", false),
            ("127.0.0.1:5000", "localhost:", false),
            ("127.0.0.1:5000", "localhost:http", false),
            ("127.0.0.1:5000", "localhost:1:2", false),
            ("127.0.0.1:5000", "localhost, localhost", false),
            ("127.0.0.1:5000", "localhost/", false),
            ("127.0.0.1:5000", "[localhost]", false),
            ("127.0.0.1:5000", "[127.0.0.1]", false),
            ("127.0.0.1:5000", "::1", false),
            ("127.0.0.1:5000", "127.1", false),
            ("127.0.0.1:5000", "10.0.0.1", false),
            ("127.0.0.1:5000", "", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            let peer = peer.parse().unwrap();
            let local = is_local(Some(peer), &uri, &headers);
            assert_eq!(local, expected, "{peer} {host}");
            assert!(!is_local(None, &uri, &headers));
            assert!(!is_local(Some(peer), &uri, &HeaderMap::new()));
        }
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_local() {
        let local = |uri: &'static str, further: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.append(HOST, HeaderValue::from_static("localhost:9187"));
            for (name, value) in further {
                let name: axum::http::HeaderName = name.parse().unwrap();
                headers.append(name, HeaderValue::from_static(value));
            }
            let peer = SocketAddr::from(([127, 0, 0, 1], 5000));
            is_local(Some(peer), &Uri::from_static(uri), &headers)
        };
        assert!(local("/x", &[]));
        assert!(local(
            "/x",
            &[
                ("user-agent", "curl/8"),
                ("accept", "*/*"),
                ("origin", "http://localhost:9187"),
                ("sec-fetch-site", "same-origin"),
                ("upgrade-insecure-requests", "1"),
                ("accept-encoding", "gzip"),
                ("content-type", "application/x-www-form-urlencoded"),
            ]
        ));
        for header in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded",
            "forwarded-for",
            "x-real-ip",
            "via",
            "x-client-ip",
            "x-cluster-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "fastly-client-ip",
            "x-originating-ip",
            "x-remote-addr",
            "x-envoy-external-address",
            "x-original-host",
            "proxy-connection",
        ] {
            assert!(!local("/x", &[(header, "127.0.0.1")]), "{header}");
            assert!(!local("/x", &[(header, "")]), "{header}");
        }
        assert!(!local("/x", &[("host", "localhost:9187")]), "said twice");
        for (uri, expected) in [
            ("http://localhost:9187/x", true),
            ("http://localhost/x", false),
            ("http://rebound.example/x", false),
            ("http://x@localhost:9187/x", false),
        ] {
            assert_eq!(local(uri, &[]), expected, "{uri}");
        }
    }
}
