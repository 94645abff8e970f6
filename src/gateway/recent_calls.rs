//! What is remembered for a while and within a bound: the calls that callouts led to, and the agents who made them.
//!
//! A callout pays for it each time, so this is a map and a queue, and not a cache.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::preview::Timestamp;

/// Values that are forgotten after `lifetime`, and earlier if there are more than `max`: the oldest first.
pub(super) struct Recent<K, V> {
    state: Mutex<State<K, V>>,
    max: usize,
    lifetime: Duration,
}

struct State<K, V> {
    values: HashMap<K, (Timestamp, V)>,
    order: VecDeque<(Timestamp, K)>,
}

impl<K: Hash + Eq + Clone, V: Copy> Recent<K, V> {
    pub(super) fn new(max: usize, lifetime: Duration) -> Self {
        let state = State { values: HashMap::new(), order: VecDeque::new() };
        Self { state: Mutex::new(state), max, lifetime }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a value from `now` on. One that is known for less than half of its time is left as it is.
    pub(super) fn insert(&self, key: K, value: V, now: Timestamp) {
        let mut state = self.lock();
        if state.values.get(&key).is_some_and(|(since, _)| now.since(*since) < self.lifetime / 2) {
            return;
        }
        state.values.insert(key.clone(), (now, value));
        state.order.push_back((now, key));
        if state.order.len() > self.max {
            state.forget_oldest();
        }
    }

    /// The value of this key.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.lock().values.get(key).map(|(_, value)| *value)
    }

    /// Forgets what is too old.
    pub(super) fn maintain(&self, now: Timestamp) {
        let mut state = self.lock();
        while state.order.front().is_some_and(|(since, _)| now.since(*since) > self.lifetime) {
            state.forget_oldest();
        }
    }
}

impl<K: Hash + Eq, V> State<K, V> {
    fn forget_oldest(&mut self) {
        let Some((since, key)) = self.order.pop_front() else { return };
        // It may have been remembered again.
        if self.values.get(&key).is_some_and(|(latest, _)| *latest == since) {
            self.values.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_millis(100);

    #[test]
    fn a_value_is_known_for_its_lifetime_and_longer_if_it_comes_again() {
        let recent = Recent::new(10, LIFETIME);
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
    fn the_newest_stay_within_the_bound() {
        let recent = Recent::new(3, LIFETIME);
        (0..10_u64).for_each(|number| recent.insert(number, (), Timestamp(number)));
        let known: Vec<_> = (0..10_u64).filter(|number| recent.get(number).is_some()).collect();
        assert_eq!(known, [7, 8, 9]);
        // One agent who calls all day takes one place.
        (0..50).for_each(|number| recent.insert(9, (), Timestamp(10 + number)));
        assert_eq!(recent.lock().order.len(), 3);
    }
}
