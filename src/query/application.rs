//! What an application is: of which parts it is made, and by which tables it is known.

use super::Sql;

/// An application whose tables collectors read; it stands beside its collectors.
#[derive(Debug, PartialEq, Eq)]
pub struct Application {
    /// In one word, for programs.
    pub key: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// Tables that each of its parts has. A schema that has all of them, and the mark of a part, has
    /// that part.
    pub marks: &'static [&'static str],
    /// Its parts, which may live in databases of their own; the main one comes first.
    pub parts: &'static [Part],
    /// Where several schemas of a database have the marks, one is taken whose tables belong to the owner of
    /// the database, which nobody else can make; of these this one, or the first by name.
    pub schema: &'static str,
    /// Table and column of what former versions of `grants` gave, and no definition reads any more.
    pub former: &'static [(&'static str, &'static str)],
}

/// A part of an application.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// The table by which it is known.
    pub mark: &'static str,
    /// How the names of its tables begin. Of two parts a table belongs to the one that says more.
    pub prefix: &'static str,
}

impl Application {
    /// The part to which a table belongs.
    pub fn part_of(&self, table: &str) -> Option<&Part> {
        let parts = self.parts.iter();
        let parts = parts.filter(|part| table.starts_with(part.prefix));
        parts.max_by_key(|part| part.prefix.len())
    }

    /// The schemas with its tables, or those of a part of it: `oid`, in `marks` the tables by which it is
    /// known there, separated by spaces, and `of_owner`, whether these belong to the owner of the database.
    pub fn schemas(&self) -> Sql {
        let of_parts = || self.parts.iter().map(|part| Sql::literal(part.mark));
        let marks = self.marks.iter().map(|mark| Sql::literal(mark));
        let number = self.marks.len() as u64;
        Sql::from(
            "SELECT c.relnamespace AS oid, string_agg(c.relname::text, ' ') AS marks,
               bool_and(c.relowner = (SELECT d.datdba FROM pg_catalog.pg_database d
                                       WHERE d.datname = current_database())) AS of_owner
          FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND c.relname IN (",
        )
        .with(Sql::join(of_parts().chain(marks), ", "))
        .with(
            ")
         GROUP BY c.relnamespace
        HAVING count(*) > ",
        )
        .with(number)
        .with("\n           AND count(*) FILTER (WHERE c.relname NOT IN (")
        .with(Sql::join(of_parts(), ", "))
        .with(")) = ")
        .with(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_belongs_to_the_part_that_says_most_of_its_name() {
        let application = Application {
            key: "shop",
            name: "Shop",
            marks: &["version"],
            parts: &[
                Part {
                    name: "main",
                    mark: "orders",
                    prefix: "",
                },
                Part {
                    name: "stock",
                    mark: "stock_items",
                    prefix: "stock_",
                },
            ],
            schema: "public",
            former: &[],
        };
        let part = |table| application.part_of(table).map(|part| part.name);
        assert_eq!(part("orders"), Some("main"));
        assert_eq!(part("stock_items"), Some("stock"));
        let schemas = application.schemas();
        assert!(
            schemas
                .as_str()
                .contains("IN (E'orders', E'stock_items', E'version')")
        );
        assert!(schemas.as_str().contains("HAVING count(*) > 1\n"));
    }
}
