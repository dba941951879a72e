//! How many may do something at once, and what part of it one address may have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// A number of places. An address may hold no more of them than are left, so that one that holds
/// few finds one, however many another wants.
pub(super) struct Share {
    places: usize,
    held: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Share {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            held: Mutex::default(),
        })
    }

    /// A place, if this address may have one more.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut held = self.lock();
        let left = self.places - held.values().sum::<usize>();
        let own = held.get(&address).copied().unwrap_or_default();
        if own >= left {
            return None;
        }
        held.insert(address, own + 1);
        Some(Place {
            address,
            share: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.held.lock()
    }
}

/// One place, until it is dropped.
pub(super) struct Place {
    address: IpAddr,
    share: Arc<Share>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.share.lock();
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_to_others() {
        let share = Share::new(8);
        let [one, two, three, four] = [1, 2, 3, 4].map(|host| IpAddr::from([127, 0, 0, host]));
        let take = |address| std::iter::from_fn(|| share.take(address)).collect::<Vec<_>>();
        let of_one = take(one);
        assert_eq!(of_one.len(), 4);
        let of_two = take(two);
        assert_eq!(of_two.len(), 2);
        let of_three = take(three);
        assert_eq!(of_three.len(), 1);
        let of_four = take(four);
        assert_eq!(of_four.len(), 1);
        assert!(share.take([127, 0, 0, 5].into()).is_none());
        drop((of_one, of_two, of_three, of_four));
        assert_eq!(take(two).len(), 4);
        assert!(share.lock().is_empty());
    }

    #[test]
    fn a_single_place_is_for_anybody() {
        let share = Share::new(1);
        let place = share.take([127, 0, 0, 1].into());
        assert!(place.is_some());
        assert!(share.take([127, 0, 0, 2].into()).is_none());
    }
}
