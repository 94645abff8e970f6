//! Sessions whose sign-in did not name the agent: the first request with their GUID shows whose they are.

use super::Ledger;
use crate::preview::{AgentId, Change};
use crate::store::moment::Moment;
use crate::store::recent_ends::EndCause;
use crate::store::redis::SessionRelation;

impl Ledger {
    /// A sign-in that began at `began` got this GUID, and its answer does not say for which agent. The first poll or push with
    /// it will.
    pub fn sign_in_of_unknown_agent(&self, guid: &[u8], began: Moment) {
        self.sessions.leave_unclaimed(guid, began);
    }

    /// If a session with this GUID began without its agent, `agent` is the one: what was shown before its sign-in is void.
    /// Returns the agent then.
    pub(super) fn claim_session(&self, agent: AgentId, guid: &[u8]) -> Option<AgentId> {
        let began = self.sessions.claim(guid)?;
        let _lock = self.lock(agent);
        let mut fence = self.fences.of(agent);
        fence.end_session(began, began);
        fence.sign_in(began);
        self.fences.set(agent, fence);
        let change = Change::EndedBefore(self.time.of(began));
        self.apply_end(agent, change, EndCause::SignedIn, SessionRelation::Begins(self.shared_fence(began, began)));
        let learnt = self.sessions.begin(agent, Some(guid));
        self.keep_session(agent, Some(guid), Some(learnt), SessionRelation::Any);
        Some(agent)
    }
}
