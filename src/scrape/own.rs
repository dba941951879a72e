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
        "Whether the server is in recovery, as a standby (1), or accepts writes (0)";
    TIMELINE = Gauge "pg_timeline_id" []
        "The timeline of the server's last checkpoint or restartpoint";
    VERSION_UNKNOWN = Gauge "pg_exporter_server_version_unknown" []
        "Whether the server is newer than any version this exporter was tested with (1): it gets the statements of the newest known one";
    ROLE_WARNING = Gauge "pg_exporter_role_warning" ["warning", "datname"]
        "Always 1: a privilege that a monitoring role should not have. Of the server: superuser, createrole, replication, bypassrls, server_files, other_sessions or alter_system, held by the role or by one that it can become. Of a database, the first that applies: writable (it can write an application's tables), readable (it can read whole tables of an application), owner (of tables or functions)";
    ROLE_UNKNOWN = Gauge "pg_exporter_role_rights_unknown" ["datname"]
        "1 if the query for the role's privileges in this database failed, and pg_exporter_role_* show the last known result; 0 otherwise";
    ROLE_CAN_CREATE = Gauge "pg_exporter_role_can_create" ["datname", "schema"]
        "Always 1: the role (often through PUBLIC) has CREATE on this schema, or on the database where the label schema is empty. Other roles may then run functions that it creates there, with their rights. At most 10 for each database; run what `grants` prints to revoke it";
    ROLE_CAN_WRITE = Gauge "pg_exporter_role_can_write" ["datname", "schema", "table"]
        "Always 1: the role (often through PUBLIC) can write to this table or sequence, lock it, or create triggers on it, which run with the rights of whoever writes to it. At most 10 for each database, an application's tables first; what `grants` prints revokes TRIGGER, REFERENCES and MAINTAIN from PUBLIC";
    ROLE_CAN_CALL = Gauge "pg_exporter_role_can_call" ["datname", "schema", "function"]
        "Always 1: the role (often through PUBLIC) can call this function, which runs with the rights of its owner (SECURITY DEFINER). At most 10 for each database; revoke EXECUTE if it is not intended";
    GRANTS_MISSING = Gauge "pg_exporter_privileges_missing" ["datname"]
        "Number of privileges that the role is missing: columns of an application's tables in this database, \
         or, where datname is empty, functions for server statistics. Above 0: run what `grants` prints";
    NOT_PLAIN = Gauge "pg_exporter_tables_not_plain" ["datname"]
        "Tables of an application in this database that are not read because they are not ordinary tables \
         and could run code of their owner; `check` names them";
    SCRAPES = Counter "pg_exporter_scrapes_total" []
        "Scrapes of the server since the exporter started";
    LAST_SCRAPE_DURATION = Gauge "pg_exporter_last_scrape_duration_seconds" []
        "Duration of this scrape of the server, in seconds";
    LAST_SCRAPE_ERROR = Gauge "pg_exporter_last_scrape_error" []
        "Whether the server was down or any collector failed in this scrape (1) or not (0)";
    COLLECTOR_DURATION = Gauge "pg_scrape_collector_duration_seconds" ["collector"]
        "Duration of the collector's last runs, summed over databases, in seconds";
    COLLECTOR_SUCCESS = Gauge "pg_scrape_collector_success" ["collector"]
        "Whether the collector's last runs succeeded in every database (1) or not (0); missing privileges, an unsupported version and row limits are not failures, see pg_exporter_collector_skipped";
    SKIPPED = Gauge "pg_exporter_collector_skipped" ["collector", "reason", "datname"]
        "Always 1: a reason why the collector has no data or incomplete data, not necessarily a fault; \
         datname is empty for the server as a whole";
    AGE = Gauge "pg_exporter_collector_age_seconds" ["collector", "datname"]
        "Age of the collector's oldest served value, in seconds; no sample for collectors that \
         run in every scrape";
    COUNT_ESTIMATED = Gauge "pg_exporter_count_estimated" ["collector", "datname", "table"]
        "1 if the collector's counts of this table may be wrong by more than 1 % of its rows, because \
         more rows than that moved to another page while it was read, twice, or because the server \
         does not report how many did, as on a standby. 0 if they are within 1 % of its rows, apart \
         from what was written while it was read";
    COUNT_AT_LEAST = Gauge "pg_exporter_count_at_least" ["collector", "datname", "table"]
        "1 if the collector's counts of this table are lower bounds, because the rows of one user, room \
         or homeserver could not be read within scrape.statement_cap; 0 if they are complete";
    PLANNER_ROWS = Gauge "pg_exporter_count_planner_rows" ["collector", "datname", "table"]
        "Rows of a table that is too large to be counted, as estimated by the last VACUUM or ANALYZE, \
         with unknown error. The collector's counts of this table have no samples";
    STATEMENTS = Counter "pg_exporter_collector_statements_total" ["collector"]
        "Statements sent by the collector";
    ROWS = Counter "pg_exporter_collector_rows_total" ["collector"]
        "Rows received by the collector";
    QUERY_SECONDS = Counter "pg_exporter_collector_query_seconds_total" ["collector"]
        "Time that the collector spent waiting for the server's answers, in seconds";
    SERIES_CUT = Counter "pg_exporter_collector_rows_dropped_total" ["collector"]
        "Rows that were dropped because they exceed the collector's row limit";
    ROW_LIMIT = Gauge "pg_exporter_collector_row_limit" ["collector"]
        "Maximum number of rows that the collector serves for one database";
    DUPLICATES = Counter "pg_exporter_duplicate_series_total" ["metric"]
        "Samples that were dropped because another one has the same labels";
    DATABASES = Gauge "pg_exporter_databases" []
        "Databases that the exporter collects from";
    WITHOUT_CONNECTION = Gauge "pg_exporter_databases_without_connection" []
        "Databases with an application's tables that are not kept connected because the setting connections is too low; \
         they are read once every databases.interval";
    CONNECTIONS = Gauge "pg_exporter_connections" []
        "Connections to the server that the exporter holds, including abandoned ones that the server has not closed yet";
    CONNECTION_LIMIT = Gauge "pg_exporter_max_connections" []
        "Maximum number of connections to the server (setting connections), logins that hang not counted";
    CONNECTIONS_OPENED = Counter "pg_exporter_connections_opened_total" []
        "Connections to the server that the exporter has opened since it started";
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
