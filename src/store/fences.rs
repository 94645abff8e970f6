//! What keeps an old event from reviving an ended preview.
//!
//! Two polls of one agent can be answered at the same time, one with a preview and the other with its end, and the
//! gateway may record them in either order. Two facts decide then:
//! - `eventGenTime` (newer releases): a preview that the platform made before an end that was just recorded is over.
//! - The session: what a poll shows that began before a sign-in was shown to the session before.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::moment::Moment;
use crate::preview::{AgentId, Timestamp};

/// How long the generation time of an end counts: far longer than two answers of one agent can overtake each other,
/// and short enough that a platform whose clock was set back does not lose previews for long.
const OVERTAKING_WINDOW: Duration = Duration::from_secs(5);

/// The fences of all agents.
pub(super) struct Fences(Cache<AgentId, Fence>);

/// The fence of one agent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fence {
    /// The latest `eventGenTime` of an end, and when that end was recorded.
    latest_end: Option<(u64, Timestamp)>,
    /// What polls show that began before this belongs to a session that is over.
    polls: Option<Moment>,
    /// What was pushed before this belongs to a session that is over.
    pushes: Option<Moment>,
    /// The agent signed out and has not signed in since.
    signed_out: Option<Moment>,
}

impl Fences {
    /// Remembers up to `max_agents` agents.
    pub(super) fn new(max_agents: u64) -> Self {
        Self(Cache::builder().max_capacity(max_agents).eviction_policy(EvictionPolicy::lru()).build())
    }

    /// The fence of `agent`, open if nothing is known.
    pub(super) fn of(&self, agent: AgentId) -> Fence {
        self.0.get(&agent).unwrap_or_default()
    }

    /// Replaces the fence of `agent`. The caller holds the agent's lock.
    pub(super) fn set(&self, agent: AgentId, fence: Fence) {
        self.0.insert(agent, fence);
    }

    /// Does the cache's pending housekeeping.
    pub(super) fn maintain(&self) {
        self.0.run_pending_tasks();
    }
}

impl Fence {
    /// An end was recorded at `now` that the platform made at `generated_at`.
    pub(super) fn note_end(&mut self, generated_at: u64, now: Timestamp) {
        let latest = self.latest_end.map_or(generated_at, |(known, _)| known.max(generated_at));
        self.latest_end = Some((latest, now));
    }

    /// Whether a recent end supersedes something that the platform made at `generated_at`. Within one millisecond the
    /// order is unknown, and the preview counts.
    pub(super) fn supersedes(&self, generated_at: u64, now: Timestamp) -> bool {
        self.latest_end
            .is_some_and(|(end, recorded_at)| generated_at < end && now.since(recorded_at) <= OVERTAKING_WINDOW)
    }

    /// A session is over: polls that began before `polls` and pushes that came before `pushes` were its own.
    pub(super) fn end_session(&mut self, polls: Moment, pushes: Moment) {
        self.polls = Some(polls);
        self.pushes = Some(pushes);
    }

    /// Whether a poll that began at `began` belongs to an earlier session.
    pub(super) fn is_earlier_poll(&self, began: Moment) -> bool {
        self.polls.is_some_and(|fence| began.is_before(fence))
    }

    /// Whether a push that came at `began` belongs to an earlier session.
    pub(super) fn is_earlier_push(&self, began: Moment) -> bool {
        self.pushes.is_some_and(|fence| began.is_before(fence))
    }

    /// The agent signed out at `moment`.
    pub(super) fn sign_out(&mut self, moment: Moment) {
        self.signed_out = Some(moment);
    }

    /// A request that began at `began` succeeded for the agent: the agent is signed in.
    pub(super) fn sign_in(&mut self, began: Moment) {
        if self.signed_out.is_some_and(|end| end.is_before(began)) {
            self.signed_out = None;
        }
    }

    /// Whether the agent signed out and has not signed in since.
    pub(super) fn is_signed_out(&self) -> bool {
        self.signed_out.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::ManualClock;
    use crate::store::moment::Sequence;

    #[test]
    fn an_end_supersedes_only_what_was_made_before_it() {
        let mut fence = Fence::default();
        assert!(!fence.supersedes(1000, Timestamp(1)));
        fence.note_end(1000, Timestamp(1));
        fence.note_end(900, Timestamp(2));
        assert!(fence.supersedes(999, Timestamp(3)));
        assert!(!fence.supersedes(1000, Timestamp(3)), "made in the same millisecond");
        assert!(!fence.supersedes(1001, Timestamp(3)));
        assert!(!fence.supersedes(999, Timestamp(5003)), "the window is over");
    }

    #[test]
    fn moments_of_one_millisecond_have_an_order() {
        let (sequence, clock) = (Sequence::default(), ManualClock::new(Timestamp(1)));
        let (first, second, third) = (sequence.next(&clock), sequence.next(&clock), sequence.next(&clock));
        let mut fence = Fence::default();
        fence.end_session(third, second);
        assert!(fence.is_earlier_poll(first) && fence.is_earlier_poll(second) && !fence.is_earlier_poll(third));
        assert!(fence.is_earlier_push(first) && !fence.is_earlier_push(second));
    }

    #[test]
    fn only_a_later_success_proves_that_the_agent_is_signed_in_again() {
        let (sequence, clock) = (Sequence::default(), ManualClock::new(Timestamp(1)));
        let mut fence = Fence::default();
        let before = sequence.next(&clock);
        fence.sign_out(sequence.next(&clock));
        fence.sign_in(before);
        assert!(fence.is_signed_out());
        fence.sign_in(sequence.next(&clock));
        assert!(!fence.is_signed_out());
    }
}
