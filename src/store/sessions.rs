//! Which session an agent's previews were shown to.
//!
//! "This agent is not signed in" (100-006, 100-008) voids an agent's previews (docs/protocol.md 7). Anybody can send a
//! request about any agent, and what CC-Gateway answers to the wrong GUID is not public. So only a request with the GUID
//! of the session that was shown the previews may void them by its answer: one agent cannot take another's away.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::preview::AgentId;

/// What is known about a GUID and an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionMatch {
    /// The GUID is one of the agent's current session.
    Own,
    /// The GUID is known, and belongs to this other agent.
    Other(AgentId),
    /// The agent's current session is known and has another GUID; it is not known whose this one is.
    NotOwn,
    /// Neither the agent's session nor the GUID is known. This is no proof that the GUID is the agent's own.
    Unknown,
}

impl SessionMatch {
    /// Whether the GUID is known not to be the agent's own.
    pub fn is_foreign(self) -> bool {
        match self {
            Self::Other(_) | Self::NotOwn => true,
            Self::Own | Self::Unknown => false,
        }
    }
}

/// The sessions of agents who have previews, by a keyed hash of their GUID. The GUID itself is never kept.
pub(super) struct Sessions {
    agents: Cache<AgentId, u64>,
    key: RandomState,
}

impl Sessions {
    /// Remembers `max_agents` agents, each for `memory` after its last poll.
    pub(super) fn new(max_agents: u64, memory: Duration) -> Self {
        let agents = Cache::builder()
            .max_capacity(max_agents)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(memory)
            .build();
        Self { agents, key: RandomState::new() }
    }

    /// A poll of `agent` with this GUID succeeded. `showed` says whether it showed a preview; polls of agents without
    /// previews are not remembered. With dynamic authentication the GUID changes now and then: the latest counts.
    pub(super) fn observe_poll(&self, agent: AgentId, guid: &[u8], showed: bool) {
        let hash = self.key.hash_one(guid);
        match self.agents.get(&agent) {
            Some(known) if known == hash && !showed => {}
            None if !showed => {}
            _ => self.agents.insert(agent, hash),
        }
    }

    /// The GUID is the agent's own from now on.
    pub(super) fn learn(&self, agent: AgentId, guid: &[u8]) {
        self.agents.insert(agent, self.key.hash_one(guid));
    }

    /// What is known about `guid` and `agent`.
    pub(super) fn compare(&self, guid: &[u8], agent: AgentId) -> SessionMatch {
        match self.agents.get(&agent) {
            Some(known) if known == self.key.hash_one(guid) => SessionMatch::Own,
            Some(_) => SessionMatch::NotOwn,
            None => SessionMatch::Unknown,
        }
    }

    /// Whether a request with this GUID can be believed to be the agent's own. Yes, if nothing is known: previews that
    /// were pushed or restored came without a session.
    pub(super) fn is_own(&self, agent: AgentId, guid: &[u8]) -> bool {
        self.agents.get(&agent).is_none_or(|known| known == self.key.hash_one(guid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_session_that_was_shown_previews_speaks_for_the_agent() {
        let sessions = Sessions::new(100, Duration::from_secs(60));
        let agent = AgentId::try_from(101).unwrap();
        sessions.observe_poll(agent, b"guid-1", false);
        assert!(sessions.is_own(agent, b"somebody"), "nothing was shown yet");
        sessions.observe_poll(agent, b"guid-1", true);
        assert!(sessions.is_own(agent, b"guid-1"));
        assert!(!sessions.is_own(agent, b"somebody"));
        sessions.observe_poll(agent, b"guid-2", false);
        assert!(sessions.is_own(agent, b"guid-2"));
        assert!(!sessions.is_own(agent, b"guid-1"), "dynamic authentication: the latest counts");
    }
}
