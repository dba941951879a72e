//! The count against a model of the table, and its rules one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::events::line::{BUCKET_ROWS, GRACE};

const SETTLE: u64 = 60_000;
const TURN: u64 = 86_400_000;

/// A table of events with its writers, and the count of it.
struct World {
    now: u64,
    xid: u64,
    tables: [Table; 2],
    deleted: bool,
    buckets: Buckets,
    /// A statement that runs, what it will find, and when it began.
    running: Option<(Task, Counts, u64)>,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<u64, Counts>,
    /// Position, transaction and writer of what is not written yet.
    open: Vec<(u64, u64, usize)>,
    /// The newest position of each writer.
    writers: [u64; 3],
    last: u64,
    arrived: u64,
}

impl Table {
    fn end(&self) -> End {
        let position = |writer: usize| {
            let open = self.open.iter().filter(|(.., of)| *of == writer);
            let unfinished = open.map(|(position, ..)| position - 1).min();
            unfinished.unwrap_or(self.writers[writer])
        };
        End {
            finished: (0..3).map(position).min().map(|least| least + 1),
            reached: self.last + 1,
            given: self.last + 1,
        }
    }

    fn count(&self, from: u64, to: u64) -> Counts {
        let mut sum = Counts::default();
        self.rows
            .range(from..to)
            .for_each(|(_, counts)| sum += *counts);
        sum
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(Origin, usize),
    /// Writes, or gives up, one of those that are open.
    End(Origin, usize, bool),
    Purge(Origin, u64, u64),
    /// Events may come while it goes on.
    Scrape(u64),
    Work,
    Wait(u64),
    /// Nobody scrapes for a while.
    Burst(Origin),
}

fn step() -> impl Strategy<Value = Step> {
    let origin = || prop_oneof![4 => Just(Origin::Live), 1 => Just(Origin::Backfill)];
    prop_oneof![
        6 => (origin(), 0..3_usize).prop_map(|(o, w)| Step::Allocate(o, w)),
        5 => (origin(), 0..9_usize, any::<bool>()).prop_map(|(o, n, w)| Step::End(o, n, w)),
        1 => (origin(), 0..300_u64, 1..40_u64).prop_map(|(o, f, n)| Step::Purge(o, f, n)),
        4 => (0..3_u64).prop_map(Step::Scrape),
        4 => Just(Step::Work),
        3 => (0..SETTLE * 2).prop_map(Step::Wait),
        1 => origin().prop_map(Step::Burst),
    ]
}

impl World {
    fn new() -> Self {
        let tables: [Table; 2] = Default::default();
        let ends = [0, 1].map(|at: usize| tables[at].end());
        let at = Moment {
            now: 1_000_000,
            xmin: 1,
            xmax: 1,
            settle: SETTLE,
        };
        Self {
            now: at.now,
            xid: 1,
            buckets: Buckets::new(ends, &at),
            tables,
            deleted: false,
            running: None,
        }
    }

    fn moment(&self) -> Moment {
        let open = self.tables.iter().flat_map(|table| &table.open);
        Moment {
            now: self.now,
            xmin: open.map(|(_, xid, _)| *xid).min().unwrap_or(self.xid),
            xmax: self.xid,
            settle: SETTLE,
        }
    }

    fn ends(&self) -> [End; 2] {
        ORIGINS.map(|origin| self.tables[origin as usize].end())
    }

    fn allocate(&mut self, origin: Origin, writer: usize) {
        let table = &mut self.tables[origin as usize];
        table.last += 1;
        table.writers[writer] = table.last;
        table.open.push((table.last, self.xid, writer));
        self.xid += 1;
    }

    fn end(&mut self, origin: Origin, number: usize, write: bool) {
        let table = &mut self.tables[origin as usize];
        if table.open.is_empty() {
            return;
        }
        let (position, ..) = table.open.remove(number % table.open.len());
        if write {
            let odd = position % 2;
            table
                .rows
                .insert(position, Counts([1, odd, 1 - odd, 0, 0, position % 3]));
            table.arrived += 1;
        }
    }

    fn scrape(&mut self, late: u64) {
        if std::mem::take(&mut self.deleted) {
            self.buckets.soil();
        }
        let (ends, before) = (self.ends(), self.moment());
        for _ in 0..late {
            self.allocate(Origin::Live, 1);
            let last = self.tables[0].open.len() - 1;
            self.end(Origin::Live, last, true);
            self.allocate(Origin::Live, 2);
        }
        let tails = ORIGINS.map(|origin| {
            let begins = self.buckets.line(origin).pieces();
            let ends = begins[1..].iter().copied().chain([u64::MAX]);
            let table = &self.tables[origin as usize];
            let piece = |(number, (from, to)): (usize, (u64, u64))| {
                let (newest, _) = table.rows.range(from..to).next_back()?;
                Some((number, table.count(from, to), *newest))
            };
            let ranges = begins.iter().copied().zip(ends).enumerate();
            ranges.filter_map(piece).collect()
        });
        let at = Moment {
            xmax: self.xid,
            ..before
        };
        self.buckets.take(&tails, ends, &at);
        self.buckets.shorten(ends, &at, false);
    }

    /// Begins a statement of few positions, or ends it.
    fn work(&mut self) {
        if let Some((task, counts, begun)) = self.running.take() {
            return self.buckets.done(&task, counts, begun).unwrap();
        }
        self.running = self.buckets.next(self.now, TURN, None, |_| 7).map(|task| {
            let counts = self.tables[task.origin as usize].count(task.from, task.to);
            (task, counts, self.now)
        });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Allocate(origin, writer) => self.allocate(origin, writer),
            Step::End(origin, number, write) => self.end(origin, number, write),
            Step::Purge(origin, from, number) => {
                let rows = &mut self.tables[origin as usize].rows;
                let gone: Vec<_> = rows.range(from..from + number).map(|r| *r.0).collect();
                self.deleted |= !gone.is_empty();
                rows.retain(|position, _| !gone.contains(position));
            }
            Step::Scrape(late) => self.scrape(late),
            Step::Work => self.work(),
            Step::Wait(time) => self.now += time,
            Step::Burst(origin) => {
                for number in 0..40 {
                    self.allocate(origin, number % 3);
                    self.end(origin, number, number % 5 > 0);
                }
                let (ends, at) = (self.ends(), self.moment());
                let quiet = self.tables.iter().all(|table| table.open.is_empty());
                self.buckets.shorten(ends, &at, quiet);
            }
        }
        self.is_whole();
    }

    /// Buckets and gaps lie side by side, below the mark.
    fn is_whole(&self) {
        for origin in ORIGINS {
            let line = self.buckets.line(origin);
            let buckets = line.buckets.iter().map(|bucket| (bucket.from, bucket.to));
            let gaps = line.gaps.iter().map(|gap| (gap.from, gap.to));
            let pieces: BTreeSet<_> = buckets.chain(gaps).collect();
            let mut at = origin.lowest();
            for (from, to) in pieces {
                assert!(from == at && to > from, "{line:?}");
                at = to;
            }
            assert_eq!(at, line.mark(), "{line:?}");
        }
    }

    fn is_right(&self) {
        for origin in ORIGINS {
            let line = self.buckets.line(origin);
            let table = &self.tables[origin as usize];
            assert_eq!(line.counts(), table.count(0, u64::MAX), "{line:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_count_is_right_whenever_it_says_so(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut world = World::new();
        world.scrape(0);
        let mut hidden = false;
        for step in steps {
            let scraped = matches!(step, Step::Scrape(_));
            hidden |= matches!(step, Step::Purge(..) | Step::Burst(_));
            world.take(step);
            if scraped && world.buckets.is_sound() {
                world.is_right();
            }
        }
        for origin in ORIGINS {
            while !world.tables[origin as usize].open.is_empty() {
                world.end(origin, 0, true);
            }
        }
        world.scrape(0);
        world.now += SETTLE;
        world.scrape(0);
        while !world.buckets.is_sound() {
            world.work();
        }
        world.scrape(0);
        world.is_right();
        for origin in ORIGINS {
            let added = world.buckets.line(origin).added.events();
            let arrived = world.tables[origin as usize].arrived;
            prop_assert!(added == arrived || hidden && added < arrived);
        }
    }
}

#[test]
fn every_bucket_has_its_turn() {
    let mut world = World::new();
    world.freeze_full_buckets(200);
    let begun = world.now;
    let mut recounted = 0;
    while world.now < begun + TURN {
        world.now += TURN / 500;
        while let Some(task) = world.buckets.next(world.now, TURN, None, |_| 1000) {
            recounted += u64::from(task.what == What::Recount);
            let counts = world.tables[0].count(task.from, task.to);
            world.buckets.done(&task, counts, world.now).unwrap();
        }
    }
    assert!((190..=210).contains(&recounted), "{recounted}");
    assert!(world.buckets.verified().unwrap() > begun);
    world.is_right();
}

/// What a clock that was ahead has said neither keeps a bucket from being verified nor from its turn.
#[test]
fn a_clock_that_was_ahead_delays_nothing() {
    let mut world = World::new();
    world.now += 10 * TURN;
    world.freeze_full_buckets(3);
    world.now = 2_000_000;
    world.buckets.is_not_after(world.now);
    let next = |world: &mut World| {
        let task = world.buckets.next(world.now, TURN, None, |_| 1000)?;
        let counts = world.tables[0].count(task.from, task.to);
        world.buckets.done(&task, counts, world.now).unwrap();
        Some(task.what)
    };
    assert_eq!(next(&mut world), Some(What::Fill));
    world.now += RECENT_INTERVAL;
    assert_eq!(next(&mut world), Some(What::Verify));
    world.now += TURN;
    assert_eq!(next(&mut world), Some(What::Recount));
}

/// Ids that were given and never used are not sign of another history.
#[test]
fn a_stream_ends_where_its_sequence_does() {
    let mut world = World::new();
    world.freeze_full_buckets(3);
    let end = |reached, given| End {
        finished: None,
        reached,
        given,
    };
    let mark = world.buckets.line(Origin::Live).mark();
    assert!(world.buckets.is_beyond([end(1, 1), end(1, 1)]));
    assert!(!world.buckets.is_beyond([end(1, mark), end(1, 1)]));
}

/// Events come where none were expected: they are found, and have arrived.
#[test]
fn late_events_are_added_once_they_are_found() {
    let mut world = World::new();
    world.freeze_full_buckets(3);
    let before = world.buckets.added();
    let first = *world.tables[0].rows.first_key_value().unwrap().0;
    world.tables[0]
        .rows
        .insert(first, Counts([BUCKET_ROWS + 5; 6]));
    world.buckets.soil();
    while !world.buckets.is_sound() {
        world.work();
    }
    world.is_right();
    assert_eq!(world.buckets.added() - before, 5);
    assert_eq!(world.buckets.changes(), 1);
}

#[test]
fn there_are_never_more_buckets_than_the_bound() {
    let mut world = World::new();
    world.freeze_full_buckets(MAX_BUCKETS);
    assert_eq!(world.buckets.number(), MAX_BUCKETS);
    world.freeze_full_buckets(1);
    assert!(world.buckets.number() <= MAX_BUCKETS / 2 + 1);
    world.is_whole();
    world.is_right();
}

impl World {
    fn freeze_full_buckets(&mut self, number: usize) {
        for _ in 0..number {
            self.allocate(Origin::Live, 0);
            let table = &mut self.tables[0];
            table.open.clear();
            table.writers = [table.last; 3];
            let full = Counts([BUCKET_ROWS, 1, 2, 3, 4, 5]);
            table.rows.insert(table.last, full);
            self.scrape(0);
            self.now += GRACE;
        }
        self.scrape(0);
    }
}
