use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

/// The string, completed by an environment that holds only `USER=os`.
fn dsn(text: &str) -> Dsn {
    complete(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn complete(text: &str, variables: &[(&str, &str)]) -> Result<Dsn, DsnErrors> {
    Dsn::parse(text)?.with_defaults(&|wanted| {
        variables
            .iter()
            .chain(&[("USER", "os")])
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn refusal(text: &str) -> String {
    match complete(text, &[]) {
        Ok(dsn) => panic!("{text} is taken as {dsn}"),
        Err(error) => error.to_string(),
    }
}

fn password(dsn: &Dsn) -> String {
    dsn.password(dsn.database())
        .unwrap()
        .map_or_else(|| "none".to_owned(), |it| it.expose_secret().to_owned())
}

/// The examples of libpq's manual, and what else libpq's own tests take.
#[test]
fn takes_what_libpq_takes() {
    let local = dsn("").address();
    for (text, address, user, password_, database) in [
        ("", &*local, "os", "none", "os"),
        (
            "host=localhost port=5432 dbname=mydb connect_timeout=10",
            "localhost:5432",
            "os",
            "none",
            "mydb",
        ),
        ("postgresql://", &local, "os", "none", "os"),
        (
            "postgresql://localhost",
            "localhost:5432",
            "os",
            "none",
            "os",
        ),
        (
            "postgresql://localhost:5433",
            "localhost:5433",
            "os",
            "none",
            "os",
        ),
        (
            "postgresql://localhost/mydb",
            "localhost:5432",
            "os",
            "none",
            "mydb",
        ),
        (
            "postgresql://user@localhost",
            "localhost:5432",
            "user",
            "none",
            "user",
        ),
        (
            "postgresql://user:secret@localhost",
            "localhost:5432",
            "user",
            "secret",
            "user",
        ),
        (
            "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
            "localhost:5432",
            "other",
            "none",
            "otherdb",
        ),
        (
            "postgresql:///mydb?host=localhost&port=5433",
            "localhost:5433",
            "os",
            "none",
            "mydb",
        ),
        (
            "postgresql://[2001:db8::1234]/database",
            "[2001:db8::1234]:5432",
            "os",
            "none",
            "database",
        ),
        ("postgres://u:p@[::1]:1/d", "[::1]:1", "u", "p", "d"),
        (
            "postgresql:///dbname?host=/var/lib/postgresql",
            "/var/lib/postgresql:5432",
            "os",
            "none",
            "dbname",
        ),
        (
            "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
            "/var/lib/postgresql:5432",
            "os",
            "none",
            "dbname",
        ),
        (
            "postgresql://user:p%40s%23s@host/db",
            "host:5432",
            "user",
            "p@s#s",
            "db",
        ),
        (
            "postgresql://user:it's!@host/",
            "host:5432",
            "user",
            "it's!",
            "user",
        ),
        (
            "postgresql://user:a:b@host",
            "host:5432",
            "user",
            "a:b",
            "user",
        ),
        (
            "postgresql://h/?user=u@tenant&password=p@ss",
            "h:5432",
            "u@tenant",
            "p@ss",
            "u@tenant",
        ),
        ("postgresql://u@h?", "h:5432", "u", "none", "u"),
        (
            "host = h  port\t=\n1 user= 'two words'",
            "h:1",
            "two words",
            "none",
            "two words",
        ),
        (
            r"host=h user=o\'b password='it\'s \\ me'",
            "h:5432",
            "o'b",
            r"it's \ me",
            "o'b",
        ),
        (
            r"host=h user=a\ b password=' '",
            "h:5432",
            "a b",
            " ",
            "a b",
        ),
        (
            "host=h user=u dbname='' password=''",
            "h:5432",
            "u",
            "none",
            "u",
        ),
        ("host=one host=two", "two:5432", "os", "none", "os"),
        ("hostaddr=10.0.0.1", "10.0.0.1:5432", "os", "none", "os"),
        ("hostaddr=::1 port=2", "[::1]:2", "os", "none", "os"),
        (
            "host=name hostaddr=10.0.0.1",
            "name:5432",
            "os",
            "none",
            "os",
        ),
        ("host=h password=a=b user=u", "h:5432", "u", "a=b", "u"),
    ] {
        let dsn = dsn(text);
        assert_eq!(
            (
                dsn.address().as_str(),
                dsn.user(),
                password(&dsn).as_str(),
                dsn.database()
            ),
            (address, user, password_, database),
            "{text}"
        );
    }
}

#[test]
fn takes_every_setting() {
    let dsn = dsn(
        "host=h sslmode=verify-ca sslrootcert=/ca sslcert=/c sslkey=/k sslsni=0 \
         ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.3 channel_binding=require \
         connect_timeout=7 keepalives_idle=11 keepalives_interval=0 keepalives_count=4 \
         tcp_user_timeout=9000 application_name=me fallback_application_name=other \
         options='-c geqo=off' client_encoding=UTF-8 gssencmode=disable krbsrvname=postgres \
         target_session_attrs=any sslcompression=0 passfile=/p",
    );
    let file = |path: &str| File {
        path: path.into(),
        optional: false,
    };
    assert_eq!(dsn.tls.mode, SslMode::VerifyCa);
    assert_eq!(dsn.tls.roots, Roots::File(file("/ca")));
    assert_eq!(dsn.tls.certificate, Some(file("/c")));
    assert_eq!(dsn.tls.key, Some(file("/k")));
    assert!(!dsn.tls.sni);
    assert_eq!(dsn.tls.oldest, TlsVersion::V1_3);
    assert_eq!(dsn.tls.newest, TlsVersion::V1_3);
    assert_eq!(dsn.channel_binding, ChannelBinding::Require);
    assert_eq!(dsn.connect_timeout, Duration::from_secs(7));
    assert_eq!(
        dsn.keepalives,
        Keepalives {
            on: true,
            idle: Some(Duration::from_secs(11)),
            interval: None,
            probes: Some(4),
            user_timeout: Some(Duration::from_secs(9)),
        }
    );
    assert_eq!(dsn.application_name, "me");
    assert_eq!(dsn.options.as_deref(), Some("-c geqo=off"));
    assert_eq!(dsn.passfile.as_deref(), Some(Path::new("/p")));
}

#[test]
fn the_environment_stands_in_for_what_the_string_leaves_open() {
    let variables = [
        ("PGHOST", "db"),
        ("PGPORT", "6432"),
        ("PGUSER", "exporter"),
        ("PGDATABASE", "matrix"),
        ("PGPASSWORD", "secret"),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "mine"),
        ("PGCONNECT_TIMEOUT", "0"),
        ("HOME", "/home/me"),
    ];
    let open = complete("", &variables).unwrap();
    assert_eq!(
        open.to_string(),
        "address=db:6432 dbname=matrix user=exporter sslmode=require"
    );
    assert_eq!(password(&open), "secret");
    assert_eq!(open.application_name, "mine");
    assert_eq!(open.connect_timeout, Duration::from_secs(3));
    assert_eq!(
        open.passfile.as_deref(),
        Some(Path::new("/home/me/.pgpass"))
    );
    assert_eq!(
        open.tls.roots,
        Roots::File(File {
            path: "/home/me/.postgresql/root.crt".into(),
            optional: true
        })
    );

    let given = complete(
        "postgres://u:p@h:1/d?sslmode=disable&application_name=ours",
        &variables,
    )
    .unwrap();
    assert_eq!(
        given.to_string(),
        "address=h:1 dbname=d user=u sslmode=disable"
    );
    assert_eq!(password(&given), "p");
    assert_eq!(given.application_name, "ours");

    let nameless = Dsn::parse("host=h").unwrap().with_defaults(&|_| None);
    assert_eq!(nameless.unwrap_err(), DsnError::NoUser.into());
    assert_eq!(
        complete("", &[("PGSSLMODE", "always")])
            .unwrap_err()
            .to_string(),
        "PGSSLMODE: must be disable, allow, prefer, require, verify-ca or verify-full"
    );
    assert_eq!(
        complete("", &[("PGSERVICE", "main")])
            .unwrap_err()
            .to_string(),
        "PGSERVICE: service files are not supported yet; remove it, and set host, port, dbname and \
         user (PGHOST, PGPORT, PGDATABASE and PGUSER)"
    );
}

#[test]
fn separate_settings_win() {
    let mut dsn = Dsn::parse("postgres://u:p@h").unwrap();
    dsn.set_user("other");
    dsn.set_password("new".into());
    let dsn = dsn
        .with_defaults(&|name| (name == "PGPASSWORD").then(|| "environment".to_owned()))
        .unwrap();
    assert_eq!((dsn.user(), dsn.database()), ("other", "other"));
    assert_eq!(password(&dsn), "new");
}

#[test]
fn application_names() {
    assert_eq!(dsn("host=h").application_name, "matrix-postgres-exporter");
    assert_eq!(
        dsn("host=h fallback_application_name=f").application_name,
        "f"
    );
    assert_eq!(
        complete("fallback_application_name=f", &[("PGAPPNAME", "e")])
            .unwrap()
            .application_name,
        "e"
    );
}

#[test]
fn system_roots_verify_in_full() {
    assert_eq!(
        dsn("host=h sslrootcert=system").tls.mode,
        SslMode::VerifyFull
    );
    assert!(refusal("host=h sslrootcert=system sslmode=require").contains("verify-full"));
    assert!(refusal("hostaddr=::1 sslmode=verify-full").contains("host beside hostaddr"));
    assert!(
        refusal("host=h ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2")
            .contains("must not be newer")
    );
}

/// Every refusal says what to do, and none shows the password `hunter2`, or a half of it.
#[test]
fn says_what_is_wrong_and_keeps_the_secret() {
    for (text, says) in [
        (
            "postgres://u:hun@ter2@h/d",
            "an unescaped \"@\": write it as %40",
        ),
        (
            "postgres://u:hun#ter2@h/d",
            "an unescaped \"#\": write it as %23",
        ),
        (
            "postgres://u:hun/ter2@h/d",
            "an unescaped \"/\": write it as %2F",
        ),
        (
            "postgres://u:hun?ter2@h/d",
            "an unescaped \"?\": write it as %3F",
        ),
        (
            "postgres://u:hun@t/er2@h/d",
            "\"/\": write it as %2F, an unescaped \"@\"",
        ),
        ("postgres://u:12/hun@h/d", "write it as %2F"),
        ("postgres://u:12?hun@h/d", "write it as %3F"),
        ("postgres://u:12?hun=ter2@h/d", "write it as %3F"),
        ("postgres://u:hun%ter2@h/d", "write \"%\" itself as %25"),
        ("postgres://u:hunter2%@h/d", "write \"%\" itself as %25"),
        ("postgres://u:hunter2%f@h/d", "write \"%\" itself as %25"),
        ("postgres://u:12?password=hun@ter2", "write it as %3F"),
        ("postgres://u:hun ter2@h/d", "write a space as %20"),
        ("postgres://u:hunter2%00@h/d", "%00 is not allowed"),
        ("postgres://u:hunter2%ff@h/d", "must be UTF-8"),
        ("postgres://u:hun#ter2", "an unescaped \"#\""),
        (
            "postgres://u:hunter2",
            "port must be a number from 1 to 65535",
        ),
        ("postgres://u:hunter2@h/d?hun", "key=value pairs with \"&\""),
        ("postgres://h/d?password=hun&ter2=x", "write \"&\" as %26"),
        (
            "postgres://h/d?password=hun=ter2",
            "write \"=\" in a value as %3D",
        ),
        (
            "postgres://u:hunter2@[::1/d",
            "a host in brackets is an IPv6 address",
        ),
        (
            "postgres://u:hunter2@[::1]x/d",
            "a host in brackets is an IPv6 address",
        ),
        ("postgres://u:hunter2@h:99999/d", "port must be a number"),
        ("postgres://u:hunter2@h:0/d", "port must be a number"),
        (
            "postgres://u:hunter2@a:1,b:2/d",
            "several hosts are not supported yet",
        ),
        ("mysql://u:hunter2@h/d", "begins with postgres://"),
        ("u:hunter2@h/d", "begins with postgres://"),
        ("u:hunter2@h/d?sslmode=disable", "begins with postgres://"),
        (
            "host=h password=hun ter2",
            "the value of password has no \"=\"",
        ),
        ("host=h password=hun ter2=x", "quote a password with spaces"),
        (
            "host=h password='hunter2",
            "quoted value of password is not closed",
        ),
        (
            "host=a,b password=hunter2",
            "several hosts are not supported yet",
        ),
        (
            "host=h pasword=hunter2",
            "no key \"pasword\"; did you mean password?",
        ),
        (
            "host=h password='hunter2' xyz=1",
            "one of its keys is unknown, what follows the value of password",
        ),
        (
            "postgres://u:hunter2@h/d?sslmod=require",
            "did you mean sslmode?",
        ),
        (
            "host=h password=hunter2 sslmode=full",
            "disable, allow, prefer",
        ),
        (
            "host=h password=hunter2 sslcrl=/x",
            "revocation lists are not read",
        ),
        (
            "host=h password=hunter2 service=x",
            "service files are not supported yet",
        ),
        (
            "host=h password=hunter2 target_session_attrs=master",
            "target_session_attrs must be any, read-write",
        ),
        (
            "host=h password='hunter2' statment_timeout=1",
            "did you mean statement_timeout?",
        ),
        (
            "host=h password=hun ter2.x=1",
            "quote a password with spaces",
        ),
        (
            "host=h password=hunter2 gssencmode=require",
            "GSSAPI is not supported",
        ),
        (
            "host=h password=hunter2 replication=database",
            "replication session",
        ),
        (
            "host=h password=hunter2 sslpassword=hunter2",
            "encrypted keys cannot be read",
        ),
        ("=x password=hunter2", "one of its keys is unknown"),
    ] {
        let error = refusal(text);
        assert!(error.contains(says), "{text}\n says {error}\n  not {says}");
        let shown = format!("{error} {:?}", complete(text, &[]));
        for part in ["hunter2", "hun", "ter2"] {
            assert!(!shown.contains(part), "{text}\n shows {part}: {shown}");
        }
    }
}

#[test]
fn shows_no_secret() {
    let dsn = dsn("postgres://u:hunter2@h/d?options=-c%20my.secret%3Dhunter2");
    assert_eq!(
        format!("{dsn:?}"),
        "Dsn(address=h:5432 dbname=d user=u sslmode=prefer)"
    );
}

#[test]
fn a_password_file_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let mut dsn = Dsn::parse("postgres://u:old@h").unwrap();
    dsn.set_password_file(&path);
    let dsn = dsn.with_defaults(&|_| None).unwrap();
    let missing = dsn.password("u").unwrap_err().to_string();
    assert!(missing.contains(path.to_str().unwrap()), "{missing}");
    assert!(missing.contains("No such file"), "{missing}");

    std::fs::write(&path, "one\n").unwrap();
    assert_eq!(password(&dsn), "one");
    std::fs::write(&path, " two \r\n").unwrap();
    assert_eq!(password(&dsn), " two ");
    std::fs::write(&path, "\n").unwrap();
    assert!(
        dsn.password("u")
            .unwrap_err()
            .to_string()
            .ends_with("is empty")
    );
}

#[test]
fn a_passfile_is_searched_as_libpq_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    let lines = r"
# comment:1:d:u:no
h:1:d:u:first
h:1:d:u:second
h:*:*:u:any:rest
*:1:colon\:name:*:with\:colon\\
::1:5432:d:u:broken
\:\:1:5432:d:u:v6
localhost:*:*:u:socket
/elsewhere:*:*:u:elsewhere
short:1
h:1:d:empty:
";
    std::fs::write(&path, lines).unwrap();
    let look_up = |text: &str| password(&dsn(&format!("{text} passfile={}", path.display())));

    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(look_up("host=h port=1 dbname=d user=u"), "none");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    for (login, expected) in [
        ("host=h port=1 dbname=d user=u", "first"),
        ("host=h port=2 dbname=d user=u", "any"),
        ("host=x port=1 dbname=colon:name user=o", r"with:colon\"),
        ("hostaddr=::1 dbname=d user=u", "v6"),
        ("host=/tmp dbname=d user=u", "socket"),
        ("user=u", "socket"),
        ("host=/elsewhere user=u", "elsewhere"),
        ("host=h port=1 dbname=d user=empty", "none"),
        ("host=nowhere user=u", "none"),
        ("host=h port=1 dbname=d user=u password=own", "own"),
    ] {
        assert_eq!(look_up(login), expected, "{login}");
    }
}

proptest! {
    #[test]
    fn no_string_panics(text in ".*") {
        let _ = complete(&text, &[]);
    }

    #[test]
    fn nothing_that_looks_like_a_uri_panics(text in "postgres(ql)?://[a-z:@/?#&=%\\[\\]0-9,é]*") {
        let _ = complete(&text, &[]);
    }

    #[test]
    fn nothing_that_looks_like_words_panics(text in "(host|user|x)[ =]*['\\\\a-zé =]*") {
        let _ = complete(&text, &[]);
    }

    #[test]
    fn percent_encoding_keeps_everything(login in login()) {
        let encode = |text| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
        };
        let [user, secret, database] = &login;
        let dsn = dsn(&format!(
            "postgres://{}:{}@h/{}",
            encode(user), encode(secret), encode(database)
        ));
        prop_assert_eq!([dsn.user(), &password(&dsn), dsn.database()], login.each_ref().map(String::as_str));
    }

    #[test]
    fn quotes_keep_everything(login in login()) {
        let quote = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
        let [user, secret, database] = &login;
        let dsn = dsn(&format!(
            "user='{}' password = '{}' host=h dbname='{}'",
            quote(user), quote(secret), quote(database)
        ));
        prop_assert_eq!([dsn.user(), &password(&dsn), dsn.database()], login.each_ref().map(String::as_str));
    }
}

/// A user, a password and a database: any text that is neither empty nor holds a zero.
fn login() -> [impl Strategy<Value = String>; 3] {
    ["[^\0]+", "[^\0]+", "[^\0]+"]
}

#[test]
fn what_other_drivers_take_is_taken_and_what_has_no_effect_is_said() {
    let string = |text: &str| dsn(&format!("host=h user=u {text}"));
    for silent in [
        "database=d",
        "dbname=e database=d",
        "database=e dbname=d",
        "dbname=d target_session_attrs=any load_balance_hosts=disable sslnegotiation=postgres",
        "dbname=d client_encoding=UTF8 application_name=a fallback_application_name=b",
        "dbname=d connect_timeout=10 sslinline=false sslcompression=1 options='-c geqo=off'",
    ] {
        let dsn = string(silent);
        assert_eq!(dsn.database(), "d", "{silent}");
        assert_eq!(dsn.warnings(), [""; 0], "{silent}");
    }
    assert_eq!(dsn("postgres://u@h?database=d").database(), "d");
    for (word, expected) in [
        (
            "target_session_attrs=primary",
            "target_session_attrs has no effect: the server is monitored, primary or standby",
        ),
        (
            "load_balance_hosts=random",
            "load_balance_hosts has no effect: one server is monitored",
        ),
        (
            "sslnegotiation=direct",
            "sslnegotiation has no effect: TLS is asked for as by sslnegotiation=postgres",
        ),
        (
            "min_protocol_version=3.2",
            "min_protocol_version has no effect: protocol 3.0 is used",
        ),
        (
            "client_encoding=latin1",
            "client_encoding has no effect: everything is read in UTF-8, as metrics are written",
        ),
        (
            "krbspn=postgres/h",
            "krbspn has no effect: every statement brings the settings that it needs",
        ),
        (
            "STATEMENT_TIMEOUT=5s timezone=UTC role=x",
            "STATEMENT_TIMEOUT, timezone, role have no effect: every statement brings the settings that it needs",
        ),
    ] {
        assert_eq!(string(word).warnings(), [expected]);
        let uri = word.replace('/', "%2F").replace(' ', "&");
        assert_eq!(dsn(&format!("postgres://u@h?{uri}")).warnings(), [expected]);
    }
}

#[test]
fn every_fault_is_told() {
    let said = refusal("hots=h port=0 sslmode=full pasword=hunter2");
    assert_eq!(said.lines().count(), 4, "{said}");
    let said = complete("", &[("PGPORT", "x"), ("PGSSLMODE", "x")]).unwrap_err();
    assert_eq!(said.0.len(), 2, "{said}");
    let said = refusal("sslkey='-----BEGIN PRIVATE KEY----- hunter2' sslinline=true");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn every_variable_is_documented() {
    let page = include_str!("../../../docs/configuration.md");
    let documented: BTreeSet<_> = page
        .split('`')
        .filter(|word| word.starts_with("PG") && !word.starts_with("PG_EXPORTER_"))
        .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    let keys = super::keys::KEYS.iter();
    let known: BTreeSet<_> = keys.filter_map(|key| key.variable).collect();
    assert_eq!(documented, known);
}
