//! Sign-ins by account: their push address is issued before the answer names the agent (docs/protocol.md 7).
//!
//! The time of issue identifies the sign-in, so no two addresses are issued at the same time. After a restart the gateway
//! does not know the agent of such an address any more; then the events in the push name the agent.

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::preview::{AgentId, Timestamp};

/// The agents of sign-ins by account, by the time at which their push addresses were issued.
pub struct AccountSignIns {
    agents: Cache<Timestamp, AgentId>,
}

impl AccountSignIns {
    /// Remembers up to `max_agents` sign-ins, the latest ones.
    pub fn new(max_agents: u64) -> Self {
        let agents = Cache::builder().max_capacity(max_agents).eviction_policy(EvictionPolicy::lru()).build();
        Self { agents }
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
    fn a_time_of_issue_leads_to_the_agent_of_its_answer() {
        let sign_ins = AccountSignIns::new(10);
        let agent = AgentId::try_from(101).unwrap();
        sign_ins.signed_in(Timestamp(6), agent);
        assert_eq!((sign_ins.agent(Timestamp(6)), sign_ins.agent(Timestamp(7))), (Some(agent), None));
    }
}
