//! HTTP in front of a scrape.
//!
//! - `metrics`: the page that Prometheus reads
//! - `landing`: the page that a person reads
//! - `switch`: collectors off and on, for the incident
//! - `coding`: whether an answer is compressed
//! - `pages`: pages, each made once for all who want the same
//! - `turns`: who is next where not all can be served at once
//! - `shelf`: the memory of the pages that somebody reads
//! - `server`: connections, and how it all ends
//! - `door`: who gets a connection when there are none left
//! - `connection`: how long a client may take
//!
//! Nothing here knows SQL.

mod coding;
mod connection;
mod door;
mod landing;
mod metrics;
mod pages;
mod server;
mod shelf;
mod switch;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::csrf::CsrfLayer;

use crate::config;
use crate::scrape::{self, Scraper};
use landing::Landing;
use pages::Pages;

pub use connection::Limits;
pub use server::serve;

/// Every route. `web.telemetry_path` begins with a slash and is none of the others, apart from
/// `/`, where it takes the landing page's place. `timeout` is the longest that a scrape may take.
pub fn router(scraper: Scraper, web: &config::Web, timeout: Duration) -> Router {
    let app = App {
        pages: Pages::new(scraper.clone(), web.limits),
        landing: Arc::default(),
        scraper,
        web: Arc::new(web.clone()),
        timeout,
    };
    let mut router = Router::new()
        .route(&web.telemetry_path, get(metrics::metrics))
        .route("/-/healthy", get("healthy\n"))
        .route("/-/ready", get(ready))
        .route("/-/style.css", get(landing::style))
        .route("/-/collectors/{name}/on", post(switch::on))
        .route("/-/collectors/{name}/off", post(switch::off));
    if web.telemetry_path != "/" {
        router = router.route("/", get(landing::landing));
    }
    let router = router
        .fallback(landing::not_found)
        .method_not_allowed_fallback(async || WRONG_METHOD)
        .with_state(app);
    guard(router)
}

/// What holds for every route.
fn guard(router: Router) -> Router {
    router
        .layer(CsrfLayer::new().with_rejection_response(switch::foreign))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn(coding::choose))
        .layer(CatchPanicLayer::new())
}

/// What the handlers share.
#[derive(Clone)]
struct App {
    scraper: Scraper,
    pages: Pages,
    landing: Arc<Landing>,
    web: Arc<config::Web>,
    timeout: Duration,
}

/// Ready as soon as it listens: a server that is down is something to say, not a reason to be
/// restarted.
async fn ready(State(app): State<App>) -> String {
    let mut text = "ready\n".to_owned();
    for (name, address, state) in app.scraper.states() {
        text += &format!("{name} ({address}): ");
        text += &match state {
            None => "not scraped yet\n".to_owned(),
            Some(scrape::State::Up) => "up\n".to_owned(),
            Some(scrape::State::Down { reason, message }) => {
                format!("down, {reason}: {message}\n")
            }
        };
    }
    text
}

const WRONG_METHOD: (StatusCode, &str) = (
    StatusCode::METHOD_NOT_ALLOWED,
    "Method not allowed: read with GET, switch collectors with POST.\n",
);

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let routes = Router::new()
            .route("/panics", get(async || -> &str { panic!("on purpose") }))
            .route("/works", get("fine"));
        let router = guard(routes);
        let status = async |path| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(status("/panics").await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status("/works").await, StatusCode::OK);
    }
}
