//! The rules in `alerts/`: they read what the exporter serves, hold to habits, and each alert has
//! its runbook and its tests. What Prometheus' own tools say of them is in `promtool.rs`, and what
//! happens on real parts in `pages.rs`.

// A broken expectation is a failed test, in helpers too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use matrix_postgres_exporter::catalogue::{Format, render};
use matrix_postgres_exporter::collectors::Registry;
use serde::Deserialize;
use serde_json::Value;

mod expression;

use expression::{Metric, Reader};

/// What Prometheus adds to every series of a target: `namespace` in Kubernetes, and `server` where
/// one exporter watches several.
const TARGET: [&str; 4] = ["namespace", "job", "instance", "server"];

/// Metrics that are not the exporter's, with their labels.
const FOREIGN: [(&str, &[&str]); 7] = [
    ("up", &[]),
    (
        "ALERTS",
        &[
            "alertname",
            "alertstate",
            "system_identifier",
            "cluster_name",
            "datname",
        ],
    ),
    ("kube_cronjob_spec_suspend", &["cronjob"]),
    (
        "cnpg_collector_last_available_backup_timestamp",
        &["cluster"],
    ),
    (
        "barman_cloud_cloudnative_pg_io_last_available_backup_timestamp",
        &["cluster"],
    ),
    ("kube_cronjob_status_last_successful_time", &["cronjob"]),
    ("kube_cronjob_created", &["cronjob"]),
];

/// Records that read their own past, with a metric that has their labels.
const REMEMBERED: [(&str, &str); 3] = [
    (
        "instance:pg_server_info:timestamp_seconds",
        "pg_server_info",
    ),
    ("datname:synapse_copy:bool", "synapse_db_schema_version"),
    (
        "pg_cluster:pg_writable:first_timestamp_seconds",
        "pg_server_info",
    ),
];

#[test]
fn rules_read_what_exists_and_hold_to_the_habits() {
    let mut problems = Vec::new();
    let mut metrics = catalogue();
    for (record, like) in REMEMBERED {
        metrics.insert(
            record.to_owned(),
            Metric::gauge(metrics[like].labels.clone()),
        );
    }
    for rule in rules() {
        let mut reader = Reader::new(&metrics);
        let labels = reader.read(&rule.expr);
        let found = reader.problems.iter();
        problems.extend(found.map(|problem| format!("{}: {problem}", rule.name())));
        match &rule.record {
            Some(name) => {
                metrics.insert(name.clone(), Metric::gauge(labels));
            }
            None => problems.extend(alert_problems(&rule, &labels, reader.filters)),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn bad_habits_are_found() {
    let metrics = catalogue();
    let find = |expr: &str| {
        let mut reader = Reader::new(&metrics);
        reader.read(expr);
        reader.problems.join("; ")
    };
    let server = "(namespace, job, instance, server)";
    for (expr, problem) in [
        ("pg_uptime > 0", "no metric pg_uptime"),
        ("pg_up{datname=\"x\"} == 0", "pg_up has no label datname"),
        (
            "pg_up{job=~\"postgres\"} == 0",
            "needs no regular expression",
        ),
        ("rate(pg_up[5m]) > 0", "pg_up is a gauge"),
        ("pg_stat_archiver_failed_count > 0", "a counter"),
        ("delta(pg_stat_archiver_failed_count[5m]) > 0", "a counter"),
        ("resets(pg_up[1h]) > 3", "pg_up is a gauge"),
        ("pg_locks_count > pg_settings_max_connections", "needs on()"),
        ("sum(pg_up) > 0", "not by which labels"),
        ("sum by (datname) (pg_up) > 0", "no label datname"),
        ("pg_up == ignoring (datname) pg_up", "ignoring()"),
        ("topk by (job) (1, pg_up) > 0", "topk"),
        ("pg_up ==", "no PromQL"),
        (
            &format!("pg_up * on {server} group_left (reason) pg_in_recovery"),
            "no label reason",
        ),
    ] {
        let found = find(expr);
        assert!(found.contains(problem), "{expr}: {found:?}");
    }
    let fine = format!("increase(pg_stat_archiver_failed_count[5m]) > on {server} pg_up");
    assert_eq!(find(&fine), "");
}

#[test]
fn every_threshold_is_in_the_example_with_its_default() {
    let metrics = catalogue();
    let mut used = BTreeMap::new();
    for rule in rules() {
        let mut reader = Reader::new(&metrics);
        reader.read(&rule.expr);
        used.extend(reader.thresholds);
    }
    let example = groups("thresholds.example.yml");
    let example: BTreeMap<_, _> = example
        .into_iter()
        .map(|rule| (rule.name().to_owned(), rule.expr.parse().unwrap()))
        .collect();
    assert_eq!(used, example);
}

#[test]
fn every_alert_has_its_runbook() {
    let sections = [
        "## Meaning",
        "## Impact",
        "## Diagnosis",
        "## Mitigation",
        "## False positives",
        "## Silence when",
    ];
    let alerts: BTreeSet<String> = rules().into_iter().filter_map(|rule| rule.alert).collect();
    let runbooks = files("runbooks", ".md");
    let named = runbooks.iter().map(|file| stem(file)).collect();
    assert_eq!(alerts, named);
    for file in runbooks {
        let text = fs::read_to_string(&file).unwrap();
        let title = format!("# {}", stem(&file));
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        let expected: Vec<_> = std::iter::once(title.as_str()).chain(sections).collect();
        assert_eq!(headings, expected, "{}", file.display());
        let asks = ["psql", "```sql", "`SELECT", "`SHOW"];
        let says = text.contains("](../README.md#commands)");
        assert!(
            says || !asks.iter().any(|word| text.contains(word)),
            "{} does not say where psql is",
            file.display()
        );
    }
}

/// Nobody is told to change Synapse's tables, but for a few cases with a reason; and no statement shows the
/// text of others' queries, which may hold messages.
#[test]
fn runbooks_leave_synapses_tables_alone() {
    // What Synapse's own migrations do; what a failed REINDEX has left, which is none of Synapse's; what the
    // message with which Synapse refuses to start says.
    let allowed = [
        ("SynapseSequenceBehindStream", "setval("),
        ("PostgresReplicaIdentityMissing", "ALTER TABLE"),
        ("PostgresIndexInvalid", "DROP INDEX"),
    ];
    let changes = [
        "INSERT INTO",
        "UPDATE ",
        "DELETE FROM",
        "ALTER TABLE",
        "ALTER SEQUENCE",
        "setval(",
        "TRUNCATE",
        "DROP INDEX",
        "DROP TABLE",
        "left(query",
    ];
    let mut problems = Vec::new();
    for file in files("runbooks", ".md") {
        let name = stem(&file);
        let text = fs::read_to_string(&file).unwrap();
        // Text in code spans and blocks.
        for code in text.replace("```", "`").split('`').skip(1).step_by(2) {
            for change in changes {
                let begins = code.trim_start().starts_with(change) && code.len() > change.len();
                let given = code.contains(&format!("\"{change}"));
                let shown = change.ends_with(['(', 'y']) && code.contains(change);
                if (begins || given || shown) && !allowed.contains(&(name.as_str(), change)) {
                    problems.push(format!("{name}: {code}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_alert_is_seen_to_fire_and_to_be_silent() {
    let mut fires = BTreeSet::new();
    let mut silent = BTreeSet::new();
    for file in files("tests", ".yml") {
        let tests: PromtoolFile = read(&file);
        for case in tests
            .tests
            .into_iter()
            .flat_map(|test| test.alert_rule_test)
        {
            if case.exp_alerts.is_empty() {
                silent.insert(case.alertname.clone());
            }
            for alert in case.exp_alerts {
                fires.insert((case.alertname.clone(), alert.exp_labels["severity"].clone()));
            }
        }
    }
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        let variant = (alert, rule.labels["severity"].clone());
        assert!(
            fires.contains(&variant),
            "{variant:?} is never seen to fire"
        );
        assert!(
            silent.contains(&variant.0),
            "{} is never seen silent",
            variant.0
        );
    }
}

/// What is wrong with an alert beside its expression.
fn alert_problems(rule: &Rule, labels: &BTreeSet<String>, filters: bool) -> Vec<String> {
    let name = rule.name();
    let mut problems = Vec::new();
    let mut check = |fine: bool, problem: &str| {
        if !fine {
            problems.push(format!("{name}: {problem}"));
        }
    };
    let camel = name.starts_with("Postgres") || name.starts_with("Synapse");
    check(
        camel && name.chars().all(|c| c.is_ascii_alphabetic()),
        "is not a name like PostgresServerDown",
    );
    check(filters, "compares nothing, so it always fires");
    let pending = rule.pending.as_deref();
    check(pending.is_some(), "has no `for`");
    let hours = pending.and_then(|pending| pending.strip_suffix('h')?.parse::<u32>().ok());
    let long = hours.is_some_and(|hours| hours > 2) || pending.is_some_and(|p| p.ends_with('d'));
    check(
        !long || rule.expr.contains("_over_time(") || rule.expr.contains("increase("),
        "begins its long `for` again after one scrape that fails",
    );
    check(
        rule.keep_firing_for.is_some(),
        "has no `keep_firing_for`, so a restart of the exporter ends it",
    );
    // A copy by logical replication repeats what its homeserver says, and has no Synapse.
    let on_copies = [
        "SynapseLocaleChanged",
        "SynapseLocaleUnsafe",
        "SynapseTablesGrowing",
    ];
    let known = [
        "events_position:max",
        "sessions:sum",
        "copy:bool",
        "absent:bool",
    ]
    .iter()
    .any(|record| rule.expr.contains(&format!("datname:synapse_{record}")));
    check(
        !name.starts_with("Synapse") || on_copies.contains(&name) || known,
        "takes a copy by logical replication for a homeserver",
    );
    let severity = rule.labels.get("severity").map_or("", String::as_str);
    check(
        ["critical", "warning", "info"].contains(&severity),
        "has no severity of critical, warning, info",
    );
    check(rule.labels.contains_key("component"), "has no component");
    check(
        rule.labels.values().all(|value| !value.contains("{{")),
        "has a label that changes",
    );
    check(
        severity != "critical"
            || !labels.contains("instance")
            || name == "PostgresServerDown"
            || rule.expr.contains("instance:pg_second_exporter:bool"),
        "pages once for each exporter of a server",
    );
    let annotation = |key| rule.annotations.get(key).map_or("", String::as_str);
    let summary = annotation("summary");
    check(
        summary.ends_with('.') && summary.contains("{{ $labels."),
        "has no summary in one sentence that names the server, the database or the cluster",
    );
    check(
        !summary.contains("$value"),
        "has a summary that changes with the value",
    );
    check(!annotation("description").is_empty(), "has no description");
    check(
        annotation("runbook_url") == format!("alerts/runbooks/{name}.md"),
        "has not its runbook's runbook_url",
    );
    let templates = rule
        .annotations
        .values()
        .flat_map(|text| text.split("$labels.").skip(1));
    for template in templates {
        let end = template.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let label = &template[..end.unwrap_or(template.len())];
        check(
            labels.contains(label),
            &format!("shows {label}, which it does not have"),
        );
    }
    problems
}

/// Everything that the exporter serves, and the few others.
fn catalogue() -> BTreeMap<String, Metric> {
    let catalogue: Value =
        serde_json::from_str(&render(&Registry::built_in(), Format::Json)).unwrap();
    let collectors = catalogue["collectors"].as_array().unwrap().iter();
    let own = catalogue["own"].as_array().unwrap().iter();
    let served = collectors
        .flat_map(|collector| collector["metrics"].as_array().unwrap())
        .chain(own)
        .map(|metric| {
            let labels = metric["labels"].as_array().unwrap().iter();
            let labels = labels.map(|label| label.as_str().unwrap());
            (
                metric["name"].as_str().unwrap().to_owned(),
                Metric {
                    counter: metric["kind"] == "counter",
                    labels: labels.chain(TARGET).map(str::to_owned).collect(),
                },
            )
        });
    let foreign = FOREIGN.into_iter().map(|(name, labels)| {
        let labels = labels.iter().copied().chain(TARGET).map(str::to_owned);
        (name.to_owned(), Metric::gauge(labels.collect()))
    });
    served.chain(foreign).collect()
}

/// The shipped rules, those that others build on first.
fn rules() -> Vec<Rule> {
    let recording = "recording.rules.yml";
    let others = files("", ".rules.yml");
    let others = others.iter().filter(|file| !file.ends_with(recording));
    let mut rules = groups(recording);
    rules.extend(others.flat_map(|file| groups(file.to_str().unwrap())));
    assert!(rules.len() > 20, "few rules are left: {}", rules.len());
    rules
}

fn groups(file: &str) -> Vec<Rule> {
    let file: RuleFile = read(&folder().join(file));
    file.groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

fn read<T: for<'a> Deserialize<'a>>(file: &Path) -> T {
    let text = fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn files(within: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join(within)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| file.to_str().unwrap().ends_with(ending))
        .collect();
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts")
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    pending: Option<String>,
    keep_firing_for: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Rule {
    fn name(&self) -> &str {
        self.record.as_ref().or(self.alert.as_ref()).unwrap()
    }
}

#[derive(Deserialize)]
struct PromtoolFile {
    tests: Vec<PromtoolTest>,
}

#[derive(Deserialize)]
struct PromtoolTest {
    #[serde(default)]
    alert_rule_test: Vec<PromtoolCase>,
}

#[derive(Deserialize)]
struct PromtoolCase {
    alertname: String,
    exp_alerts: Vec<PromtoolAlert>,
}

#[derive(Deserialize)]
struct PromtoolAlert {
    exp_labels: BTreeMap<String, String>,
}
