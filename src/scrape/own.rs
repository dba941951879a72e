//! The metrics that no collector defines: of the server as a whole, and of the exporter.

use std::sync::Arc;

use crate::snapshot::{Kind, Labels, Metric, Sample, Snapshot};

/// A metric of our own.
#[derive(Debug)]
pub struct Own {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! own {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Own = Own {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them.
        pub const ALL: &[Own] = &[$($constant),*];
    };
}

own! {
    UP = Gauge "pg_up" []
        "Whether the server answered a query in this scrape (1) or not (0)";
    DOWN_REASON = Gauge "pg_exporter_down_reason" ["reason"]
        "Always 1 while pg_up is 0, with the reason: refused, dns, timeout, authentication, starting_up, \
         shutting_down, too_many_connections, tls, database_missing, no_connect_privilege, \
         password_file, protocol, other_server, connection or other";
    STATIC = Untyped "pg_static" ["version", "short_version", "server"]
        "Always 1: the server's version and address";
    SERVER_INFO = Gauge "pg_server_info" ["system_identifier", "cluster_name"]
        "Always 1: which cluster the server belongs to; remembered while the server is down";
    VERSION = Gauge "pg_server_version_num" []
        "The server's version as one number: 180004 is 18.4";
    IN_RECOVERY = Gauge "pg_in_recovery" []
        "Whether the server is in recovery, which a standby is (1), or accepts writes (0)";
    TIMELINE = Gauge "pg_timeline_id" []
        "The timeline of the server's last checkpoint or restartpoint";
    VERSION_UNKNOWN = Gauge "pg_exporter_server_version_unknown" []
        "Whether the server is newer than any version this exporter was tested with (1): it gets the statements of the newest known one";
    ROLE_WARNING = Gauge "pg_exporter_role_warning" ["warning", "datname"]
        "Always 1: the role may do more than a monitoring role should: superuser, createrole, replication, bypassrls, server_files, other_sessions or alter_system (itself, or as a role that it may become); or, in a database, the first of these: writable (the application's tables), readable (whole tables of the application), owner (of tables or functions)";
    ROLE_UNKNOWN = Gauge "pg_exporter_role_rights_unknown" ["datname"]
        "1 if it could not be asked what the role may do in this database: the metrics on that are as they were last known; 0 otherwise";
    ROLE_CAN_CREATE = Gauge "pg_exporter_role_can_create" ["datname", "schema"]
        "Always 1: the role, and often everybody, may create in this schema, or, where the schema is empty, make schemas in this database; a function that it makes there, other roles may run with their rights; at most 10 of a database; `grants` ends it";
    ROLE_CAN_WRITE = Gauge "pg_exporter_role_can_write" ["datname", "schema", "table"]
        "Always 1: the role, and often everybody, may change this table or sequence, lock it, or make triggers on it, which run with the rights of whoever writes there; at most 10 of a database, an application's first; `grants` revokes TRIGGER, REFERENCES and MAINTAIN from PUBLIC";
    ROLE_CAN_CALL = Gauge "pg_exporter_role_can_call" ["datname", "schema", "function"]
        "Always 1: the role, and often everybody, may call this function, which runs with the rights of its owner (SECURITY DEFINER); at most 10 of a database; look whether that is meant";
    GRANTS_MISSING = Gauge "pg_exporter_grants_missing" ["datname"]
        "Privileges that the role lacks: columns of an application's tables in this database, or, with \
         an empty datname, functions for server statistics; if above 0, run what `grants` prints";
    NOT_PLAIN = Gauge "pg_exporter_tables_not_plain" ["datname"]
        "Tables of an application in this database that are not read because they are not ordinary tables \
         and could run code of their owner; `check` names them";
    SCRAPES = Counter "pg_exporter_scrapes_total" []
        "Scrapes of the server";
    LAST_SCRAPE_DURATION = Gauge "pg_exporter_last_scrape_duration_seconds" []
        "Duration of this scrape of the server, in seconds";
    LAST_SCRAPE_ERROR = Gauge "pg_exporter_last_scrape_error" []
        "Whether the server was down or any collector failed in this scrape (1) or not (0)";
    COLLECTOR_DURATION = Gauge "pg_scrape_collector_duration_seconds" ["collector"]
        "Duration of the collector's last runs, summed over databases, in seconds";
    COLLECTOR_SUCCESS = Gauge "pg_scrape_collector_success" ["collector"]
        "Whether the collector's last runs succeeded in every database (1) or not (0); what a role, a version or a limit leaves out is no failure";
    SKIPPED = Gauge "pg_exporter_collector_skipped" ["collector", "reason", "datname"]
        "Always 1: the collector returned no data or not all, with the reason; datname is empty \
         for the server as a whole";
    AGE = Gauge "pg_exporter_collector_age_seconds" ["collector", "datname"]
        "Age of the collector's oldest value that is served, in seconds, where it is not read in \
         every scrape";
    COUNT_ESTIMATED = Gauge "pg_exporter_count_estimated" ["collector", "datname", "table"]
        "1 if the collector's counts of this table may be wrong by more than 1 % of its rows: more of \
         them moved to another page while it was read, even when it was read again, or the server \
         does not say how many did, as on a standby. 0 if they are right to within 1 % of its rows, \
         apart from what was written while it was read";
    COUNT_AT_LEAST = Gauge "pg_exporter_count_at_least" ["collector", "datname", "table"]
        "1 if rows are missing in the collector's counts of this table, since those of one user, room \
         or server could not be read within the statement cap: there are at least as many as are \
         served. 0 if none are missing";
    PLANNER_ROWS = Gauge "pg_exporter_count_planner_rows" ["collector", "datname", "table"]
        "Rows of a table that is too large to be counted here, as the last VACUUM or ANALYZE has \
         estimated them for the planner; how wrong that is, is not known. The collector's counts of \
         this table have no samples meanwhile";
    STATEMENTS = Counter "pg_exporter_collector_statements_total" ["collector"]
        "Statements that the collector has sent";
    ROWS = Counter "pg_exporter_collector_rows_total" ["collector"]
        "Rows that the collector has received";
    QUERY_SECONDS = Counter "pg_exporter_collector_query_seconds_total" ["collector"]
        "Seconds that the collector has spent waiting for the server's answers";
    SERIES_CUT = Counter "pg_exporter_collector_rows_cut_total" ["collector"]
        "Rows beyond the collector's limit, which were not served";
    ROW_LIMIT = Gauge "pg_exporter_collector_row_limit" ["collector"]
        "Rows of one database that the collector serves at most";
    DUPLICATES = Counter "pg_exporter_duplicate_series_total" ["metric"]
        "Samples dropped because of a sample with the same labels";
    DATABASES = Gauge "pg_exporter_databases" []
        "Databases that the exporter collects from";
    WITHOUT_CONNECTION = Gauge "pg_exporter_databases_without_connection" []
        "Databases of an application without a connection of their own because the setting connections is \
         too low: they are visited every databases.interval, and their values are as old";
    CONNECTIONS = Gauge "pg_exporter_connections" []
        "Connections to the server that the exporter holds, with those that were given up and that the server has not closed yet";
    CONNECTION_LIMIT = Gauge "pg_exporter_connection_limit" []
        "Connections to the server that the exporter holds at most, beside logins that hang";
    CONNECTIONS_OPENED = Counter "pg_exporter_connections_opened_total" []
        "Connections to the server that the exporter has opened";
}

impl Own {
    /// Adds a sample; the label values stand in the order of the label names.
    pub fn push<const N: usize>(&self, snapshot: &mut Snapshot, values: [&str; N], value: f64) {
        debug_assert_eq!(N, self.labels.len(), "{} has other labels", self.name);
        let labels: Labels = self
            .labels
            .iter()
            .zip(values)
            .map(|(name, value)| (Arc::from(*name), Arc::from(value)))
            .collect();
        let metric = Metric::new(self.name, self.kind, self.help);
        snapshot.push(&metric, Sample { labels, value });
    }
}
