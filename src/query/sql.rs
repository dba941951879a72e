//! The text of a statement.
//!
//! Names and values come from databases that others own. So a statement is parsed once, when it is
//! defined, and a value is only ever appended: as an identifier, a literal or a number. No text
//! that may hold a value is searched, and only a [`Sql`] is sent.

use std::collections::BTreeSet;

use super::QueryError;

/// What is sent: text of this program, and values between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sql {
    text: String,
    /// The application's tables that it reads, as it names them.
    tables: BTreeSet<String>,
}

impl Sql {
    /// A name in quotes.
    pub fn identifier(name: &str) -> Self {
        Self::of(identifier(name))
    }

    /// A string in quotes; it takes the type that its place wants.
    pub fn literal(text: &str) -> Self {
        Self::of(literal(text))
    }

    /// A table of an application, to be read alone, without those that inherit from it.
    pub fn table(schema: &str, table: &'static str) -> Self {
        let name = qualified(schema, table);
        Self {
            text: format!("ONLY {name}"),
            tables: BTreeSet::from([name]),
        }
    }

    /// The name of such a table as a string, for a function that takes one.
    pub fn table_name(schema: &str, table: &'static str) -> Self {
        Self::literal(&qualified(schema, table))
    }

    fn of(text: String) -> Self {
        Self {
            text,
            tables: BTreeSet::new(),
        }
    }

    /// This, and then that.
    pub fn with(mut self, more: impl Into<Self>) -> Self {
        let more = more.into();
        self.text.push_str(&more.text);
        self.tables.extend(more.tables);
        self
    }

    /// All of these, with a text of the program between them.
    pub fn join(parts: impl IntoIterator<Item = impl Into<Self>>, between: &'static str) -> Self {
        let mut joined = Self::default();
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                joined.text.push_str(between);
            }
            joined = joined.with(part);
        }
        joined
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The application's tables that it reads, as it names them: quoted, with their schema.
    pub fn tables(&self) -> &BTreeSet<String> {
        &self.tables
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::of(text.to_owned())
    }
}

impl From<u32> for Sql {
    fn from(number: u32) -> Self {
        Self::of(number.to_string())
    }
}

impl From<u64> for Sql {
    fn from(number: u64) -> Self {
        Self::of(number.to_string())
    }
}

fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(table))
}

/// A name in quotes.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in quotes, the same whether `standard_conforming_strings` is on or off.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A statement as it is defined. `{schema}.users` stands for a table of the application,
/// `{schema_name}` for the name of its schema as a string, and other words in lower case, or two with
/// a dot between, for what the caller knows. Braces around anything else, as in a regular expression, are text.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    text: &'static str,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Text(&'static str),
    Table(&'static str),
    SchemaName,
    Placeholder(&'static str),
}

impl Statement {
    /// Takes a text apart.
    pub fn parse(text: &'static str) -> Self {
        let mut parts = Vec::new();
        let (mut rest, mut searched) = (text, 0);
        while let Some(open) = rest[searched..].find('{') {
            let open = searched + open;
            let Some((name, after)) = words(&rest[open + 1..])
                .and_then(|(name, after)| Some((name, after.strip_prefix('}')?)))
            else {
                searched = open + 1;
                continue;
            };
            parts.push(Part::Text(&rest[..open]));
            let table = after.strip_prefix('.').and_then(word);
            let (part, after) = match (name, table) {
                ("schema", Some((table, after))) => (Part::Table(table), after),
                ("schema_name", _) => (Part::SchemaName, after),
                _ => (Part::Placeholder(name), after),
            };
            parts.push(part);
            (rest, searched) = (after, 0);
        }
        parts.push(Part::Text(rest));
        Self { text, parts }
    }

    /// The text as it is defined.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Whether this word stands in it.
    pub fn names(&self, word: &str) -> bool {
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        self.text.split(|c| !in_word(c)).any(|one| one == word)
    }

    /// The application's tables that it reads, each as often as it stands there.
    pub fn tables(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Table(table) => Some(*table),
            _ => None,
        })
    }

    /// The names of its other placeholders, each as often as it stands there.
    pub fn placeholders(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(name) => Some(*name),
            _ => None,
        })
    }

    /// Whether it has a placeholder of this name.
    pub fn has(&self, name: &str) -> bool {
        self.placeholders().any(|placeholder| placeholder == name)
    }

    /// The statement for an application in this schema, with a value for each other placeholder.
    ///
    /// # Errors
    ///
    /// Fails as `value` does, and where it knows no value.
    pub fn fill(
        &self,
        schema: Option<&str>,
        mut value: impl FnMut(&'static str) -> Result<Option<Sql>, QueryError>,
    ) -> Result<Sql, QueryError> {
        let schema = || schema.ok_or(QueryError::NoValue("schema"));
        let mut sql = Sql::default();
        for part in &self.parts {
            sql = sql.with(match part {
                Part::Text(text) => Sql::from(*text),
                Part::Table(table) => Sql::table(schema()?, table),
                Part::SchemaName => Sql::literal(schema()?),
                Part::Placeholder(name) => value(name)?.ok_or(QueryError::NoValue(name))?,
            });
        }
        Ok(sql)
    }
}

/// The name at the beginning of a text, or two with a dot between, and what follows.
fn words(text: &'static str) -> Option<(&'static str, &'static str)> {
    let (first, after) = word(text)?;
    Some(match after.strip_prefix('.').and_then(word) {
        Some((second, after)) => (&text[..first.len() + 1 + second.len()], after),
        None => (first, after),
    })
}

/// The name at the beginning of a text, and what follows it.
fn word(text: &'static str) -> Option<(&'static str, &'static str)> {
    let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let end = text.find(|c| !in_name(c)).unwrap_or(text.len());
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    begins.then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    #[test]
    fn a_placeholder_is_a_word_in_braces_and_all_else_is_text() {
        let statement = Statement::parse("{schema}.a1_b, {schema}.b {piece}{schema_name}{schema}");
        assert_eq!(statement.tables().collect::<Vec<_>>(), ["a1_b", "b"]);
        let placeholders: Vec<_> = statement.placeholders().collect();
        assert_eq!(placeholders, ["piece", "schema"]);
        assert!(Statement::parse("'{{piece}}'").has("piece"));
        assert!(Statement::parse("NOT {users.locked}").has("users.locked"));
        for text in [
            "a{32}", "{}", "{", "{a", "{a b}", "{A}", "'{1,2}'", "é{é}", "{_}", "{a.}", "{a.B}",
        ] {
            let statement = Statement::parse(text);
            assert_eq!(statement.placeholders().collect::<Vec<_>>(), NONE, "{text}");
            let sql = statement.fill(None, |_| Ok(None)).unwrap();
            assert_eq!(sql.as_str(), text);
        }
    }

    #[test]
    fn a_value_is_not_searched() {
        let statement = Statement::parse("SELECT {schema_name} FROM {schema}.t WHERE {piece}");
        let schema = "{schema_name}\"'\\{piece}{schema}";
        let piece = |_| Ok(Some(Sql::from("n > ").with(7_u64)));
        let filled = statement.fill(Some(schema), piece).unwrap();
        let table = "\"{schema_name}\"\"'\\{piece}{schema}\".\"t\"";
        assert_eq!(
            filled.as_str(),
            format!(
                "SELECT E'{{schema_name}}\"''\\\\{{piece}}{{schema}}' FROM ONLY {table} WHERE n > 7"
            )
        );
        assert_eq!(filled.tables().iter().collect::<Vec<_>>(), [table]);
    }

    #[test]
    fn a_placeholder_without_a_value_is_refused() {
        let refused = |text, schema| {
            let filled = Statement::parse(text).fill(schema, |_| Ok(None));
            filled.unwrap_err().to_string()
        };
        let scheme = refused("SELECT 1 FROM {scheme}.t", Some("public"));
        assert_eq!(scheme, "the placeholder {scheme} has no value here");
        assert!(refused("SELECT 1 FROM {schema}.t", None).contains("{schema}"));
    }
}
