//! What the server, a database or a role sets by default changes nothing that is served.
//!
//! The settings are those of the server itself, so that one of a new version is noticed.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::support::answers::wait_until;
use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::Postgres;
use super::support::process::{PATIENCE, wait_at_most};
use super::support::roles::Role;
use super::support::synapse::{NEW, OLD, Synapse};

/// Settings that are not set against us, and why.
const LEFT: &[(&str, &str)] = &[
    ("client_min_messages", "says more, and changes nothing"),
    ("debug_", "for developers of PostgreSQL; fills the log"),
    (
        "jit_",
        "for developers of PostgreSQL, or of no matter without jit",
    ),
    ("log_", "fills the log, and changes nothing"),
    (
        "post_auth_delay",
        "a login that takes as long as it may is tests/faults/frozen.rs",
    ),
    ("trace_", "for developers of PostgreSQL; fills the log"),
    (
        "track_",
        "what is not tracked is not there: tests/real/tracked.rs",
    ),
    (
        "transaction_",
        "of the transaction that goes on, and no default",
    ),
    ("wal_consistency_checking", "for developers of PostgreSQL"),
    (
        "exit_on_error",
        "an error costs its connection, and its collector the same",
    ),
    (
        "max_stack_depth",
        "less than the least that any statement needs is no use to anybody",
    ),
];

/// Values that are worse than the least and the greatest, and settings that are words.
const WORSE: &[(&str, &str)] = &[
    ("DateStyle", "'SQL, DMY'"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("client_encoding", "'LATIN1'"),
    ("default_tablespace", "'pg_global'"),
    ("default_text_search_config", "'pg_catalog.german'"),
    ("idle_in_transaction_session_timeout", "'1ms'"),
    // Less, and a session ends before its first question.
    ("idle_session_timeout", "'2s'"),
    ("lc_messages", "'C'"),
    ("lock_timeout", "'1ms'"),
    ("role", "'nobody'"),
    ("search_path", "'decoy, pg_catalog'"),
    ("statement_timeout", "'20ms'"),
    ("temp_tablespaces", "'pg_default'"),
    ("transaction_timeout", "'20ms'"),
];

/// Who sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Role,
    Database,
    Server,
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_change_nothing_on_13() {
    defaults_change_nothing(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_change_nothing_on_15() {
    defaults_change_nothing(15, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_change_nothing_on_18() {
    defaults_change_nothing(18, NEW).await;
}

async fn defaults_change_nothing(major: u32, version: &str) {
    let (primary, _) = Synapse::leave(Postgres::builder(major), version).await;
    for role in ["calm", "disturbed"] {
        Role::Strict.create(&primary, role, &["synapse"]).await;
    }
    // What stands before the catalogue on a path is not read.
    primary
        .sql(
            "synapse",
            "CREATE ROLE nobody; GRANT nobody TO calm, disturbed; CREATE SCHEMA decoy;
             GRANT USAGE ON SCHEMA decoy TO PUBLIC;
             CREATE VIEW decoy.pg_stat_archiver AS SELECT 7 AS archived_count, 7 AS failed_count;
             CREATE FUNCTION decoy.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'",
        )
        .await;
    primary.sql("synapse", "VACUUM ANALYZE").await;
    let standby = primary.standby().start().await;
    let settings = settings(&primary).await;
    let on_primary = primary.client("postgres", "postgres").await;
    let on_standby = standby.client("postgres", "postgres").await;
    assert!(settings.len() > 100, "{}", settings.len());
    // What a role itself has set is what it gets, whatever else is set.
    for setting in &settings {
        for alter in ["ALTER ROLE calm", "ALTER ROLE postgres"] {
            set(&on_primary, alter, &setting.name, &setting.default).await;
        }
    }
    for (by, least) in [
        (By::Role, true),
        (By::Role, false),
        (By::Database, true),
        (By::Server, false),
    ] {
        for setting in &settings {
            let value = if least { &setting.least } else { &setting.most };
            let alter = match by {
                By::Role => "ALTER ROLE disturbed",
                By::Database => "ALTER DATABASE synapse",
                By::Server => "ALTER SYSTEM",
            };
            if by == By::Server && setting.name == "role" {
                continue;
            }
            set(&on_primary, alter, &setting.name, value).await;
            if by == By::Server {
                set(&on_standby, alter, &setting.name, value).await;
            }
        }
        if by == By::Server {
            for server in [&primary, &standby] {
                quietly(server, "SELECT pg_reload_conf()").await;
            }
        }
        caught_up(&primary, &standby).await;
        for server in [&primary, &standby] {
            let what = format!(
                "{major}, {by:?}, least {least}, standby {}",
                server.port() == standby.port()
            );
            same(server, &what).await;
        }
        let reset = match by {
            By::Role => "ALTER ROLE disturbed RESET ALL",
            By::Database => "ALTER DATABASE synapse RESET ALL",
            By::Server => "ALTER SYSTEM RESET ALL",
        };
        quietly(&primary, reset).await;
    }
}

/// Both roles are served the same, and nothing fails.
async fn same(server: &Postgres, what: &str) {
    let watch = async |role| Exporter::without_memory(&server.dsn("synapse", role)).await;
    let both = async || (watch("calm").await, watch("disturbed").await);
    let exporters = tokio::sync::Mutex::new(both().await);
    wait_at_most(2 * PATIENCE, what, async || {
        let mut exporters = exporters.lock().await;
        let (calm, disturbed) = &*exporters;
        let [before, page, after] = [
            calm.complete().await,
            disturbed.complete().await,
            calm.complete().await,
        ];
        // On 13 a table for which the machine was too busy once is not read again for a day.
        let is_too_large = |page: &Page| page.skipped().iter().any(|skip| skip.1 == "too_large");
        if [&before, &page, &after].into_iter().any(is_too_large) {
            *exporters = both().await;
            return false;
        }
        let failed = page.failed();
        let [before, seen, after] = [&before, &page, &after].map(values);
        let mut wrong: Vec<_> = Vec::new();
        for (series, value) in &before {
            // What moves is there, and what does not advance is the same.
            let moves = after.get(series) != Some(value);
            let same = match seen.get(series) {
                Some(found) => moves || found == value,
                None => !after.contains_key(series),
            };
            if !same {
                wrong.push((series, *value, seen.get(series)));
            }
        }
        let more = seen
            .keys()
            .filter(|series| !before.contains_key(*series) && !after.contains_key(*series));
        let more: Vec<_> = more.collect();
        let fine = failed.is_empty() && wrong.is_empty() && more.is_empty();
        if !fine {
            eprintln!(
                "{what}: failed {failed:?}\nwrong {wrong:?}\nmore {more:?}\n{:?}",
                page.skipped()
            );
        }
        fine
    })
    .await;
}

/// Every series, but those of the exporter itself, of sessions and locks, which are not the same
/// twice, and of settings, which tell of those of the role.
fn values(page: &Page) -> BTreeMap<(String, Vec<(String, String)>), f64> {
    let samples = page.families.values().flat_map(|family| &family.samples);
    let samples = samples.filter(|sample| {
        let apart = [
            "pg_exporter_connections",
            "pg_exporter_scrapes",
            "pg_exporter_last",
            "pg_exporter_collector_rows",
            "pg_exporter_collector_query",
            "pg_exporter_collector_statements",
            "pg_exporter_collector_age",
            "pg_scrape_collector_duration",
            "process_",
            "pg_settings_",
            "pg_stat_activity_",
            "pg_activity_",
            "pg_locks_",
            "pg_exporter_role_warning",
            "pg_stat_database_numbackends",
            "synapse_db_events_verified_timestamp_seconds",
        ];
        !apart.iter().any(|prefix| sample.name.starts_with(prefix))
    });
    samples
        .map(|sample| {
            let labels = sample.labels.clone().into_iter().collect();
            ((sample.name.clone(), labels), sample.value)
        })
        .collect()
}

/// A setting that a role, a database or the server can give a default to.
struct Setting {
    name: String,
    default: String,
    least: String,
    most: String,
}

async fn settings(server: &Postgres) -> Vec<Setting> {
    let all = "SELECT name, vartype, boot_val, min_val, max_val, enumvals::text,
                      enumvals[1], enumvals[cardinality(enumvals)]
                 FROM pg_settings
                WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')
                ORDER BY name";
    let mut settings = Vec::new();
    let mut known = BTreeSet::new();
    for row in server.sql("postgres", all).await {
        let [name, kind, boot, min, max, _, first, last] =
            <[Option<String>; 8]>::try_from(row).unwrap();
        let (name, boot) = (name.unwrap(), boot.unwrap_or_default());
        if LEFT.iter().any(|(left, _)| name.starts_with(left)) {
            continue;
        }
        let worse = WORSE.iter().find(|(worse, _)| **worse == name);
        let quoted = |value: Option<String>| format!("'{}'", value.unwrap());
        let (least, most) = match (worse, kind.as_deref().unwrap()) {
            (Some((worse, value)), _) => {
                known.insert(*worse);
                ((*value).to_owned(), (*value).to_owned())
            }
            (None, "bool") => {
                let other = if boot == "on" { "off" } else { "on" };
                (other.to_owned(), other.to_owned())
            }
            (None, "enum") => (quoted(first), quoted(last)),
            (None, "integer" | "real") => (quoted(min), quoted(max)),
            // A word has no hostile value but those above.
            (None, _) => continue,
        };
        let default = match kind.as_deref() {
            Some("string") if name == "search_path" => boot,
            _ => format!("'{boot}'"),
        };
        settings.push(Setting {
            name,
            default,
            least,
            most,
        });
    }
    settings.push(Setting {
        name: "role".to_owned(),
        default: "'none'".to_owned(),
        least: "'nobody'".to_owned(),
        most: "'nobody'".to_owned(),
    });
    settings
}

/// Sets a default; what this server does not take is not a danger.
async fn set(client: &Client, alter: &str, name: &str, value: &str) {
    let sql = format!("{alter} SET \"{name}\" = {value}");
    let _ = client.batch_execute(&sql).await;
}

async fn quietly(server: &Postgres, sql: &str) {
    let client = server.client("postgres", "postgres").await;
    client.batch_execute(sql).await.unwrap();
}

/// Waits until the standby has replayed what the primary has written.
async fn caught_up(primary: &Postgres, standby: &Postgres) {
    let end = primary
        .value("postgres", "SELECT pg_current_wal_lsn()")
        .await;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", end.unwrap());
    wait_until(standby, "postgres", &replayed).await;
}
