//! Who gets a connection when there are none left, and who has to leave for it.
//!
//! Room is made among the addresses that hold the most connections, so that one without any always
//! gets in. There, who has closed its side leaves first, since it may be gone, then who waits, then
//! who is slow to read; who is being answered stays.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

use crate::telemetry::Refusal;

/// The connections that there are.
pub(super) struct Door {
    most: usize,
    /// By the address that they count for.
    seats: BTreeMap<IpAddr, BTreeMap<Id, Arc<Seat>>>,
    peers: HashMap<Id, IpAddr>,
}

impl Door {
    /// Nobody is there yet; so many may be.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            seats: BTreeMap::new(),
            peers: HashMap::new(),
        }
    }

    /// Whether a client of this address may come in; another one may have had to leave for it.
    pub(super) fn admits(&mut self, peer: IpAddr) -> bool {
        if self.peers.len() < self.most {
            return true;
        }
        let Some((id, reason)) = self.next_to_leave(peer) else {
            return false;
        };
        if let Some(seat) = self.left(id) {
            seat.cut(reason);
        }
        true
    }

    /// Somebody has come in.
    pub(super) fn enter(&mut self, seat: Arc<Seat>, task: AbortHandle) {
        let id = task.id();
        // It is set once, here.
        let _ = seat.task.set(task);
        self.peers.insert(id, seat.peer);
        self.seats.entry(seat.peer).or_default().insert(id, seat);
    }

    /// A connection has ended.
    pub(super) fn left(&mut self, id: Id) -> Option<Arc<Seat>> {
        let peer = self.peers.remove(&id)?;
        let seats = self.seats.get_mut(&peer)?;
        let seat = seats.remove(&id);
        if seats.is_empty() {
            self.seats.remove(&peer);
        }
        seat
    }

    fn next_to_leave(&self, peer: IpAddr) -> Option<(Id, Refusal)> {
        let most = self.seats.values().map(BTreeMap::len).max()?;
        // Who already has as many as anybody disturbs nobody who may be about to speak.
        let has_few = self.seats.get(&peer).map_or(0, BTreeMap::len) < most;
        let with_most = self.seats.values().filter(|seats| seats.len() == most);
        let (mut closed, mut waiting, mut reading, mut busy) = (None, None, None, None);
        for (id, seat) in with_most.flatten() {
            let state = seat.state();
            let since = state.since.elapsed();
            match state.phase {
                _ if state.closed.is_some() => {
                    closed = closed.max(Some((state.idleness(), *id)));
                }
                Phase::Waiting { .. } if has_few || (state.looked && since >= MOMENT) => {
                    waiting = waiting.max(Some((state.idleness(), *id)));
                }
                Phase::Sending if since >= GRACE => reading = reading.max(Some((since, *id))),
                _ => busy = busy.max(Some((state.idleness(), *id))),
            }
        }
        let busy = busy.filter(|_| has_few);
        let waiting = closed.or(waiting).map(|(_, id)| (id, Refusal::MadeRoom));
        let reading = reading.map(|(_, id)| (id, Refusal::SlowReader));
        let busy = busy.map(|(_, id)| (id, Refusal::Connections));
        waiting.or(reading).or(busy)
    }
}

/// How long a client may take until what it has to say is read.
const MOMENT: Duration = Duration::from_millis(500);

/// How long a client may take over its answer before others may need its place.
const GRACE: Duration = Duration::from_secs(1);

/// One client's connection, as others see it.
#[derive(Debug)]
pub(super) struct Seat {
    peer: IpAddr,
    state: Mutex<State>,
    task: OnceLock<AbortHandle>,
    cut: AtomicBool,
    /// Bytes that the client, or the system for it, has taken.
    taken: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Since when it is in this phase.
    pub(super) since: Instant,
    /// Whether it was looked since then what the client has to say, and there was nothing.
    looked: bool,
    /// Whether an answer is being prepared, perhaps while another is sent.
    answering: bool,
    /// Requests that were answered.
    answered: u32,
    /// Since when the client's side is closed.
    pub(super) closed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client has something to say; it may have begun.
    Waiting { begun: bool },
    /// Its request is complete, and the answer is not.
    Answering,
    /// It has an answer to take.
    Sending,
}

impl Seat {
    /// A client that has connected now, and is to send its first request.
    pub(super) fn new(peer: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            peer: counted_as(peer),
            state: Mutex::new(State {
                phase: Phase::Waiting { begun: true },
                since: Instant::now(),
                looked: false,
                answering: false,
                answered: 0,
                closed: None,
            }),
            task: OnceLock::new(),
            cut: AtomicBool::new(false),
            taken: AtomicU64::new(0),
        })
    }

    /// The client's address, or that of its network: what it is counted by.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    pub(super) fn state(&self) -> State {
        *self.lock()
    }

    /// Another phase begins, if it is one.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        if state.phase == phase {
            return;
        }
        if state.phase == Phase::Sending {
            state.answered = state.answered.saturating_add(1);
        }
        state.phase = phase;
        state.since = Instant::now();
        state.looked = false;
    }

    /// The client has closed its side, and may still listen.
    pub(super) fn has_closed(&self) {
        self.lock().closed.get_or_insert_with(Instant::now);
    }

    /// The client has taken some more bytes.
    pub(super) fn has_taken(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The client has nothing to say at present.
    pub(super) fn has_nothing(&self) {
        self.lock().looked = true;
    }

    /// A request is complete; its answer is, when the guard is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        self.lock().answering = true;
        self.enter(Phase::Answering);
        Answering(self.clone())
    }

    /// What there was to send is sent; says whether it was anything.
    pub(super) fn has_sent(&self) -> bool {
        let state = self.state();
        if state.phase != Phase::Sending {
            return false;
        }
        self.enter(match state.answering {
            true => Phase::Answering,
            false => Phase::Waiting { begun: false },
        });
        true
    }

    /// Ends the connection.
    pub(super) fn cut(&self, reason: Refusal) {
        if let Some(task) = self.task.get()
            && !self.cut.swap(true, Ordering::Relaxed)
        {
            reason.count();
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Who has one IPv6 address commonly has all with the same first 64 bits.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        other => other,
    }
}

impl State {
    /// How long a client waits, divided by what it has asked for meanwhile: one that comes again
    /// and again stays longer than one that never spoke.
    fn idleness(&self) -> Duration {
        self.since.elapsed() / self.answered.clamp(1, 10)
    }
}

/// Held while an answer is being prepared.
pub(super) struct Answering(Arc<Seat>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.lock().answering = false;
        self.0.enter(Phase::Sending);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    /// A full door, with a client of each of these addresses in this phase, a second apart.
    fn door(clients: &[(u8, Phase)], tasks: &mut JoinSet<()>) -> (Door, Vec<Arc<Seat>>) {
        let mut door = Door::new(clients.len());
        let mut seats = Vec::new();
        for ((host, phase), seconds) in clients.iter().zip((1..=clients.len() as u64).rev()) {
            let seat = Seat::new(address(*host));
            seat.enter(*phase);
            seat.lock().since -= Duration::from_secs(seconds);
            seat.has_nothing();
            door.enter(seat.clone(), tasks.spawn(std::future::pending()));
            seats.push(seat);
        }
        (door, seats)
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let of = |address: &str| counted_as(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("::1"), "::1".parse::<IpAddr>().unwrap());
    }

    fn address(host: u8) -> IpAddr {
        [127, 0, 0, host].into()
    }

    fn cut(seats: &[Arc<Seat>]) -> Vec<usize> {
        let cut = seats.iter().enumerate();
        let cut = cut.filter(|(_, seat)| seat.cut.load(Ordering::Relaxed));
        cut.map(|(index, _)| index).collect()
    }

    const IDLE: Phase = Phase::Waiting { begun: false };
    const SILENT: Phase = Phase::Waiting { begun: true };
    const SENDING: Phase = Phase::Sending;
    const ANSWERING: Phase = Phase::Answering;

    #[tokio::test]
    async fn who_waits_for_longest_makes_room() {
        let mut tasks = JoinSet::new();
        for (clients, peer, leaves) in [
            ([(1, SILENT), (1, IDLE), (1, IDLE)], 1, Some(0)),
            ([(1, ANSWERING), (1, IDLE), (1, SILENT)], 1, Some(1)),
            ([(1, SENDING), (1, ANSWERING), (1, IDLE)], 1, Some(2)),
            ([(1, SENDING), (1, SENDING), (1, ANSWERING)], 1, Some(0)),
            ([(1, ANSWERING); 3], 1, None),
            // One address with many gives one up, before another with few does.
            ([(2, IDLE), (1, IDLE), (1, IDLE)], 2, Some(1)),
            ([(2, IDLE), (1, IDLE), (1, IDLE)], 3, Some(1)),
            // Who has none gets in.
            ([(1, ANSWERING); 3], 2, Some(0)),
            ([(1, IDLE), (2, IDLE), (3, IDLE)], 4, Some(0)),
        ] {
            let (mut door, seats) = door(&clients, &mut tasks);
            assert_eq!(door.admits(address(peer)), leaves.is_some(), "{clients:?}");
            assert_eq!(cut(&seats), Vec::from_iter(leaves), "{clients:?}");
        }
    }

    #[tokio::test]
    async fn who_may_be_gone_leaves_first() {
        let mut tasks = JoinSet::new();
        let clients = [(1, SILENT), (1, ANSWERING), (1, ANSWERING)];
        let (mut door, seats) = door(&clients, &mut tasks);
        seats[2].has_closed();
        assert!(door.admits(address(1)));
        assert_eq!(cut(&seats), [2]);
    }

    #[tokio::test]
    async fn who_was_not_listened_to_stays() {
        let mut tasks = JoinSet::new();
        let (mut door, seats) = door(&[(1, SILENT), (1, SILENT)], &mut tasks);
        seats.iter().for_each(|seat| seat.lock().looked = false);
        assert!(!door.admits(address(1)));
        seats[1].has_nothing();
        assert!(door.admits(address(1)));
        assert_eq!(cut(&seats), [1]);
    }

    #[tokio::test]
    async fn who_comes_again_and_again_stays() {
        let mut tasks = JoinSet::new();
        let (mut door, seats) = door(&[(1, IDLE), (1, SILENT), (1, SILENT)], &mut tasks);
        for _ in 0..5 {
            drop(seats[0].answer());
            seats[0].enter(IDLE);
        }
        seats[0].lock().since -= Duration::from_secs(9);
        seats[0].has_nothing();
        assert!(door.admits(address(1)));
        assert_eq!(cut(&seats), [1]);
    }

    #[tokio::test]
    async fn nobody_leaves_while_there_is_room() {
        let mut tasks = JoinSet::new();
        let (mut door, seats) = door(&[(1, IDLE), (1, IDLE)], &mut tasks);
        let id = *door.peers.keys().next().unwrap();
        door.left(id);
        assert!(door.admits(address(1)));
        assert_eq!(cut(&seats), Vec::<usize>::new());
    }
}
