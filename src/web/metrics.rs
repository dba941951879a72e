//! The page that Prometheus reads.

use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use axum::response::{IntoResponse, Response};

use super::App;
use crate::exposition::{Format, render};
use crate::scrape::{Request, UnknownCollector};
use crate::snapshot::Snapshot;
use crate::telemetry::process_metrics;

/// Answers 200 with what could be had in time; only a collector that does not exist is an error.
pub(super) async fn metrics(
    State(app): State<App>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let request = Request {
        deadline: Instant::now() + patience(&headers, app.timeout),
        collect: query
            .into_iter()
            .filter(|(key, _)| key == "collect[]")
            .map(|(_, name)| name)
            .collect(),
    };
    let format = format(&headers, app.web.openmetrics);
    answer(app.scraper.scrape(request).await, format)
}

fn answer(scraped: Result<Snapshot, UnknownCollector>, format: Format) -> Response {
    let vary = [(VARY, HeaderValue::from_static("accept"))];
    match scraped {
        Ok(mut snapshot) => {
            snapshot.append(process_metrics());
            let page = render(snapshot, format);
            (vary, [(CONTENT_TYPE, format.content_type())], page).into_response()
        }
        Err(unknown) => (StatusCode::BAD_REQUEST, format!("{unknown}\n")).into_response(),
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

    #[tokio::test]
    async fn an_unknown_collector_is_a_bad_request() {
        let response = answer(Err(UnknownCollector("lokcs".to_owned())), Format::Text);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = axum::body::to_bytes(response.into_body(), 1_000).await;
        let sentence = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(sentence.contains("no collector \"lokcs\""), "{sentence}");
    }

    #[test]
    fn the_process_is_on_every_page() {
        let response = answer(Ok(Snapshot::default()), Format::OpenMetrics);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
    }
}
