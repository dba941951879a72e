//! How much of what a server says is kept.
//!
//! Every answer takes room for as long as it is served. The databases of one owner get no more than half of
//! what those of others leave, so that somebody with a hundred thousand tables keeps nobody else
//! from the page; and a quarter is left to what is asked of the server as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::collector::Place;
use crate::query::Text;
use crate::server::Owner;

/// The room of one server.
pub struct Room {
    size: usize,
    /// What was read of the server as a whole.
    server: BTreeMap<Text, usize>,
    databases: BTreeMap<Arc<str>, Taken>,
}

/// What was read in a database.
struct Taken {
    owner: Owner,
    total: usize,
    collectors: BTreeMap<Text, usize>,
}

impl Room {
    /// For so many bytes of the page.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            server: BTreeMap::new(),
            databases: BTreeMap::new(),
        }
    }

    /// Gives an answer its room, in the place of the last one; false if there is none, and then it
    /// takes none.
    pub fn take(
        &mut self,
        collector: &Text,
        place: &Place,
        bytes: usize,
        owner_of: impl Fn(&str) -> Owner,
    ) -> bool {
        let Place::Database(database) = place else {
            self.server.remove(collector);
            let fits = self.of_server() + self.of_databases(|_| true) + bytes <= self.size;
            if fits {
                self.server.insert(collector.clone(), bytes);
            }
            return fits;
        };
        let owner = owner_of(database);
        let taken = self.databases.entry(database.clone()).or_insert(Taken {
            owner: owner.clone(),
            total: 0,
            collectors: BTreeMap::new(),
        });
        taken.owner = owner.clone();
        taken.total -= taken.collectors.remove(collector).unwrap_or_default();
        let own = self.of_databases(|other| *other == owner);
        let others = self.of_databases(|other| *other != owner);
        let size = (self.size - self.size / 4).min(self.size.saturating_sub(self.of_server()));
        let fits = own + bytes <= size.saturating_sub(others) / 2;
        if fits && let Some(taken) = self.databases.get_mut(database) {
            taken.collectors.insert(collector.clone(), bytes);
            taken.total += bytes;
        }
        fits
    }

    fn of_server(&self) -> usize {
        self.server.values().sum()
    }

    fn of_databases(&self, of: impl Fn(&Owner) -> bool) -> usize {
        let taken = self.databases.values().filter(|taken| of(&taken.owner));
        taken.map(|taken| taken.total).sum()
    }

    /// Gives back what was taken for all, or for these databases.
    pub fn give_back(&mut self, databases: Option<&BTreeSet<String>>) {
        match databases {
            None => *self = Self::new(self.size),
            Some(databases) => self
                .databases
                .retain(|name, _| !databases.contains(&**name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_owner_takes_more_than_half_of_what_others_leave() {
        let mut room = Room::new(1_000);
        let mut take = |collector: &'static str, database: &str, bytes| {
            room.take(
                &Text::from(collector),
                &Place::Database(database.into()),
                bytes,
                |name| {
                    Owner::Role(if name.starts_with('x') {
                        16_384
                    } else {
                        16_385
                    })
                },
            )
        };
        assert!(take("a", "x1", 300));
        assert!(!take("b", "x1", 76));
        assert!(!take("a", "x2", 76));
        assert!(take("a", "x2", 75));
        assert!(!take("a", "y", 188));
        assert!(take("a", "y", 187));
        // What is read again takes the place of what was.
        assert!(take("a", "x1", 10));
        assert!(take("a", "y", 332));
        assert!(!take("a", "y", 333));
        room.give_back(Some(&BTreeSet::from(["x2".to_owned()])));
        let z = Place::Database("z".into());
        assert!(room.take(&"a".into(), &z, 204, |_| Owner::Role(1)));
    }

    #[test]
    fn databases_leave_a_quarter_to_the_server() {
        let mut room = Room::new(1_000);
        let superuser = |name: &str| Owner::Superuser(name.to_owned());
        for database in 0..100 {
            let place = Place::Database(format!("d{database}").into());
            let _ = (0..1_000)
                .rev()
                .find(|bytes| room.take(&"a".into(), &place, *bytes, superuser));
        }
        assert!(room.take(&"a".into(), &Place::Server, 200, superuser));
        assert!(room.take(&"b".into(), &Place::Server, 50, superuser));
        assert!(!room.take(&"c".into(), &Place::Server, 250, superuser));
        room.give_back(None);
        assert!(room.take(&"c".into(), &Place::Server, 1_000, superuser));
        assert!(!room.take(&"a".into(), &Place::Database("d".into()), 1, superuser));
    }
}
