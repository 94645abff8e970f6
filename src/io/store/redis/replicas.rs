//! What this gateway knows of all agents, whichever gateway has seen it: the fallback while Redis is away, what a Redis that
//! lost its memory gets back, and the tag that lets most writes do with one round trip.

use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::record::Record;
use crate::preview::{AgentId, Bounds, Timestamp};

/// The replicas of all agents.
pub(super) struct Replicas {
    agents: Cache<AgentId, Arc<Replica>>,
    bounds: Bounds,
    lifetime: Duration,
}

/// One agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    /// Everything in the state that Redis had under this tag is in the record. Empty: Redis knew nothing.
    pub(super) tag: String,
    pub(super) record: Record,
}

impl Replica {
    /// Redis has `record` under `tag`. What was known stays known.
    pub(super) fn learn(&mut self, tag: &str, record: &Record, bounds: Bounds) {
        tag.clone_into(&mut self.tag);
        self.record.merge(record);
        self.record.bound(bounds);
    }
}

impl Replicas {
    /// Remembers up to `max_agents` agents, each for `lifetime` after its last change.
    pub(super) fn new(max_agents: u64, bounds: Bounds, lifetime: Duration) -> Self {
        let cache = Cache::builder().max_capacity(max_agents).eviction_policy(EvictionPolicy::lru());
        Self { agents: cache.time_to_live(lifetime).build(), bounds, lifetime }
    }

    pub(super) fn of(&self, agent: AgentId) -> Option<Arc<Replica>> {
        self.agents.get(&agent)
    }

    /// Redis has `record` under `tag`. Returns what is known now.
    pub(super) fn learn(&self, agent: AgentId, tag: &str, record: &Record, now: Timestamp) -> Arc<Replica> {
        let mut learnt = Arc::default();
        self.agents.entry(agent).and_compute_with(|known| {
            if let Some(known) = known.as_ref().map(|entry| entry.value())
                && known.tag == tag
                && known.record == *record
            {
                learnt = Arc::clone(known);
                return Op::Nop;
            }
            let mut replica = known.map(|entry| Replica::clone(entry.value())).unwrap_or_default();
            replica.learn(tag, record, self.bounds);
            replica.record.expire(now, self.lifetime);
            learnt = Arc::new(replica);
            Op::Put(Arc::clone(&learnt))
        });
        learnt
    }

    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.agents.iter().map(|(agent, _)| *agent).collect()
    }

    /// The number of agents, as of the last housekeeping.
    pub(super) fn len(&self) -> u64 {
        self.agents.entry_count()
    }

    /// Does the cache's pending housekeeping.
    pub(super) fn maintain(&self) {
        self.agents.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{SessionRelation, TimedChange};
    use super::*;
    use crate::preview::Change;

    #[test]
    fn what_was_learnt_once_stays_whatever_redis_says_later() {
        let bounds = Bounds { per_agent: 4 };
        let replicas = Replicas::new(100, bounds, Duration::from_secs(60));
        let (agent, at) = (AgentId::try_from(101).unwrap(), Timestamp(5));
        let ended = TimedChange::new(Change::Ended, at, SessionRelation::Any);
        let mut record = Record::default();
        record.apply_all(&[ended], bounds);
        replicas.learn(agent, "a", &record, at);
        let known = replicas.learn(agent, "", &Record::default(), at);
        assert_eq!((known.tag.as_str(), &known.record), ("", &record));
    }
}
