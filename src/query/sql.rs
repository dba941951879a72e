//! The text of a statement.
//!
//! Names and values come from databases that others own. So a statement is parsed once, when it is
//! defined, and a value is only ever appended: as an identifier, a literal or a number. No text
//! that may hold a value is searched, and only a [`Sql`] is sent.

use super::QueryError;

/// What is sent: text of this program, and values between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sql(String);

impl Sql {
    /// A name in quotes.
    pub fn identifier(name: &str) -> Self {
        Self(identifier(name))
    }

    /// A string in quotes; it takes the type that its place wants.
    pub fn literal(text: &str) -> Self {
        Self(literal(text))
    }

    /// This, and then that.
    pub fn with(mut self, more: impl Into<Self>) -> Self {
        self.0.push_str(&more.into().0);
        self
    }

    /// All of these, with a text of the program between them.
    pub fn join(parts: impl IntoIterator<Item = impl Into<Self>>, between: &'static str) -> Self {
        let mut joined = Self::default();
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                joined.0.push_str(between);
            }
            joined.0.push_str(&part.into().0);
        }
        joined
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self(text.to_owned())
    }
}

impl From<u32> for Sql {
    fn from(number: u32) -> Self {
        Self(number.to_string())
    }
}

impl From<u64> for Sql {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

/// A name in quotes.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in quotes, the same whether `standard_conforming_strings` is on or off.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A statement as it is defined, with placeholders: `{schema}`, and other words in lower case.
/// Braces around anything else, as in a regular expression, are text.
#[derive(Clone, Debug)]
pub struct Statement {
    text: &'static str,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Text(&'static str),
    Placeholder(&'static str),
}

impl Statement {
    /// Takes a text apart.
    pub fn parse(text: &'static str) -> Self {
        let mut parts = Vec::new();
        let (mut rest, mut searched) = (text, 0);
        while let Some(open) = rest[searched..].find('{') {
            let open = searched + open;
            let word = &rest[open + 1..];
            let end = word.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            match end {
                Some(end) if end > 0 && word[end..].starts_with('}') => {
                    parts.push(Part::Text(&rest[..open]));
                    parts.push(Part::Placeholder(&word[..end]));
                    (rest, searched) = (&word[end + 1..], 0);
                }
                _ => searched = open + 1,
            }
        }
        parts.push(Part::Text(rest));
        Self { text, parts }
    }

    /// The text as it is defined.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The names of its placeholders, each as often as it stands there.
    pub fn placeholders(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Placeholder(name) => Some(*name),
        })
    }

    /// Whether it has a placeholder of this name.
    pub fn has(&self, name: &str) -> bool {
        self.placeholders().any(|placeholder| placeholder == name)
    }

    /// The statement with a value for each placeholder.
    ///
    /// # Errors
    ///
    /// Fails as `value` does, and where it knows no value.
    pub fn fill(
        &self,
        mut value: impl FnMut(&'static str) -> Result<Option<Sql>, QueryError>,
    ) -> Result<Sql, QueryError> {
        let mut sql = Sql::default();
        for part in &self.parts {
            sql = match part {
                Part::Text(text) => sql.with(*text),
                Part::Placeholder(name) => sql.with(value(name)?.ok_or(QueryError::NoValue(name))?),
            };
        }
        Ok(sql)
    }
}

/// The application's schema, as statements name it.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a>(pub &'a str);

impl Schema<'_> {
    /// The value of `{schema}`, which stands before a table's name and brings ONLY with it, so
    /// that no other table is read with this one; or of `{schema_name}`, the name as a string.
    pub fn value(self, placeholder: &str) -> Option<Sql> {
        match placeholder {
            "schema" => Some(Sql::from("ONLY ").with(Sql::identifier(self.0))),
            "schema_name" => Some(Sql::literal(self.0)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_a_word_in_braces_and_all_else_is_text() {
        let names = |text| Statement::parse(text).placeholders().collect::<Vec<_>>();
        assert_eq!(names("{schema}.a, {schema}.b"), ["schema", "schema"]);
        assert_eq!(names("{{schema_name}}"), ["schema_name"]);
        for text in ["a{32}", "{}", "{", "{a", "{a b}", "{A}", "'{1,2}'", "é{é}"] {
            let none: [&str; 0] = [];
            assert_eq!(names(text), none, "{text}");
            let sql = Statement::parse(text).fill(|_| Ok(None)).unwrap();
            assert_eq!(sql.as_str(), text);
        }
    }

    #[test]
    fn a_value_is_not_searched() {
        let statement = Statement::parse("SELECT {schema_name} FROM {schema}.t WHERE {piece}");
        let schema = Schema("{schema_name}\"'\\{piece}{schema}");
        let piece = || Sql::from("n > ").with(7_u64);
        let filled = statement.fill(|name| match name {
            "piece" => Ok(Some(piece())),
            name => Ok(schema.value(name)),
        });
        assert_eq!(
            filled.unwrap().as_str(),
            "SELECT E'{schema_name}\"''\\\\{piece}{schema}' \
             FROM ONLY \"{schema_name}\"\"'\\{piece}{schema}\".t WHERE n > 7"
        );
    }

    #[test]
    fn a_placeholder_without_a_value_is_refused() {
        let statement = Statement::parse("SELECT 1 FROM {scheme}.t");
        let refused = statement.fill(|name| Ok(Schema("public").value(name)));
        assert!(matches!(refused, Err(QueryError::NoValue("scheme"))));
    }
}
