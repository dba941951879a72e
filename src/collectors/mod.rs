//! What is asked: one file per collector, definitions only.
//!
//! Adding a collector is adding a file and a word in a list below.

pub mod postgres;
pub mod synapse;

use std::collections::{BTreeMap, BTreeSet};

use crate::query::{Collector, Query};

/// Every collector, in the order in which the catalogue lists them.
pub fn all() -> Vec<Collector> {
    postgres::all().into_iter().chain(synapse::all()).collect()
}

/// Every table of the application that a definition reads, with every column of it.
pub fn reads() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut tables: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for collector in all() {
        for (table, column) in collector.queries.iter().flat_map(Query::privileges) {
            tables.entry(table).or_default().insert(column);
        }
    }
    tables
}

macro_rules! collectors {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// The collectors of this folder.
        pub fn all() -> Vec<$crate::query::Collector> {
            vec![$($name::collector()),*]
        }
    };
}
use collectors;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::view::VIEWS;
    use crate::query::{ColumnKind, Statement, Version, Walk, keys, pages, relations};

    /// Where postgres_exporter has counters without `_total`.
    const AS_POSTGRES_EXPORTER: &[&str] = &[
        "pg_stat_archiver_",
        "pg_stat_database_",
        "pg_stat_user_tables_",
        "pg_statio_user_tables_",
    ];

    fn queries() -> impl Iterator<Item = (&'static str, Query)> {
        all().into_iter().flat_map(|collector| {
            let name = collector.name;
            collector
                .queries
                .into_iter()
                .map(move |query| (name, query))
        })
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
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    }

    #[test]
    fn a_collector_is_named_once_like_its_file_and_says_what_it_is() {
        let mut names = BTreeSet::new();
        for collector in all() {
            assert!(is_name(collector.name), "{}", collector.name);
            assert!(names.insert(collector.name), "{} twice", collector.name);
            assert!(!collector.about.is_empty(), "{}", collector.name);
            assert!(!collector.about.ends_with('.'), "{}", collector.name);
            assert!(!collector.queries.is_empty(), "{}", collector.name);
            assert!(is_name(collector.prefix), "{}", collector.name);
        }
    }

    #[test]
    fn statements_cover_each_version_once_and_leave_no_gap() {
        for (name, query) in queries() {
            let covered: Vec<_> = (13..=19)
                .map(|major| {
                    let holds = |(versions, _): &&_| {
                        crate::query::Versions::contains(*versions, Version(major * 10_000))
                    };
                    query.statements.iter().filter(holds).count()
                })
                .collect();
            assert!(
                covered.iter().all(|&count| count <= 1),
                "{name} overlaps: {covered:?}"
            );
            if query.statements.is_empty() {
                continue;
            }
            let first = covered.iter().position(|&count| count == 1).unwrap();
            let rest = &covered[first..];
            assert!(
                rest.iter().all(|&count| count == 1),
                "{name} has a gap: {covered:?}"
            );
        }
    }

    #[test]
    fn a_statement_is_one_select_of_named_columns_of_qualified_relations() {
        for (name, query) in queries() {
            for statement in statements(&query) {
                let sql = statement.text();
                assert!(sql.starts_with("SELECT "), "{name}: {sql}");
                assert!(!sql.contains(';') && !sql.contains(".*"), "{name}: {sql}");
                assert!(!sql.contains("SELECT *"), "{name}: {sql}");
                for relation in relations(sql) {
                    let qualified = relation.starts_with("pg_catalog.")
                        || relation.starts_with("{schema}.")
                        || sql.contains(&format!("WITH RECURSIVE {relation} AS ("))
                        || relation.starts_with("(")
                        || relation == "{piece}"
                        || VIEWS
                            .iter()
                            .any(|view| relation == format!("{{{}}}", view.name));
                    assert!(qualified, "{name} reads {relation} unqualified");
                }
            }
        }
    }

    /// The words after FROM and JOIN, but for the FROM of extract() and substring().
    fn relations(sql: &str) -> Vec<&str> {
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

    #[test]
    fn a_placeholder_is_known_and_has_an_alias() {
        for (name, query) in queries() {
            for statement in statements(&query) {
                let sql = statement.text();
                for placeholder in statement.placeholders() {
                    if [pages::PLACEHOLDER, keys::BEGINS, relations::PLACEHOLDER]
                        .contains(&placeholder)
                    {
                        continue;
                    }
                    if let Some(column) = placeholder.split_once('.') {
                        let optional = query.columns.iter().any(|c| c.from == Some(column));
                        assert!(
                            optional,
                            "{name}: {placeholder} is read as if it were there"
                        );
                        continue;
                    }
                    let known = placeholder == keys::PIECE
                        || VIEWS.iter().any(|view| view.name == placeholder);
                    assert!(known, "{name}: {placeholder}");
                    let written = format!("{{{placeholder}}}");
                    let mut uses = sql.split(&written).skip(1);
                    let alias = uses.all(|rest| rest.starts_with(" AS "));
                    assert!(alias, "{name}: {placeholder} has no alias");
                }
            }
        }
    }

    /// None of these runs what stands in one of its arguments, nor what the owner of a table that
    /// it is asked about has put there.
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

    #[test]
    fn a_statement_calls_no_function_but_these() {
        let keywords = [
            "ALL", "AND", "ANY", "ARRAY", "AS", "BY", "DISTINCT", "ELSE", "EXISTS", "FILTER",
            "FROM", "IN", "JOIN", "LATERAL", "NOT", "ON", "OR", "OVER", "SELECT", "THEN", "UNION",
            "USING", "VALUES", "WHEN", "WHERE", "WITH",
        ];
        let mut called = BTreeSet::new();
        let queries: Vec<_> = queries().map(|(_, query)| query).collect();
        let definitions = queries.iter().flat_map(statements).map(Statement::text);
        for sql in definitions.chain(VIEWS.iter().map(|view| view.body)) {
            // Every other part is a string.
            let sql: String = sql.split('\'').step_by(2).collect();
            for (at, _) in sql.match_indices('(') {
                let before = sql[..at].trim_end_matches(' ');
                let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
                let name = &before[before.trim_end_matches(in_name).len()..];
                let alias = before.trim_end_matches(in_name).trim_end().ends_with(" AS");
                if !name.is_empty() && !alias && !keywords.contains(&name) {
                    called.insert(name.trim_start_matches("pg_catalog.").to_owned());
                }
            }
        }
        assert_eq!(called, FUNCTIONS.iter().map(ToString::to_string).collect());
    }

    #[test]
    fn a_walk_is_behind_the_scrapes_and_each_table_is_walked_once() {
        for collector in all() {
            let name = collector.name;
            let mut tables = BTreeSet::new();
            for query in collector.queries {
                for (_, statement) in &query.statements {
                    let sql = statement.text();
                    let has = |placeholder| statement.has(placeholder);
                    let (pages, piece) = (has(pages::PLACEHOLDER), has(keys::PIECE));
                    match &query.walk {
                        None => assert!(!pages && !piece, "{name}: {sql}"),
                        Some(Walk::Pages { .. }) => assert!(pages && !piece, "{name}: {sql}"),
                        Some(Walk::Keys(_)) => assert!(piece && !pages, "{name}: {sql}"),
                    }
                }
                let Some(walk) = &query.walk else {
                    let largest = query.columns.iter().any(|column| column.largest);
                    assert!(!largest, "{name} has no pieces to compare");
                    continue;
                };
                assert!(!collector.ttl.is_zero(), "{name} has no TTL");
                let table = walk.table();
                assert!(tables.insert(table), "{name} walks through {table} twice");
                assert!(
                    query.reads.iter().any(|(of, _)| *of == table),
                    "{name}: {table}"
                );
                let Walk::Keys(key) = walk else { continue };
                for column in key.columns() {
                    let declared = query.privileges().any(|pair| pair == (table, column));
                    assert!(declared, "{name} walks along {column} and does not read it");
                }
            }
        }
    }

    #[test]
    fn each_column_is_in_a_statement() {
        for (name, query) in queries() {
            for column in &query.columns {
                let mut versions = (13..=19).map(|major| Version(major * 10_000));
                let returned = versions.any(|version| query.returns(version, column));
                assert!(returned, "{name}: no statement names {}", column.name);
            }
        }
    }

    #[test]
    fn metrics_are_well_named_and_explained() {
        for collector in all() {
            for metric in collector.metrics() {
                let (name, column) = (&metric.name, metric.column);
                assert!(is_name(name), "{name}");
                let ours = ["pg_", "synapse_db_"].iter().any(|p| name.starts_with(p));
                assert!(ours, "{name}");
                let columns = metric.query.columns.iter();
                let per_row = columns.clone().any(|c| c.kind == ColumnKind::Name);
                assert_eq!(column.help.is_empty(), per_row, "help of {name}");
                assert!(!column.help.ends_with('.'), "help of {name}");
                let is_counter = column.kind == ColumnKind::Counter;
                if !AS_POSTGRES_EXPORTER.iter().any(|p| name.starts_with(p)) {
                    assert_eq!(name.ends_with("_total"), is_counter, "{name}");
                }
                for column in columns.filter(|column| !column.kind.is_value()) {
                    assert!(is_name(column.name), "{}: {}", collector.name, column.name);
                }
            }
        }
    }

    #[test]
    fn a_metric_has_one_type_one_help_and_one_set_of_labels() {
        let mut known = BTreeMap::new();
        let collectors = all();
        for metric in collectors.iter().flat_map(Collector::metrics) {
            let (name, column) = (&metric.name, metric.column);
            let mut some = column.labels.unwrap_or_default().iter();
            let has = |label: &&&str| metric.labels.contains(*label);
            assert!(some.all(|label| has(&label)), "labels of {name}");
            let this = (column.kind, column.help, metric.labels.clone());
            let before = known.entry(name.clone()).or_insert_with(|| this.clone());
            assert_eq!(*before, this, "{name}");
        }
    }

    #[test]
    fn what_a_statement_reads_of_the_application_is_declared() {
        for (name, query) in queries() {
            for (_, statement) in &query.statements {
                let sql = statement.text();
                let key = match &query.walk {
                    Some(Walk::Keys(key)) => Some(&key.rows),
                    _ => None,
                };
                let tables = statement
                    .tables()
                    .chain(key.into_iter().flat_map(|k| k.tables()));
                let tables: BTreeSet<_> = tables.collect();
                let declared: BTreeSet<_> = query.reads.iter().map(|(table, _)| *table).collect();
                assert_eq!(tables, declared, "{name}");
                let rows = key.map_or("", |key| key.text());
                for column in query.reads.iter().flat_map(|(_, columns)| columns.iter()) {
                    assert!(
                        sql.contains(column) || rows.contains(column),
                        "{name} grants {column} and never reads it"
                    );
                }
            }
        }
    }
}
