//! What is remembered for a while and within a bound: the calls that callouts led to, and the agents who made them.
//!
//! A callout pays for it each time, so this is a map and a queue, and not a cache. A map of this size is not in the
//! processor's caches. So a callout only appends to a short list, and many values enter the map together.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::preview::Timestamp;

/// So many values enter the map together.
const MAX_NEWEST: usize = 256;

/// Values that are forgotten after `lifetime`, and earlier if there are more than `max`: the oldest first.
///
/// A key is represented by its hash of 64 bits under a secret that is chosen at random. Among 100,000 keys, one in 10^14 keys
/// that are looked up is taken for another one. So a key is hashed once, and needs no memory of its own.
pub(super) struct Recent<K: ?Sized, V> {
    state: Mutex<State<V>>,
    secret: RandomState,
    max: usize,
    lifetime: Duration,
    keys: PhantomData<fn(&K)>,
}

struct State<V> {
    /// Not in the map yet, in their order.
    newest: Vec<(u64, Timestamp, V)>,
    values: HashMap<u64, (Timestamp, V), BuildHasherDefault<Hashed>>,
    order: VecDeque<(Timestamp, u64)>,
}

/// The hasher of keys that are hashes.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A key is written by `write_u64`.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<K: Hash + ?Sized, V: Copy> Recent<K, V> {
    pub(super) fn new(max: usize, lifetime: Duration) -> Self {
        let state = State { newest: Vec::new(), values: HashMap::default(), order: VecDeque::new() };
        Self { state: Mutex::new(state), secret: RandomState::new(), max, lifetime, keys: PhantomData }
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a value from `now` on. One that is known for less than half of its time is left as it is.
    pub(super) fn insert(&self, key: &K, value: V, now: Timestamp) {
        let key = self.secret.hash_one(key);
        let mut state = self.lock();
        state.newest.push((key, now, value));
        if state.newest.len() >= MAX_NEWEST {
            self.index(&mut state);
        }
    }

    /// The value of this key.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let key = self.secret.hash_one(key);
        let mut state = self.lock();
        self.index(&mut state);
        state.values.get(&key).map(|(_, value)| *value)
    }

    /// Forgets what is too old.
    pub(super) fn maintain(&self, now: Timestamp) {
        let mut state = self.lock();
        self.index(&mut state);
        while state.order.front().is_some_and(|(since, _)| now.since(*since) > self.lifetime) {
            state.forget_oldest();
        }
    }

    /// Moves the newest values to the map.
    fn index(&self, state: &mut State<V>) {
        // The list keeps its memory.
        let mut newest = std::mem::take(&mut state.newest);
        for (key, now, value) in newest.drain(..) {
            match state.values.entry(key) {
                Entry::Occupied(known) if now.since(known.get().0) < self.lifetime / 2 => continue,
                Entry::Occupied(mut known) => _ = known.insert((now, value)),
                Entry::Vacant(place) => _ = place.insert((now, value)),
            }
            state.order.push_back((now, key));
            if state.order.len() > self.max {
                state.forget_oldest();
            }
        }
        state.newest = newest;
    }
}

impl<V> State<V> {
    fn forget_oldest(&mut self) {
        let Some((since, key)) = self.order.pop_front() else { return };
        // It may have been remembered again.
        if let Entry::Occupied(known) = self.values.entry(key)
            && known.get().0 == since
        {
            known.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_millis(100);

    #[test]
    fn a_value_is_known_for_its_lifetime_and_longer_if_it_comes_again() {
        let recent = Recent::<str, _>::new(10, LIFETIME);
        recent.insert("a", 1, Timestamp(0));
        recent.insert("b", 2, Timestamp(0));
        recent.insert("a", 1, Timestamp(60));
        recent.maintain(Timestamp(100));
        assert_eq!((recent.get("a"), recent.get("b")), (Some(1), Some(2)));
        recent.maintain(Timestamp(101));
        assert_eq!((recent.get("a"), recent.get("b")), (Some(1), None));
        recent.maintain(Timestamp(161));
        assert_eq!(recent.get("a"), None);
        assert!(recent.lock().order.is_empty());
    }

    #[test]
    fn the_list_of_the_newest_is_bounded_and_keeps_their_order() {
        let recent = Recent::new(10_000, LIFETIME);
        for number in 0..10 * MAX_NEWEST {
            recent.insert(&number, number, Timestamp(0));
            assert!(recent.lock().newest.len() < MAX_NEWEST);
        }
        // The first value of a key stays, also while neither is in the map.
        recent.insert(&1_000_000, 1, Timestamp(0));
        recent.insert(&1_000_000, 2, Timestamp(1));
        assert_eq!((recent.get(&1_000_000), recent.get(&5)), (Some(1), Some(5)));
    }

    #[test]
    fn the_newest_stay_within_the_bound() {
        let recent = Recent::new(3, LIFETIME);
        (0..10_u64).for_each(|number| recent.insert(&number, (), Timestamp(number)));
        let known: Vec<_> = (0..10_u64).filter(|number| recent.get(number).is_some()).collect();
        assert_eq!(known, [7, 8, 9]);
        // One agent who calls all day takes one place.
        (0..50).for_each(|number| recent.insert(&9, (), Timestamp(10 + number)));
        recent.maintain(Timestamp(60));
        assert_eq!(recent.lock().order.len(), 3);
    }
}
