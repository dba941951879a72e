//! Connections: encryption, logins, refusals, and the end of a session.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::config::Dsn;
use matrix_postgres_exporter::server::connect::{ConnectError, Dialer, Reason};
use rustix::process::{Signal, kill_process};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::support::certificates::Certificates;
use super::support::pgbouncer::PgBouncer;
use super::support::postgres::{Postgres, password, rows};
use super::support::process::{User, command, give, run, scratch, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_is_kept() {
    let [certificates, others] = [(); 2].map(|()| Certificates::new(&[]));
    let server = Postgres::builder(18).tls(&certificates).start().await;
    let ours = certificates.path("ca.crt").display().to_string();
    let theirs = others.path("ca.crt").display().to_string();
    let by_name = format!("host=localhost hostaddr=127.0.0.1 {}", login(&server));
    let by_address = format!("host=127.0.0.1 {}", login(&server));

    for (settings, encrypted) in [
        (format!("{by_name} sslmode=disable"), false),
        (format!("{by_name} sslmode=allow"), false),
        (by_name.clone(), true),
        (format!("{by_name} sslmode=prefer sslrootcert={ours}"), true),
        // The handshake fails, and libpq goes on without.
        (
            format!("{by_name} sslmode=prefer sslrootcert={theirs}"),
            false,
        ),
        (format!("{by_name} sslmode=require"), true),
        (format!("{by_name} sslmode=require sslsni=0"), true),
        (
            format!("{by_address} sslmode=require sslrootcert={ours}"),
            true,
        ),
        (
            format!("{by_address} sslmode=verify-ca sslrootcert={ours}"),
            true,
        ),
        (
            format!(
                "hostaddr=127.0.0.1 {} sslmode=verify-ca sslrootcert={ours}",
                login(&server)
            ),
            true,
        ),
        (
            format!("{by_name} sslmode=verify-full sslrootcert={ours}"),
            true,
        ),
    ] {
        let client = open(&settings).await;
        assert_eq!(encryption(&client).await.is_some(), encrypted, "{settings}");
    }
    for (settings, says) in [
        (
            format!("{by_name} sslmode=require sslrootcert={theirs}"),
            "sslrootcert",
        ),
        (
            format!("{by_name} sslmode=verify-ca sslrootcert={theirs}"),
            "sslrootcert",
        ),
        (
            format!("{by_name} sslmode=verify-full sslrootcert={theirs}"),
            "sslrootcert",
        ),
        (format!("{by_name} sslmode=verify-full"), "sslrootcert"),
        (format!("{by_name} sslrootcert=system"), "sslrootcert"),
        (
            format!("{by_name} sslmode=require sslrootcert=/no/ca"),
            "/no/ca (sslrootcert) cannot be read: No such file",
        ),
        (
            format!("{by_address} sslmode=verify-full sslrootcert={ours}"),
            "is only valid for DnsName(\"localhost\")",
        ),
    ] {
        let error = refused(&settings).await;
        assert_eq!(error.reason(), Reason::Tls, "{settings}: {error}");
        assert!(error.to_string().contains(says), "{settings}: {error}");
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let dsn = format!(
            "{by_name} ssl_min_protocol_version={version} ssl_max_protocol_version={version}"
        );
        assert_eq!(
            encryption(&open(&dsn).await).await.as_deref(),
            Some(version)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls() {
    let server = Postgres::start(18).await;
    let dsn = format!("host=localhost hostaddr=127.0.0.1 {}", login(&server));
    assert_eq!(encryption(&open(&dsn).await).await, None);
    let error = refused(&format!("{dsn} sslmode=require")).await;
    assert_eq!(error.reason(), Reason::Tls);
    assert!(
        error
            .to_string()
            .contains("does not support TLS; set ssl = on"),
        "{error}"
    );
    // A socket is never encrypted, whatever is asked for.
    let socket = format!("{} sslmode=verify-full", server.dsn("postgres", "postgres"));
    assert_eq!(encryption(&open(&socket).await).await, None);
}

/// The certificate of PostgreSQL's manual signs itself, and says that it is an authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_signs_itself() {
    let dir = scratch();
    let [crt, key] = ["server.crt", "server.key"].map(|name| dir.path().join(name));
    run(command(User::Same, "openssl")
        .args([
            "req", "-x509", "-days", "2", "-newkey", "rsa:2048", "-noenc",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args([Path::new("-keyout"), &key, Path::new("-out"), &crt]));
    give(&key);
    let server = Postgres::builder(18)
        .setting("ssl", "on")
        .setting("ssl_cert_file", &format!("'{}'", crt.display()))
        .setting("ssl_key_file", &format!("'{}'", key.display()))
        .start()
        .await;
    let trusted = format!(
        "sslmode=verify-full sslrootcert={} {}",
        crt.display(),
        login(&server)
    );
    let client = open(&format!("host=localhost hostaddr=127.0.0.1 {trusted}")).await;
    assert!(encryption(&client).await.is_some());
    let error = refused(&format!("host=127.0.0.1 {trusted}")).await;
    assert_eq!(error.reason(), Reason::Tls, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_want_or_forbid_encryption() {
    let certificates = Certificates::new(&[]);
    let server = Postgres::builder(18)
        .tls(&certificates)
        .hba("hostnossl all secret 127.0.0.1/32 reject")
        .hba("hostssl all open 127.0.0.1/32 reject")
        .start()
        .await;
    for role in ["secret", "open"] {
        create(&server, role).await;
    }
    let dsn = |role: &str, mode| format!("{} sslmode={mode}", server.tcp_dsn("postgres", role));
    assert!(
        encryption(&open(&dsn("secret", "allow")).await)
            .await
            .is_some()
    );
    assert!(
        encryption(&open(&dsn("open", "prefer")).await)
            .await
            .is_none()
    );
    for dsn in [dsn("secret", "disable"), dsn("open", "require")] {
        let error = refused(&dsn).await;
        assert_eq!(error.reason(), Reason::Authentication, "{error}");
        assert!(error.to_string().contains("pg_hba.conf rejects"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_bound_to_the_channel() {
    let certificates = Certificates::new(&[]);
    let server = Postgres::builder(18).tls(&certificates).start().await;
    let dsn = format!(
        "{} channel_binding=require",
        server.tcp_dsn("postgres", "postgres")
    );
    open(&format!("{dsn} sslmode=require")).await;
    let error = refused(&format!("{dsn} sslmode=disable")).await;
    assert_eq!(error.reason(), Reason::Authentication, "{error}");
    assert!(error.to_string().contains("channel binding"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates() {
    let certificates = Certificates::new(&["exporter"]);
    let server = Postgres::builder(18)
        .tls(&certificates)
        .hba("hostssl all exporter 127.0.0.1/32 cert")
        .start()
        .await;
    create(&server, "exporter").await;
    let [crt, pkcs8] = ["exporter.crt", "exporter.key"].map(|name| certificates.path(name));
    let sec1 = certificates.path("sec1.key");
    openssl(&["ec", "-in", text(&pkcs8), "-out", text(&sec1)]);
    assert!(
        fs::read_to_string(&sec1)
            .unwrap()
            .contains("BEGIN EC PRIVATE KEY")
    );
    let [rsa_crt, rsa, pkcs1] =
        ["rsa.crt", "rsa.key", "pkcs1.key"].map(|name| certificates.path(name));
    openssl(&[
        "req",
        "-x509",
        "-days",
        "2",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-subj",
        "/CN=exporter",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        text(&certificates.path("ca.crt")),
        "-CAkey",
        text(&certificates.path("ca.key")),
        "-keyout",
        text(&rsa),
        "-out",
        text(&rsa_crt),
    ]);
    openssl(&[
        "rsa",
        "-traditional",
        "-in",
        text(&rsa),
        "-out",
        text(&pkcs1),
    ]);
    assert!(
        fs::read_to_string(&pkcs1)
            .unwrap()
            .contains("BEGIN RSA PRIVATE KEY")
    );

    let with = |crt: &Path, key: &Path| {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=exporter dbname=postgres \
             sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
            server.port(),
            certificates.path("ca.crt").display(),
            crt.display(),
            key.display()
        )
    };
    for (crt, key) in [
        (&crt, &pkcs8),
        (&crt, &sec1),
        (&rsa_crt, &rsa),
        (&rsa_crt, &pkcs1),
    ] {
        open(&with(crt, key)).await;
    }

    // Nothing in the home directory, so no certificate is shown.
    let without = format!(
        "host=127.0.0.1 port={} user=exporter dbname=postgres sslmode=require",
        server.port()
    );
    let error = refused(&without).await;
    assert_eq!(error.reason(), Reason::Authentication, "{error}");
    assert!(
        error
            .to_string()
            .contains("requires a valid client certificate"),
        "{error}"
    );

    fs::set_permissions(&pkcs8, PermissionsExt::from_mode(0o644)).unwrap();
    let encrypted = certificates.path("encrypted.key");
    openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        text(&sec1),
        "-passout",
        "pass:x",
        "-out",
        text(&encrypted),
    ]);
    for (crt, key, says) in [
        (
            crt.as_path(),
            pkcs8.as_path(),
            "(sslkey) can be read or written by others",
        ),
        (
            &crt,
            Path::new("/no/key"),
            "the file /no/key (sslkey) cannot be read: No such file",
        ),
        (
            Path::new("/no/crt"),
            &sec1,
            "the file /no/crt (sslcert) cannot be read: No such file",
        ),
        (&crt, &encrypted, "private key without a passphrase"),
        (&sec1, &sec1, "(sslcert) holds no certificate in PEM form"),
        (&rsa_crt, &sec1, "cannot be used"),
    ] {
        let error = refused(&with(crt, key)).await;
        assert_eq!(error.reason(), Reason::Tls, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let theirs = Certificates::new(&["exporter"]);
    let error = refused(&with(
        &theirs.path("exporter.crt"),
        &theirs.path("exporter.key"),
    ))
    .await;
    assert_eq!(error.reason(), Reason::Tls, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_rotate_and_are_never_shown() {
    let server = Postgres::start(18).await;
    create(&server, "exporter").await;
    let dir = scratch();
    let file = dir.path().join("password");
    let login = format!(
        "host=127.0.0.1 port={} user=exporter dbname=postgres",
        server.port()
    );

    let error = refused(&login).await;
    assert_eq!(error.reason(), Reason::Authentication);
    assert!(
        error
            .to_string()
            .contains("asks for the password of role \"exporter\""),
        "{error}"
    );

    let error = refused(&format!("{login} password=hunter2")).await;
    assert_eq!(error.reason(), Reason::Authentication);
    let says = format!(
        "the server at 127.0.0.1:{} refused the password of role \"exporter\"",
        server.port()
    );
    assert!(error.to_string().contains(&says), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );

    let mut dsn = Dsn::parse(&login).unwrap();
    dsn.set_password_file(&file);
    let dialer = Dialer::new(dsn.with_defaults(&|_| None).unwrap());
    let error = dialer
        .connect(None, (), Arc::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::PasswordFile);
    assert!(error.to_string().contains(text(&file)), "{error}");
    for new in ["first", "it's a \\ second"] {
        let quoted = new.replace('\'', "''");
        server
            .sql(
                "postgres",
                &format!("ALTER ROLE exporter PASSWORD '{quoted}'"),
            )
            .await;
        fs::write(&file, format!("{new}\n")).unwrap();
        let (_client, session) = dialer.connect(None, (), Arc::default()).await.unwrap();
        tokio::spawn(session);
    }

    let passfile = dir.path().join("pgpass");
    fs::write(
        &passfile,
        "other:*:*:*:no\n127.0.0.1:*:postgres:exporter:it's a \\\\ second\n",
    )
    .unwrap();
    fs::set_permissions(&passfile, PermissionsExt::from_mode(0o600)).unwrap();
    let with_passfile = format!("{login} passfile={}", passfile.display());
    open(&with_passfile).await;
    // The line is for one database only.
    let error = dialer_of(&with_passfile)
        .connect(Some("template1"), (), Arc::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::Authentication, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_backend() {
    let certificates = Certificates::new(&[]);
    let server = Postgres::builder(18).tls(&certificates).start().await;
    let watcher = server.client("postgres", "postgres").await;
    let backends = async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'short'";
        rows(&watcher, count).await[0][0].clone().unwrap()
    };
    for dsn in [
        server.dsn("postgres", "postgres"),
        server.tcp_dsn("postgres", "postgres") + " sslmode=disable",
        server.tcp_dsn("postgres", "postgres") + " sslmode=require",
    ] {
        let dialer = dialer_of(&format!("{dsn} application_name=short"));
        for _ in 0..5 {
            let (client, session) = dialer.connect(None, (), Arc::default()).await.unwrap();
            let session = tokio::spawn(session);
            assert_eq!(backends().await, "1");
            drop(client);
            session.await.unwrap();
            assert_eq!(backends().await, "0", "{dsn}");
        }
        for _ in 0..5 {
            let (client, session) = dialer.connect(None, (), Arc::default()).await.unwrap();
            let session = tokio::spawn(session);
            let suicide = client
                .simple_query("SELECT pg_terminate_backend(pg_backend_pid())")
                .await;
            assert_eq!(suicide.unwrap_err().code(), Some(&SqlState::ADMIN_SHUTDOWN));
            session.await.unwrap();
            assert_eq!(backends().await, "0", "{dsn}");
        }
        // A statement that nobody waits for holds the backend, and so the session.
        let (client, session) = dialer.connect(None, (), Arc::default()).await.unwrap();
        let session = tokio::spawn(session);
        let token = client.cancel_token();
        let statement =
            tokio::spawn(async move { client.simple_query("SELECT pg_sleep(600)").await.err() });
        wait_for("the statement runs", async || {
            let active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'short' \
                          AND wait_event = 'PgSleep'";
            rows(&watcher, active).await[0][0].as_deref() == Some("1")
        })
        .await;
        statement.abort();
        assert!(statement.await.unwrap_err().is_cancelled());
        assert_eq!(backends().await, "1");
        assert!(!session.is_finished());
        dialer.cancel(&token).await.unwrap();
        session.await.unwrap();
        assert_eq!(backends().await, "0", "{dsn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_names_rides_in_the_start() {
    let server = Postgres::start(18).await;
    let changed = "SELECT name, setting FROM pg_settings WHERE source = 'client' ORDER BY name";
    let client = open(&server.dsn("postgres", "postgres")).await;
    assert_eq!(
        rows(&client, changed).await,
        [
            ["application_name", "matrix-postgres-exporter"],
            ["client_encoding", "UTF8"],
        ]
        .map(|pair| pair.map(|value| Some(value.to_owned())).to_vec())
    );
    let dsn = format!(
        "{} options='-c geqo=off'",
        server.dsn("postgres", "postgres")
    );
    let client = open(&dsn).await;
    assert_eq!(
        rows(&client, "SHOW geqo").await[0][0].as_deref(),
        Some("off")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_reason() {
    let mut server = Postgres::start(18).await;
    create(&server, "exporter").await;
    for statement in [
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        "CREATE DATABASE full_up CONNECTION LIMIT 0",
        "CREATE ROLE nobody PASSWORD 'nobody-secret'",
    ] {
        server.sql("postgres", statement).await;
    }
    for (database, role, reason, says) in [
        (
            "missing",
            "exporter",
            Reason::DatabaseMissing,
            "has no database \"missing\"",
        ),
        (
            "closed",
            "exporter",
            Reason::NoConnectPrivilege,
            "GRANT CONNECT ON DATABASE \"closed\" TO \"exporter\"",
        ),
        (
            "full_up",
            "exporter",
            Reason::TooManyConnections,
            "too many connections for database",
        ),
        (
            "postgres",
            "nobody",
            Reason::Authentication,
            "is not permitted to log in",
        ),
        (
            "postgres",
            "unknown",
            Reason::Authentication,
            "refused the password of role \"unknown\"",
        ),
    ] {
        let error = refused(&server.tcp_dsn(database, role)).await;
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    server
        .sql("postgres", "ALTER ROLE exporter CONNECTION LIMIT 1")
        .await;
    let first = open(&server.tcp_dsn("postgres", "exporter")).await;
    let error = refused(&server.tcp_dsn("postgres", "exporter")).await;
    assert_eq!(error.reason(), Reason::TooManyConnections);
    assert!(
        error.to_string().contains("too many connections for role"),
        "{error}"
    );

    // A server that shuts down waits for the sessions that are open.
    kill_process(server.pid(), Signal::TERM).unwrap();
    wait_for("the server begins to shut down", async || {
        let error = dialer_of(&server.tcp_dsn("postgres", "postgres"))
            .connect(None, (), Arc::default())
            .await
            .err();
        error.is_some_and(|error| error.reason() == Reason::ShuttingDown)
    })
    .await;
    drop(first);
    server.stop().await;
    for dsn in [
        server.tcp_dsn("postgres", "exporter"),
        server.dsn("postgres", "exporter"),
    ] {
        let error = refused(&dsn).await;
        assert_eq!(error.reason(), Reason::Refused, "{error}");
        assert!(
            error.to_string().contains(&server.port().to_string()),
            "{error}"
        );
    }
    let error = refused("host=matrix.invalid user=u").await;
    assert_eq!(error.reason(), Reason::Dns, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_refuses_too() {
    let server = Postgres::start(18).await;
    let bouncer = PgBouncer::start(&server, &["postgres"]).await;
    open(&bouncer.dsn("postgres", "postgres")).await;
    let wrong = bouncer.dsn("postgres", "postgres") + "-wrong";
    let options = bouncer.dsn("postgres", "postgres") + " options='-c geqo=off'";
    for (dsn, reason, says) in [
        (wrong, Reason::Authentication, "refused the password"),
        (
            bouncer.dsn("missing", "postgres"),
            Reason::DatabaseMissing,
            "has no database \"missing\"",
        ),
        (options, Reason::Other, "ignore_startup_parameters"),
    ] {
        let error = refused(&dsn).await;
        assert_eq!(error.reason(), reason, "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_starts() {
    let primary = Postgres::start(18).await;
    let standby = primary
        .standby()
        .setting("hot_standby", "off")
        .start_until("started streaming WAL")
        .await;
    let error = refused(&standby.tcp_dsn("postgres", "postgres")).await;
    assert_eq!(error.reason(), Reason::StartingUp, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs() {
    let server = Postgres::start(18).await;
    let dialer = dialer_of(&format!(
        "{} connect_timeout=1",
        server.tcp_dsn("postgres", "postgres")
    ));
    let (client, session) = dialer.connect(None, (), Arc::default()).await.unwrap();
    let session = tokio::spawn(session);
    server.freeze().await;
    let start = Instant::now();
    let error = dialer
        .connect(None, (), Arc::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::Timeout, "{error}");
    let error = dialer.cancel(&client.cancel_token()).await.err().unwrap();
    assert_eq!(error.reason(), Reason::Timeout, "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(client);
    assert!(!session.is_finished());
    server.thaw();
    session.await.unwrap();
}

/// `port`, `user`, `dbname` and `password` of the superuser over TCP; the host is up to the test.
fn login(server: &Postgres) -> String {
    let user = "postgres";
    format!(
        "port={} user={user} dbname={user} password={}",
        server.port(),
        password(user)
    )
}

async fn create(server: &Postgres, role: &str) {
    let create = format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{}'", password(role));
    server.sql("postgres", &create).await;
}

fn dialer_of(dsn: &str) -> Dialer {
    let dsn = Dsn::parse(dsn).and_then(|dsn| dsn.with_defaults(&|_| None));
    Dialer::new(dsn.unwrap_or_else(|error| panic!("{error}")))
}

async fn open(dsn: &str) -> Client {
    let (client, session) = dialer_of(dsn)
        .connect(None, (), Arc::default())
        .await
        .unwrap_or_else(|error| panic!("{dsn}: {error}"));
    tokio::spawn(session);
    client
}

async fn refused(dsn: &str) -> ConnectError {
    let refusal = dialer_of(dsn).connect(None, (), Arc::default()).await.err();
    refusal.unwrap_or_else(|| panic!("{dsn} connects"))
}

/// The version of TLS that a session speaks.
async fn encryption(client: &Client) -> Option<String> {
    let version = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    rows(client, version).await[0][0].clone()
}

fn openssl(args: &[&str]) {
    run(command(User::Same, "openssl").args(args));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
