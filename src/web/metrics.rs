//! The page that Prometheus reads.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, VARY,
};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};

use super::App;
use super::coding::{AsItIs, Coding};
use super::door::Seat;
use super::pages::{Answer, Refused, Wanted};
use crate::exposition::Format;
use crate::telemetry::Refusal;

/// Answers 200 with what could be had in time, and 503 where it is the exporter that cannot keep
/// up; a collector that does not exist is the client's error.
pub(super) async fn metrics(
    State(app): State<App>,
    Query(query): Query<Vec<(String, String)>>,
    seat: Option<Extension<Arc<Seat>>>,
    headers: HeaderMap,
) -> Response {
    let collect: BTreeSet<_> = query
        .into_iter()
        .filter(|(key, _)| key == "collect[]")
        .map(|(_, name)| name)
        .collect();
    if let Err(unknown) = app.scraper.check(&collect) {
        return (StatusCode::BAD_REQUEST, format!("{unknown}\n")).into_response();
    }
    let wanted = Wanted {
        collect,
        format: format(&headers, app.web.openmetrics),
        coding: Coding::negotiate(&headers).unwrap_or(Coding::Identity),
        deadline: Instant::now() + patience(&headers, app.timeout),
    };
    let format = wanted.format;
    let seat = seat.as_ref().map(|Extension(seat)| seat);
    let Answer { parts, coding } = match app.pages.page(wanted, seat).await {
        Ok(answer) => answer,
        Err(refused) => return refused.into_response(),
    };
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        ),
        (VARY, HeaderValue::from_static("accept, accept-encoding")),
    ];
    let page = match <[Bytes; 1]>::try_from(parts) {
        Ok([page]) => Body::from(page),
        Err(parts) => Body::from_stream(stream::iter(parts).map(Ok::<_, Infallible>)),
    };
    let mut response = (headers, page).into_response();
    match coding {
        Coding::Gzip => {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, gzip);
        }
        Coding::Identity => drop(response.extensions_mut().insert(AsItIs)),
    }
    response
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Deadline => {
                Refusal::Deadline.count();
                let later = [(RETRY_AFTER, HeaderValue::from_static("1"))];
                let sentence = "The exporter has too much to do: the page was not ready in time. \
                                This says nothing of the server.\n";
                (StatusCode::SERVICE_UNAVAILABLE, later, sentence).into_response()
            }
            Self::Failed => {
                let sentence = "The page could not be made; the exporter's log says why.\n";
                (StatusCode::INTERNAL_SERVER_ERROR, sentence).into_response()
            }
        }
    }
}

/// How long Prometheus waits, less what the way back takes; never longer than `most`.
fn patience(headers: &HeaderMap, most: Duration) -> Duration {
    const WAY_BACK: f64 = 0.5;
    const LEAST: f64 = 0.1;
    headers
        .get("x-prometheus-scrape-timeout-seconds")
        .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64((seconds - WAY_BACK).max(LEAST)).ok())
        .map_or(most, |patience| patience.min(most))
}

fn format(headers: &HeaderMap, openmetrics: bool) -> Format {
    let accept: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    Format::negotiate(Some(&accept.join(",")), openmetrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_sets_the_deadline() {
        let most = Duration::from_secs(10);
        for (header, expected) in [
            ("5", 4.5),
            ("1.25", 0.75),
            ("0.55", 0.1),
            ("0.001", 0.1),
            ("60", 10.0),
            ("1e300", 10.0),
            ("inf", 10.0),
            ("NaN", 10.0),
            ("0", 10.0),
            ("-3", 10.0),
            ("soon", 10.0),
            ("", 10.0),
        ] {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(
                "x-prometheus-scrape-timeout-seconds".parse().unwrap(),
                value,
            )]);
            let seconds = patience(&headers, most).as_secs_f64();
            assert!((seconds - expected).abs() < 1e-9, "{header}: {seconds}");
        }
        assert_eq!(patience(&HeaderMap::new(), most), most);
    }

    #[test]
    fn accept_may_come_in_several_headers() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/plain;q=0.5"));
        headers.append(
            ACCEPT,
            HeaderValue::from_static("application/openmetrics-text"),
        );
        assert_eq!(format(&headers, true), Format::OpenMetrics);
        assert_eq!(format(&headers, false), Format::Text);
        assert_eq!(format(&HeaderMap::new(), true), Format::Text);
    }
}
