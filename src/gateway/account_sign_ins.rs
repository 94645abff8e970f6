//! Sign-ins by account: their push address is issued before the answer names the agent (docs/protocol.md 7).
//!
//! The time of issue identifies the sign-in, so no two are issued at the same time. After a restart a push address does
//! not lead to its agent any more; the events in the push then name the agent.

use std::sync::atomic::{AtomicU64, Ordering};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::preview::{AgentId, Timestamp};

/// The agents of sign-ins by account, by the time at which their push addresses were issued.
pub struct AccountSignIns {
    agents: Cache<Timestamp, AgentId>,
    last: AtomicU64,
}

impl AccountSignIns {
    /// Remembers up to `max_agents` sign-ins, the latest ones.
    pub fn new(max_agents: u64) -> Self {
        let agents = Cache::builder().max_capacity(max_agents).eviction_policy(EvictionPolicy::lru()).build();
        Self { agents, last: AtomicU64::new(0) }
    }

    /// A time of issue that no other sign-in has: `now`, or the next that is free.
    pub(super) fn issue(&self, now: Timestamp) -> Timestamp {
        let next = |last: u64| Some(now.0.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(0);
        Timestamp(now.0.max(last.saturating_add(1)))
    }

    /// The answer to the sign-in names `agent`.
    pub(super) fn signed_in(&self, issued: Timestamp, agent: AgentId) {
        self.agents.insert(issued, agent);
    }

    /// The agent of a sign-in, if it is remembered.
    pub(super) fn agent(&self, issued: Timestamp) -> Option<AgentId> {
        self.agents.get(&issued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_in_has_a_time_of_its_own() {
        let sign_ins = AccountSignIns::new(10);
        let issued: Vec<_> = [5, 5, 5, 9, 8].map(|now| sign_ins.issue(Timestamp(now)).0).into();
        assert_eq!(issued, [5, 6, 7, 9, 10]);
        let agent = AgentId::try_from(101).unwrap();
        sign_ins.signed_in(Timestamp(6), agent);
        assert_eq!((sign_ins.agent(Timestamp(6)), sign_ins.agent(Timestamp(7))), (Some(agent), None));
    }
}
