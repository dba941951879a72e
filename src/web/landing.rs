//! The page that a person reads: which servers are watched, how they are, and what every
//! collector last did.
//!
//! It needs no script and nothing from elsewhere, and it holds no secret, since [`Status`] holds
//! none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use tokio::sync::Mutex;

use super::App;
use super::switch::Permission;
use crate::scrape::{self, CollectorStatus, DatabaseStatus, ServerStatus, Status};

/// Databases that are listed, and that are named where a collector could not see them.
const MOST_DATABASES: usize = 100;
const MOST_SKIPS: usize = 10;

/// The page as it was made last, for those who may switch collectors and for those who may not.
#[derive(Default)]
pub(super) struct Landing {
    granted: Mutex<Option<Made>>,
    denied: Mutex<Option<Made>>,
}

struct Made {
    begun: Instant,
    page: Bytes,
}

/// `/`, with relative links, so that it also works under another path of a reverse proxy. It is made
/// once for all who wait for it: a crowd here is not to delay a scrape.
pub(super) async fn landing(State(app): State<App>, permission: Permission) -> Response {
    let asked = Instant::now();
    let made = match permission {
        Permission::Granted => &app.landing.granted,
        Permission::Denied => &app.landing.denied,
    };
    let mut made = made.lock().await;
    let page = match &*made {
        Some(made) if made.begun >= asked => made.page.clone(),
        _ => {
            let begun = Instant::now();
            let page = Bytes::from(render(&app, permission).into_string());
            *made = Some(Made {
                begun,
                page: page.clone(),
            });
            page
        }
    };
    drop(made);
    respond(StatusCode::OK, page)
}

fn render(app: &App, permission: Permission) -> Markup {
    let status = app.scraper.status();
    page(
        "",
        html! {
            header {
                h1 { (env!("CARGO_PKG_NAME")) " " small { (env!("CARGO_PKG_VERSION")) } }
                (links("", &app.web.telemetry_path))
            }
            (overview(&status, permission, SystemTime::now()))
        },
    )
}

/// Every address that is none of ours; what is looked for there may come.
pub(super) async fn not_found(State(app): State<App>, uri: Uri) -> Response {
    let not_yet = ["/probe", "/-/reload"];
    let not_yet = not_yet.into_iter().find(|path| *path == uri.path());
    let page = page(
        "/",
        html! {
            header {
                h1 { "Not found" }
                (links("/", &app.web.telemetry_path))
            }
            @match not_yet {
                Some(path) => { p { (path) " is not implemented yet." } }
                None => {
                    p { "There is no page at this address of " a href="/" { (env!("CARGO_PKG_NAME")) } "." }
                }
            }
        },
    );
    respond(StatusCode::NOT_FOUND, page.into_string().into())
}

/// `/-/style.css`
pub(super) async fn style() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8")];
    (headers, include_str!("style.css"))
}

fn respond(status: StatusCode, page: Bytes) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ),
        (CACHE_CONTROL, "no-store"),
        // Not no-referrer: browsers would then hide where a form's request comes from.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, HEADERS, Html(page)).into_response()
}

fn page(root: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (env!("CARGO_PKG_NAME")) }
                link rel="stylesheet" href={ (root) "-/style.css" };
            }
            body { (body) }
        }
    }
}

fn links(root: &str, telemetry_path: &str) -> Markup {
    html! {
        nav {
            a href={ (root) (telemetry_path.trim_start_matches('/')) } { "Metrics" }
            a href={ (root) "-/healthy" } { "Healthy" }
            a href={ (root) "-/ready" } { "Ready" }
        }
    }
}

fn overview(status: &Status, permission: Permission, now: SystemTime) -> Markup {
    html! {
        main {
            @if status.servers.is_empty() { p { "No server is configured." } }
            @for server in &status.servers { (server_section(server, permission, now)) }
        }
        @if permission == Permission::Denied {
            footer {
                "Collectors can be switched off and on here when this page is opened on the \
                 exporter's own host as localhost, or with " code { "web.lifecycle: true" } "."
            }
        }
    }
}

fn server_section(server: &ServerStatus, permission: Permission, now: SystemTime) -> Markup {
    let asked = server
        .asked
        .and_then(|asked| now.duration_since(asked).ok());
    html! {
        section {
            h2 {
                (server.name) " "
                @match &server.state {
                    None => { (badge("idle", "not scraped yet")) }
                    Some(scrape::State::Up) => { (badge("good", "up")) }
                    Some(scrape::State::Down { reason, .. }) => {
                        (badge("bad", &format!("down: {reason}")))
                    }
                }
            }
            @if let Some(scrape::State::Down { message, .. }) = &server.state {
                p.alarm { (message) }
            }
            @for warning in &server.warnings { p.warning { (warning) } }
            dl {
                dt { "Address" } dd { code { (server.address) } }
                @if let Some(version) = &server.version { dt { "Version" } dd { (version) } }
                @if let Some(standby) = server.standby {
                    dt { "Role" } dd { @if standby { "standby" } @else { "primary" } }
                }
                @if let Some(asked) = asked { dt { "Last scrape" } dd { (short(asked)) " ago" } }
                @if !server.databases.is_empty() {
                    dt { "Databases" }
                    dd {
                        ul {
                            @for database in server.databases.iter().take(MOST_DATABASES) {
                                (database_item(database))
                            }
                            @if let Some(more) = more(server.databases.len(), MOST_DATABASES) {
                                li { (more) }
                            }
                        }
                    }
                }
            }
            @if !server.collectors.is_empty() {
                (collector_table(&server.collectors, permission))
            }
        }
    }
}

fn database_item(database: &DatabaseStatus) -> Markup {
    html! {
        li class=[database.skipped.as_ref().map(|_| "skipped")] {
            (database.name)
            @for application in &database.applications {
                " " (badge("good", &application.name))
            }
            @if let Some(reason) = &database.skipped { " " small { "skipped: " (reason) } }
        }
    }
}

fn collector_table(collectors: &[CollectorStatus], permission: Permission) -> Markup {
    html! {
        table {
            caption { (tally(collectors)) }
            thead {
                tr {
                    th scope="col" { "Collector" }
                    th scope="col" { "Last run" }
                    th.number scope="col" { "Age" }
                    th.number scope="col" { "Duration" }
                    th.number scope="col" { "Rows" }
                    th.number scope="col" { "Statements" }
                    @if permission == Permission::Granted { th { } }
                }
            }
            tbody {
                @for collector in collectors { (collector_row(collector, permission)) }
            }
        }
    }
}

fn collector_row(collector: &CollectorStatus, permission: Permission) -> Markup {
    let (class, result) = result(collector);
    let ran = collector.statements > 0;
    let other = if collector.enabled { "off" } else { "on" };
    html! {
        tr class=[(!collector.enabled).then_some("off")] {
            th scope="row" { (collector.name) small { (collector.about) } }
            td data-label="Last run" {
                (badge(class, result))
                @if collector.enabled {
                    @for (reason, databases) in skips(collector) {
                        small {
                            (reason)
                            @if !databases.is_empty() { ": " (databases[..databases.len().min(MOST_SKIPS)].join(", ")) }
                            @if let Some(more) = more(databases.len(), MOST_SKIPS) { " " (more) }
                        }
                    }
                }
            }
            td.number data-label="Age" {
                @if let Some(age) = collector.age { (short(age)) }
            }
            td.number data-label="Duration" { @if ran { (short(collector.duration)) } }
            td.number data-label="Rows" { @if ran { (collector.rows) } }
            td.number data-label="Statements" { @if ran { (collector.statements) } }
            @if permission == Permission::Granted {
                td.action {
                    form method="post" action={ "-/collectors/" (collector.name) "/" (other) } {
                        button aria-label={ "Switch " (collector.name) " " (other) } {
                            "Switch " (other)
                        }
                    }
                }
            }
        }
    }
}

/// How a collector did, as a class of the style sheet and a word.
fn result(collector: &CollectorStatus) -> (&'static str, &'static str) {
    match (collector.enabled, collector.success) {
        (false, _) => ("idle", "off"),
        (true, Some(false)) => ("bad", "failed"),
        (true, _) if !collector.skipped.is_empty() && collector.statements == 0 => {
            ("idle", "skipped")
        }
        (true, None) => ("idle", "not run yet"),
        (true, Some(true)) if !collector.skipped.is_empty() => ("fair", "incomplete"),
        (true, Some(true)) => ("good", "ok"),
    }
}

/// How many collectors did how.
fn tally(collectors: &[CollectorStatus]) -> String {
    let mut counts = Vec::<(&str, usize)>::new();
    for (_, word) in collectors.iter().map(result) {
        match counts.iter_mut().find(|(counted, _)| *counted == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    format!("{} collectors: {}", collectors.len(), counts.join(", "))
}

/// What a collector could not see: the databases by reason, none where it is the whole server.
fn skips(collector: &CollectorStatus) -> BTreeMap<&'static str, Vec<&str>> {
    let mut skips = BTreeMap::<_, Vec<_>>::new();
    for (reason, database) in &collector.skipped {
        let databases = skips.entry(*reason).or_default();
        if !database.is_empty() {
            databases.push(&**database);
        }
    }
    skips
}

/// How many of so many are not shown.
fn more(count: usize, most: usize) -> Option<String> {
    (count > most).then(|| format!("and {} more", count - most))
}

fn badge(class: &str, text: &str) -> Markup {
    html! { span.badge.(class) { (text) } }
}

/// A duration as a person says it.
fn short(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.001 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::synapse::SYNAPSE;
    use crate::scrape::ApplicationStatus;

    #[test]
    fn a_person_finds_everything() {
        let text = render(Permission::Granted);
        for expected in [
            r#"<h2>main <span class="badge good">up</span></h2>"#,
            "<code>db.example:5432</code>",
            "<dd>PostgreSQL 18.1</dd>",
            "<dd>primary</dd>",
            "<dd>4.0 s ago</dd>",
            r#"<li>synapse <span class="badge good">Synapse</span></li>"#,
            r#"<li class="skipped">scratch <small>skipped: database_skipped</small></li>"#,
            "<p class=\"warning\">The role is a superuser.</p>",
            "6 collectors: 1 ok, 1 incomplete, 1 failed, 1 skipped, 1 not run yet, 1 off",
            r#"<span class="badge idle">skipped</span><small>unsupported_version</small>"#,
            "<small>no_privilege: a, b</small><small>series_limit</small>",
            r#"<td class="number" data-label="Age">5 min</td>"#,
            r#"<td class="number" data-label="Duration">12 ms</td>"#,
            r#"<td class="number" data-label="Rows">42</td>"#,
            r#"<td class="number" data-label="Statements">3</td>"#,
            r#"<form method="post" action="-/collectors/locks/off">"#,
            r#"<form method="post" action="-/collectors/wal/on">"#,
            r#"<h2>replica <span class="badge bad">down: refused</span></h2>"#,
            r#"<p class="alarm">connection refused by 10.0.0.2:5432</p>"#,
            r#"<h2>third <span class="badge idle">not scraped yet</span></h2>"#,
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn who_may_not_switch_sees_no_button() {
        let text = render(Permission::Denied);
        assert!(!text.contains("<button"), "{text}");
        assert!(text.contains("web.lifecycle"), "{text}");
    }

    #[test]
    fn markup_in_names_is_text() {
        let mut status = sample();
        let server = &mut status.servers[0];
        let nasty = "</dd><script>\"'&";
        server.name = nasty.into();
        server.address = nasty.into();
        server.version = Some(nasty.into());
        server.warnings = vec![nasty.into()];
        server.databases[0].name = nasty.into();
        server.collectors[0].skipped = vec![("no_privilege", nasty.into())];
        server.state = Some(scrape::State::Down {
            reason: "refused",
            message: nasty.into(),
        });
        let text = overview(&status, Permission::Granted, SystemTime::now()).into_string();
        assert!(!text.contains("<script>"), "{text}");
        assert_eq!(text.matches("&lt;/dd&gt;&lt;script&gt;").count(), 7);
    }

    #[test]
    fn durations_are_short() {
        let spoken = [
            (0, "0.0 ms"),
            (340, "0.3 ms"),
            (12_400, "12 ms"),
            (3_210_000, "3.2 s"),
            (65_000_000, "65 s"),
            (300_000_000, "5 min"),
            (10_800_000_000, "3 h"),
        ];
        for (micros, expected) in spoken {
            assert_eq!(short(Duration::from_micros(micros)), expected);
        }
    }

    fn render(permission: Permission) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(4);
        overview(&sample(), permission, now).into_string()
    }

    fn sample() -> Status {
        let server = |name: &str, address: &str, state| ServerStatus {
            name: name.into(),
            address: address.into(),
            state,
            asked: None,
            version: None,
            standby: None,
            databases: Vec::new(),
            warnings: Vec::new(),
            collectors: Vec::new(),
        };
        let database = |name: &str, application: Option<&str>, skipped| DatabaseStatus {
            name: name.into(),
            applications: Vec::from_iter(application.map(|name| ApplicationStatus {
                application: &SYNAPSE,
                name: name.into(),
            })),
            skipped,
        };
        let collector = |name: &'static str, about: &'static str, success| CollectorStatus {
            name: name.into(),
            about: about.into(),
            application: None,
            enabled: true,
            success,
            skipped: Vec::new(),
            age: None,
            duration: Duration::ZERO,
            rows: 0,
            statements: 0,
        };
        let main = ServerStatus {
            asked: Some(SystemTime::UNIX_EPOCH),
            version: Some("PostgreSQL 18.1".into()),
            standby: Some(false),
            databases: vec![
                database("synapse", Some("Synapse"), None),
                database("postgres", None, None),
                database("scratch", None, Some("database_skipped".to_owned())),
            ],
            warnings: vec!["The role is a superuser.".into()],
            collectors: vec![
                CollectorStatus {
                    age: Some(Duration::from_secs(300)),
                    duration: Duration::from_millis(12),
                    rows: 42,
                    statements: 3,
                    ..collector("locks", "Locks by database and mode", Some(true))
                },
                CollectorStatus {
                    skipped: vec![
                        ("series_limit", String::new()),
                        ("no_privilege", "a".into()),
                        ("no_privilege", "b".into()),
                    ],
                    duration: Duration::from_millis(1300),
                    rows: 1205,
                    statements: 9,
                    ..collector(
                        "stat_user_tables",
                        "Tables, from pg_stat_user_tables",
                        Some(true),
                    )
                },
                collector("replication", "Lag of a standby", Some(false)),
                CollectorStatus {
                    skipped: vec![("unsupported_version", String::new())],
                    ..collector("stat_checkpointer", "Checkpoints", Some(true))
                },
                collector("synapse_users", "Users by kind", None),
                CollectorStatus {
                    enabled: false,
                    skipped: vec![("disabled", String::new())],
                    ..collector("wal", "WAL files and their size", Some(true))
                },
            ],
            ..server("main", "db.example:5432", Some(scrape::State::Up))
        };
        let refused = scrape::State::Down {
            reason: "refused",
            message: "connection refused by 10.0.0.2:5432".into(),
        };
        Status {
            servers: vec![
                main,
                server("replica", "10.0.0.2:5432", Some(refused)),
                server("third", "/run/postgresql", None),
            ],
        }
    }
}
