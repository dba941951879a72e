//! Whether a client takes its answer compressed.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, VARY};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// How an answer may be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// What a client likes best, gzip where it likes both alike; nothing where it takes neither.
    pub(super) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let (mut gzip, mut identity, mut others) = (None, None, None);
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        for item in values.flat_map(|value| value.split(',')) {
            let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
            let weight = weight.trim().to_ascii_lowercase();
            let weight = weight.strip_prefix("q=").unwrap_or("1");
            let Ok(weight) = weight.trim().parse::<f32>() else {
                continue;
            };
            match coding.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => identity = Some(weight),
                "*" => others = Some(weight),
                _ => (),
            }
        }
        let gzip = gzip.or(others).unwrap_or(0.0);
        // What nobody speaks of is acceptable, and never the best.
        let identity = identity.or(others).unwrap_or(f32::MIN_POSITIVE);
        match (gzip > 0.0, identity > 0.0) {
            (true, _) if gzip >= identity => Some(Self::Gzip),
            (_, true) => Some(Self::Identity),
            (true, false) => Some(Self::Gzip),
            (false, false) => None,
        }
    }
}

/// Refuses a client that takes its answer in no way that there is. For others, nobody has to choose
/// again.
pub(super) async fn choose(mut request: Request, next: Next) -> Response {
    let chosen = match Coding::negotiate(request.headers()) {
        Some(Coding::Gzip) => "gzip",
        Some(Coding::Identity) => "identity",
        None => {
            let sentence = "Refused: Accept-Encoding must allow gzip or identity.\n";
            let vary = [(VARY, "accept-encoding")];
            return (StatusCode::NOT_ACCEPTABLE, vary, sentence).into_response();
        }
    };
    let chosen = HeaderValue::from_static(chosen);
    request.headers_mut().insert(ACCEPT_ENCODING, chosen);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_best_coding_is_chosen() {
        for (accepted, expected) in [
            ("", Some(Coding::Identity)),
            ("gzip", Some(Coding::Gzip)),
            ("X-GZIP", Some(Coding::Gzip)),
            ("deflate, gzip;q=1.0, *;q=0.5", Some(Coding::Gzip)),
            ("br", Some(Coding::Identity)),
            ("*", Some(Coding::Gzip)),
            ("gzip;q=0", Some(Coding::Identity)),
            ("gzip;q=0.5, identity", Some(Coding::Identity)),
            ("gzip;q=0.001, identity;q=0", Some(Coding::Gzip)),
            ("gzip; Q=0.8, identity; q=0.8", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("*;q=0, gzip", Some(Coding::Gzip)),
            ("*;q=0, identity", Some(Coding::Identity)),
            ("identity;q=0", None),
            ("identity;q=0, gzip;q=0", None),
            ("gzip;q=x", Some(Coding::Identity)),
        ] {
            let value = HeaderValue::from_static(accepted);
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value)]);
            assert_eq!(Coding::negotiate(&headers), expected, "{accepted:?}");
        }
        assert_eq!(Coding::negotiate(&HeaderMap::new()), Some(Coding::Identity));
    }
}
