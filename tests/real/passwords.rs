//! Servers that ask for the password, and settings that hold one: who gets it, and where it is not shown.

use std::fs;

use super::support::exporter::{Exporter, exporter_command};
use super::support::hostile::{Hostile, PASSWORD, Peer};

#[tokio::test(flavor = "multi_thread")]
async fn the_password_goes_in_clear_to_nobody_who_only_asks() {
    let asks = async |mut peer: Peer| {
        peer.greet().await?;
        peer.ask_in_clear().await
    };
    let broken_tls = async |mut peer: Peer| {
        peer.greet_encrypted(b"this is no handshake").await?;
        peer.ask_in_clear().await
    };
    for (settings, given, says) in [
        ("", false, "set sslmode=verify-full (or require)"),
        ("sslmode=disable", false, "require_auth=password allows it"),
        ("sslmode=allow", false, "require_auth=password allows it"),
        ("sslmode=require", false, "does not support TLS"),
        (
            "require_auth=!md5",
            false,
            "require_auth=password allows it",
        ),
        (
            "require_auth=scram-sha-256",
            false,
            "require_auth allows only scram-sha-256",
        ),
        ("require_auth=password", true, ""),
    ] {
        let server = Hostile::start(asks).await;
        sends_password(&server, settings, given, says).await;
    }
    for (settings, given, says) in [
        ("", false, "encryption failed before"),
        ("require_auth=password", false, "encryption failed before"),
        (
            "sslmode=require require_auth=password",
            false,
            "cannot set up TLS with the server",
        ),
        ("sslmode=disable require_auth=password", true, ""),
    ] {
        let server = Hostile::start(broken_tls).await;
        sends_password(&server, settings, given, says).await;
    }
    // Nobody is on the way to oneself.
    let server = Hostile::start(asks).await;
    Exporter::watch(&server.dsn(), &[]).await.scrape().await;
    assert!(server.has_seen(PASSWORD));
}

async fn sends_password(server: &Hostile, settings: &str, given: bool, says: &str) {
    let dsn = format!("{} {settings}", server.dsn_at("0.0.0.0"));
    let exporter = Exporter::watch(&dsn, &["--log.level=trace"]).await;
    let page = exporter.scrape().await;
    assert!(!page.up());
    assert_eq!(server.has_seen(PASSWORD), given, "{settings:?}");
    exporter.has_said(says).await;
    assert!(!exporter.output().contains(PASSWORD));
}

/// Others see the arguments of a program.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_among_the_arguments_is_warned_of_once() {
    let told = "--dsn: every user of this host can read the password";
    let dsn = "host=127.0.0.1 port=1 password=correct-horse-battery";
    for (args, env, times) in [
        (&["--dsn", dsn][..], &[][..], 1),
        (&["--dsn", "host=127.0.0.1 port=1"], &[], 0),
        (&[], &[("DATA_SOURCE_NAME", dsn)], 0),
    ] {
        let exporter = Exporter::start(args, env).await;
        exporter.scrape().await;
        let said = exporter.output();
        assert_eq!(said.matches(told).count(), times, "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

/// Bad configurations, as the program says it on a terminal.
#[test]
fn absurd_and_strange_settings_are_refused_in_plain_text() {
    for (yaml, says) in [
        (
            "servers: { a: { connections: 9223372036854775807 } }",
            "a whole number from 2 to 100",
        ),
        (
            "servers: { a: { connections: 4611686018427387904 } }",
            "a whole number from 2 to 100",
        ),
        (
            "{ \"we\\eb\": 1, \"\\u009b2J\": 1 }",
            "a key here is unknown",
        ),
        (
            "servers: { a: { \"\\e]0;x\\a\": { hunter2: 1 } } }",
            "a key here is unknown",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), yaml).unwrap();
        let path = file.path().display().to_string();
        let output = exporter_command(&["check", "--config.file", &path, "--dsn", "user=u"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty());
        assert!(said.contains(says), "{said}");
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(
            !said.contains(obeyed) && !said.contains("hunter2"),
            "{said:?}"
        );
    }
}
