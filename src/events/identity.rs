//! Whose count it is, and what an answer of the server says of it.

use serde::{Deserialize, Serialize};

use super::survey::{Counters, Event, Header};

/// Whose count it is, and until when it is known to be that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    system: String,
    database: u32,
    relation: u32,
    timeline: u32,
    lsn: u64,
    counters: Counters,
    /// An event that was counted for good: in another history another one is there.
    fingerprint: Option<Event>,
    /// When that was last there, in milliseconds since 1970.
    seen: u64,
    /// The position of a newer one.
    #[serde(skip)]
    candidate: Option<u64>,
}

/// What an answer says of the count that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Same,
    /// Rows may have been deleted.
    Dirty,
    /// An event is gone that was there at a time. If nothing was deleted, another is in its place.
    Gone {
        /// Its position.
        position: u64,
        /// The time.
        seen: u64,
    },
    /// Another server goes on with the same history.
    Moved,
    /// The history of the database has become another one.
    Diverged(&'static str),
    /// It is another database.
    Other,
}

impl Identity {
    /// Of the database that has answered.
    pub fn new(system: &str, header: &Header) -> Self {
        Self {
            system: system.to_owned(),
            database: header.database,
            relation: header.relation,
            timeline: header.timeline,
            lsn: header.lsn,
            counters: header.counters.clone(),
            fingerprint: None,
            seen: 0,
            candidate: None,
        }
    }

    /// The events to ask for: the one that is known, and one that is newer.
    pub fn events(&self) -> [Option<u64>; 2] {
        [self.fingerprint.map(|known| known.position), self.candidate]
    }

    /// Whether any event is known.
    pub fn is_known(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// An event that was counted for good.
    pub fn propose(&mut self, position: u64) {
        self.candidate = Some(position);
    }

    /// Whether a standby has yet to replay what was counted before.
    pub fn is_ahead_of(&self, system: &str, header: &Header) -> bool {
        self.is_of(system, header)
            && self.timeline == header.timeline
            && header.standby
            && header.lsn < self.lsn
    }

    /// Compares what is known with what is true now, and takes it in.
    pub fn judge(&mut self, system: &str, header: &Header, now: u64) -> Verdict {
        if !self.is_of(system, header) {
            return Verdict::Other;
        }
        let found = header.events[0];
        if self.fingerprint.is_some() && found.is_some() && found != self.fingerprint {
            return Verdict::Diverged("another event is where one was counted");
        }
        let moved = self.timeline != header.timeline;
        if moved && found.is_none() {
            // A history that lacks the newest event may have any other in its place.
            return Verdict::Diverged("the server is on another timeline, without a known event");
        }
        if !moved && header.lsn < self.lsn {
            return Verdict::Diverged("the server is at an earlier position of its WAL");
        }
        let (now_counted, before) = (&header.counters, &self.counters);
        let again = now_counted.reset != before.reset || now_counted.filenode != before.filenode;
        let deleted = again || now_counted.deleted > before.deleted;
        // Counters that fall back have not seen all.
        let behind = now_counted.deleted < before.deleted || now_counted.inserted < before.inserted;
        let gone = self.fingerprint.filter(|_| found.is_none());
        let seen = std::mem::replace(&mut self.seen, now);
        if gone.is_some() || header.events[1].is_some() {
            self.fingerprint = header.events[1];
        }
        self.timeline = header.timeline;
        self.lsn = header.lsn;
        self.counters = header.counters.clone();
        match gone {
            _ if moved => Verdict::Moved,
            Some(Event { position, .. }) if !deleted => Verdict::Gone { position, seen },
            None if !deleted && !behind => Verdict::Same,
            _ => Verdict::Dirty,
        }
    }

    fn is_of(&self, system: &str, header: &Header) -> bool {
        (self.system.as_str(), self.database, self.relation)
            == (system, header.database, header.relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> (Identity, Header) {
        let header = Header {
            database: 5,
            relation: 16_400,
            timeline: 1,
            lsn: 100,
            counters: Counters {
                inserted: 50,
                deleted: 10,
                ..Counters::default()
            },
            ..Header::default()
        };
        (Identity::new("system", &header), header)
    }

    /// What the counters of the server say, now and when they were last seen.
    #[test]
    fn counters_that_grow_fall_back_or_begin_again_leave_a_doubt() {
        let verdict = |change: fn(&mut Counters)| {
            let (mut identity, mut header) = counted();
            change(&mut header.counters);
            identity.judge("system", &header, 0)
        };
        assert_eq!(verdict(|_| {}), Verdict::Same);
        assert_eq!(verdict(|now| now.inserted = 51), Verdict::Same);
        assert_eq!(verdict(|now| now.deleted = 11), Verdict::Dirty);
        // After a crash, counters are those of an earlier moment, or of none.
        assert_eq!(verdict(|now| now.deleted = 9), Verdict::Dirty);
        assert_eq!(verdict(|now| now.inserted = 49), Verdict::Dirty);
        assert_eq!(verdict(|now| now.reset = "another".into()), Verdict::Dirty);
        assert_eq!(verdict(|now| now.filenode = 1), Verdict::Dirty);
    }

    #[test]
    fn another_history_is_told_from_the_same() {
        let verdict = |change: fn(&mut Header)| {
            let (mut identity, mut header) = counted();
            change(&mut header);
            identity.judge("system", &header, 0)
        };
        assert_eq!(verdict(|now| now.database = 6), Verdict::Other);
        assert_eq!(verdict(|now| now.relation = 6), Verdict::Other);
        let earlier = verdict(|now| now.lsn = 99);
        assert!(matches!(earlier, Verdict::Diverged(_)), "{earlier:?}");
        let forked = verdict(|now| now.timeline = 2);
        assert!(matches!(forked, Verdict::Diverged(_)), "{forked:?}");
    }
}
