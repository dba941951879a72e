//! Statistics that the strict role reads through functions.
//!
//! A role without `pg_monitor` sees nothing of other sessions; a role with it sees their query
//! texts, and these hold message bodies. The strict role calls functions instead, which return
//! named columns without any text. A definition writes `{pg_stat_activity} AS a` and means
//! either: the function, or the same SELECT run by the role itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{QueryError, Reason, Sql, Statement};

/// The schema of the functions, in the maintenance database.
pub const SCHEMA: &str = "matrix_postgres_exporter";

/// The role that owns the functions; nobody logs in as it.
pub const OWNER: &str = "matrix_postgres_exporter_owner";

/// One placeholder, and the function that stands in for it.
#[derive(Debug)]
pub struct View {
    /// The placeholder's name, and the function's.
    pub name: &'static str,
    /// The predefined role whose members may run `body` themselves; `None`: everyone may, though
    /// the function sees more.
    pub privilege: Option<&'static str>,
    /// What the function returns: the list after RETURNS TABLE, spelled as the server does. These
    /// columns exist with these types in every supported version.
    pub columns: &'static str,
    /// One SELECT of named columns, in the order of `columns`.
    pub body: &'static str,
}

impl View {
    /// What stands in FROM where the role may run the body itself; needs an alias.
    pub fn plain(&self) -> Sql {
        Sql::from("(").with(self.body).with(")")
    }

    /// The names of the columns that a function with this result, as the server spells it, gives. One
    /// of an older program may return fewer, and one of a newer program more.
    pub fn given_by(&self, result: &str) -> BTreeSet<&'static str> {
        let columns = result
            .strip_prefix("TABLE(")
            .and_then(|rest| rest.strip_suffix(')'));
        let columns: Vec<_> = columns.unwrap_or_default().split(", ").collect();
        let given = self.columns.split(", ");
        let given = given.filter(|column| columns.contains(column));
        given.map(name).collect()
    }

    /// The names of all its columns.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.split(", ").map(name)
    }

    /// What stands in FROM where the role has the function; needs an alias.
    pub fn call(&self) -> Sql {
        Sql::identifier(SCHEMA).with(".").with(self.name).with("()")
    }
}

/// The name in `name type`.
fn name(column: &'static str) -> &'static str {
    column.split(' ').next().unwrap_or_default()
}

/// How a role may read the statistics views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// The predefined roles whose privileges it has.
    pub privileges: BTreeSet<String>,
    /// The functions of the strict role that it may call in the server's home database, and the
    /// columns that they return.
    pub functions: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// Whether the schema of these functions is there at all.
    pub strict: bool,
}

impl Views {
    /// What stands in FROM for the placeholder of a view in this statement, if it is one. A function
    /// will do that gives the columns which the statement names.
    ///
    /// # Errors
    ///
    /// Fails where the role cannot read the view, or not all that is needed of it.
    pub fn value(
        &self,
        placeholder: &str,
        statement: &Statement,
    ) -> Result<Option<Sql>, QueryError> {
        let view = VIEWS.iter().find(|view| view.name == placeholder);
        let source = |view: &View| {
            let needed = view.names().filter(|column| statement.names(column));
            self.source(view, needed.collect())
        };
        view.map(source).transpose()
    }

    /// The views that the role cannot read, or not wholly, and that `grants` would let it read.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let missing = VIEWS.iter().filter(|view| {
            let plain = view.privilege.is_none();
            // Where the role has other functions, it should have this one, too.
            let gives_all = self.not_returned(view, view.names().collect()).is_empty();
            let unseen = plain && !self.functions.is_empty() && !gives_all;
            unseen || self.source(view, view.names().collect()).is_err()
        });
        missing.map(|view| view.name)
    }

    /// Those of these columns that the function does not give which stands in for a view.
    fn not_returned(
        &self,
        view: &View,
        mut columns: BTreeSet<&'static str>,
    ) -> BTreeSet<&'static str> {
        let given = self.functions.get(view.name);
        columns.retain(|column| !given.is_some_and(|given| given.contains(column)));
        columns
    }

    /// What stands in FROM for a view of which these columns are needed.
    ///
    /// # Errors
    ///
    /// Fails if the role can neither read it nor call a function that gives them.
    fn source(&self, view: &View, needed: BTreeSet<&'static str>) -> Result<Sql, QueryError> {
        let may_read = view
            .privilege
            .is_some_and(|privilege| self.privileges.contains(privilege));
        let is_there = self.functions.contains_key(view.name);
        let missing = self.not_returned(view, needed);
        if may_read {
            Ok(view.plain())
        } else if is_there && missing.is_empty() {
            Ok(view.call())
        } else if view.privilege.is_none() {
            Ok(view.plain())
        } else if is_there {
            let missing: Vec<_> = missing.into_iter().collect();
            Err(QueryError::Unavailable(
                Reason::GrantsOutdated,
                format!(
                    "{SCHEMA}.{}() does not return {}; run again what `grants` prints",
                    view.name,
                    missing.join(", ")
                ),
            ))
        } else if self.strict {
            Err(QueryError::Unavailable(
                Reason::GrantsOutdated,
                format!(
                    "the role may not call {SCHEMA}.{}(); run again what `grants` prints",
                    view.name
                ),
            ))
        } else {
            Err(QueryError::Unavailable(
                Reason::NoPrivilege,
                format!(
                    "the role may not read {} of other sessions; run what `grants` prints",
                    view.name
                ),
            ))
        }
    }
}

/// Every placeholder.
pub const VIEWS: &[View] = &[
    View {
        name: "pg_stat_activity",
        privilege: Some("pg_read_all_stats"),
        columns: "pid integer, datname name, usename name, application_name text, \
                  backend_type text, state text, wait_event_type text, wait_event text, \
                  xact_start timestamp with time zone, query_start timestamp with time zone, \
                  state_change timestamp with time zone",
        body: "SELECT pid, datname, usename, application_name, backend_type, state, \
               wait_event_type, wait_event, xact_start, query_start, state_change \
               FROM pg_catalog.pg_stat_activity",
    },
    View {
        name: "pg_stat_replication",
        privilege: Some("pg_read_all_stats"),
        columns: "pid integer, application_name text, client_addr inet, state text, \
                  replay_lsn pg_lsn, flush_lsn pg_lsn",
        body: "SELECT pid, application_name, client_addr, state, replay_lsn, flush_lsn \
               FROM pg_catalog.pg_stat_replication",
    },
    View {
        name: "pg_stat_wal_receiver",
        privilege: Some("pg_read_all_stats"),
        columns: "pid integer, status text, \
                  last_msg_receipt_time timestamp with time zone, latest_end_lsn pg_lsn",
        body: "SELECT pid, status, last_msg_receipt_time, latest_end_lsn \
               FROM pg_catalog.pg_stat_wal_receiver",
    },
    View {
        name: "pg_stat_progress_vacuum",
        privilege: Some("pg_read_all_stats"),
        columns: "datid oid, relid oid, phase bigint, heap_blks_total bigint, \
                  heap_blks_scanned bigint, heap_blks_vacuumed bigint, \
                  index_vacuum_count bigint, dead_limit bigint, dead_used bigint, \
                  dead_items bigint",
        // The view's own columns were renamed in 17; the function under it is the same everywhere.
        body: "SELECT datid, relid, param1 AS phase, param2 AS heap_blks_total, \
               param3 AS heap_blks_scanned, param4 AS heap_blks_vacuumed, \
               param5 AS index_vacuum_count, param6 AS dead_limit, param7 AS dead_used, \
               param8 AS dead_items FROM pg_catalog.pg_stat_get_progress_info('VACUUM')",
    },
    View {
        name: "pg_ls_waldir",
        privilege: Some("pg_monitor"),
        columns: "name text, size bigint",
        body: "SELECT name, size FROM pg_catalog.pg_ls_waldir()",
    },
    View {
        name: "pg_ls_archive_statusdir",
        privilege: Some("pg_monitor"),
        columns: "name text, modification timestamp with time zone",
        body: "SELECT name, modification FROM pg_catalog.pg_ls_archive_statusdir()",
    },
    View {
        name: "pg_database_size",
        privilege: None,
        columns: "datname name, size bigint",
        // The privilege test gives NULL for a database dropped since the snapshot, whose size
        // would be an error.
        body: "SELECT datname, CASE \
               WHEN has_database_privilege(oid, 'CONNECT') \
               OR has_database_privilege(oid, 'CONNECT') IS NOT NULL \
               AND pg_has_role('pg_read_all_stats', 'USAGE') \
               THEN pg_database_size(oid) END AS size FROM pg_catalog.pg_database",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_gives_the_columns_that_it_has_as_they_should_be() {
        let view = &View {
            name: "seen",
            privilege: None,
            columns: "name text, at timestamp with time zone",
            body: "",
        };
        let whole = "TABLE(name text, at timestamp with time zone, more integer)";
        for (result, columns) in [
            (whole, &["at", "name"][..]),
            ("TABLE(name text)", &["name"]),
            (
                "TABLE(name text, at timestamp without time zone)",
                &["name"],
            ),
            ("text", &[]),
        ] {
            let given: Vec<_> = view.given_by(result).into_iter().collect();
            assert_eq!(given, columns, "{result}");
        }
    }

    #[test]
    fn a_role_reads_the_view_or_calls_the_function_or_is_told() {
        let statement = Statement::parse("SELECT a.state FROM {pg_stat_activity} AS a");
        let value = |views: &Views, name| views.value(name, &statement);
        let mut views = Views::default();
        let refused = value(&views, "pg_stat_activity").unwrap_err();
        assert_eq!(refused.reason(), Reason::NoPrivilege);
        views.strict = true;
        let refused = value(&views, "pg_stat_activity").unwrap_err();
        assert_eq!(refused.reason(), Reason::GrantsOutdated);
        assert!(views.missing().any(|name| name == "pg_stat_activity"));
        assert!(!views.missing().any(|name| name == "pg_database_size"));
        let older = BTreeSet::from(["pid"]);
        views.functions.insert("pg_stat_activity", older);
        let refused = value(&views, "pg_stat_activity").unwrap_err().to_string();
        assert!(refused.contains("does not return state;"), "{refused}");
        let needed = BTreeSet::from(["state"]);
        views.functions.insert("pg_stat_activity", needed);
        assert!(value(&views, "pg_stat_activity").is_ok());
        assert!(views.missing().any(|name| name == "pg_stat_activity"));
        let all = VIEWS[0].names().collect();
        views.functions.insert("pg_stat_activity", all);
        assert!(!views.missing().any(|name| name == "pg_stat_activity"));
        assert!(views.missing().any(|name| name == "pg_database_size"));
        let call = value(&views, "pg_stat_activity").unwrap().unwrap();
        let function = "\"matrix_postgres_exporter\".pg_stat_activity()";
        assert_eq!(call.as_str(), function);
        views.privileges.insert("pg_read_all_stats".into());
        let select = value(&views, "pg_stat_activity").unwrap().unwrap();
        let end = "FROM pg_catalog.pg_stat_activity)";
        assert!(select.as_str().ends_with(end), "{select:?}");
        assert_eq!(value(&views, "schema").unwrap(), None);
    }
}
