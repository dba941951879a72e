//! The rules that a definition keeps, as far as a program can check them.

use std::collections::BTreeSet;
use std::fmt;

use super::postgres_exporter;
use crate::query::view::VIEWS;
use crate::query::{
    Collector, Column, ColumnKind, Query, Statement, Text, Version, Walk, keys, pages, relations,
};

/// What a statement may call. None of these runs what stands in one of its arguments, nor what the
/// owner of a table that it is asked about has put there.
const FUNCTIONS: &[&str] = &[
    "bool_or",
    "clock_timestamp",
    "coalesce",
    "count",
    "current_database",
    "current_setting",
    "extract",
    "floor",
    "greatest",
    "has_database_privilege",
    "hashtext",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "now",
    "nullif",
    "pg_backend_pid",
    "pg_current_wal_lsn",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_has_role",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_ls_archive_statusdir",
    "pg_ls_waldir",
    "pg_partition_ancestors",
    "pg_postmaster_start_time",
    "pg_relation_size",
    "pg_stat_get_progress_info",
    "pg_table_size",
    "pg_wal_lsn_diff",
    "regexp_replace",
    "right",
    "starts_with",
    "string_agg",
    "strpos",
    "substr",
    "substring",
    "sum",
];

/// What may stand before a bracket and is not a function.
const KEYWORDS: [&str; 26] = [
    "ALL", "AND", "ANY", "ARRAY", "AS", "BY", "DISTINCT", "ELSE", "EXISTS", "FILTER", "FROM", "IN",
    "JOIN", "LATERAL", "NOT", "ON", "OR", "OVER", "SELECT", "THEN", "UNION", "USING", "VALUES",
    "WHEN", "WHERE", "WITH",
];

/// What is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The collector.
    pub collector: Text,
    /// What is wrong with it.
    pub sentence: String,
}

impl Fault {
    pub(super) fn new(collector: &Collector, sentence: impl Into<String>) -> Self {
        Self {
            collector: collector.name.clone(),
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collector {:?}: {}", self.collector, self.sentence)
    }
}

/// Everything that is wrong with a definition, taken by itself.
pub fn of(collector: &Collector) -> Vec<Fault> {
    let mut check = Check {
        collector,
        faults: Vec::new(),
    };
    check.names();
    check.walks();
    for query in &collector.queries {
        check.versions(query);
        check.columns(query);
        check.reads(query);
        for statement in statements(query) {
            check.statement(statement);
            check.placeholders(query, statement);
        }
    }
    check.metrics();
    check.faults
}

struct Check<'a> {
    collector: &'a Collector,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(Fault::new(self.collector, sentence()));
        }
    }

    fn names(&mut self) {
        let Collector {
            name,
            about,
            prefix,
            queries,
            ..
        } = self.collector;
        for name in [name, prefix] {
            self.expect(is_name(name), || format!("{name:?} is not a name"));
        }
        self.expect(!about.is_empty() && !about.ends_with('.'), || {
            "what it tells is a sentence without a full stop".to_owned()
        });
        self.expect(!queries.is_empty(), || "it asks nothing".to_owned());
    }

    /// Each version has at most one statement, and from the first one on there is no gap.
    fn versions(&mut self, query: &Query) {
        let counts: Vec<_> = versions()
            .map(|version| {
                let holds =
                    |(versions, _): &&(_, _)| crate::query::Versions::contains(*versions, version);
                query.statements.iter().filter(holds).count()
            })
            .collect();
        let covered = counts.iter().skip_while(|&&count| count == 0);
        let whole = covered.clone().all(|&count| count == 1);
        let any = query.statements.is_empty() || covered.count() > 0;
        self.expect(whole && any, || {
            "its statements leave a version out, or two are for the same one".to_owned()
        });
        let source = self.collector.source.is_some();
        self.expect(query.statements.is_empty() == source, || {
            "a query has statements, or the collector a source in their place".to_owned()
        });
    }

    /// One SELECT of named columns, every relation qualified, no function but those that are known.
    fn statement(&mut self, statement: &Statement) {
        let sql = statement.text();
        self.expect(sql.starts_with("SELECT ") && !sql.contains(';'), || {
            format!("not one SELECT: {sql}")
        });
        self.expect(!sql.contains(".*") && !sql.contains("SELECT *"), || {
            format!("columns without names: {sql}")
        });
        for relation in relations_of(sql) {
            let is_view = VIEWS
                .iter()
                .any(|view| relation == format!("{{{}}}", view.name));
            let qualified = relation.starts_with("pg_catalog.")
                || relation.starts_with("{schema}.")
                || relation.starts_with('(')
                || relation == format!("{{{}}}", keys::PIECE)
                || sql.contains(&format!("WITH RECURSIVE {relation} AS ("));
            self.expect(is_view || qualified, || {
                format!("{relation} is read without its schema")
            });
        }
        for function in called(sql) {
            self.expect(FUNCTIONS.contains(&function.as_str()), || {
                format!("it calls {function}, of which it is not known that it runs nothing else")
            });
        }
    }

    /// Each is known; one that stands for rows has an alias, and one for a column that not each release
    /// has gives a column of which that is said.
    fn placeholders(&mut self, query: &Query, statement: &Statement) {
        let sql = statement.text();
        for placeholder in statement.placeholders() {
            if [pages::PLACEHOLDER, keys::BEGINS, relations::PLACEHOLDER].contains(&placeholder) {
                continue;
            }
            if let Some(column) = placeholder.split_once('.') {
                let optional = query.columns.iter().any(|one| one.from == Some(column));
                self.expect(optional, || {
                    format!("{{{placeholder}}} stands there, and nothing says if_there of it")
                });
                continue;
            }
            let known =
                placeholder == keys::PIECE || VIEWS.iter().any(|view| view.name == placeholder);
            self.expect(known, || {
                format!("there is no placeholder {{{placeholder}}}")
            });
            let written = format!("{{{placeholder}}}");
            let mut uses = sql.split(&written).skip(1);
            self.expect(uses.all(|rest| rest.starts_with(" AS ")), || {
                format!("{written} has no alias")
            });
        }
    }

    /// A walk runs in the background, and each table is walked once.
    fn walks(&mut self) {
        let mut tables = BTreeSet::new();
        for query in &self.collector.queries {
            for (_, statement) in &query.statements {
                let (pages, piece) = (
                    statement.has(pages::PLACEHOLDER),
                    statement.has(keys::PIECE),
                );
                let wanted = match &query.walk {
                    None => (false, false),
                    Some(Walk::Pages { .. }) => (true, false),
                    Some(Walk::Keys(_)) => (false, true),
                };
                self.expect((pages, piece) == wanted, || {
                    format!(
                        "{{{}}} is for by_pages and {{{}}} for by_key: {}",
                        pages::PLACEHOLDER,
                        keys::PIECE,
                        statement.text()
                    )
                });
            }
            let Some(walk) = &query.walk else {
                let largest = query.columns.iter().any(|column| column.largest);
                self.expect(!largest, || "it has no pieces to compare".to_owned());
                continue;
            };
            let table = walk.table();
            self.expect(!self.collector.ttl.is_zero(), || {
                format!("it walks through {table} and has no TTL")
            });
            self.expect(tables.insert(table), || {
                format!("it walks through {table} twice")
            });
            self.expect(query.reads.iter().any(|(of, _)| *of == table), || {
                format!("it walks through {table} and does not say that it reads it")
            });
            let Walk::Keys(key) = walk else { continue };
            for column in key.columns() {
                let declared = query.privileges().any(|pair| pair == (table, column));
                self.expect(declared, || {
                    format!("it walks along {table}.{column} and does not say that it reads it")
                });
            }
        }
    }

    /// Each is in a statement.
    fn columns(&mut self, query: &Query) {
        for column in &query.columns {
            let returned = versions().any(|version| query.returns(version, column));
            self.expect(returned, || {
                format!("no statement names the column {}", column.name)
            });
        }
    }

    /// Names as Prometheus wants them, or as postgres_exporter has them, and a help for each.
    fn metrics(&mut self) {
        for metric in self.collector.metrics() {
            let (name, column) = (&metric.name, metric.column);
            let columns = || metric.query.columns.iter();
            let per_row = columns().any(|one| one.kind == ColumnKind::Name);
            self.expect(is_name(name), || format!("{name:?} is not a name"));
            self.expect(
                column.help.is_empty() == per_row && !column.help.ends_with('.'),
                || format!("the help of {name} is a sentence without a full stop"),
            );
            let is_counter = column.kind == ColumnKind::Counter;
            let kept = postgres_exporter::WITHOUT_TOTAL;
            let kept = kept.iter().any(|prefix| name.starts_with(prefix));
            self.expect(kept || name.ends_with("_total") == is_counter, || {
                format!("{name} ends in _total if it is a counter, and only then")
            });
            let is_label = |column: &&Column| !column.kind.is_value();
            for label in columns().filter(is_label).map(|column| column.name) {
                self.expect(is_name(label), || format!("{label:?} is not a name"));
            }
            let mut some = column.labels.unwrap_or_default().iter();
            self.expect(some.all(|label| metric.labels.contains(label)), || {
                format!("{name} has a label that is not a column")
            });
        }
    }

    /// What a statement reads of the application is declared, and no more than that.
    fn reads(&mut self, query: &Query) {
        let declared: BTreeSet<_> = query.reads.iter().map(|(table, _)| *table).collect();
        let rows = match &query.walk {
            Some(Walk::Keys(key)) => Some(&key.rows),
            _ => None,
        };
        for (_, statement) in &query.statements {
            let both = || rows.into_iter().chain([statement]);
            let tables: BTreeSet<_> = both().flat_map(Statement::tables).collect();
            self.expect(tables == declared, || {
                format!("it reads {tables:?} and says that it reads {declared:?}")
            });
            for column in query.reads.iter().flat_map(|(_, columns)| columns.iter()) {
                self.expect(both().any(|one| one.text().contains(column)), || {
                    format!("it says that it reads {column}, and does not")
                });
            }
        }
    }
}

/// One of each major version that a definition is written for, and one newer than these.
fn versions() -> impl Iterator<Item = Version> {
    (13..=19).map(|major| Version(major * 10_000))
}

/// What a query sends, and the rows of a key, which become part of it.
fn statements(query: &Query) -> impl Iterator<Item = &Statement> {
    let rows = match &query.walk {
        Some(Walk::Keys(key)) => Some(&key.rows),
        _ => None,
    };
    let statements = query.statements.iter().map(|(_, statement)| statement);
    statements.chain(rows)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The words after FROM and JOIN, but for the FROM of extract() and substring().
fn relations_of(sql: &str) -> Vec<&str> {
    let words: Vec<_> = sql.split_whitespace().collect();
    let mut depth_of_call = 0;
    let mut relations = Vec::new();
    for pair in words.windows(2) {
        let (word, next) = (pair[0], pair[1]);
        if word.contains("extract(epoch") || word.contains("substring(") {
            depth_of_call += 1;
        }
        if word == "FROM" && depth_of_call > 0 {
            depth_of_call -= 1;
        } else if matches!(word, "FROM" | "JOIN") && next != "LATERAL" {
            relations.push(next);
        }
    }
    relations
}

/// The functions that a statement calls.
fn called(sql: &str) -> BTreeSet<String> {
    // Every other part is a string.
    let sql: String = sql.split('\'').step_by(2).collect();
    let mut called = BTreeSet::new();
    for (at, _) in sql.match_indices('(') {
        let before = sql[..at].trim_end_matches(' ');
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let name = &before[before.trim_end_matches(in_name).len()..];
        let alias = before.trim_end_matches(in_name).trim_end().ends_with(" AS");
        if !name.is_empty() && !alias && !KEYWORDS.contains(&name) {
            called.insert(name.trim_start_matches("pg_catalog.").to_owned());
        }
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{ALL, between, since};

    /// What is wrong with a collector of this query.
    fn faults(query: Query) -> Vec<String> {
        let collector = Collector::new("hello", "Says hello").prefix("pg_hello");
        let faults = of(&collector.query(query)).into_iter();
        faults.map(|fault| fault.sentence).collect()
    }

    fn asking(sql: &'static str) -> Query {
        Query::new().sql(ALL, sql).gauge("one", "One")
    }

    const FINE: &str = "SELECT 1 AS one FROM pg_catalog.pg_class";

    #[test]
    fn each_function_that_may_be_called_is() {
        let all = crate::collectors::all();
        let queries = all.iter().flat_map(|collector| &collector.queries);
        let texts = queries.flat_map(statements).map(Statement::text);
        let texts = texts.chain(VIEWS.iter().map(|view| view.body));
        let called: BTreeSet<_> = texts.flat_map(called).collect();
        assert_eq!(called, FUNCTIONS.iter().map(ToString::to_string).collect());
    }

    #[test]
    fn the_metrics_of_what_is_built_in_say_of_what_they_are() {
        for collector in crate::collectors::all() {
            let of = match collector.scope.application() {
                Some(application) => format!("{}_db_", application.key),
                None => "pg_".to_owned(),
            };
            for metric in collector.metrics() {
                assert!(metric.name.starts_with(&of), "{}", metric.name);
            }
        }
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(faults(asking(FINE)), [""; 0]);
        for (query, expected) in [
            (
                Query::new().sql(between(13, 15), FINE).sql(since(16), FINE),
                "its statements leave a version out",
            ),
            (
                Query::new().sql(ALL, FINE).sql(since(16), FINE),
                "or two are for the same one",
            ),
            (
                asking("DELETE FROM pg_catalog.pg_class AS one"),
                "not one SELECT",
            ),
            (asking("SELECT 1 AS one; SELECT 2"), "not one SELECT"),
            (
                asking("SELECT c.*, 1 AS one FROM pg_catalog.pg_class AS c"),
                "columns without names",
            ),
            (
                asking("SELECT 1 AS one FROM pg_class"),
                "pg_class is read without its schema",
            ),
            (
                asking("SELECT query_to_xml('') AS one"),
                "it calls query_to_xml",
            ),
            (
                asking("SELECT 1 AS one FROM {nothing} AS n"),
                "there is no placeholder {nothing}",
            ),
            (
                asking("SELECT 1 AS one FROM {pg_stat_activity}"),
                "{pg_stat_activity} has no alias",
            ),
            (
                asking("SELECT {users.locked} AS one FROM pg_catalog.pg_class"),
                "if_there",
            ),
            (
                asking("SELECT 1 AS one FROM {schema}.users"),
                "it reads {\"users\"} and says",
            ),
            (
                asking(FINE).reads("users", &["name"]),
                "it reads {} and says",
            ),
            (
                asking("SELECT 1 AS one FROM {schema}.users").reads("users", &["name"]),
                "it says that it reads name",
            ),
            (asking(FINE).by_pages("users"), "for by_pages"),
            (asking(FINE).largest(), "no pieces"),
            (
                asking(FINE).gauge("two", "Two"),
                "no statement names the column two",
            ),
            (
                Query::new().sql(ALL, FINE).gauge("one", ""),
                "the help of pg_hello_one",
            ),
            (
                Query::new().sql(ALL, FINE).counter("one", "Ones"),
                "ends in _total",
            ),
            (asking(FINE).named("One"), "\"One\" is not a name"),
            (
                asking(FINE).with_labels(&["two"]),
                "a label that is not a column",
            ),
        ] {
            let found = faults(query);
            assert!(
                found.iter().any(|one| one.contains(expected)),
                "{expected}: {found:?}"
            );
        }
        let faults = of(&Collector::new("Hello", ""));
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
