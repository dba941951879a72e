//! One tree of settings becomes a [`Config`]: types, ranges, names, defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Map, Value};

use super::dsn::password::named;
use super::dsn::{DsnError, File, Roots};
use super::problem::{Fault, Problems, nearest};
use super::section::{Notes, Section};
use super::{
    Collectors, Config, Databases, Dsn, Loaded, Log, LogFormat, Scrape, Server, Switch, Variable,
    Web, WebLimits,
};
use crate::bounds;
use crate::collectors::{Registry, postgres_exporter};
use crate::events;

/// Checks the settings, all of them.
pub fn config(
    settings: Map<String, Value>,
    switches: &[Switch],
    variable: Variable<'_>,
    registry: &Registry,
    mut notes: Notes,
) -> Result<Loaded, Problems> {
    let mut root = Section::root(settings, &mut notes);
    let openmetrics = root.truth("openmetrics").unwrap_or(false);
    let config = Config {
        web: web(root.section("web"), openmetrics),
        servers: servers(root.section("servers"), variable),
        scrape: scrape(root.section("scrape")),
        collectors: collectors(root.section("collectors"), registry, switches),
        state_dir: state_dir(&mut root),
        events: count_of_events(root.section("events")),
        log: log(root.section("log")),
    };
    root.refuse(
        "custom_queries",
        "custom queries are not supported yet; remove the key",
    );
    root.pass_over(
        "auth_modules",
        "has no effect: /probe, which uses it, is not supported yet",
    );
    root.refuse("tls", NO_TLS);
    root.finish();

    let warnings = std::mem::take(&mut notes.warnings);
    fine(Loaded { config, warnings }, notes)
}

/// Checks the settings of HTTP, and no others.
pub fn web_alone(settings: Map<String, Value>, mut notes: Notes) -> Result<Web, Problems> {
    let mut root = Section::root(settings, &mut notes);
    let openmetrics = root.truth("openmetrics").unwrap_or(false);
    let web = web(root.section("web"), openmetrics);
    fine(web, notes)
}

/// Everything that is wrong, that of the file in the order of its lines.
fn fine<T>(checked: T, notes: Notes) -> Result<T, Problems> {
    let mut problems = notes.problems;
    problems.sort_by_key(|problem| {
        notes
            .file
            .as_ref()
            .map_or(0, |file| file.line(&problem.place))
    });
    match problems.is_empty() {
        true => Ok(checked),
        false => Err(Problems(problems)),
    }
}

const NO_TLS: &str = "TLS and basic auth are not supported yet, and the exporter does not start \
                      without them when they are configured; remove the setting, and put a reverse \
                      proxy in front";

fn web(mut section: Section<'_>, openmetrics: bool) -> Web {
    let web = Web {
        listen: section
            .list_as("listen", listen_address)
            .filter(|listen| !listen.is_empty())
            .unwrap_or_else(|| vec![":9187".to_owned()]),
        telemetry_path: section
            .text_as("telemetry_path", telemetry_path)
            .unwrap_or_else(|| "/metrics".to_owned()),
        openmetrics,
        lifecycle: section.truth("lifecycle").unwrap_or(false),
        limits: web_limits(&mut section),
    };
    for key in ["config_file", "tls"] {
        section.refuse(key, NO_TLS);
    }
    section.finish();
    web
}

fn web_limits(section: &mut Section<'_>) -> WebLimits {
    let default = WebLimits::default();
    let unread = section.count("unread_mib", 1..=4096);
    let least_rate = section.count("least_kib_per_second", 1..=1 << 20);
    WebLimits {
        connections: section
            .count("connections", 4..=100_000)
            .unwrap_or(default.connections),
        scrapes: section
            .count("scrapes", 1..=1_000)
            .unwrap_or(default.scrapes),
        unread: unread.map_or(default.unread, |mib| mib << 20),
        least_rate: least_rate.map_or(default.least_rate, |kib| (kib as u64) << 10),
    }
}

/// `host:port`, or `:port` for all addresses.
fn listen_address(address: String) -> Result<String, Fault> {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    if port.parse::<u16>().is_err() || bare_ipv6 {
        let sentence =
            "must be an address to listen on; write one like :9187, 127.0.0.1:9187 or [::1]:9187";
        return Err(Fault::Invalid(sentence.to_owned()));
    }
    Ok(address)
}

/// A plain path that is none of our others.
fn telemetry_path(path: String) -> Result<String, Fault> {
    let sentence = if !path.starts_with('/') {
        "must begin with a slash, like /metrics"
    } else if path.starts_with("/-/") {
        "must not begin with /-/, where the exporter has its own pages"
    } else if !path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c))
    {
        "must consist of letters, digits and /-_.~"
    } else {
        return Ok(path);
    };
    Err(Fault::Invalid(sentence.to_owned()))
}

/// The servers; only those whose connection string is fine.
fn servers(mut section: Section<'_>, variable: Variable<'_>) -> Vec<Server> {
    let mut names = section.names();
    if names.is_empty() {
        names.push(super::UNNAMED.to_owned());
    }
    for name in &names {
        if !super::is_server_name(name) {
            let sentence = "a server's name consists of letters, digits, - and _";
            section.wrong_unnamed(name, Fault::Invalid(sentence.to_owned()));
        }
    }
    names.retain(|name| super::is_server_name(name));
    for name in names.iter().skip(1) {
        let sentence = "only one server is supported; remove this one";
        section.wrong(name, Fault::Invalid(sentence.to_owned()));
    }
    names
        .into_iter()
        .filter_map(|name| server(section.section(&name), name, variable))
        .collect()
}

fn server(mut section: Section<'_>, name: String, variable: Variable<'_>) -> Option<Server> {
    let dsn = dsn(&mut section, variable);
    let connections = section
        .count("connections", 2..=bounds::CONNECTIONS)
        .unwrap_or(3);
    let page = section.count("page_mib", 1..=4096).unwrap_or(32) << 20;
    let databases = databases(section.section("databases"));
    let cluster = section.text("cluster");
    let labels = labels(section.section("labels"));
    section.finish();
    Some(Server {
        name,
        dsn: dsn?,
        connections,
        page,
        databases,
        cluster,
        labels,
    })
}

/// The connection string, or nothing, with what the keys beside it and libpq's variables add.
fn dsn(section: &mut Section<'_>, variable: Variable<'_>) -> Option<Dsn> {
    let text = section.text("dsn");
    let user = section.text("user");
    let password = section.text("password");
    let password_file = section.text("password_file");
    if password.is_some() && password_file.is_some() {
        let sentence = "there is a password too; remove one of the two";
        section.wrong("password_file", Fault::Invalid(sentence.to_owned()));
    }

    let parsed = Dsn::parse(&text.unwrap_or_default());
    if section.place("dsn") == "--dsn" && parsed.as_ref().is_ok_and(Dsn::has_password) {
        section.warn_of(
            "dsn",
            "every user of this host can read the password in the list of processes; give it in \
             password_file, DATA_SOURCE_PASS_FILE or a passfile instead",
        );
    }
    let completed = parsed.and_then(|mut dsn| {
        if let Some(user) = user {
            dsn.set_user(&user);
        }
        if let Some(password) = password {
            dsn.set_password(password.into());
        }
        if let Some(path) = &password_file {
            dsn.set_password_file(Path::new(path));
        }
        dsn.with_defaults(variable)
    });
    let dsn = match completed {
        Ok(dsn) => dsn,
        Err(errors) => {
            for error in errors.0 {
                match error {
                    DsnError::Variable { variable, sentence } => {
                        section.wrong_at(variable.to_owned(), Fault::Invalid(sentence));
                    }
                    error => section.wrong("dsn", Fault::Invalid(error.to_string())),
                }
            }
            return None;
        }
    };
    for warning in dsn.warnings() {
        section.warn_of("dsn", &warning);
    }
    // It is read again at every connect, and may come later than the program.
    if let Some(path) = password_file
        && let Err(error) = fs::metadata(&path)
    {
        let file = named(Path::new(&path));
        section.warn_of(
            "password_file",
            &format!("{file} cannot be read now: {error}"),
        );
    }
    for file in tls_files(&dsn) {
        if let Err(error) = fs::read(&file.path) {
            section.wrong("dsn", Fault::unreadable(&file.path, &error));
        }
    }
    Some(dsn)
}

/// The certificates and the key that somebody named.
fn tls_files(dsn: &Dsn) -> impl Iterator<Item = &File> {
    let roots = match &dsn.tls.roots {
        Roots::File(file) => Some(file),
        Roots::None | Roots::System => None,
    };
    [roots, dsn.tls.certificate.as_ref(), dsn.tls.key.as_ref()]
        .into_iter()
        .flatten()
        .filter(|file| !file.optional)
}

fn databases(mut section: Section<'_>) -> Databases {
    let databases = Databases {
        include: section.list_as("include", Ok).unwrap_or_default(),
        exclude: section.list_as("exclude", Ok).unwrap_or_default(),
        interval: section
            .duration("interval")
            .unwrap_or(Duration::from_secs(60)),
    };
    section.finish();
    databases
}

fn labels(mut section: Section<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for name in section.names() {
        if !is_label_name(&name) {
            let sentence = "a label's name consists of letters, digits and _, and begins neither \
                            with a digit nor with __";
            section.wrong_unnamed(&name, Fault::Invalid(sentence.to_owned()));
            continue;
        }
        let value = section.text_as(&name, |value| match value.contains('\0') {
            true => Err(Fault::Invalid(
                "a label's value cannot hold the character U+0000".to_owned(),
            )),
            false => Ok(value),
        });
        labels.extend(value.map(|value| (name, value)));
    }
    labels
}

fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with("__")
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn scrape(mut section: Section<'_>) -> Scrape {
    let scrape = Scrape {
        timeout: section
            .time_limit("timeout")
            .unwrap_or(Duration::from_secs(10)),
        statement_cap: section
            .time_limit("statement_cap")
            .unwrap_or(Duration::from_secs(1)),
    };
    for (key, given, least) in [
        ("timeout", scrape.timeout, Duration::from_millis(500)),
        (
            "statement_cap",
            scrape.statement_cap,
            Duration::from_millis(50),
        ),
    ] {
        if given < least {
            let sentence = format!("{given:?} is so short that many collectors will not finish");
            section.warn_of(key, &sentence);
        }
    }
    section.finish();
    scrape
}

/// The folder has to be there: whoever runs the program makes it, and says who may write it.
fn state_dir(root: &mut Section<'_>) -> Option<PathBuf> {
    root.text_as("state_dir", |path| match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path.into()),
        Ok(_) => Err(Fault::Invalid("must be a directory".to_owned())),
        Err(error) => Err(Fault::unreadable(&path, &error)),
    })
}

fn count_of_events(mut section: Section<'_>) -> events::Settings {
    let usual = events::Settings::default();
    let events = events::Settings {
        share: section.text_as("share", share).unwrap_or(usual.share),
        recount: section.time_limit("recount").unwrap_or(usual.recount),
        settle: section.duration("settle").unwrap_or(usual.settle),
        max_age: section.time_limit("max_age").unwrap_or(usual.max_age),
    };
    section.finish();
    events
}

/// `10%`.
fn share(text: String) -> Result<f64, Fault> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .map(|percent: f64| percent / 100.0)
        .ok_or_else(|| Fault::Invalid("must be a share of the time; write one like 10%".to_owned()))
}

fn collectors(mut section: Section<'_>, registry: &Registry, switches: &[Switch]) -> Collectors {
    let mut resolved = Collectors {
        enabled: registry
            .iter()
            .filter(|collector| collector.enabled)
            .map(|collector| collector.name.to_string())
            .collect(),
        limits: BTreeMap::new(),
        ttls: BTreeMap::new(),
    };
    let mut elsewhere = BTreeSet::new();
    let from_file = from_file(&mut section);
    for switch in from_file.iter().chain(switches) {
        let name = &switch.collector;
        match known(registry, name) {
            Known::Here if switch.on => {
                resolved.enabled.insert(name.clone());
            }
            Known::Here => {
                resolved.enabled.remove(name);
            }
            // What is not here is off already.
            Known::Elsewhere => {
                if elsewhere.insert(name.clone()) && switch.on {
                    section.warn(format!("{}: {}", switch.place, not_here(name)));
                }
            }
            Known::Nowhere(fault) => section.wrong_at(switch.place.clone(), fault),
        }
    }
    for name in section.names() {
        match known(registry, &name) {
            Known::Nowhere(fault) => match (nearest(&name, ["enable", "disable"]), &fault) {
                (None, Fault::UnknownCollector(None)) => section.wrong_unnamed(&name, fault),
                (None, _) => section.wrong(&name, fault),
                (nearest, _) => section.wrong(&name, Fault::UnknownKey(nearest)),
            },
            known @ (Known::Here | Known::Elsewhere) => {
                let mut collector = section.section(&name);
                let limit = collector.count("limit", 1..=bounds::ROWS);
                let ttl = collector.duration("ttl");
                if matches!(known, Known::Elsewhere) && elsewhere.insert(name.clone()) {
                    let key = if limit.is_some() { "limit" } else { "ttl" };
                    collector.warn_of(key, &not_here(&name));
                }
                collector.finish();
                resolved
                    .limits
                    .extend(limit.map(|limit| (name.clone(), limit)));
                resolved.ttls.extend(ttl.map(|ttl| (name.clone(), ttl)));
            }
        }
    }
    resolved
}

/// What `enable` and `disable` say.
fn from_file(section: &mut Section<'_>) -> Vec<Switch> {
    let [enable, disable] = ["enable", "disable"].map(|key| section.list(key).unwrap_or_default());
    for (place, name) in &disable {
        if enable.iter().any(|(_, enabled)| enabled == name) {
            let sentence =
                format!("{name} is in collectors.enable too; remove it from one of the two");
            section.wrong_at(place.clone(), Fault::Invalid(sentence));
        }
    }
    let switch = |on| {
        move |(place, collector)| Switch {
            collector,
            on,
            place,
        }
    };
    let enable = enable.into_iter().map(switch(true));
    enable
        .chain(disable.into_iter().map(switch(false)))
        .collect()
}

fn not_here(collector: &str) -> String {
    format!(
        "postgres_exporter's collector {collector:?} is not implemented yet; nothing is collected \
         for it"
    )
}

/// Who has a collector of a name.
enum Known {
    Here,
    Elsewhere,
    Nowhere(Fault),
}

fn known(registry: &Registry, name: &str) -> Known {
    if registry.find(name).is_some() {
        Known::Here
    } else if postgres_exporter::COLLECTORS.contains(&name) {
        Known::Elsewhere
    } else {
        Known::Nowhere(Fault::UnknownCollector(nearest(name, registry.names())))
    }
}

fn log(mut section: Section<'_>) -> Log {
    let log = Log {
        level: section
            .text_as("level", |level| {
                let word = level.to_ascii_lowercase();
                match word.as_str() {
                    // A filter by library, as `info,tokio_postgres=debug`, is the log's own matter.
                    _ if level.contains('=') => Ok(level),
                    _ if LEVELS.contains(&word.as_str()) => Ok(word),
                    "warning" => Ok("warn".to_owned()),
                    "fatal" | "panic" | "critical" => Ok("error".to_owned()),
                    _ => Err(Fault::NotOneOf(LEVELS)),
                }
            })
            .unwrap_or_else(|| "info".to_owned()),
        format: section
            .text_as("format", |format| match format.as_str() {
                "logfmt" => Ok(LogFormat::Logfmt),
                "json" => Ok(LogFormat::Json),
                // As old releases of postgres_exporter have it: logger:stderr?json=true
                old if old.starts_with("logger:") => Ok(match old.contains("json=true") {
                    true => LogFormat::Json,
                    false => LogFormat::Logfmt,
                }),
                _ => Err(Fault::NotOneOf(&["logfmt", "json"])),
            })
            .unwrap_or(LogFormat::Logfmt),
    };
    section.finish();
    log
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
