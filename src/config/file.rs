//! The YAML file as a tree that knows the line of every key.
//!
//! Typed deserialization would stop at the first error; here everything is read, and
//! [`super::section`] finds all that is wrong in one pass.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ::config::{Map, Value, ValueKind};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::problem::{Fault, Problem};

/// A file's settings, and where each of its keys stands.
#[derive(Default)]
pub struct File {
    /// The top of the tree.
    pub settings: Map<String, Value>,
    /// Key path to place; tables lose their origin when layers are merged.
    pub places: BTreeMap<String, String>,
}

impl File {
    /// Reads and parses a file.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or is not YAML table.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problem::new(&name, Fault::Unreadable(error.to_string())))?;
        Self::parse(&name, &text)
    }

    /// Parses a file's text; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// Fails when the text is not YAML table.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problem> {
        let options = serde_saphyr::options! {
            strict_booleans: true,
        };
        let node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = match error.location() {
                Some(location) => format!("{name}:{}", location.line()),
                None => name.to_owned(),
            };
            Problem::new(&place, Fault::Syntax(meaning(error.without_snippet())))
        })?;
        let entries = match node {
            Node::Table(entries) => entries,
            Node::Nil => Vec::new(),
            _ => return Err(Problem::new(name, Fault::NotATable)),
        };
        // When layers are merged, such a key of the top would be taken for a path.
        if let Some((key, _)) = entries
            .iter()
            .find(|(key, _)| key.value.contains(['.', '[']))
        {
            let place = format!("{name}:{}", key.referenced.line());
            return Err(Problem::new(&place, Fault::JoinedKey));
        }
        let mut places = BTreeMap::new();
        let settings = table(name, "", entries, &mut places);
        Ok(Self { settings, places })
    }

    /// The name of the only server, or of the first that can be one.
    pub fn server(&self) -> Option<&str> {
        match &self.settings.get("servers")?.kind {
            ValueKind::Table(servers) => servers
                .keys()
                .map(String::as_str)
                .filter(|name| super::is_server_name(name))
                .min(),
            _ => None,
        }
    }
}

/// One YAML node.
enum Node {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Node>>),
    Table(Vec<(Spanned<String>, Node)>),
}

fn table(
    name: &str,
    path: &str,
    entries: Vec<(Spanned<String>, Node)>,
    places: &mut BTreeMap<String, String>,
) -> Map<String, Value> {
    let mut settings = Map::new();
    for (key, node) in entries {
        let path = match path {
            "" => key.value.clone(),
            parent => format!("{parent}.{}", key.value),
        };
        let place = format!("{name}:{}: {path}", key.referenced.line());
        let value = value(name, &path, &place, node, places);
        places.insert(path, place);
        settings.insert(key.value, value);
    }
    settings
}

fn value(
    name: &str,
    path: &str,
    place: &str,
    node: Node,
    places: &mut BTreeMap<String, String>,
) -> Value {
    let kind = match node {
        Node::Nil => ValueKind::Nil,
        Node::Bool(value) => value.into(),
        Node::Int(value) => value.into(),
        Node::Float(value) => value.into(),
        Node::Text(value) => value.into(),
        Node::List(items) => items
            .into_iter()
            .map(|item| {
                let place = format!("{name}:{}: {path}", item.referenced.line());
                value(name, path, &place, item.value, places)
            })
            .collect::<Vec<_>>()
            .into(),
        Node::Table(entries) => table(name, path, entries, places).into(),
    };
    Value::new(Some(&place.to_owned()), kind)
}

/// What is wrong, in words that hold nothing of the file: it could be a password.
fn meaning(error: &serde_saphyr::Error) -> &'static str {
    use serde_saphyr::Error;

    match error {
        Error::DuplicateMappingKey { .. } => "a key is set twice",
        Error::UnknownAnchor { .. } => "a text that begins with * needs quotes",
        Error::Eof { .. } => "it ends too early",
        Error::MultipleDocuments { .. } => "it holds several documents, with --- between them",
        Error::NonFiniteFloat { .. } => "a number is too large",
        _ => "look at indentation, quotes and brackets here and above, and put text into quotes",
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Float(value as f64), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_and_item_knows_its_line() {
        let text =
            "# top\na:\n  b: 1\n  c: [x,\n    y]\n  d: |\n    two\n    lines\ne: { f: on }\n";
        let file = File::parse("x.yml", text).unwrap();
        let places: Vec<_> = file.places.values().map(String::as_str).collect();
        assert_eq!(
            places,
            [
                "x.yml:2: a",
                "x.yml:3: a.b",
                "x.yml:4: a.c",
                "x.yml:6: a.d",
                "x.yml:9: e",
                "x.yml:9: e.f"
            ]
        );
        let a = file.settings["a"].clone().into_table().unwrap();
        let items = a["c"].clone().into_array().unwrap();
        assert_eq!(items[1].origin(), Some("x.yml:5: a.c"));
        assert_eq!(a["d"].kind, ValueKind::from("two\nlines\n"));
        let e = file.settings["e"].clone().into_table().unwrap();
        assert_eq!(e["f"].kind, ValueKind::from("on"));
    }

    #[test]
    fn an_empty_file_says_nothing_and_a_list_is_no_configuration() {
        assert!(
            File::parse("x.yml", "# nothing\n")
                .unwrap()
                .settings
                .is_empty()
        );
        let said = |text| {
            File::parse("x.yml", text)
                .err()
                .map(|problem| problem.to_string())
        };
        assert_eq!(
            said("- a\n").as_deref(),
            Some("x.yml: must be a mapping of keys to values")
        );
        assert_eq!(
            said("a\n").as_deref(),
            Some("x.yml: must be a mapping of keys to values")
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([a-z:,\[\]{}&*!|>'"%@\-? \n\t.<0-9~]|\PC){0,80}"#) {
            let _ = File::parse("x.yml", &text);
        }
    }
}
