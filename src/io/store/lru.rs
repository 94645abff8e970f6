//! A bounded map in which the entry that was used least recently makes room for a new one.
//!
//! The state of the agents is in such maps: each request reads some of them, and each preview changes one. moka notes each
//! read for its housekeeping, and writes a changed value as a new entry. Here a read is a lookup and a step in a list, and a
//! value is changed as one step. The list is hashlink's; this adds the capacity, the lifetime, and the division among threads.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashlink::{DefaultHashBuilder, LruCache};

/// A large map is divided, so that threads seldom wait for each other.
const PARTS: usize = 16;
/// A map for fewer entries has one part. Then the entry that makes room is the least recently used one of all, and not only
/// of one part.
const MIN_DIVIDED: u64 = 1024;
/// Entries are removed at most this part of their lifetime after its end, so that they need not be searched all the time.
const DELAY: u32 = 64;

/// The map. See the module.
pub(super) struct Lru<K, V> {
    parts: Vec<Mutex<Part<K, V>>>,
    hasher: DefaultHashBuilder,
    capacity: u64,
    length: AtomicU64,
    lifetime: Lifetime,
}

struct Part<K, V> {
    entries: LruCache<K, Entry<V>>,
    /// When to look for entries whose lifetime is over.
    next_look: Option<Instant>,
}

struct Entry<V> {
    value: V,
    /// When its lifetime began; `None` if it is unlimited.
    since: Option<Instant>,
}

/// How long an entry lives, if nothing removes it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    Unlimited,
    SinceWritten(Duration),
    SinceUsed(Duration),
}

/// An entry that the map has removed by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removed<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    pub(super) cause: RemovalCause,
}

/// Why an entry is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalCause {
    /// It made room for a new one.
    Capacity,
    /// Its lifetime is over.
    Expired,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// A map of at most `capacity` entries.
    pub(super) fn new(capacity: u64, lifetime: Lifetime) -> Self {
        let parts = if capacity < MIN_DIVIDED { 1 } else { PARTS };
        let part = || Mutex::new(Part { entries: LruCache::new_unbounded(), next_look: None });
        Self {
            parts: std::iter::repeat_with(part).take(parts).collect(),
            hasher: DefaultHashBuilder::default(),
            capacity,
            length: AtomicU64::new(0),
            lifetime,
        }
    }

    /// The value of `key`. This counts as a use of it.
    pub(super) fn get(&self, key: &K) -> Option<V>
    where
        V: Clone,
    {
        self.read(key, V::clone)
    }

    /// What `read` finds in the value of `key`. This counts as a use of it.
    pub(super) fn read<R>(&self, key: &K, read: impl FnOnce(&V) -> R) -> Option<R> {
        let mut part = self.part(key)?;
        let entry = part.entries.get_mut(key)?;
        let now = self.lifetime.now();
        if self.lifetime.is_over(entry, now) {
            return None;
        }
        if let Lifetime::SinceUsed(_) = self.lifetime {
            entry.since = now;
        }
        Some(read(&entry.value))
    }

    /// Whether `key` has a value. This does not count as a use of it.
    pub(super) fn contains(&self, key: &K) -> bool {
        let Some(part) = self.part(key) else { return false };
        part.entries.peek(key).is_some_and(|entry| !self.lifetime.is_over(entry, self.lifetime.now()))
    }

    /// Sets the value of `key`. Returns the entry that was removed for it.
    pub(super) fn insert(&self, key: K, value: V) -> Option<Removed<K, V>> {
        self.change(key, |present| *present = Some(value)).1
    }

    /// Removes `key` and returns its value.
    pub(super) fn remove(&self, key: K) -> Option<V> {
        self.change(key, Option::take).0
    }

    /// Changes the value of `key` as one step; `None` stands for no value, before and after. Returns also the entry that
    /// was removed: one that made room, or the earlier one of `key` if its lifetime was over.
    pub(super) fn change<R>(&self, key: K, change: impl FnOnce(&mut Option<V>) -> R) -> (R, Option<Removed<K, V>>) {
        let now = self.lifetime.now();
        let Some(mut part) = self.part(&key) else { return (change(&mut None), None) };
        let known = part.entries.remove(&key).inspect(|_| _ = self.length.fetch_sub(1, Ordering::Relaxed));
        let (expired, known) = known.map_or((None, None), |entry| match self.lifetime.is_over(&entry, now) {
            true => (Some(entry.value), None),
            false => (None, Some(entry.value)),
        });
        let mut value = known;
        let result = change(&mut value);
        let added = value.map(|value| part.add(key, Entry { value, since: now }, self.lifetime));
        drop(part);
        let evicted = added.and_then(|()| self.make_room(&key));
        let expired = expired.map(|value| Removed { key, value, cause: RemovalCause::Expired });
        (result, expired.or(evicted))
    }

    /// All entries, in no particular order. This does not count as a use of any of them.
    pub(super) fn entries(&self) -> Vec<(K, V)>
    where
        V: Clone,
    {
        let now = self.lifetime.now();
        let mut entries = Vec::new();
        for part in &self.parts {
            let part = lock(part);
            let present = part.entries.iter().filter(|(_, entry)| !self.lifetime.is_over(entry, now));
            entries.extend(present.map(|(key, entry)| (*key, entry.value.clone())));
        }
        entries
    }

    /// Removes and returns the entries whose lifetime is over.
    pub(super) fn expire(&self) -> Vec<(K, V)> {
        let mut expired = Vec::new();
        let Some(now) = self.lifetime.now() else { return expired };
        for part in &self.parts {
            let mut part = lock(part);
            if part.next_look.is_some_and(|next| next <= now) {
                part.expire(self.lifetime, now, &mut expired);
            }
        }
        self.length.fetch_sub(expired.len() as u64, Ordering::Relaxed);
        expired
    }

    /// Counts a new entry, and removes another one if there is one too many. It comes from the part of `key`, unless that part
    /// has no other.
    fn make_room(&self, key: &K) -> Option<Removed<K, V>> {
        if self.length.fetch_add(1, Ordering::Relaxed) < self.capacity {
            return None;
        }
        let own = self.position_of_part(key);
        let (key, entry) = (0..self.parts.len()).find_map(|step| {
            let mut part = lock(self.parts.get((own + step) % self.parts.len())?);
            let new_ones = usize::from(step == 0);
            if part.entries.len() > new_ones { part.entries.remove_lru() } else { None }
        })?;
        self.length.fetch_sub(1, Ordering::Relaxed);
        let is_over = self.lifetime.is_over(&entry, self.lifetime.now());
        let cause = if is_over { RemovalCause::Expired } else { RemovalCause::Capacity };
        Some(Removed { key, value: entry.value, cause })
    }

    fn part(&self, key: &K) -> Option<MutexGuard<'_, Part<K, V>>> {
        self.parts.get(self.position_of_part(key)).map(lock)
    }

    fn position_of_part(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % self.parts.len()
    }
}

impl<K: Copy + Eq + Hash, V> Part<K, V> {
    fn add(&mut self, key: K, entry: Entry<V>, lifetime: Lifetime) {
        self.next_look = self.next_look.or_else(|| lifetime.end(&entry));
        self.entries.insert(key, entry);
    }

    fn expire(&mut self, lifetime: Lifetime, now: Instant, expired: &mut Vec<(K, V)>) {
        let is_over = |(_, entry): &(&K, &Entry<V>)| lifetime.is_over(entry, Some(now));
        let keys: Vec<K> = self.entries.iter().filter(is_over).map(|(key, _)| *key).collect();
        expired.extend(keys.into_iter().filter_map(|key| Some((key, self.entries.remove(&key)?.value))));
        let next_end = self.entries.iter().filter_map(|(_, entry)| lifetime.end(entry)).min();
        let delayed = now.checked_add(lifetime.span().unwrap_or_default() / DELAY);
        self.next_look = next_end.max(delayed.filter(|_| next_end.is_some()));
    }
}

impl Lifetime {
    fn span(self) -> Option<Duration> {
        match self {
            Self::Unlimited => None,
            Self::SinceWritten(span) | Self::SinceUsed(span) => Some(span),
        }
    }

    /// The present instant. `None` if no entry expires, so that the clock need not be read.
    fn now(self) -> Option<Instant> {
        self.span().map(|_| Instant::now())
    }

    fn end<V>(self, entry: &Entry<V>) -> Option<Instant> {
        entry.since?.checked_add(self.span()?)
    }

    fn is_over<V>(self, entry: &Entry<V>, now: Option<Instant>) -> bool {
        self.end(entry).zip(now).is_some_and(|(end, now)| end <= now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(map: &Lru<u32, u32>) -> Vec<u32> {
        let mut keys: Vec<_> = map.entries().into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    fn made_room(key: u32) -> Option<Removed<u32, u32>> {
        Some(Removed { key, value: key * 10, cause: RemovalCause::Capacity })
    }

    #[test]
    fn the_entry_that_was_used_least_recently_makes_room() {
        let map = Lru::new(3, Lifetime::Unlimited);
        for key in [1, 2, 3] {
            assert_eq!(map.insert(key, key * 10), None);
        }
        assert_eq!(map.get(&1), Some(10));
        assert!(map.contains(&2), "that is no use");
        assert_eq!(map.insert(4, 40), made_room(2));
        map.change(3, |value| *value = value.map(|value| value + 1));
        assert_eq!(map.insert(5, 50), made_room(1));
        assert_eq!((keys(&map), map.get(&3)), (vec![3, 4, 5], Some(31)));
    }

    #[test]
    fn what_was_removed_leaves_room() {
        let map = Lru::new(3, Lifetime::Unlimited);
        for key in 1..=3 {
            map.insert(key, key * 10);
        }
        assert_eq!((map.remove(2), map.remove(2)), (Some(20), None));
        assert_eq!((map.insert(4, 40), map.insert(5, 50)), (None, made_room(1)));
        assert_eq!((map.remove(5), map.remove(4), map.remove(3)), (Some(50), Some(40), Some(30)));
        assert!(keys(&map).is_empty());
        assert_eq!((map.insert(6, 60), map.get(&6)), (None, Some(60)));
    }

    #[test]
    fn a_map_of_any_size_has_no_more_entries_than_it_may_and_keeps_the_new_one() {
        for capacity in [1, 2, MIN_DIVIDED - 1, MIN_DIVIDED, 3 * MIN_DIVIDED] {
            let map = Lru::new(capacity, Lifetime::Unlimited);
            let mut removed = 0;
            for key in 0..capacity as u32 * 3 {
                removed += u64::from(map.insert(key, key).is_some());
                assert_eq!(map.get(&key), Some(key));
                assert!(map.length.load(Ordering::Relaxed) <= capacity);
            }
            assert_eq!((map.entries().len() as u64, removed), (capacity, capacity * 2));
        }
    }

    /// Against a list, the entry that was used last at its end.
    #[test]
    fn any_mixture_of_reads_and_changes_keeps_the_order() {
        let map = Lru::new(8, Lifetime::Unlimited);
        let (mut list, mut random) = (Vec::<(u32, u32)>::new(), 1_u32);
        for step in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (key, action) = ((random >> 16) % 14, (random >> 8) % 4);
            let known = list.iter().position(|(listed, _)| *listed == key).map(|at| list.remove(at));
            let expected = match action {
                0 => known.inspect(|entry| list.push(*entry)),
                1 => known.map(|_| (key, 0)).filter(|_| false),
                _ => Some((key, step)).inspect(|entry| list.push(*entry)),
            };
            let removed = match action {
                0 => {
                    assert_eq!(map.get(&key), expected.map(|(_, value)| value), "{step}");
                    None
                }
                1 => {
                    assert_eq!(map.remove(key), known.map(|(_, value)| value), "{step}");
                    None
                }
                _ => map.insert(key, step).map(|removed| (removed.key, removed.value)),
            };
            let evicted = (list.len() > 8).then(|| list.remove(0));
            assert_eq!(removed, evicted, "{step}");
        }
    }

    #[test]
    fn an_entry_expires_by_its_lifetime() {
        let over = Lifetime::SinceWritten(Duration::ZERO);
        for (lifetime, is_over) in
            [(Lifetime::Unlimited, false), (over, true), (Lifetime::SinceUsed(Duration::ZERO), true)]
        {
            let map = Lru::new(2, lifetime);
            map.insert(1, 10);
            assert_eq!((map.get(&1).is_none(), map.contains(&1)), (is_over, !is_over), "{lifetime:?}");
            assert_eq!(map.entries().is_empty(), is_over);
            assert_eq!(map.expire(), if is_over { vec![(1, 10)] } else { vec![] });
            assert_eq!(map.expire(), []);
            assert_eq!(map.length.load(Ordering::Relaxed), u64::from(!is_over));
        }
        let map = Lru::new(1, over);
        map.insert(1, 10);
        let expired = |key, value| Some(Removed { key, value, cause: RemovalCause::Expired });
        assert_eq!(map.insert(1, 11), expired(1, 10));
        assert_eq!(map.change(1, |value| value.take()), (None, expired(1, 11)));
        map.insert(2, 20);
        assert_eq!(map.insert(3, 30), expired(2, 20));
        let long = Lru::new(2, Lifetime::SinceUsed(Duration::from_secs(3600)));
        long.insert(1, 10);
        assert_eq!((long.get(&1), long.expire(), long.get(&1)), (Some(10), vec![], Some(10)));
    }

    #[test]
    fn a_part_without_another_entry_takes_the_room_of_others() {
        for part in [0, 2, 4, PARTS - 1] {
            let map = Lru::new(MIN_DIVIDED, Lifetime::Unlimited);
            let of_part = |part: usize| {
                let map = &map;
                (0_u32..).filter(move |key| map.position_of_part(key) == part)
            };
            let full: Vec<u32> = of_part(3).take(MIN_DIVIDED as usize).collect();
            full.iter().for_each(|key| assert_eq!(map.insert(*key, 0), None));
            let key = of_part(part).next().unwrap();
            assert_eq!(map.insert(key, 0).map(|removed| removed.key), Some(full[0]), "{part}");
            assert!(map.contains(&key), "{part}");
        }
    }

    #[test]
    fn expired_entries_are_looked_for_when_there_are_some_and_not_all_the_time() {
        let lifetime = Lifetime::SinceWritten(Duration::from_secs(DELAY.into()));
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut part = Part { entries: LruCache::new_unbounded(), next_look: None };
        for (key, millis) in [(1, 0), (2, 500), (3, 30_000)] {
            part.add(key, Entry { value: (), since: Some(after(millis)) }, lifetime);
        }
        for (now, expected, next) in [(64_000, 1, Some(65_000)), (65_000, 2, Some(94_000)), (94_000, 3, None)] {
            assert_eq!(part.next_look, Some(after(now)));
            let mut expired = Vec::new();
            part.expire(lifetime, after(now), &mut expired);
            assert_eq!((expired, part.next_look), (vec![(expected, ())], next.map(after)));
        }
    }

    #[test]
    fn only_a_use_prolongs_a_lifetime_since_the_last_use() {
        let hour = Duration::from_secs(3600);
        for (lifetime, prolongs) in [(Lifetime::SinceUsed(hour), true), (Lifetime::SinceWritten(hour), false)] {
            let map = Lru::new(2, lifetime);
            map.insert(1, 10);
            let since = |map: &Lru<u32, u32>| lock(&map.parts[0]).entries.peek(&1).unwrap().since.unwrap();
            let written = since(&map);
            while Instant::now() == written {}
            map.contains(&1);
            assert_eq!(since(&map), written);
            map.get(&1);
            assert_eq!(since(&map) > written, prolongs, "{lifetime:?}");
        }
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let map = Lru::new(100, Lifetime::Unlimited);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| _ = map.change(7, |value| *value.get_or_insert(0) += 1)));
            }
        });
        assert_eq!(map.get(&7), Some(4000));
    }
}
