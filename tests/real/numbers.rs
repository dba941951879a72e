//! What is served of Synapse is what Synapse and its database say.
//!
//! - [`asked`]: of what real traffic has made, what the database says when asked otherwise
//! - [`people`], [`backlog`], [`health`]: rows as Synapse leaves them, where traffic makes none
//!
//! What the driver of the traffic has counted, Synapse's admin API says too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use matrix_postgres_exporter::catalogue::{self, Format};
use matrix_postgres_exporter::collectors::{self, Registry};
use serde_json::Value;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{Made, NEW, OLD, Synapse};
use super::support::whole;

mod asked;
mod backlog;
mod health;
mod people;

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_old_synapse_are_right_on_13() {
    numbers_are_right(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_old_synapse_are_right_on_16() {
    numbers_are_right(16, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_new_synapse_are_right_on_14() {
    numbers_are_right(14, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_new_synapse_are_right_on_16() {
    numbers_are_right(16, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_new_synapse_are_right_on_18() {
    numbers_are_right(18, NEW).await;
}

/// On a primary and on its standby: of a database as Synapse has made it, of one with further rows,
/// and of copies of both with another schema.
async fn numbers_are_right(major: u32, version: &str) {
    let (server, synapse, _) = Synapse::go_on(Postgres::builder(major), version).await;
    let made = synapse.use_everything().await;
    drop(synapse);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'synapse'";
    wait_for("nobody uses the database", || async {
        number(&server, "postgres", sessions).await == 0.0
    })
    .await;
    copy(&server, "synapse", "left").await;
    let leaving = Instant::now();
    leave(&server, "left", version).await;
    for (database, elsewhere) in [("synapse", "made_elsewhere"), ("left", "left_elsewhere")] {
        copy(&server, database, elsewhere).await;
        let rename = format!("ALTER SCHEMA public RENAME TO \"{ELSEWHERE}\"; CREATE SCHEMA public");
        server.sql(elsewhere, &rename).await;
    }
    let databases = DATABASES.map(|(database, _)| database);
    Role::Strict.create(&server, "exporter", &databases).await;
    let standby = server.standby().start().await;

    let (exporter, on_standby) = tokio::join!(watch(&server), watch(&standby));
    let pages = tokio::join!(complete(&exporter), complete(&on_standby));
    let older = leaving.elapsed();
    for (page, server) in [(&pages.0, &server), (&pages.1, &standby)] {
        for (database, schema) in &DATABASES[..2] {
            are_what_was_made(page, database, &made);
            are_what_the_database_says(page, database, schema, server).await;
        }
        for (database, _) in &DATABASES[2..] {
            are_what_is_left(page, database, &left(version), older);
        }
    }
    for (database, _) in &DATABASES[2..] {
        are_what_is_left(&pages.0, database, health::LEFT_UNLOGGED, older);
    }
    for database in databases {
        assert_eq!(behind(&pages.0, database), []);
        let skipped = only_on_a_primary(&pages.1, database);
        assert_eq!(skipped, ["synapse_locks", "synapse_streams"].into());
    }
    let primary: BTreeSet<_> = served(&pages.0).collect();
    let standby: BTreeSet<_> = served(&pages.1).collect();
    let missing: Vec<_> = primary.difference(&standby).collect();
    let of_sequences = [
        "synapse_db_sequence_behind_positions",
        "synapse_db_stream_unpublished_positions",
    ];
    assert_eq!(missing, of_sequences.iter().collect::<Vec<_>>());

    // As after a restore: Synapse would not start any more.
    let newest = "SELECT max(stream_id) FROM stream_positions WHERE stream_name = 'events'";
    let newest = number(&server, "synapse", newest).await;
    server
        .sql("synapse", "SELECT setval('events_stream_seq', 3)")
        .await;
    let page = exporter.scrape().await;
    let events = ("events_stream_seq".to_owned(), newest - 3.0);
    assert_eq!(behind(&page, "synapse"), [events]);
    assert_eq!(behind(&page, "made_elsewhere"), []);
}

/// A column that is cast has no index. What is aggregated or served is not a condition.
#[tokio::test(flavor = "multi_thread")]
async fn times_are_compared_as_bigint_and_never_as_numeric() {
    let (server, _) = Synapse::leave(Postgres::builder(18), NEW).await;
    let client = server.client("synapse", "postgres").await;
    // `(creation_ts)::numeric`
    let casts_a_column = |line: &str| {
        let casts = [")::numeric", ")::double precision"];
        casts.iter().any(|cast| {
            let mut before = line.split(cast).collect::<Vec<_>>();
            before.pop();
            before.iter().any(|text| {
                let (_, name) = text.rsplit_once('(').unwrap();
                name.chars()
                    .all(|c| c.is_alphanumeric() || "_.\"".contains(c))
            })
        })
    };
    let naive = "SELECT FROM users WHERE creation_ts > extract(epoch FROM now())";
    let plan = rows(&client, &format!("EXPLAIN {naive}")).await;
    assert!(
        plan.iter()
            .flatten()
            .flatten()
            .any(|line| casts_a_column(line))
    );
    let queries = collectors::synapse::all()
        .into_iter()
        .flat_map(|one| one.queries);
    let columns = whole::columns(&server).await;
    let statements = queries.flat_map(|query| match query.walk {
        Some(_) => {
            let plain = whole::plain(&query, server.major(), &columns);
            plain.iter().map(|sql| sql.as_str().to_owned()).collect()
        }
        None => {
            let statements = query.statements.iter();
            let statements = statements.map(|(_, sql)| sql.text());
            let statements = statements.filter(|sql| sql.contains("{schema}"));
            let statements = statements.map(|sql| sql.replace("{schema}", "public"));
            statements.collect::<Vec<_>>()
        }
    });
    for sql in statements {
        let plan = rows(&client, &format!("EXPLAIN {sql}")).await;
        for line in plan.iter().flatten().flatten() {
            assert!(!casts_a_column(line), "{sql}: {line}");
        }
    }
}

#[test]
fn every_metric_of_synapse_is_compared_with_something() {
    let list: Value =
        serde_json::from_str(&catalogue::render(&Registry::built_in(), Format::Json)).unwrap();
    let collectors = list["collectors"].as_array().unwrap().iter();
    let metrics = collectors.flat_map(|collector| collector["metrics"].as_array().unwrap());
    let metrics = metrics.map(|metric| metric["name"].as_str().unwrap());
    let metrics: BTreeSet<_> = metrics.filter(|name| name.starts_with(PREFIX)).collect();

    let left = [left(NEW).as_slice(), health::LEFT_UNLOGGED].concat();
    let of_rows = left.iter().flat_map(|(_, _, served)| *served);
    let compared: BTreeSet<_> = of_rows
        .map(|(metric, _, _)| *metric)
        .chain(asked::ASKED.iter().map(|(metric, _, _)| *metric))
        .collect();
    let elsewhere: BTreeSet<_> = PROVEN_ELSEWHERE
        .iter()
        .flat_map(|(metrics, _)| metrics.iter().copied())
        .collect();
    for (metrics, file) in PROVEN_ELSEWHERE {
        for metric in *metrics {
            assert!(file.contains(metric), "{metric} is not where it should be");
        }
    }
    assert_eq!(compared.intersection(&elsewhere).next(), None);
    let known: BTreeSet<_> = compared.union(&elsewhere).copied().collect();
    let unproven: Vec<_> = metrics.difference(&known).collect();
    let unknown: Vec<_> = known.difference(&metrics).collect();
    assert!(
        unproven.is_empty() && unknown.is_empty(),
        "{unproven:#?} {unknown:#?}"
    );
}

/// Metrics that are compared with something in another file, and the file.
const PROVEN_ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["synapse_db_events_as_of_timestamp_seconds"],
        include_str!("as_of.rs"),
    ),
    (
        &[
            "synapse_db_events_added_total",
            "synapse_db_events_ranges",
            "synapse_db_events_rows_counted_total",
            "synapse_db_events_verified_timestamp_seconds",
        ],
        include_str!("events.rs"),
    ),
    (
        &[
            "synapse_db_locale_not_c",
            "synapse_db_collation_version_mismatch",
            "synapse_db_table_group_estimated_bytes",
            "synapse_db_table_group_estimated_rows",
            "synapse_db_tables_without_statistics",
            "synapse_db_tables_without_statistics_bytes",
        ],
        include_str!("schema.rs"),
    ),
    (&["synapse_db_data_store_info"], include_str!("split.rs")),
    (
        &[
            "synapse_db_sequence_behind_positions",
            "synapse_db_stream_unpublished_positions",
        ],
        include_str!("lost.rs"),
    ),
];

const PREFIX: &str = "synapse_db_";

const ELSEWHERE: &str = "other schema";

/// Two databases as Synapse has made them, two with further rows, and their schemas.
const DATABASES: [(&str, &str); 4] = [
    ("synapse", "public"),
    ("made_elsewhere", ELSEWHERE),
    ("left", "public"),
    ("left_elsewhere", ELSEWHERE),
];

async fn copy(server: &Postgres, database: &str, name: &str) {
    let copy = format!("CREATE DATABASE \"{name}\" TEMPLATE \"{database}\"");
    server.sql("postgres", &copy).await;
}

/// Puts rows into a database in which nothing else tells of the same.
async fn leave(server: &Postgres, database: &str, version: &str) {
    let tables = health::EMPTIED
        .iter()
        .map(|table| format!("DELETE FROM {table};"));
    server.sql(database, &tables.collect::<String>()).await;
    for (_, rows, _) in left(version).iter().chain(health::LEFT_UNLOGGED) {
        server.sql(database, &format!("{AGO}; {rows}")).await;
    }
}

/// Reads nothing but what Synapse's collectors tell.
async fn watch(server: &Postgres) -> Exporter {
    let others = collectors::postgres::all().into_iter();
    let off: Vec<_> = others
        .map(|other| format!("--no-collector.{}", other.name))
        .collect();
    // One for each database, and one for what is read in the background.
    let connections = "--connections=6";
    let flags: Vec<_> = off
        .iter()
        .map(String::as_str)
        .chain([connections])
        .collect();
    Exporter::watch(&server.dsn("synapse", "exporter"), &flags).await
}

/// A page with everything that is read or counted in the background.
async fn complete(exporter: &Exporter) -> Page {
    exporter.complete().await;
    wait_for("the events are counted", || async {
        let page = exporter.scrape().await;
        let exact = page.samples("synapse_db_events_exact");
        exact.filter(|sample| sample.value == 1.0).count() == DATABASES.len()
    })
    .await;
    exporter.scrape().await
}

fn are_what_was_made(page: &Page, database: &str, made: &Made) {
    let sum = |name: &str, labels: &[(&str, &str)]| -> f64 {
        page.samples(name)
            .filter(|sample| sample.labels["datname"] == database)
            .filter(|sample| {
                labels
                    .iter()
                    .all(|(name, value)| sample.labels[*name] == *value)
            })
            .map(|sample| sample.value)
            .sum()
    };
    let users = "synapse_db_users";
    let flagged = "synapse_db_users_flagged";
    for (found, wanted) in [
        (sum(users, &[]), made.users.total),
        (sum(users, &[("kind", "guest")]), made.users.guests),
        (sum(users, &[("kind", "bridged")]), made.users.bridged),
        (
            sum(users, &[("deactivated", "true")]),
            made.users.deactivated,
        ),
        (sum(flagged, &[("flag", "admin")]), made.users.admins),
        (sum("synapse_db_rooms", &[]), made.rooms.total),
        (sum("synapse_db_rooms_published", &[]), made.rooms.published),
        (sum("synapse_db_rooms_encrypted", &[]), made.rooms.encrypted),
        (sum("synapse_db_devices", &[]), made.devices),
        (
            sum("synapse_db_events_unencrypted_messages", &[]),
            made.messages,
        ),
        (
            sum("synapse_db_events_encrypted", &[]),
            made.encrypted_messages,
        ),
    ] {
        assert_eq!(found, wanted as f64, "{database}: {made:?}");
    }
    for number in &made.numbers {
        let metric = format!("{PREFIX}{}", number.metric);
        let labels = number.labels.iter();
        let mut labels: Vec<_> = labels.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        labels.push(("datname", database));
        let found = page.value(&metric, &labels);
        assert_eq!(found, Some(number.value as f64), "{metric} {labels:?}");
    }
}

fn are_what_is_left(page: &Page, database: &str, left: &[Left], older: Duration) {
    let wrong = left.iter().flat_map(|(what, _, served)| {
        served.iter().filter_map(move |(metric, labels, wanted)| {
            let labels = [&[("datname", database)], *labels].concat();
            let found = page.value(metric, &labels);
            let right = |found: f64| match metric.ends_with("_age_seconds") && *wanted > 0.0 {
                // The rows grow older while the test runs.
                true => (*wanted..wanted + older.as_secs_f64()).contains(&found),
                false => found == *wanted,
            };
            (!found.is_some_and(right))
                .then(|| format!("{what}: {metric} {labels:?}: {found:?}, not {wanted}"))
        })
    });
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0]);
}

/// Of each series of these metrics, and of no other.
async fn are_what_the_database_says(page: &Page, database: &str, schema: &str, server: &Postgres) {
    for (metric, labels, sql) in asked::ASKED {
        let sql = format!("SET search_path = \"{schema}\"; {sql}");
        let rows = server.sql(database, &sql).await.into_iter();
        let wanted: BTreeMap<_, _> = rows
            .filter_map(|mut row| {
                let value: f64 = row.pop()??.parse().unwrap();
                let values: Vec<_> = row.into_iter().map(Option::unwrap_or_default).collect();
                Some((values, value))
            })
            .collect();
        let samples = page.samples(metric);
        let samples = samples.filter(|sample| sample.labels["datname"] == database);
        let found: BTreeMap<_, _> = samples
            .map(|sample| {
                let values: Vec<_> = labels.iter().map(|l| sample.labels[*l].clone()).collect();
                (values, sample.value)
            })
            .collect();
        assert_eq!(found, wanted, "{database} {metric}");
    }
}

async fn number(server: &Postgres, database: &str, sql: &str) -> f64 {
    server.value(database, sql).await.unwrap().parse().unwrap()
}

/// The metrics of Synapse on a page.
fn served(page: &Page) -> impl Iterator<Item = &str> {
    let names = page.names().into_iter();
    names.filter(|name| name.starts_with(PREFIX))
}

/// The sequences that are behind their stream, and how far.
fn behind(page: &Page, database: &str) -> Vec<(String, f64)> {
    let sequences: Vec<_> = page
        .samples("synapse_db_sequence_behind_positions")
        .filter(|sample| sample.labels["datname"] == database)
        .collect();
    assert!(sequences.len() >= 6, "{sequences:?}");
    let behind = sequences.iter().filter(|sample| sample.value > 0.0);
    behind
        .map(|sample| (sample.labels["sequence_name"].clone(), sample.value))
        .collect()
}

/// The collectors of Synapse that did not do all their work for want of a primary.
fn only_on_a_primary<'a>(page: &'a Page, database: &str) -> BTreeSet<&'a str> {
    let skipped = page.skipped().into_iter();
    skipped
        .filter(|(collector, reason, datname)| {
            collector.starts_with("synapse_") && *reason == "wrong_role" && *datname == database
        })
        .map(|(collector, _, _)| collector)
        .collect()
}

/// So many seconds ago, as Synapse counts.
const AGO: &str = "CREATE FUNCTION pg_temp.ago(seconds numeric) RETURNS bigint
    LANGUAGE sql AS 'SELECT ((extract(epoch FROM now()) - seconds) * 1000)::bigint'";

/// A metric, some of its labels, and its value; an age is at least that.
type Served = (&'static str, &'static [(&'static str, &'static str)], f64);

/// What it is about, rows as Synapse leaves them, and what is served of them.
type Left = (&'static str, &'static str, &'static [Served]);

/// A metric, its labels but for `datname`, and a query that gives these and the value.
type Asked = (&'static str, &'static [&'static str], &'static str);

fn left(version: &str) -> Vec<Left> {
    let by_new = match version {
        NEW => [people::LEFT_BY_NEW, backlog::LEFT_BY_NEW].concat(),
        _ => Vec::new(),
    };
    [health::LEFT, people::LEFT, backlog::LEFT, &by_new].concat()
}
