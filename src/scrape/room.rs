//! How much of what a server says is kept.
//!
//! Every answer takes room for as long as it is served. No database gets more than half of what the
//! others leave, so that one with a hundred thousand tables keeps nobody else from the page.

use std::collections::{BTreeMap, BTreeSet};

use super::target::Key;

/// The room of one server.
pub struct Room {
    size: usize,
    taken: BTreeMap<Option<String>, BTreeMap<&'static str, usize>>,
    total: usize,
}

impl Room {
    /// For so many bytes of the page.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            taken: BTreeMap::new(),
            total: 0,
        }
    }

    /// Gives an answer its room, in the place of the last one; false if there is none, and then it
    /// takes none.
    pub fn take(&mut self, (collector, database): &Key, bytes: usize) -> bool {
        let taken = self.taken.entry(database.clone()).or_default();
        self.total -= taken.remove(collector).unwrap_or_default();
        let own: usize = taken.values().sum();
        let others = self.total - own;
        let fits = own + bytes <= self.size.saturating_sub(others) / 2;
        if fits {
            taken.insert(collector, bytes);
            self.total += bytes;
        }
        fits
    }

    /// Gives back what was taken for all, or for these databases.
    pub fn give_back(&mut self, databases: Option<&BTreeSet<String>>) {
        self.taken.retain(|name, _| match (databases, name) {
            (None, _) => false,
            (Some(databases), Some(name)) => !databases.contains(name),
            (Some(_), None) => true,
        });
        self.total = self.taken.values().flat_map(BTreeMap::values).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_database_takes_more_than_half_of_what_others_leave() {
        let mut room = Room::new(1_000);
        let key = |collector, database: &str| (collector, Some(database.to_owned()));
        assert!(room.take(&("a", None), 100));
        assert!(room.take(&key("a", "x"), 400));
        assert!(!room.take(&key("b", "x"), 51));
        assert!(room.take(&key("b", "x"), 50));
        assert!(!room.take(&key("a", "y"), 226));
        assert!(room.take(&key("a", "y"), 225));
        // What is read again takes the place of what was.
        assert!(room.take(&key("a", "x"), 10));
        assert!(room.take(&key("a", "y"), 420));
        assert!(!room.take(&key("a", "y"), 421));
        assert!(room.take(&key("b", "y"), 420));
        room.give_back(Some(&BTreeSet::from(["y".to_owned()])));
        assert!(room.take(&key("a", "x"), 400));
        room.give_back(None);
        assert!(room.take(&("b", None), 500));
        assert!(!room.take(&("a", None), 1));
    }
}
