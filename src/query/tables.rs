//! The tables of an application, as a role finds them in one database.

use std::collections::{BTreeMap, BTreeSet};

use super::{Query, QueryError, Reason};

/// Columns by table.
pub type Columns = BTreeMap<String, BTreeSet<String>>;

/// What the definitions read of an application, and how far it is available.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Their schema.
    pub schema: String,
    /// Columns of a part of the application that is in another database.
    pub elsewhere: Columns,
    /// Columns that this version of the application does not have.
    pub absent: Columns,
    /// Columns that are there, and that the role may not read.
    pub unreadable: Columns,
    /// Those that are not ordinary tables, and what they are.
    pub not_plain: BTreeMap<String, String>,
    /// Whether the role may read any.
    pub granted: bool,
}

impl Tables {
    /// Whether what the query reads is to be expected here.
    pub fn concern(&self, query: &Query) -> bool {
        of(&self.elsewhere, query.needed().chain(query.ctid())).is_empty()
    }

    /// Says beforehand what the server would only say to a statement, and write into its log.
    ///
    /// # Errors
    ///
    /// Fails if the query reads what is not an ordinary table, a column that is not there, or one that
    /// the role may not read.
    pub fn check(&self, query: &Query) -> Result<(), QueryError> {
        let mut reads = query.reads.iter();
        if let Some(found) = reads.find_map(|(table, _)| self.not_plain.get_key_value(*table)) {
            return Err(QueryError::Unavailable(
                Reason::NotAPlainTable,
                format!("{} is not read: {}", found.0, found.1),
            ));
        }
        let absent = of(&self.absent, query.needed().chain(query.ctid()));
        if !absent.is_empty() {
            return Err(QueryError::Unavailable(
                Reason::UnsupportedVersion,
                format!("this version of the application has no {}", list(&absent)),
            ));
        }
        // Whoever may read any column of a table may count it as a whole.
        let alone = query.ctid();
        let alone = alone.filter(|(table, _)| query.needed().all(|(of, _)| of != *table));
        let unreadable = of(&self.unreadable, query.needed().chain(alone));
        if unreadable.is_empty() {
            return Ok(());
        }
        Err(QueryError::Unavailable(
            self.refusal(),
            format!("the role may not read {}", list(&unreadable)),
        ))
    }

    /// Why a column is not read, if it is not.
    pub fn missing(&self, table: &str, column: &str) -> Option<Reason> {
        let among = |columns: &Columns| columns.get(table).is_some_and(|of| of.contains(column));
        if among(&self.absent) || among(&self.elsewhere) {
            return Some(Reason::UnsupportedVersion);
        }
        among(&self.unreadable).then(|| self.refusal())
    }

    /// Why the role may not read all.
    fn refusal(&self) -> Reason {
        match self.granted {
            true => Reason::GrantsOutdated,
            false => Reason::NoPrivilege,
        }
    }

    /// How many columns are there that the role may not read.
    pub fn unreadable_count(&self) -> usize {
        self.unreadable.values().map(BTreeSet::len).sum()
    }
}

/// Those of the columns that are among these.
fn of(columns: &Columns, read: impl Iterator<Item = (&'static str, &'static str)>) -> Columns {
    let mut found = Columns::new();
    for (table, column) in read {
        if columns
            .get(table)
            .is_some_and(|known| known.contains(column))
        {
            let table = found.entry(table.to_owned()).or_default();
            table.insert(column.to_owned());
        }
    }
    found
}

/// `devices (hidden, last_seen), users (locked)`
pub fn list(columns: &Columns) -> String {
    let tables = columns.iter().map(|(table, columns)| {
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        format!("{table} ({})", columns.join(", "))
    });
    tables.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_reads_is_absent_unreadable_or_none_of_its_business() {
        let query = Query::new()
            .reads("users", &["name", "locked"])
            .reads("devices", &["hidden"]);
        let columns = |table: &str, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Columns::from([(table.to_owned(), names)])
        };
        let check = |tables: &Tables| {
            let refused = tables.check(&query).unwrap_err();
            (refused.reason(), refused.to_string())
        };
        let mut tables = Tables {
            unreadable: columns("rooms", &["name"]),
            ..Tables::default()
        };
        tables.check(&query).unwrap();

        tables.unreadable = columns("users", &["locked", "admin", "name"]);
        let says = "the role may not read users (locked, name)".to_owned();
        assert_eq!(check(&tables), (Reason::NoPrivilege, says.clone()));
        tables.granted = true;
        assert_eq!(check(&tables), (Reason::GrantsOutdated, says));
        assert_eq!(tables.unreadable_count(), 3);

        let cause = ("devices".to_owned(), "it is a view".to_owned());
        tables.not_plain.extend([cause]);
        let says = "devices is not read: it is a view".to_owned();
        assert_eq!(check(&tables), (Reason::NotAPlainTable, says));
        tables.not_plain.clear();

        tables.absent = columns("devices", &["hidden"]);
        assert_eq!(check(&tables).0, Reason::UnsupportedVersion);
        assert!(tables.concern(&query));
        tables.elsewhere = columns("devices", &["hidden"]);
        assert!(!tables.concern(&query));
        assert!(tables.concern(&Query::new().reads("users", &["name"])));
    }
}
