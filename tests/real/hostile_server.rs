//! Servers that send what no server sends, or more than anybody can take: the scrape ends in time
//! and says why, and neither memory nor time of the exporter, nor its log and pages, go with it.

use std::io;
use std::time::{Duration, Instant};

use super::support::certificates::Certificates;
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::footprint::{is_small, memory, rests};
use super::support::hostile::{
    DATABASES, Hostile, Peer, announcement, cells, description, error, message,
};
use super::support::process::wait_for;

/// How long Prometheus waits for a page.
const TIMEOUT: Duration = Duration::from_secs(8);

/// How much later the page may come on a busy machine.
const SLACK: Duration = Duration::from_secs(8);

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[tokio::test(flavor = "multi_thread")]
async fn floods_before_a_session() {
    suffers(
        "protocol",
        "announced a message of 2147483647 bytes",
        async |mut peer| {
            peer.greet().await?;
            peer.send_raw(&announcement(b'R', 0x7fff_ffff)).await?;
            peer.flood(&[0; 1024]).await
        },
    )
    .await;
    suffers(
        "protocol",
        "announced a message of 104857600 bytes",
        async |mut peer| {
            peer.greet().await?;
            peer.send_raw(&announcement(b'E', 100 * MIB as u32)).await?;
            peer.flood(b"SFATAL").await
        },
    )
    .await;
    suffers("protocol", "before the session began", async |mut peer| {
        peer.greet().await?;
        peer.send(b'R', &[0; 4]).await?;
        for number in 0.. {
            peer.send(b'S', format!("name{number}\0value\0").as_bytes())
                .await?;
        }
        Ok(())
    })
    .await;
    suffers("protocol", "before the session began", async |mut peer| {
        peer.greet().await?;
        peer.send(b'R', &[0; 4]).await?;
        peer.flood(&message(b'N', &error("00000", "and then")))
            .await
    })
    .await;
    suffers("protocol", "before the session began", async |mut peer| {
        peer.greet().await?;
        peer.flood(&message(b'N', &error("00000", "and then")))
            .await
    })
    .await;
    // All the rounds of SCRAM are ours to make.
    for rounds in ["100001", "2000000000"] {
        let says = format!("{rounds} iterations of SCRAM; the limit is 100000");
        suffers("protocol", &says, move |mut peer: Peer| async move {
            peer.greet().await?;
            peer.send(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0").await?;
            let nonce = peer.scram_nonce().await?;
            let challenge = format!("\0\0\0\x0br={nonce}x,s=c2FsdHNhbHQ=,i={rounds}");
            peer.send(b'R', challenge.as_bytes()).await?;
            peer.listen().await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_ends_before_a_session() {
    suffers("timeout", "did not answer", async |mut peer| {
        peer.listen().await
    })
    .await;
    suffers("timeout", "did not answer", async |mut peer| {
        peer.greet().await?;
        peer.listen().await
    })
    .await;
    // TLS that never comes about.
    suffers("timeout", "did not answer", async |mut peer| {
        peer.greet_encrypted(b"").await?;
        peer.listen().await
    })
    .await;
    for stage in 0..4 {
        suffers(
            "refused",
            "closed the connection",
            move |mut peer: Peer| async move {
                if stage > 0 {
                    peer.greet().await?;
                }
                if stage > 1 {
                    peer.send(b'R', &[0; 4]).await?;
                }
                if stage > 2 {
                    // Half a message.
                    peer.send_raw(&announcement(b'S', 100)).await?;
                }
                Ok(())
            },
        )
        .await;
    }
    suffers("protocol", "it sent data that is not", async |mut peer| {
        peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        peer.listen().await
    })
    .await;
    suffers("protocol", "it sent data that is not", async |mut peer| {
        peer.greet().await?;
        peer.send(b'!', b"what is this").await?;
        peer.listen().await
    })
    .await;
    // As a server does that cannot start another process.
    suffers(
        "refused",
        "could not fork new process for connection: no memory",
        async |mut peer| {
            peer.greet().await?;
            peer.send_raw(b"Ecould not fork new process for connection: no memory\n\0")
                .await
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_in_place_of_an_answer() {
    suffers("protocol", "beside one answer", async |mut peer| {
        peer.log_in().await?;
        peer.query().await?;
        peer.flood(&message(b'N', &error("00000", "and then")))
            .await
    })
    .await;
    suffers("protocol", "beside one answer", async |mut peer| {
        peer.log_in().await?;
        peer.answer_until("pg_catalog.version()").await?;
        for number in 0.. {
            peer.send(b'S', format!("name{number}\0value\0").as_bytes())
                .await?;
        }
        Ok(())
    })
    .await;
    suffers(
        "protocol",
        "answer to one statement has more",
        async |mut peer| {
            peer.log_in().await?;
            peer.answer_until("datallowconn").await?;
            peer.send(b'T', &description(&DATABASES)).await?;
            let name = "x".repeat(100_000);
            peer.flood(&message(
                b'D',
                &cells(&[&name, "5", "t", "f", "f", "t", "10"]),
            ))
            .await
        },
    )
    .await;
    suffers(
        "protocol",
        "announced a message of 1073741824 bytes",
        async |mut peer| {
            peer.log_in().await?;
            peer.answer_until("pg_catalog.version()").await?;
            peer.send(b'T', &description(&["version"])).await?;
            peer.send_raw(&announcement(b'D', 1 << 30)).await?;
            peer.flood(&[b'x'; 1024]).await
        },
    )
    .await;
    suffers("protocol", "announced a message of", async |mut peer| {
        peer.log_in().await?;
        peer.answer_until("pg_catalog.version()").await?;
        peer.send(b'T', &description(&vec!["a".repeat(60); 65_535]))
            .await?;
        peer.listen().await
    })
    .await;
    suffers("protocol", "a result of 10000 columns", async |mut peer| {
        peer.log_in().await?;
        peer.answer_until("pg_catalog.version()").await?;
        peer.flood(&message(b'T', &description(&vec!["a"; 10_000])))
            .await
    })
    .await;
    suffers("protocol", "more than 100 results", async |mut peer| {
        peer.log_in().await?;
        peer.answer_until("pg_catalog.version()").await?;
        peer.flood(&message(b'T', &description(&vec!["a"; 1_664])))
            .await
    })
    .await;
    suffers("protocol", "announced a message of", async |mut peer| {
        peer.log_in().await?;
        peer.query().await?;
        peer.send_raw(&announcement(b'E', 100 * MIB as u32)).await?;
        peer.flood(b"SFATAL\0").await
    })
    .await;
    suffers("error", "…", async |mut peer| {
        peer.log_in().await?;
        loop {
            peer.answer_until("pg_catalog.version()").await?;
            peer.send(b'E', &error("XX000", &"long ".repeat(200_000)))
                .await?;
            peer.ready().await?;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none() {
    // Whatever it is asked, it has done it.
    suffers(
        "protocol",
        "has no row where one must be",
        async |mut peer| {
            peer.log_in().await?;
            loop {
                peer.query().await?;
                peer.send(b'C', b"SELECT 0\0").await?;
                peer.ready().await?;
            }
        },
    )
    .await;
    suffers(
        "protocol",
        "has no row where one must be",
        async |mut peer| {
            peer.log_in().await?;
            loop {
                peer.answer_until("pg_catalog.version()").await?;
                peer.send(b'C', b"SELECT 0\0").await?;
                peer.ready().await?;
            }
        },
    )
    .await;
    for row in [
        vec![&b"\xff\xfe"[..]; 9],
        vec![&b"words\0\x1b[2J"[..]; 9],
        vec![&b"1"[..]; 2],
        vec![&b"1"[..]; 3000],
    ] {
        let reasons = ["error", "connection", "protocol"];
        suffers_any(&reasons, "", move |mut peer: Peer| {
            let columns: Vec<_> = (0..row.len()).map(|at| format!("c{at}")).collect();
            let cells = cells(&row);
            async move {
                peer.log_in().await?;
                loop {
                    peer.answer_until("pg_catalog.version()").await?;
                    peer.send(b'T', &description(&columns)).await?;
                    peer.send(b'D', &cells).await?;
                    peer.send(b'C', b"SELECT 1\0").await?;
                    peer.ready().await?;
                }
            }
        })
        .await;
    }
    // It is ready, and ready, and ready.
    suffers_any(
        &["connection", "protocol", "error"],
        "",
        async |mut peer| {
            peer.log_in().await?;
            peer.query().await?;
            peer.flood(&message(b'Z', b"I")).await
        },
    )
    .await;
}

/// What was given up is read for a while, and then no more.
#[tokio::test(flavor = "multi_thread")]
async fn floods_after_a_scrape() {
    suffers("timeout", "did not answer", async |mut peer| {
        peer.log_in().await?;
        peer.answer_until("pg_catalog.version()").await?;
        // Until the statement is to be cancelled, or the connection closed.
        tokio::time::sleep(TIMEOUT - Duration::from_millis(400)).await;
        peer.flood(&message(b'D', &cells(&["x".repeat(500)]))).await
    })
    .await;
    let server = Hostile::start(async |mut peer: Peer| {
        peer.log_in().await?;
        peer.answer_until("datallowconn").await?;
        peer.answer("datallowconn").await?;
        // While nothing is asked.
        peer.flood(&message(b'N', &error("00000", "and then")))
            .await
    })
    .await;
    is_borne(&server).await;
}

/// The server is up; its collectors are told from each other, and what they bring is cut.
#[tokio::test(flavor = "multi_thread")]
async fn floods_in_the_answer_to_a_collector() {
    let server = Hostile::start(async |mut peer: Peer| {
        peer.log_in().await?;
        loop {
            let sql = peer.query().await?;
            if sql.contains("pg_stat_archiver") {
                peer.flood(&message(b'N', &error("00000", "and then")))
                    .await?;
            }
            peer.answer(&sql).await?;
        }
    })
    .await;
    let exporter = Exporter::watch(&server.dsn(), &[]).await;
    let before = memory(&exporter, "VmRSS");
    let page = scrape(&exporter).await;
    assert!(page.up());
    assert!(page.skipped().contains(&("stat_archiver", "protocol", "")));
    rests(&exporter).await;
    is_small(&exporter, before).await;
}

/// Encryption makes no difference.
#[tokio::test(flavor = "multi_thread")]
async fn floods_under_tls() {
    let certificates = Certificates::new(&[]);
    let tls = certificates.acceptor();
    let acceptor = tls.clone();
    suffers("protocol", "before the session began", move |peer: Peer| {
        let tls = acceptor.clone();
        async move {
            let mut peer = peer.greet_under(&tls).await?;
            peer.send(b'R', &[0; 4]).await?;
            peer.flood(&message(b'N', &error("00000", "and then")))
                .await
        }
    })
    .await;
    let acceptor = tls.clone();
    let says = "announced a message of 1073741824 bytes";
    suffers("protocol", says, move |peer: Peer| {
        let tls = acceptor.clone();
        async move {
            let mut peer = peer.greet_under(&tls).await?;
            peer.let_in().await?;
            peer.answer_until("datallowconn").await?;
            peer.send_raw(&announcement(b'D', 1024 * MIB as u32))
                .await?;
            peer.flood(&[0; 1024]).await
        }
    })
    .await;
    let server = Hostile::start(move |peer: Peer| {
        let tls = tls.clone();
        async move {
            let mut peer = peer.greet_under(&tls).await?;
            peer.let_in().await?;
            peer.answer_until("datallowconn").await?;
            peer.answer("datallowconn").await?;
            // While nothing is asked.
            peer.flood(&message(b'N', &error("00000", "and then")))
                .await
        }
    })
    .await;
    is_borne(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_strange_texts() {
    let server = Hostile::start(async |mut peer: Peer| {
        peer.log_in().await?;
        let long = "\x1b[31m\u{9b}name ".repeat(20_000);
        loop {
            let sql = peer.query().await?;
            if sql.contains("pg_catalog.version()") {
                let columns = ["v", "t", "r", "s", "i", "c", "l", "u", "p", "w", "a"];
                let row = [
                    "180001",
                    &long,
                    "f",
                    "1.5",
                    "7000000000000000001",
                    &long,
                    "1",
                    &long,
                    "t",
                    "",
                    "f",
                ];
                peer.result(&columns, &row).await?;
                peer.send(b'C', b"SELECT 0\0").await?;
                peer.send(b'C', b"SELECT 0\0").await?;
                peer.send(b'C', b"SELECT 0\0").await?;
                peer.ready().await?;
            } else if sql.contains("datallowconn") {
                peer.send(b'T', &description(&DATABASES)).await?;
                for number in 0..3_000 {
                    let name = format!("\x1b]0;{number}\u{7}{}", "d".repeat(300));
                    peer.send(
                        b'D',
                        &cells(&[name.as_str(), &number.to_string(), "f", "f", "f", "f", "10"]),
                    )
                    .await?;
                }
                peer.send(b'C', b"SELECT 3000\0").await?;
                peer.ready().await?;
            } else {
                peer.answer(&sql).await?;
            }
        }
    })
    .await;
    let exporter = Exporter::watch(&server.dsn(), &["--log.level=debug"]).await;
    let before = memory(&exporter, "VmRSS");
    let page = exporter.scrape().await;
    assert!(page.up());
    let info = page.samples("pg_server_info").next().unwrap();
    assert!(info.labels["cluster_name"].len() <= 2 * KIB);
    let landing = exporter.get("/").await;
    let text = landing.text();
    assert!(text.contains("more than 2000 databases"), "{text}");
    for obeyed in ['\x1b', '\u{9b}', '\u{7}'] {
        assert!(!text.contains(obeyed), "{obeyed:?} on the landing page");
        assert!(!exporter.output().contains(obeyed), "{obeyed:?} in the log");
    }
    is_small(&exporter, before).await;
}

/// A server does this to each connection; it is down for this reason, in these words.
async fn suffers<F>(reason: &str, says: &str, script: impl Fn(Peer) -> F + Send + 'static)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    suffers_any(&[reason], says, script).await;
}

async fn suffers_any<F>(reasons: &[&str], says: &str, script: impl Fn(Peer) -> F + Send + 'static)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let server = Hostile::start(script).await;
    let exporter = Exporter::watch(&server.dsn(), &[]).await;
    let before = memory(&exporter, "VmRSS");
    // On a busy machine the time may be over before the flood is found to be one.
    wait_for(&format!("it is down for one of {reasons:?}"), async || {
        let page = scrape(&exporter).await;
        let reason = page.down_reason().unwrap_or("none").to_owned();
        let said = exporter.output();
        let known = reasons.contains(&reason.as_str());
        assert!(known || reason == "timeout", "{reason}: {said}");
        known
    })
    .await;
    exporter.has_said(says).await;
    rests(&exporter).await;
    // It goes on like that.
    for _ in 0..3 {
        assert!(is_down(&scrape(&exporter).await));
    }
    rests(&exporter).await;
    is_small(&exporter, before).await;
}

/// Sees that a scrape of it leaves nothing behind.
async fn is_borne(server: &Hostile) {
    let exporter = Exporter::watch(&server.dsn(), &[]).await;
    let before = memory(&exporter, "VmRSS");
    scrape(&exporter).await;
    rests(&exporter).await;
    is_small(&exporter, before).await;
}

/// Scrapes as Prometheus does, and sees that the page comes in time.
async fn scrape(exporter: &Exporter) -> Page {
    let seconds = TIMEOUT.as_secs().to_string();
    let headers = [("X-Prometheus-Scrape-Timeout-Seconds", seconds.as_str())];
    let start = Instant::now();
    let page = exporter.get_with_headers("/metrics", &headers).await.page();
    assert!(start.elapsed() < TIMEOUT + SLACK, "{:?}", start.elapsed());
    page
}

fn is_down(page: &Page) -> bool {
    page.down_reason().is_some()
}
