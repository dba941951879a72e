//! Who is next where not all can be served at once.
//!
//! Addresses take turns: next is the one whose last turn is longest ago, however many requests
//! another has. Those that had one before take turns with those that come for the first time, so
//! that addresses without end keep nobody out who comes again and again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// A number of places. An address may hold no more of them than are left, so that one that holds
/// few finds one, however many another wants.
pub(super) struct Turns {
    places: usize,
    /// How many may wait for one.
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<IpAddr, usize>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// When an address had its last turn, as the number of that turn.
    last: BTreeMap<IpAddr, u64>,
    turns: u64,
    /// Whether the last turn was that of an address that had none before.
    was_first: bool,
}

struct Waiting {
    address: IpAddr,
    turn: oneshot::Sender<Turn>,
}

/// How many addresses are remembered.
const KNOWN: usize = 4096;

impl Turns {
    pub(super) fn new(places: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            most,
            state: Mutex::default(),
        })
    }

    /// A place, when it is this address's turn; nothing where too many wait, most of them of this
    /// address.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr) -> Option<Turn> {
        let (turn, taken) = oneshot::channel();
        self.lock().wait(Waiting { address, turn }, self.most);
        self.give();
        taken.await.ok()
    }

    /// Gives away the places that there are.
    fn give(self: &Arc<Self>) {
        loop {
            let Some(next) = self.lock().next(self.places) else {
                return;
            };
            let turn = Turn {
                address: next.address,
                turns: self.clone(),
            };
            // One that has just left gives its place back by this.
            let _ = next.turn.send(turn);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// One more waits; where that is one too many, the last of the address with the most leaves.
    fn wait(&mut self, waiting: Waiting, most: usize) {
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        self.waiting.push(waiting);
        if self.waiting.len() <= most {
            return;
        }
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for waiting in &self.waiting {
            *counts.entry(waiting.address).or_default() += 1;
        }
        let longest = counts.values().max().copied();
        let last = self
            .waiting
            .iter()
            .rposition(|waiting| counts.get(&waiting.address).copied() == longest);
        last.map(|last| self.waiting.remove(last));
    }

    /// Who gets the next place, if there is one; it is noted as held.
    fn next(&mut self, places: usize) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        let left = places - self.held.values().sum::<usize>();
        let candidates = self.waiting.iter().enumerate();
        let candidates = candidates.filter(|(_, waiting)| self.held_by(waiting.address) < left);
        let (mut known, mut first) = (None, None);
        for (index, waiting) in candidates {
            match self.last.get(&waiting.address) {
                Some(&last) if known.is_none_or(|(longest, _)| last < longest) => {
                    known = Some((last, index));
                }
                None if first.is_none() => first = Some(index),
                _ => {}
            }
        }
        let known = known.map(|(_, index)| index);
        let next = match self.was_first {
            true => known.or(first),
            false => first.or(known),
        }?;
        let next = self.waiting.remove(next);
        *self.held.entry(next.address).or_default() += 1;
        self.turns += 1;
        self.was_first = self.last.insert(next.address, self.turns).is_none();
        if self.last.len() > KNOWN
            && let Some((&oldest, _)) = self.last.iter().min_by_key(|(_, last)| **last)
        {
            self.last.remove(&oldest);
        }
        Some(next)
    }

    fn held_by(&self, address: IpAddr) -> usize {
        self.held.get(&address).copied().unwrap_or_default()
    }
}

/// One place, until it is dropped.
pub(super) struct Turn {
    address: IpAddr,
    turns: Arc<Turns>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.lock();
            if let Some(count) = state.held.get_mut(&self.address) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(&self.address);
                }
            }
        }
        self.turns.give();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;

    fn host(host: u8) -> IpAddr {
        [127, 0, 0, host].into()
    }

    /// All the places that this address gets at once.
    fn all(turns: &Arc<Turns>, address: IpAddr) -> Vec<Turn> {
        let take = || turns.take(address).now_or_never().flatten();
        std::iter::from_fn(take).collect()
    }

    /// Requests of these hosts, in this order.
    fn requests(turns: &Arc<Turns>, hosts: &[u8]) -> Vec<(u8, BoxFuture<'static, Option<Turn>>)> {
        let mut requests = Vec::new();
        for &one in hosts {
            let turns = turns.clone();
            let mut request = async move { turns.take(host(one)).await }.boxed();
            assert!((&mut request).now_or_never().is_none());
            requests.push((one, request));
        }
        requests
    }

    /// The order in which they get the only place.
    fn served(mut requests: Vec<(u8, BoxFuture<'static, Option<Turn>>)>) -> Vec<u8> {
        let mut served = Vec::new();
        while !requests.is_empty() {
            let ready = requests
                .iter_mut()
                .position(|(_, request)| request.now_or_never().flatten().is_some());
            let Some(ready) = ready else { break };
            served.push(requests.remove(ready).0);
        }
        served
    }

    #[test]
    fn one_address_leaves_places_to_others() {
        let turns = Turns::new(8, 8);
        let of_one = all(&turns, host(1));
        assert_eq!(of_one.len(), 4);
        let of_two = all(&turns, host(2));
        assert_eq!(of_two.len(), 2);
        let of_three = all(&turns, host(3));
        assert_eq!(of_three.len(), 1);
        let of_four = all(&turns, host(4));
        assert_eq!(of_four.len(), 1);
        assert!(all(&turns, host(5)).is_empty());
        drop((of_one, of_two, of_three, of_four));
        assert_eq!(all(&turns, host(2)).len(), 4);
        assert!(turns.lock().held.is_empty());
    }

    #[test]
    fn addresses_take_turns() {
        let turns = Turns::new(1, 100);
        for known in [1, 2, 3] {
            assert_eq!(all(&turns, host(known)).len(), 1);
        }
        let place = all(&turns, host(9));
        let many = requests(&turns, &[1, 1, 1, 1, 3, 2, 2, 1]);
        drop(place);
        assert_eq!(served(many), [1, 2, 3, 1, 2, 1, 1, 1]);
    }

    #[test]
    fn new_addresses_take_turns_with_known_ones() {
        let turns = Turns::new(1, 100);
        assert_eq!(all(&turns, host(1)).len(), 1);
        assert_eq!(all(&turns, host(2)).len(), 1);
        let place = all(&turns, host(9));
        let many = requests(&turns, &[11, 12, 13, 14, 15, 1, 2]);
        drop(place);
        assert_eq!(served(many), [1, 11, 2, 12, 13, 14, 15]);
    }

    #[test]
    fn who_waits_with_the_most_is_refused() {
        let turns = Turns::new(1, 3);
        let place = all(&turns, host(9));
        let mut many = requests(&turns, &[1, 1, 1]);
        let stranger = requests(&turns, &[2]);
        assert!(
            (&mut many[2].1)
                .now_or_never()
                .is_some_and(|turn| turn.is_none())
        );
        let refused = turns.take(host(1)).now_or_never();
        assert!(refused.is_some_and(|turn| turn.is_none()));
        many.pop();
        drop(place);
        assert_eq!(
            served(many.into_iter().chain(stranger).collect()),
            [1, 1, 2]
        );
    }

    #[test]
    fn who_has_left_is_passed_over() {
        let turns = Turns::new(1, 100);
        let place = all(&turns, host(9));
        let mut many = requests(&turns, &[1, 2, 3]);
        drop(many.remove(0));
        drop(place);
        assert_eq!(served(many), [2, 3]);
        assert!(turns.lock().held.is_empty());
    }
}
