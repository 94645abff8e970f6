//! Previews in this process: a bounded map, least recently used agents forgotten first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use super::lru::{Lifetime, Lru, RemovalCause, Removed};
use super::preview_ends::PreviewEnds;
use crate::config::Previews;
use crate::preview::{AgentId, AgentPreviews, Bounds, Change, Preview, Surplus, Timestamp};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::EvictionCause;

/// For each change what was not kept.
pub(super) type Surpluses = SmallVec<[Surplus; 1]>;

/// The previews of all agents, in memory.
///
/// Freshness is judged by `preview::decide`; the cache's own expiry is hygiene and comes later, so that a callout of
/// an expired preview is refused as expired and not as unknown.
pub struct MemoryStore {
    agents: Lru<AgentId, Arc<AgentPreviews>>,
    bounds: Bounds,
    cached: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    ends: PreviewEnds,
}

impl MemoryStore {
    /// An empty store. The number of previews in it is read from `metrics` at each scrape.
    pub fn new(config: &Previews, metrics: Arc<Metrics>) -> Self {
        let cached = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cached);
        metrics.previews.cached_from(move || counted.load(Ordering::Relaxed));
        Self {
            agents: Lru::new(config.max_agents, Lifetime::SinceWritten(config.ttl.saturating_mul(2))),
            bounds: Bounds { per_agent: config.per_agent },
            cached,
            metrics,
            ends: PreviewEnds::default(),
        }
    }

    /// What `agent` was shown, as of now. Later changes do not alter what is returned: a callout is judged by the
    /// previews of one instant.
    pub fn previews(&self, agent: AgentId) -> Option<Arc<AgentPreviews>> {
        self.agents.get(&agent)
    }

    /// How many previews there are.
    pub fn count(&self) -> u64 {
        self.cached.load(Ordering::Relaxed)
    }

    /// Applies changes of one agent that were seen at `now`, in order, as one step: two polls of an agent that are answered at
    /// the same time cannot lose each other's previews. Returns for each change what was not kept.
    pub fn apply(&self, agent: AgentId, changes: impl IntoIterator<Item = Change>, now: Timestamp) -> Surpluses {
        let mut evicted = Vec::new();
        let surpluses: Surpluses = self.change(agent, |previews| {
            let apply = |change| previews.apply_and_collect(change, now, self.bounds, &mut evicted);
            changes.into_iter().map(apply).collect()
        });
        for surplus in &surpluses {
            self.metrics.previews.surplus(surplus);
        }
        self.ends.ended(agent, &evicted, EvictionCause::PerAgent.as_str());
        surpluses
    }

    /// The bounds of each agent's previews.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Who learns which previews are over.
    pub(super) fn ends(&self) -> &PreviewEnds {
        &self.ends
    }

    /// Every agent with previews, as of about now, in no particular order. Does not count as a use of any of them.
    pub fn agents(&self) -> Vec<(AgentId, Arc<AgentPreviews>)> {
        self.agents.entries()
    }

    /// Puts back what `agent` was shown before the process began, oldest first, each preview with its own time.
    pub fn restore(&self, agent: AgentId, shown: impl IntoIterator<Item = Preview>) {
        let mut restored = AgentPreviews::default();
        for preview in shown {
            self.metrics.previews.surplus(&restored.restore(preview, self.bounds));
        }
        if !restored.is_empty() {
            self.change(agent, |previews| *previews = restored);
        }
    }

    /// Gives every preview a new time, by a clock that was set.
    pub(super) fn redate(&self, today: impl Fn(Timestamp) -> Timestamp) {
        for (agent, _) in self.agents() {
            self.change(agent, |previews| previews.redate(&today));
        }
    }

    /// Changes what `agent` was shown, as one step. Whoever has read it before keeps what it has read.
    fn change<R>(&self, agent: AgentId, change: impl FnOnce(&mut AgentPreviews) -> R) -> R {
        let (result, removed) = self.agents.change(agent, |previews| {
            let before = previews.as_ref().map_or(0, |previews| previews.len());
            let changed = Arc::make_mut(previews.get_or_insert_default());
            let result = change(changed);
            // Before others can see them, and forget them.
            self.cached.fetch_add(changed.len() as u64, Ordering::Relaxed);
            self.cached.fetch_sub(before as u64, Ordering::Relaxed);
            if changed.is_empty() {
                *previews = None;
            }
            result
        });
        if let Some(Removed { key, value, cause }) = removed {
            self.forget(key, &value, cause);
        }
        result
    }

    /// The map has removed the previews of an agent by itself.
    fn forget(&self, agent: AgentId, previews: &AgentPreviews, cause: RemovalCause) {
        let count = previews.len() as u64;
        self.cached.fetch_sub(count, Ordering::Relaxed);
        let cause = match cause {
            RemovalCause::Capacity => EvictionCause::Capacity,
            RemovalCause::Expired => EvictionCause::Expired,
        };
        self.metrics.previews.evicted(cause, count);
        self.ends.ended(agent, previews.iter(), cause.as_str());
    }

    /// Forgets the previews that nobody needs any more. Called now and then from a thread of its own.
    pub fn maintain(&self) {
        for (agent, previews) in self.agents.expire() {
            self.forget(agent, &previews, RemovalCause::Expired);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreKind;
    use crate::preview::{
        Announcement, CallCount, ControlId, CountedCall, DialedNumber, RecordId, ShownNumber, ShownRef,
    };
    use std::time::Duration;

    fn store(per_agent: usize, max_agents: u64) -> (MemoryStore, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let ttl = Duration::from_secs(60);
        let snapshot_interval = Duration::from_secs(10);
        let store = StoreKind::Memory;
        let config = Previews {
            ttl,
            calls_per_number: 0,
            per_agent,
            max_agents,
            snapshot: None,
            snapshot_interval,
            session_key: None,
            store,
        };
        (MemoryStore::new(&config, Arc::clone(&metrics)), metrics)
    }

    const NOW: Timestamp = Timestamp(1000);

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    fn shown(control_id: i64) -> Change {
        Change::Shown(Announcement {
            control_id: ControlId(control_id),
            numbers: vec![DialedNumber::new("100")],
            shown: Vec::new(),
        })
    }

    #[test]
    fn what_was_read_does_not_change_under_the_reader() {
        let (store, _) = store(4, 100);
        store.apply(agent(101), [shown(1)], NOW);
        let before = store.previews(agent(101)).unwrap();
        store.apply(agent(101), [Change::Ended], NOW);
        assert_eq!(before.len(), 1);
        assert_eq!(store.previews(agent(101)), None);
        assert_eq!(store.previews(agent(102)), None);
    }

    #[test]
    fn the_newest_agent_always_finds_room() {
        let (store, metrics) = store(4, 50);
        for number in 101..=300 {
            store.apply(agent(number), [shown(1)], NOW);
            store.maintain();
            assert!(store.previews(agent(number)).is_some(), "agent {number}");
        }
        let text = metrics.encode();
        assert!(text.contains("previewgate_previews_evicted_total{cause=\"capacity\"} 150"), "{text}");
        assert!(text.contains("previewgate_previews_cached 50"), "{text}");
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let (store, metrics) = store(1024, 100);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || (0..100).for_each(|n| _ = store.apply(agent(101), [shown(thread * 100 + n)], NOW)));
            }
        });
        assert_eq!(store.previews(agent(101)).unwrap().len(), 400);
        store.maintain();
        assert!(metrics.encode().contains("previewgate_previews_cached 400"));
    }

    #[test]
    fn what_is_restored_is_bounded_and_counted_like_anything_else() {
        let (store, metrics) = store(2, 100);
        let preview = |id: i64| Preview {
            control_id: ControlId(id),
            numbers: vec![ShownNumber { number: DialedNumber::new("100"), shown_at: Timestamp(id as u64) }],
            announced_at: Timestamp(id as u64),
            shown: Vec::new(),
            calls: CallCount::default(),
        };
        store.restore(agent(101), [preview(1), preview(2), preview(3)]);
        store.restore(agent(102), []);
        let [(restored, previews)] = &store.agents()[..] else { panic!() };
        let times: Vec<_> = previews.iter().map(|preview| preview.announced_at.0).collect();
        assert_eq!((restored.as_u32(), &times[..]), (101, &[2, 3][..]));
        assert!(metrics.encode().contains("previewgate_previews_cached 2"));
        assert_eq!(store.count(), 2);
        store.apply(agent(101), [Change::Ended], NOW);
        store.maintain();
        assert!(metrics.encode().contains("previewgate_previews_cached 0"));
    }

    #[test]
    fn a_clock_that_was_set_changes_every_time_of_previews_and_of_changes() {
        let (store, _) = store(2, 100);
        let call = |at| CountedCall {
            number: DialedNumber::new("100"),
            id: RecordId { run: 1, number: 1 },
            at: Timestamp(at),
        };
        let preview = |by: u64| Preview {
            control_id: ControlId(1),
            numbers: vec![ShownNumber { number: DialedNumber::new("100"), shown_at: Timestamp(10 + by) }],
            announced_at: Timestamp(20 + by),
            shown: vec![ShownRef {
                at: Some(Timestamp(30 + by)),
                .."0000000000000001-1@2026-11:00000001".parse().unwrap()
            }],
            calls: [call(40 + by)].into_iter().collect(),
        };
        store.restore(agent(101), [preview(0)]);
        let later = |time: Timestamp| Timestamp(time.0 + 5);
        store.redate(later);
        assert_eq!(store.previews(agent(101)).unwrap().find(ControlId(1)), Some(&preview(5)));
        let changes = |by: u64| [Change::Called(ControlId(1), call(7 + by)), Change::EndedBefore(Timestamp(7 + by))];
        assert_eq!(changes(0).map(|change| change.redated(later)), changes(5));
    }

    #[test]
    fn what_one_agent_crowds_out_is_counted() {
        let (store, metrics) = store(2, 100);
        store.apply(agent(101), [shown(1), shown(2), shown(3)], NOW);
        assert!(metrics.encode().contains("previewgate_previews_evicted_total{cause=\"per_agent\"} 1"));
    }
}
