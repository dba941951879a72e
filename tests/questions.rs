//! What users ask of their database, with the panel and the alert that answer it. A question without a
//! panel, or without an alert where somebody should be told, says what it waits for.

// A broken expectation is a failed test.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Where the answer is shown, by dashboard and panel, and which alerts watch it.
struct Question(
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const INSTANCE: &str = "instance";
const SYNAPSE: &str = "synapse";
const PEOPLE: &str = "people";

/// Questions that are answered.
const ANSWERED: [Question; 36] = [
    // One Synapse on one server.
    Question("database size", &[(SYNAPSE, "Database size")], &[]),
    Question(
        "largest tables",
        &[(SYNAPSE, "Largest tables: size and growth")],
        &["SynapseTablesGrowing"],
    ),
    Question(
        "users",
        &[(SYNAPSE, "Users"), (PEOPLE, "Users by kind")],
        &[],
    ),
    Question("rooms", &[(SYNAPSE, "Rooms with local users")], &[]),
    Question(
        "messages",
        &[(SYNAPSE, "Messages kept"), (SYNAPSE, "Messages (24 hours)")],
        &["SynapseEventPersistenceStalled"],
    ),
    Question(
        "active in the last hour",
        &[(SYNAPSE, "Active users (1 hour)")],
        &["SynapseNoSessions"],
    ),
    Question(
        "connections of Synapse",
        &[(SYNAPSE, "Synapse's sessions by state")],
        &["SynapseNoSessions"],
    ),
    Question(
        "slow queries",
        &[(INSTANCE, "Queries over 5 minutes")],
        &["PostgresQueryRunningLong"],
    ),
    Question(
        "dead rows, last vacuum and analyze",
        &[(INSTANCE, "Largest tables: size, dead rows, vacuum")],
        &["PostgresTableDeadRows", "PostgresAutovacuumOff"],
    ),
    Question(
        "invalid indexes",
        &[(SYNAPSE, "Invalid indexes")],
        &["PostgresIndexInvalid"],
    ),
    Question(
        "devices, tokens",
        &[(PEOPLE, "Devices"), (PEOPLE, "Access and refresh tokens")],
        &["SynapseEncryptionKeysExhausted"],
    ),
    Question("media", &[(PEOPLE, "Media size")], &[]),
    Question(
        "memberships",
        &[(PEOPLE, "Room members by membership")],
        &[],
    ),
    Question(
        "reachable, version, uptime",
        &[
            (INSTANCE, "Status"),
            (INSTANCE, "Version"),
            (INSTANCE, "Uptime"),
        ],
        &["PostgresServerDown", "PostgresFlapping"],
    ),
    Question("presence", &[(PEOPLE, "Users by presence")], &[]),
    // A cluster of three.
    Question(
        "which one is primary",
        &[(INSTANCE, "Role")],
        &["PostgresNoPrimary", "PostgresMultiplePrimaries"],
    ),
    Question(
        "3 of 3 are ready",
        &[(INSTANCE, "Firing alerts")],
        &[
            "PostgresStandbyMissing",
            "PostgresNoStandby",
            "PostgresClusterUnseen",
        ],
    ),
    Question(
        "state and lag of standbys",
        &[
            (INSTANCE, "Replication lag: standbys and subscribers, WAL"),
            (INSTANCE, "Replication lag: this standby, seconds"),
        ],
        &["PostgresStandbyLagging", "PostgresStandbyNotStreaming"],
    ),
    Question(
        "commits that wait for a standby",
        &[(INSTANCE, "Commits waiting for a synchronous standby")],
        &["PostgresSyncReplicationBlocked"],
    ),
    Question(
        "slots",
        &[
            (INSTANCE, "Replication slots"),
            (INSTANCE, "WAL held back by slots"),
        ],
        &[
            "PostgresReplicationSlotLost",
            "PostgresReplicationSlotNearlyLost",
            "PostgresReplicationSlotRetainingWAL",
        ],
    ),
    Question(
        "WAL archiving",
        &[
            (INSTANCE, "WAL archiving: archived and failed"),
            (INSTANCE, "WAL archiving backlog: files that wait"),
        ],
        &[
            "PostgresArchivingFailing",
            "PostgresArchivingStalled",
            "PostgresArchivingBacklog",
        ],
    ),
    Question("index usage", &[(INSTANCE, "Index usage ratio")], &[]),
    Question(
        "saturation of connections",
        &[(INSTANCE, "Connections in use")],
        &[
            "PostgresConnectionsSaturated",
            "PostgresDatabaseConnectionsSaturated",
        ],
    ),
    Question(
        "growth of WAL",
        &[(INSTANCE, "WAL size")],
        &["PostgresWalDirectoryLarge"],
    ),
    Question(
        "backups",
        &[(INSTANCE, "Firing alerts")],
        &["PostgresDumpTooOld", "PostgresBackupTooOld"],
    ),
    // A copy by logical replication.
    Question(
        "is the copy behind",
        &[(INSTANCE, "Replication lag: standbys and subscribers, WAL")],
        &["SynapseCopyNotFollowing"],
    ),
    Question(
        "has the copy the same schema",
        &[(SYNAPSE, "Schema version")],
        &["SynapseSchemaDiffers", "PostgresReplicaIdentityMissing"],
    ),
    // Any server.
    Question(
        "connection limits of roles",
        &[(INSTANCE, "Connections by role, with its limit")],
        &["PostgresRoleConnectionsSaturated"],
    ),
    Question("cache hit ratio", &[(INSTANCE, "Cache hit ratio")], &[]),
    Question("rollbacks", &[(INSTANCE, "Transactions")], &[]),
    Question(
        "deadlocks",
        &[(INSTANCE, "Deadlocks in an hour")],
        &["PostgresDeadlocks"],
    ),
    Question("temporary files", &[(INSTANCE, "Temporary files")], &[]),
    Question(
        "locks",
        &[
            (INSTANCE, "Sessions waiting for locks"),
            (INSTANCE, "Locks by mode"),
        ],
        &["PostgresLockWaits", "PostgresIdleInTransaction"],
    ),
    Question(
        "sequences behind",
        &[(SYNAPSE, "Sequences behind")],
        &["SynapseSequenceBehindStream"],
    ),
    Question(
        "background updates",
        &[(SYNAPSE, "Background updates")],
        &["SynapseBackgroundUpdateStuck"],
    ),
    Question(
        "what the exporter cannot see",
        &[(INSTANCE, "Collectors incomplete")],
        &[
            "PostgresExporterPrivilegeMissing",
            "PostgresExporterRowsCut",
            "PostgresExporterTablesNotPlain",
        ],
    ),
];

/// Questions that wait for a metric.
const OPEN: [(&str, &str); 6] = [
    ("bloated indexes", "no estimate of bloat is served"),
    (
        "standbys that synchronous_standby_names requires",
        "required and connected are not served",
    ),
    (
        "subscriptions: running, errors, tables copied",
        "pg_subscription is not read",
    ),
    (
        "the volume's free space, and when it is full",
        "the exporter does not see volumes",
    ),
    ("slow statements", "pg_stat_statements has no panel yet"),
    (
        "users and queue of the Matrix Authentication Service",
        "its database is not read",
    ),
];

#[test]
fn each_question_has_its_panel_and_its_alert() {
    let alerts: BTreeSet<String> = names("alerts/runbooks", ".md");
    let mut problems = Vec::new();
    for Question(question, panels, watched) in &ANSWERED {
        for (board, panel) in *panels {
            if !titles(board).contains(*panel) {
                problems.push(format!("{question}: {board} has no panel {panel}"));
            }
        }
        if panels.is_empty() {
            problems.push(format!("{question}: no panel"));
        }
        for alert in *watched {
            if !alerts.contains(*alert) {
                problems.push(format!("{question}: no alert {alert}"));
            }
        }
    }
    let open = OPEN.iter().filter(|(_, why)| why.is_empty());
    problems.extend(open.map(|(question, _)| format!("{question}: waits for nothing")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The titles of a dashboard's panels.
fn titles(board: &str) -> BTreeSet<String> {
    let file = root().join(format!("dashboards/{board}.json"));
    let board: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let folded = panels
        .clone()
        .filter_map(|panel| panel["panels"].as_array());
    let all = panels.chain(folded.flatten());
    all.map(|panel| panel["title"].as_str().unwrap().to_owned())
        .collect()
}

fn names(folder: &str, ending: &str) -> BTreeSet<String> {
    let files = fs::read_dir(root().join(folder)).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    files
        .filter_map(|file| file.strip_suffix(ending).map(str::to_owned))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
