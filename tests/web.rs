//! HTTP over real sockets, without any PostgreSQL.

#![expect(clippy::unwrap_used, reason = "tests may panic, in helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use flate2::read::GzDecoder;
use matrix_postgres_exporter::collectors::Registry;
use matrix_postgres_exporter::config::{
    Collectors, Config, Log, LogFormat, Scrape, Web, WebLimits,
};
use matrix_postgres_exporter::events::Settings;
use matrix_postgres_exporter::scrape::Scraper;
use matrix_postgres_exporter::web::{Limits, router, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

// What is served.

#[tokio::test]
async fn metrics_come_as_text_unless_openmetrics_is_wanted_and_on() {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (openmetrics, accept, expected) in [
        (true, "*/*", TEXT),
        (
            true,
            "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
            OPENMETRICS,
        ),
        (true, "application/openmetrics-text;q=0.1,text/plain", TEXT),
        (false, "application/openmetrics-text;version=1.0.0", TEXT),
    ] {
        let server = Server::start(
            exporter(Web {
                openmetrics,
                ..web()
            }),
            Limits::default(),
        )
        .await;
        let answer = server
            .get("/metrics", &format!("Accept: {accept}\r\n"))
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], expected);
        let page = answer.text();
        assert!(page.contains("\npg_exporter_build_info{version="), "{page}");
        assert_eq!(page.ends_with("# EOF\n"), expected == OPENMETRICS);
    }
}

#[tokio::test]
async fn collectors_can_be_chosen_if_they_exist() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    let known = "/metrics?collect[]=locks&collect[]=wal&other=x";
    assert_eq!(server.get(known, "").await.status, 200);
    let unknown = server.get("/metrics?collect%5B%5D=lokcs", "").await;
    assert_eq!(unknown.status, 400);
    let text = unknown.text();
    assert!(text.contains("no collector \"lokcs\""), "{text}");
}

#[tokio::test]
async fn metrics_are_compressed_on_request() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    let answer = server.get("/metrics", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert!(answer.headers["vary"].contains("accept-encoding"));
    let mut page = String::new();
    GzDecoder::new(&*answer.body)
        .read_to_string(&mut page)
        .unwrap();
    assert!(page.contains("\npg_exporter_build_info{version="), "{page}");

    let plain = server.get("/metrics", "").await;
    assert!(!plain.headers.contains_key("content-encoding"));
    assert!(plain.headers["vary"].contains("accept"));
}

#[tokio::test]
async fn who_takes_no_coding_that_there_is_gets_a_sentence() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    for path in ["/metrics", "/", "/-/healthy"] {
        for accepted in ["*;q=0", "identity;q=0", "br, *;q=0"] {
            let answer = server
                .get(path, &format!("Accept-Encoding: {accepted}\r\n"))
                .await;
            assert_eq!(answer.status, 406);
            assert!(answer.text().starts_with("Refused: Accept-Encoding"));
        }
        let answer = server.get(path, "Accept-Encoding: *;q=0, gzip\r\n").await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn head_gives_the_headers_only() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    let answer = server.send("HEAD /metrics HTTP/1.1", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(answer.text(), "");
}

#[tokio::test]
async fn every_route_answers() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    for (request, status, part) in [
        ("GET /-/healthy HTTP/1.1", 200, "healthy"),
        ("GET /-/ready HTTP/1.1", 200, "ready"),
        ("GET / HTTP/1.1", 200, "<h1>matrix-postgres-exporter"),
        (
            "GET /-/style.css HTTP/1.1",
            200,
            "prefers-color-scheme: dark",
        ),
        ("GET /metrcis HTTP/1.1", 404, "<a href=\"/metrics\">"),
        ("POST /metrics HTTP/1.1", 405, "read with GET"),
        ("GET /-/collectors/locks/off HTTP/1.1", 405, "with POST"),
    ] {
        let answer = server.send(request, "").await;
        assert_eq!(answer.status, status, "{request}");
        let text = answer.text();
        assert!(text.contains(part), "{request}: {text}");
    }
    let policy = &server.get("/", "").await.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[tokio::test]
async fn the_path_of_the_metrics_can_be_chosen() {
    for path in ["/custom/metrics", "/"] {
        let telemetry_path = path.to_owned();
        let web = Web {
            telemetry_path,
            ..web()
        };
        let server = Server::start(exporter(web), Limits::default()).await;
        let text = server.get(path, "").await.text();
        assert!(text.contains("\npg_exporter_build_info{version="), "{text}");
        assert_eq!(server.get("/metrics", "").await.status, 404);
    }
}

#[tokio::test]
async fn only_this_host_and_no_other_site_switches_collectors() {
    const SWITCH: &str = "POST /-/collectors/locks/off HTTP/1.1";
    let server = Server::start(exporter(web()), Limits::default()).await;
    let host = server.address;
    for (headers, status) in [
        (format!("Host: {host}\r\n"), 200),
        (format!("Host: {host}\r\nOrigin: http://{host}\r\n"), 200),
        (
            format!("Host: {host}\r\nSec-Fetch-Site: same-origin\r\n"),
            200,
        ),
        (
            format!("Host: {host}\r\nSec-Fetch-Site: cross-site\r\n"),
            403,
        ),
        (
            format!("Host: {host}\r\nSec-Fetch-Site: same-site\r\n"),
            403,
        ),
        (
            format!("Host: {host}\r\nOrigin: http://site.example\r\n"),
            403,
        ),
        (format!("Host: {host}\r\nOrigin: null\r\n"), 403),
        ("Host: site.example\r\n".to_owned(), 403),
        (format!("Host: x@{host}\r\n"), 403),
        (format!("Host: {host}\r\nHost: {host}\r\n"), 403),
        (
            format!("Host: {host}\r\nX-Forwarded-For: 10.0.0.1\r\n"),
            403,
        ),
        (format!("Host: {host}\r\nForwarded: for=10.0.0.1\r\n"), 403),
        (format!("Host: {host}\r\nVia: 1.1 proxy\r\n"), 403),
        (format!("Host: {host}\r\nX-Real-IP: 127.0.0.1\r\n"), 403),
    ] {
        let answer = server
            .send_as_is(&format!("{SWITCH}\r\n{headers}\r\n"))
            .await;
        assert_eq!(answer.status, status, "{headers}");
        assert!(!answer.body.is_empty());
    }

    for (authority, status) in [(host.to_string(), 200), ("site.example".to_owned(), 403)] {
        let request = format!(
            "POST http://{authority}/-/collectors/locks/off HTTP/1.1\r\nHost: {host}\r\n\r\n"
        );
        assert_eq!(
            server.send_as_is(&request).await.status,
            status,
            "{authority}"
        );
    }

    let lifecycle = Web {
        lifecycle: true,
        ..web()
    };
    let server = Server::start(exporter(lifecycle), Limits::default()).await;
    let from_elsewhere = format!("{SWITCH}\r\nHost: exporter.example\r\n\r\n");
    assert_eq!(server.send_as_is(&from_elsewhere).await.status, 200);
}

#[tokio::test]
async fn a_switch_answers_with_a_sentence_and_sends_a_browser_back() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    let answer = server
        .send("POST /-/collectors/locks/off HTTP/1.1", "")
        .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .starts_with("locks is off from the next scrape on")
    );
    let browser = server
        .send(
            "POST /-/collectors/locks/on HTTP/1.1",
            "Accept: text/html,*/*\r\n",
        )
        .await;
    assert_eq!(browser.status, 303);
    assert_eq!(browser.headers["location"], "../../../");
    let unknown = server
        .send("POST /-/collectors/lokcs/off HTTP/1.1", "")
        .await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("no collector \"lokcs\""));
}

// How long a client may take.

#[tokio::test]
async fn a_client_that_dawdles_over_its_headers_is_cut_off() {
    let headers = Duration::from_millis(200);
    let server = Server::start(
        exporter(web()),
        Limits {
            headers,
            ..Limits::default()
        },
    )
    .await;
    for beginning in ["", "G", "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let start = Instant::now();
        let mut client = server.connect().await;
        client.write_all(beginning.as_bytes()).await.unwrap();
        expect_end(&mut client).await;
        assert!(start.elapsed() >= headers, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let server = Server::start(exporter(web()), Limits::default()).await;
    let header = |length| format!("X-Long: {}\r\n", "x".repeat(length));
    assert_eq!(server.get("/-/healthy", &header(20_000)).await.status, 200);
    assert_eq!(server.get("/-/healthy", &header(100_000)).await.status, 431);
}

#[tokio::test]
async fn a_client_that_drips_its_headers_is_cut_off() {
    let headers = Duration::from_millis(200);
    let server = Server::start(
        exporter(web()),
        Limits {
            headers,
            ..Limits::default()
        },
    )
    .await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nX-Slow: ")
        .await
        .unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let dripping = async {
        while client.write_all(b"x").await.is_ok() {
            ticks.tick().await;
        }
    };
    within_reason(dripping).await;
}

#[tokio::test]
async fn a_client_may_rest_between_requests_but_not_for_ever() {
    let limits = Limits {
        headers: Duration::from_millis(50),
        idle: Duration::from_millis(1500),
        ..Limits::default()
    };
    let server = Server::start(exporter(web()), limits).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client
            .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"healthy\n") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
        // Longer than headers may take.
        tokio::time::sleep(2 * limits.headers).await;
    }
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_slow_answer_is_nobodys_fault() {
    let limit = Duration::from_millis(100);
    let limits = Limits {
        headers: limit,
        idle: limit,
        stall: limit,
        ..Limits::default()
    };
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(400)).await;
        "done"
    };
    let server = Server::start(Router::new().route("/", get(slow)), limits).await;
    assert_eq!(server.get("/", "").await.text(), "done");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    // One connection at once: the second client is served when the first is gone.
    let limits = Limits {
        connections: 1,
        stall: Duration::from_millis(200),
        ..Limits::default()
    };
    let big = Router::new()
        .route("/big", get(async || vec![b'x'; 32 << 20]))
        .route("/", get(async || "small"));
    let server = Server::start(big, limits).await;
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    deaf.readable().await.unwrap();
    assert_eq!(server.get("/", "").await.text(), "small");
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut_off() {
    let limits = Limits {
        stall: Duration::from_millis(300),
        least_rate: 4 << 20,
        ..Limits::default()
    };
    let big = Router::new().route("/", get(async || vec![b'x'; 64 << 20]));
    let server = Server::start(big, limits).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut part = vec![0; 16 << 10];
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let reading = async {
        while slow.read(&mut part).await.is_ok_and(|read| read > 0) {
            ticks.tick().await;
        }
    };
    let start = Instant::now();
    within_reason(reading).await;
    // The whole would have taken 80 s.
    assert!(start.elapsed() >= limits.stall);
}

#[tokio::test]
async fn a_large_page_arrives_whole() {
    let limits = Limits {
        stall: Duration::from_millis(500),
        ..Limits::default()
    };
    let big = Router::new().route("/", get(async || vec![b'x'; 32 << 20]));
    let server = Server::start(big, limits).await;
    assert_eq!(server.get("/", "").await.body.len(), 32 << 20);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let begun = Arc::new(Notify::new());
    let dropped = Arc::new(Notify::new());
    let server = Server::start(endless(&begun, &dropped), Limits::default()).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    within_reason(begun.notified()).await;
    drop(client);
    within_reason(dropped.notified()).await;
}

/// One that says nothing more may still listen.
#[tokio::test]
async fn a_client_that_closes_its_side_is_answered() {
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        vec![b'x'; 32 << 20]
    };
    let server = Server::start(Router::new().route("/", get(slow)), Limits::default()).await;
    for (request, answers) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        ("GET / HTTP/1.0\r\n\r\n", 1),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 1),
        (&"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3), 3),
    ] {
        let mut client = server.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = Vec::new();
        within_reason(client.read_to_end(&mut said)).await.unwrap();
        assert!(
            said.len() > answers * (32 << 20),
            "{request}: {}",
            said.len()
        );
    }
    // One that has said nothing has nothing to hear.
    for request in ["", "GET / HTTP/1.1\r\nHo"] {
        let mut client = server.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        expect_end(&mut client).await;
    }
}

// How many, and how it ends.

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let (now, most, gate) = (now.clone(), most.clone(), gate.clone());
        async move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            "done"
        }
    };
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let server = Server::start(Router::new().route("/", get(handler)), limits).await;
    let all = futures_util::future::join_all((0..12).map(|_| server.get("/", "")));
    let open = async {
        while now.load(Ordering::SeqCst) < 4 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(12);
    };
    let (answers, ()) = within_reason(async { tokio::join!(all, open) }).await;
    assert!(answers.into_iter().all(|answer| answer.text() == "done"));
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let server = Server::start(exporter(web()), limits).await;
    let ask = async |client: &mut TcpStream| {
        client
            .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"healthy\n") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
    };
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.connect().await);
        ask(clients.last_mut().unwrap()).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(server.get("/-/healthy", "").await.status, 200);
    expect_end(&mut clients[0]).await;
    ask(&mut clients[1]).await;
    ask(&mut clients[2]).await;
}

#[tokio::test]
async fn who_finds_all_connections_in_use_is_told_so_and_a_stranger_gets_in() {
    let begun = Arc::new(Notify::new());
    let dropped = Arc::new(Notify::new());
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let router = endless(&begun, &dropped).route("/fine", get("fine"));
    let server = Server::start(router, limits).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        within_reason(begun.notified()).await;
        busy.push(client);
    }
    let refused = server.get("/fine", "").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.text().starts_with("Refused: all connections"));

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut stranger = within_reason(socket.connect(server.address)).await.unwrap();
    stranger
        .write_all(b"GET /fine HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    within_reason(stranger.read_to_end(&mut answer))
        .await
        .unwrap();
    assert_eq!(Answer::parse(&answer).text(), "fine");
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    let headers = Duration::from_millis(300);
    let server = Server::start(
        exporter(web()),
        Limits {
            headers,
            ..Limits::default()
        },
    )
    .await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(server.connect().await);
    }
    assert_eq!(server.get("/-/healthy", "").await.status, 200);
}

#[tokio::test]
async fn every_listener_is_served() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
    let server = Server::listen(vec![first, second], exporter(web()), Limits::default());
    for address in addresses {
        let server = Server {
            address,
            ..server.clone()
        };
        assert_eq!(server.get("/-/healthy", "").await.status, 200);
    }
}

#[tokio::test]
async fn a_request_under_way_is_finished_at_shutdown() {
    let begun = Arc::new(Notify::new());
    let gate = Arc::new(Notify::new());
    let handler = {
        let (begun, gate) = (begun.clone(), gate.clone());
        async move || {
            begun.notify_one();
            gate.notified().await;
            "done"
        }
    };
    let server = Server::start(Router::new().route("/", get(handler)), Limits::default()).await;
    let mut idle = server.connect().await;
    let client = {
        let server = server.clone();
        tokio::spawn(async move { server.get("/", "").await.text() })
    };
    within_reason(begun.notified()).await;
    server.stop.notify_one();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within_reason(refused).await;
    expect_end(&mut idle).await;
    gate.notify_one();
    assert_eq!(within_reason(client).await.unwrap(), "done");
    server.ended().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_dropped_at_shutdown() {
    let begun = Arc::new(Notify::new());
    let dropped = Arc::new(Notify::new());
    let limits = Limits {
        drain: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Server::start(endless(&begun, &dropped), limits).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    within_reason(begun.notified()).await;
    server.stop.notify_one();
    server.ended().await;
    within_reason(dropped.notified()).await;
    expect_end(&mut client).await;
}

/// The limit on open files is the process's, so this test runs itself again in a process with
/// few of them.
#[tokio::test]
async fn running_out_of_files_is_survived() {
    const NAME: &str = "running_out_of_files_is_survived";
    const INSIDE: &str = "TEST_WITH_FEW_FILES";
    if std::env::var_os(INSIDE).is_none() {
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 50 && exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .env(INSIDE, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    let server = Server::start(exporter(web()), Limits::default()).await;
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(server.address).await {
        clients.push(client);
        assert!(clients.len() < 100, "the limit is not in force");
    }
    drop(clients);
    assert_eq!(server.get("/-/healthy", "").await.status, 200);
}

// Helpers.

fn web() -> Web {
    Web {
        listen: Vec::new(),
        telemetry_path: "/metrics".to_owned(),
        openmetrics: true,
        lifecycle: false,
        limits: WebLimits::default(),
    }
}

/// The exporter's own routes, over no server at all.
fn exporter(web: Web) -> Router {
    let config = Config {
        web: web.clone(),
        servers: Vec::new(),
        scrape: Scrape {
            timeout: Duration::from_secs(10),
            statement_cap: Duration::from_secs(1),
        },
        collectors: Collectors {
            enabled: BTreeSet::new(),
            limits: BTreeMap::new(),
            ttls: BTreeMap::new(),
        },
        state_dir: None,
        events: Settings::default(),
        log: Log {
            level: "info".to_owned(),
            format: LogFormat::Logfmt,
        },
    };
    router(
        Scraper::new(&config, &Registry::built_in()),
        &web,
        config.scrape.timeout,
    )
}

/// A handler that says when it begins and when it is dropped, and never ends.
fn endless(begun: &Arc<Notify>, dropped: &Arc<Notify>) -> Router {
    struct OnDrop(Arc<Notify>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (begun, dropped) = (begun.clone(), dropped.clone());
    let handler = async move || {
        let _guard = OnDrop(dropped.clone());
        begun.notify_one();
        std::future::pending::<&str>().await
    };
    Router::new().route("/", get(handler))
}

/// A server on a free port, until the test ends.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    stop: Arc<Notify>,
    task: Arc<tokio::sync::Mutex<JoinHandle<()>>>,
}

impl Server {
    async fn start(router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listen(vec![listener], router, limits)
    }

    fn listen(listeners: Vec<TcpListener>, router: Router, limits: Limits) -> Self {
        let address = listeners[0].local_addr().unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            serve(listeners, router, limits, stopped.notified()).await;
        });
        let task = Arc::new(tokio::sync::Mutex::new(task));
        Self {
            address,
            stop,
            task,
        }
    }

    async fn ended(&self) {
        within_reason(&mut *self.task.lock().await).await.unwrap();
    }

    async fn connect(&self) -> TcpStream {
        within_reason(TcpStream::connect(self.address))
            .await
            .unwrap()
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1"), headers).await
    }

    async fn send(&self, request: &str, headers: &str) -> Answer {
        let host = self.address;
        self.send_as_is(&format!("{request}\r\nHost: {host}\r\n{headers}\r\n"))
            .await
    }

    /// Sends a request that ends with an empty line, as the last of its connection.
    async fn send_as_is(&self, request: &str) -> Answer {
        let head = request
            .strip_suffix("\r\n")
            .expect("an empty line at the end");
        let mut stream = self.connect().await;
        let request = format!("{head}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        within_reason(stream.read_to_end(&mut bytes)).await.unwrap();
        Answer::parse(&bytes)
    }
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("headers");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let (status, fields) = head.split_once("\r\n").unwrap();
        let mut headers = BTreeMap::<String, String>::new();
        for field in fields.split("\r\n") {
            let (name, value) = field.split_once(": ").unwrap();
            let values = headers.entry(name.to_lowercase()).or_default();
            if !values.is_empty() {
                values.push_str(", ");
            }
            values.push_str(value);
        }
        let body = &bytes[end + 4..];
        let body = match headers.get("transfer-encoding") {
            Some(coding) if coding == "chunked" => dechunk(body),
            _ => body.to_vec(),
        };
        Self {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers,
            body,
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a chunk's size");
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        bytes = &bytes[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
}

/// The server ends the connection, whatever it says before.
async fn expect_end(client: &mut TcpStream) {
    let mut rest = Vec::new();
    // An end by reset is an end too.
    let _ = within_reason(client.read_to_end(&mut rest)).await;
}

/// What takes longer than this hangs.
async fn within_reason<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("this hangs")
}
