//! What the placeholders of a statement stand for, for one role on one server.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::view::{SCHEMA, VIEWS, View};
use super::{QueryError, Reason};

/// How a role may read the statistics views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// The predefined roles whose privileges it has.
    pub privileges: BTreeSet<String>,
    /// The functions of the strict set-up that it may call in the server's home database.
    pub functions: BTreeSet<String>,
    /// Whether the schema of these functions is there at all.
    pub strict: bool,
}

impl Views {
    /// The statement with every placeholder filled in but `{relations}` and `{piece}`.
    ///
    /// # Errors
    ///
    /// Fails where a placeholder stands for something that the role cannot read.
    pub fn fill<'a>(
        &self,
        statement: &'a str,
        schema: Option<&str>,
    ) -> Result<Cow<'a, str>, QueryError> {
        let mut sql = Cow::Borrowed(statement);
        if let Some(schema) = schema
            && sql.contains("{schema")
        {
            let filled = sql.replace("{schema}", &quoted(schema));
            sql = Cow::Owned(filled.replace("{schema_name}", &literal(schema)));
        }
        for view in VIEWS {
            let placeholder = format!("{{{}}}", view.name);
            if sql.contains(&placeholder) {
                sql = Cow::Owned(sql.replace(&placeholder, &self.source(view)?));
            }
        }
        Ok(sql)
    }

    /// The views that the role cannot read, or not wholly, and that `grants` would let it read.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let missing = VIEWS.iter().filter(|view| {
            let plain = view.privilege.is_none();
            // Where the role has other functions, it should have this one, too.
            let unseen = plain && !self.functions.is_empty() && !self.functions.contains(view.name);
            unseen || self.source(view).is_err()
        });
        missing.map(|view| view.name)
    }

    /// What stands in FROM for a view.
    ///
    /// # Errors
    ///
    /// Fails if the role can neither read it nor call the function that stands in for it.
    pub fn source(&self, view: &View) -> Result<String, QueryError> {
        let may_read = view
            .privilege
            .is_some_and(|privilege| self.privileges.contains(privilege));
        if may_read {
            Ok(view.plain())
        } else if self.functions.contains(view.name) {
            Ok(view.call())
        } else if view.privilege.is_none() {
            Ok(view.plain())
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

/// An identifier in quotes.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A string, the same whether `standard_conforming_strings` is on or off.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATEMENT: &str = "SELECT count(*) FROM {pg_stat_activity} AS a, {schema}.users";

    #[test]
    fn a_schema_is_a_name_or_a_text() {
        let statement = "SELECT 1 FROM {schema}.t WHERE nspname = {schema_name}";
        let filled = Views::default().fill(statement, Some("a\"b'c\\"));
        assert_eq!(
            filled.unwrap(),
            "SELECT 1 FROM \"a\"\"b'c\\\".t WHERE nspname = E'a\"b''c\\\\'"
        );
    }

    #[test]
    fn a_role_reads_the_view_or_calls_the_function_or_is_told() {
        let mut views = Views::default();
        let refused = views.fill(STATEMENT, Some("public")).unwrap_err();
        assert_eq!(refused.reason(), Reason::NoPrivilege);
        views.strict = true;
        let refused = views.fill(STATEMENT, Some("public")).unwrap_err();
        assert_eq!(refused.reason(), Reason::GrantsOutdated);
        assert!(views.missing().any(|name| name == "pg_stat_activity"));
        assert!(!views.missing().any(|name| name == "pg_database_size"));
        views.functions.insert("pg_stat_activity".into());
        assert!(!views.missing().any(|name| name == "pg_stat_activity"));
        assert!(views.missing().any(|name| name == "pg_database_size"));
        assert_eq!(
            views.fill(STATEMENT, Some("we\"ird")).unwrap(),
            "SELECT count(*) FROM \"matrix_postgres_exporter\".pg_stat_activity() AS a, \
             \"we\"\"ird\".users"
        );
        views.privileges.insert("pg_read_all_stats".into());
        let sql = views.fill(STATEMENT, Some("public")).unwrap();
        assert!(
            sql.contains("FROM pg_catalog.pg_stat_activity) AS a"),
            "{sql}"
        );
    }
}
