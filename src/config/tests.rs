use std::io::Write;

use secrecy::ExposeSecret;

use super::*;

#[test]
fn nothing_said_gives_the_defaults() {
    let config = loaded("", |_| {}).unwrap().config;
    assert_eq!(config.web.listen, [":9187"]);
    assert_eq!(config.web.telemetry_path, "/metrics");
    assert!(!config.web.openmetrics);
    assert_eq!(config.web.limits, WebLimits::default());
    assert_eq!(config.servers.len(), 1);
    assert_eq!(config.servers[0].name, "main");
    assert_eq!(config.servers[0].connections, 3);
    assert_eq!(
        config.servers[0].databases.interval,
        Duration::from_secs(60)
    );
    assert_eq!(config.scrape.timeout, Duration::from_secs(10));
    assert_eq!(config.scrape.statement_cap, Duration::from_secs(1));
    assert!(config.collectors.enabled.contains("stat_archiver"));
    assert_eq!(config.events.share, 0.1);
    assert_eq!(config.state_dir, None);
    assert_eq!(config.log.level, "info");
}

#[test]
fn a_file_says_everything() {
    let config = loaded(
        r#"
web:
  listen: [":9999", "[::1]:9187"]
  telemetry_path: /m
  lifecycle: true
  connections: 100
  scrapes: 4
  unread_mib: 8
  least_kib_per_second: 1
servers:
  matrix-1:
    dsn: host=/run/postgresql dbname=matrix
    user: exporter
    password_file: /run/secrets/password
    databases: { include: ["synapse*"], exclude: [scratch_*], interval: 1m30s }
    connections: 5
    page_mib: 8
    cluster: blue
    labels: { team: chat }
scrape: { timeout: 500ms, statement_cap: 2s }
collectors: { disable: [stat_archiver], stat_archiver: { limit: 50, ttl: 2h } }
openmetrics: true
events: { share: 2.5%, recount: 12h, settle: 0, max_age: 5m }
state_dir: /
log: { level: debug, format: json }
"#,
        |_| {},
    )
    .unwrap()
    .config;
    assert_eq!(config.web.listen, [":9999", "[::1]:9187"]);
    assert_eq!(config.web.telemetry_path, "/m");
    assert!(config.web.lifecycle && config.web.openmetrics);
    let limits = WebLimits {
        connections: 100,
        scrapes: 4,
        unread: 8 << 20,
        least_rate: 1 << 10,
    };
    assert_eq!(config.web.limits, limits);
    let server = &config.servers[0];
    assert_eq!(server.name, "matrix-1");
    assert_eq!(server.databases.include, ["synapse*"]);
    assert_eq!(server.databases.exclude, ["scratch_*"]);
    assert_eq!(server.databases.interval, Duration::from_secs(90));
    assert_eq!((server.connections, server.page), (5, 8 << 20));
    assert_eq!(server.cluster.as_deref(), Some("blue"));
    assert_eq!(server.labels["team"], "chat");
    assert_eq!(config.scrape.timeout, Duration::from_millis(500));
    assert_eq!(config.scrape.statement_cap, Duration::from_secs(2));
    assert!(!config.collectors.enabled.contains("stat_archiver"));
    assert_eq!(config.collectors.limits["stat_archiver"], 50);
    assert_eq!(
        config.collectors.ttls["stat_archiver"],
        Duration::from_secs(7200)
    );
    assert_eq!(config.events.share, 0.025);
    assert_eq!(config.events.recount, Duration::from_secs(12 * 3600));
    assert_eq!(config.events.settle, Duration::ZERO);
    assert_eq!(config.events.max_age, Duration::from_secs(300));
    assert_eq!(config.state_dir.as_deref(), Some(Path::new("/")));
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn flags_win_over_environment_and_environment_over_the_file() {
    let file = "scrape: { timeout: 1s, statement_cap: 1s }\nservers: { a: { connections: 2 } }";
    let config = loaded(file, |sources| {
        sources.environment.set("scrape.timeout", "VARIABLE", "2s");
        sources
            .environment
            .set("scrape.statement_cap", "VARIABLE", "2s");
        sources.flags.set("scrape.timeout", "--flag", "3s");
        sources.flags.set("servers.*.connections", "--flag", "4");
        sources.switches.push(Switch {
            collector: "stat_archiver".to_owned(),
            on: false,
            place: "--no-collector.stat_archiver".to_owned(),
        });
    })
    .unwrap()
    .config;
    assert_eq!(config.scrape.timeout, Duration::from_secs(3));
    assert_eq!(config.scrape.statement_cap, Duration::from_secs(2));
    assert_eq!(config.servers[0].name, "a");
    assert_eq!(config.servers[0].connections, 4);
    assert!(!config.collectors.enabled.contains("stat_archiver"));
}

#[test]
fn a_flag_finds_the_server_whatever_its_name() {
    for name in ["1", "-a", "_", "0-b", "Blue_2"] {
        let loaded = loaded(
            &format!("servers: {{ '{name}': {{ cluster: c }} }}"),
            |sources| {
                sources
                    .flags
                    .set("servers.*.connections", "--connections", "4");
            },
        );
        let server = loaded.unwrap().config.servers.remove(0);
        assert_eq!((server.name.as_str(), server.connections), (name, 4));
        assert_eq!(server.cluster.as_deref(), Some("c"));
    }
}

#[test]
fn everything_wrong_is_said_at_once_with_its_line_and_key() {
    let said = wrong(
        r#"# comment
web:
  lisen: [":9187"]
  listen:
    - ":9187"
    - "9187"
  telemetry_path: metrics
webb:
  x: 1
servers:
  main:
    connections: 1
    databases: { interval: soon }
    labels: { "1st": x, b: 1 }
scrape: { timeout: 10 seconds or so }
collectors: { enable: [stat_archive], disabel: [x], stat_archiver: { limt: 1 } }
log: { level: loud }
openmetrics: maybe
events: { share: 0%, recount: 0s }
state_dir: /nowhere/at/all
"#,
        |sources| {
            sources
                .flags
                .set("scrape.statement_cap", "--scrape.statement-cap", "0s")
        },
    );
    let expected = r#"--scrape.statement-cap: must be longer than zero
FILE:3: web.lisen: there is no such key; did you mean "listen"?
FILE:6: web.listen: must be an address to listen on; write one like :9187, 127.0.0.1:9187 or [::1]:9187
FILE:7: web.telemetry_path: must begin with a slash, like /metrics
FILE:8: webb: there is no such key; did you mean "web"?
FILE:12: servers.main.connections: must be a whole number from 2 to 100
FILE:13: servers.main.databases.interval: must be a duration; write one like 500ms, 60s, 1m30s or 2h
FILE:14: servers.main.labels: a label's name consists of letters, digits and _, and begins neither with a digit nor with __
FILE:14: servers.main.labels.b: must be text; put it in quotes
FILE:15: scrape.timeout: must be a duration; write one like 500ms, 60s, 1m30s or 2h
FILE:16: collectors.enable: there is no such collector; did you mean "stat_archiver"?; `matrix-postgres-exporter metrics` lists them
FILE:16: collectors.disabel: there is no such key; did you mean "disable"?
FILE:16: collectors.stat_archiver.limt: there is no such key; did you mean "limit"?
FILE:17: log.level: must be one of off, error, warn, info, debug, trace
FILE:18: openmetrics: must be true or false
FILE:19: events.share: must be a share of the time; write one like 10%
FILE:19: events.recount: must be longer than zero
FILE:20: state_dir: /nowhere/at/all cannot be read: No such file or directory (os error 2)"#;
    assert_eq!(said, expected);
}

#[test]
fn what_clients_may_take_has_bounds_of_its_own() {
    let said = wrong(
        "web:\n  connections: 1\n  scrapes: 0\n  unread_mib: 5000\n  least_kib_per_second: -1\n",
        |_| {},
    );
    let expected = "\
FILE:2: web.connections: must be a whole number from 4 to 100000
FILE:3: web.scrapes: must be a whole number from 1 to 1000
FILE:4: web.unread_mib: must be a whole number from 1 to 4096
FILE:5: web.least_kib_per_second: must be a whole number from 1 to 1048576";
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(lines(&said), lines(expected));
}

#[test]
fn a_file_that_is_no_yaml_is_told_by_its_line_and_shows_nothing_of_it() {
    let said = wrong("servers:\n  main:\n    password: \"s3cr3t-marker\n", |_| {});
    assert!(said.starts_with("FILE:"), "{said}");
    assert!(!said.contains("marker"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = wrong("scrape: {}\nweb.listen: x\n", |_| {});
    assert_eq!(
        said,
        "FILE:2: keys are nested, as in web: { listen: [\":9187\"] }"
    );
    let said = wrong("web: {}\nscrape: {}\nweb: {}\n", |_| {});
    assert!(said.starts_with("FILE:3: "), "{said}");
}

/// A password may stand anywhere: none of it is repeated, wherever that is.
#[test]
fn what_stands_in_a_wrong_place_is_not_repeated() {
    let secret = "hunter2s3cret";
    for file in [
        "hunter2s3cret: 1",
        "hunter2s3cret",
        "[hunter2s3cret]",
        "a.hunter2s3cret: 1",
        "'postgres://u:hunter2s3cret@h/db': 1",
        "'hunter2s3cret @ ['': 1",
        "servers: hunter2s3cret",
        "servers: { hunter2s3cret@h: {} }",
        "servers: { 'host=h password=hunter2s3cret': { dsn: host=h } }",
        "servers: { 'host=h password=hunter2s3cret': { x: 1, labels: { y: [] } } }",
        "servers: { a: hunter2s3cret }",
        "servers: { a: { hunter2s3cret: 1 } }",
        "servers: { a: { 'password hunter2s3cret': 1 } }",
        "servers: { a: { password: { hunter2s3cret: 1 } } }",
        "servers: { a: { password: [hunter2s3cret] } }",
        "servers: { a: { password: 1, 'x\nhunter2s3cret': 1 } }",
        "servers: { a: { labels: { 'hunter2s3cret!': 1 } } }",
        "servers: { a: { labels: { 'hunter2s3cret!': [] } } }",
        "servers: { a: { connections: hunter2s3cret } }",
        "servers: { a: { databases: hunter2s3cret } }",
        "servers: { a: { databases: { interval: hunter2s3cret } } }",
        "servers: { a: { dsn: hunter2s3cret } }",
        "servers: { a: { dsn: 'hunter2s3cret=x' } }",
        "servers: { a: { dsn: 'host=a hunter2s3cret=x' } }",
        "servers: { a: { dsn: 'password=a hunter2s3cret' } }",
        "servers: { a: { dsn: 'password=a hunter2s3cret=b' } }",
        "servers: { a: { dsn: 'port=hunter2s3cret' } }",
        "servers: { a: { dsn: 'sslmode=hunter2s3cret' } }",
        "servers: { a: { dsn: 'require_auth=hunter2s3cret' } }",
        "servers: { a: { dsn: 'sslrootcert=hunter2s3cret' } }",
        "servers: { a: { dsn: 'postgres://u:hunter2s3cret#@h/db' } }",
        "servers: { a: { dsn: 'postgres://u@h/db?hunter2s3cret=1' } }",
        "servers: { a: { dsn: 'postgres://u@h:hunter2s3cret/db' } }",
        "web: { listen: hunter2s3cret }",
        "web: { telemetry_path: hunter2s3cret }",
        "web: { telemetry_path: '/hunter2s3cret!' }",
        "scrape: { timeout: hunter2s3cret }",
        "collectors: { disable: [hunter2s3cret] }",
        "collectors: { hunter2s3cret: {} }",
        "collectors: { wal: { limit: hunter2s3cret } }",
        "log: { level: hunter2s3cret }",
        "log: { format: hunter2s3cret }",
        "openmetrics: hunter2s3cret",
        "state_dir: hunter2s3cret",
        "events: { share: hunter2s3cret }",
        "hunter2s3cret: 1\nhunter2s3cret: 2",
        "x: *hunter2s3cret",
        "x: !hunter2s3cret y",
        "x: !!int hunter2s3cret",
        "x: 'hunter2s3cret",
        "x: hunter2s3cret: y",
        "%hunter2s3cret",
        "x: {hunter2s3cret",
        "x: @hunter2s3cret",
        "<<: hunter2s3cret",
        "? [hunter2s3cret]\n: 1",
    ] {
        let said = wrong(file, |_| {});
        assert!(!said.contains("hunter2"), "{file}: {said}");
        assert!(!said.contains(secret), "{file}: {said}");
        assert!(said.starts_with("FILE:"), "{file}: {said}");
    }
}

#[test]
fn numbers_that_nobody_can_mean_are_refused() {
    for number in [
        "101",
        "18446744073709551615",
        "-3",
        "1e30",
        "9223372036854775807",
    ] {
        let said = wrong(
            &format!("servers: {{ a: {{ connections: {number} }} }}"),
            |_| {},
        );
        let expected = "FILE:1: servers.a.connections: must be a whole number from 2 to 100";
        assert_eq!(said, expected, "{number}");
    }
    let said = wrong(
        "collectors: { wal: { limit: 18446744073709551615 } }",
        |_| {},
    );
    assert!(
        said.ends_with("must be a whole number from 1 to 1000000"),
        "{said}"
    );
}

#[test]
fn no_terminal_obeys_a_file() {
    let said = wrong(
        "\"we\\eb\": { \"lis\\u009bten\": 1 }\nscrape: { \"timeou\\a\": 1 }",
        |_| {},
    );
    assert!(
        !said.contains(|c: char| c.is_control() && c != '\n'),
        "{said:?}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn what_is_not_served_yet_is_refused() {
    let said = wrong(
        "web: { config_file: web.yml }\nservers:\n  a: {}\n  b: {}\ncustom_queries: []\n",
        |_| {},
    );
    assert_eq!(
        said,
        "FILE:1: web.config_file: TLS and basic auth are not supported yet, and the exporter does not start without them when they are configured; remove the setting, and put a reverse proxy in front\n\
         FILE:4: servers.b: only one server is supported; remove this one\n\
         FILE:5: custom_queries: custom queries are not supported yet; remove the key"
    );
    // As postgres_exporter has it where no file is wanted.
    loaded("web: { config_file: '' }", |_| {}).unwrap();
}

#[test]
fn a_collector_that_only_postgres_exporter_has_is_a_warning() {
    let loaded = loaded("", |sources| {
        sources.switches.push(Switch {
            collector: "xlog_location".to_owned(),
            on: true,
            place: "--collector.xlog_location".to_owned(),
        });
    })
    .unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "--collector.xlog_location: postgres_exporter's collector \"xlog_location\" is not implemented yet; nothing is collected for it"
        ]
    );
    assert!(!loaded.config.collectors.enabled.contains("xlog_location"));
}

#[test]
fn a_server_named_nearer_displaces_the_one_of_the_file_as_a_whole() {
    let file =
        "servers: { a: { dsn: host=far dbname=x, user: u, password: s3cret, connections: 7 } }";
    let server = |pairs: &'static [(&str, &str)]| {
        let variable = |name: &str| {
            let mut pairs = pairs.iter().chain(&[("PGUSER", "exporter")]);
            let found = pairs.find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut sources = sources();
        let file = yaml(file);
        sources.file = Some(file.path().to_owned());
        sources.variable = &variable;
        load(sources, &Registry::built_in())
            .unwrap()
            .config
            .servers
            .remove(0)
    };
    let password = |server: &Server| {
        let password = server.dsn.password("x").unwrap();
        password.map(|secret| secret.expose_secret().to_owned())
    };

    let far = server(&[]);
    assert_eq!(far.dsn.address(), "far:5432");
    assert_eq!((far.dsn.user(), far.dsn.database()), ("u", "x"));
    assert_eq!(password(&far).as_deref(), Some("s3cret"));

    let near = server(&[
        ("DATA_SOURCE_URI", "near:1/y"),
        ("DATA_SOURCE_PASS", "other"),
    ]);
    assert_eq!((near.name.as_str(), near.connections), ("a", 7));
    assert_eq!(near.dsn.address(), "near:1");
    assert_eq!((near.dsn.user(), near.dsn.database()), ("exporter", "y"));
    assert_eq!(password(&near).as_deref(), Some("other"));

    let near = server(&[
        ("DATA_SOURCE_NAME", "host=near"),
        ("DATA_SOURCE_PASS", "other"),
    ]);
    assert_eq!(near.dsn.address(), "near:5432");
    assert_eq!(password(&near), None);

    let near = server(&[("DATA_SOURCE_NAME", "host=near user=v password=mine")]);
    assert_eq!(password(&near).as_deref(), Some("mine"));

    let renamed = server(&[("DATA_SOURCE_USER", "v"), ("DATA_SOURCE_PASS", "other")]);
    assert_eq!(renamed.dsn.address(), "far:5432");
    assert_eq!(renamed.dsn.user(), "v");
    assert_eq!(password(&renamed).as_deref(), Some("other"));
}

#[test]
fn a_password_beside_no_connection_string_is_for_the_nearer_one() {
    let variable = |name: &str| match name {
        "DATA_SOURCE_USER" => Some("u".to_owned()),
        "DATA_SOURCE_PASS" => Some("s3cret".to_owned()),
        _ => None,
    };
    let mut sources = Sources {
        variable: &variable,
        ..sources()
    };
    sources.flags.set(layer::DSN, "--dsn", "host=near");
    let server = load(sources, &Registry::built_in())
        .unwrap()
        .config
        .servers
        .remove(0);
    assert_eq!(
        (server.dsn.address(), server.dsn.user()),
        ("near:5432".to_owned(), "u")
    );
    let password = server.dsn.password("x").unwrap().unwrap();
    assert_eq!(password.expose_secret(), "s3cret");
}

#[test]
fn a_password_file_is_read_late_and_other_files_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("uri"), " near:1/y\n").unwrap();
    let variable = |name: &str| match name {
        "DATA_SOURCE_URI_FILE" => Some(path("uri")),
        "DATA_SOURCE_USER" => Some("u".to_owned()),
        "DATA_SOURCE_PASS_FILE" => Some(path("later")),
        _ => None,
    };
    let loaded = load(
        Sources {
            variable: &variable,
            ..sources()
        },
        &Registry::built_in(),
    )
    .unwrap();
    assert_eq!(
        loaded.warnings,
        [format!(
            "DATA_SOURCE_PASS_FILE: the password file {} cannot be read now: No such file or directory (os error 2)",
            path("later")
        )]
    );
    let dsn = &loaded.config.servers[0].dsn;
    assert_eq!((dsn.address(), dsn.user()), ("near:1".to_owned(), "u"));
    std::fs::write(path("later"), "s3cret\n").unwrap();
    let password = dsn.password("y").unwrap().unwrap();
    assert_eq!(password.expose_secret(), "s3cret");

    let missing = |name: &str| (name == "DATA_SOURCE_URI_FILE").then(|| path("nowhere"));
    let said = load(
        Sources {
            variable: &missing,
            ..sources()
        },
        &Registry::built_in(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        said.starts_with(&format!(
            "DATA_SOURCE_URI_FILE: {} cannot be read: ",
            path("nowhere")
        )),
        "{said}"
    );
}

fn loaded(file: &str, say: impl FnOnce(&mut Sources<'_>)) -> Result<Loaded, Problems> {
    load_file(file, say).1
}

/// What is said of a bad configuration, with `FILE` for the file's path.
fn wrong(file: &str, say: impl FnOnce(&mut Sources<'_>)) -> String {
    let (path, loaded) = load_file(file, say);
    loaded.unwrap_err().to_string().replace(&path, "FILE")
}

fn load_file(text: &str, say: impl FnOnce(&mut Sources<'_>)) -> (String, Result<Loaded, Problems>) {
    let file = yaml(text);
    let mut sources = sources();
    sources.file = Some(file.path().to_owned());
    say(&mut sources);
    (
        file.path().display().to_string(),
        load(sources, &Registry::built_in()),
    )
}

fn yaml(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn sources() -> Sources<'static> {
    Sources {
        file: None,
        environment: Layer::default(),
        flags: Layer::default(),
        switches: Vec::new(),
        variable: &|name| (name == "PGUSER").then(|| "exporter".to_owned()),
        problems: Vec::new(),
        warnings: Vec::new(),
    }
}

/// The document has a row for each key, and their defaults are those of the code.
#[test]
fn every_key_is_documented_with_its_default() {
    let page = include_str!("../../docs/configuration.md");
    let (_, section) = page.split_once("\n## Keys of the file\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: BTreeMap<_, _> = section
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((key, cells[3].trim_matches('`')))
        })
        .collect();
    let of_tables = |key: &&&str| {
        let within = format!("{key}.");
        section::KEYS.iter().any(|one| one.starts_with(&within))
    };
    let keys: BTreeSet<_> = section::KEYS
        .iter()
        .filter(|key| !of_tables(key))
        .copied()
        .collect();
    assert_eq!(rows.keys().copied().collect::<BTreeSet<_>>(), keys);

    let file = "servers: { main: { user: exporter } }\n";
    let usual = format!("{:?}", loaded(file, |_| {}).unwrap().config);
    for (key, default) in rows.iter().filter(|(_, default)| !default.is_empty()) {
        let names: Vec<_> = key.split('.').collect();
        let (opened, closed) = (names.join(": { "), " }".repeat(names.len() - 1));
        let said = format!("{opened}: {default}{closed}").replace("NAME", "main");
        let one = match key.starts_with("servers.") {
            true => said.replace("main: {", "main: { user: exporter,"),
            false => format!("{file}{said}"),
        };
        let told = format!("{:?}", loaded(&one, |_| {}).unwrap().config);
        assert_eq!(told, usual, "{key}");
    }
}
