//! The page that Prometheus reads.

use std::collections::BTreeSet;
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

use super::App;
use super::coding::Coding;
use super::door::Seat;
use super::pages::{Refused, Wanted};
use crate::exposition::Format;
use crate::telemetry::Refusal;

/// Answers 200 with what was collected in time, and 503 where it is the exporter that cannot keep
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
    let (format, coding) = (wanted.format, wanted.coding);
    let seat = seat.as_ref().map(|Extension(seat)| seat);
    let page = match app.pages.page(wanted, seat).await {
        Ok(page) => page,
        Err(refused) => return refused.into_response(),
    };
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        ),
        (VARY, HeaderValue::from_static("accept, accept-encoding")),
    ];
    let page = Body::from(Bytes::from_owner(page));
    let mut response = (headers, page).into_response();
    if coding == Coding::Gzip {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    response
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (refusal, sentence) = match self {
            Self::Scrapes => (
                Refusal::Scrapes,
                "Refused: too many different scrapes (collect[]) wait for their turn \
                 (web.scrapes); one without collect[] is always answered.\n",
            ),
            Self::Deadline => (
                Refusal::Deadline,
                "The exporter has too much to do: the page was not ready in time. This says \
                 nothing of the server.\n",
            ),
            Self::Failed => {
                let sentence = "The page could not be made; the exporter's log says why.\n";
                return (StatusCode::INTERNAL_SERVER_ERROR, sentence).into_response();
            }
        };
        refusal.count();
        let later = [(RETRY_AFTER, HeaderValue::from_static("1"))];
        (StatusCode::SERVICE_UNAVAILABLE, later, sentence).into_response()
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
