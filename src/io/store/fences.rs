//! What keeps an old event from reviving an ended preview.
//!
//! Two polls of one agent can be answered at the same time, one with a preview and the other with its end, and the
//! gateway may record them in either order. Two facts decide then:
//! - `eventGenTime` (newer releases): a preview that the platform made before an end that was just recorded is over.
//! - The session: what a poll shows that began before a sign-in was shown to the session before.

use std::time::Duration;

use super::lru::{Lifetime, Lru};
use super::moment::Moment;
use crate::preview::{AgentId, ControlId, Timestamp};

/// How long the generation time of an end counts: far longer than two answers of one agent can overtake each other,
/// and short enough that a platform whose clock was set back does not lose previews for long.
const OVERTAKING_WINDOW: Duration = Duration::from_secs(5);

/// The fences of all agents.
pub(super) struct Fences(Lru<AgentId, Fence>);

/// Ends of single previews that are remembered. One agent has few previews at a time.
const MAX_SINGLE_ENDS: usize = 16;

/// The fence of one agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence {
    /// The latest end of all previews that has a generation time.
    latest_end: Option<TimedEnd>,
    /// The same for ends of single previews, the oldest first.
    single_ends: Vec<(ControlId, TimedEnd)>,
    /// What polls show that began before this belongs to a session that is over.
    polls: Option<Moment>,
    /// What was pushed before this belongs to a session that is over.
    pushes: Option<Moment>,
    /// Push addresses that were issued before this belong to a session that is over.
    push_addresses: Option<Timestamp>,
    /// The agent signed out and has not signed in since.
    signed_out: Option<Moment>,
}

/// An end that has a generation time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimedEnd {
    /// When the platform made it (`eventGenTime`).
    pub(super) generated_at: u64,
    /// When this gateway recorded it.
    pub(super) recorded_at: Timestamp,
}

impl Fences {
    /// Remembers up to `max_agents` agents.
    pub(super) fn new(max_agents: u64) -> Self {
        Self(Lru::new(max_agents, Lifetime::Unlimited))
    }

    /// The fence of `agent`, open if nothing is known.
    pub(super) fn of(&self, agent: AgentId) -> Fence {
        self.0.get(&agent).unwrap_or_default()
    }

    /// Replaces the fence of `agent`. The caller holds the agent's lock.
    pub(super) fn set(&self, agent: AgentId, fence: Fence) {
        self.0.insert(agent, fence);
    }
}

impl TimedEnd {
    /// This end, with the generation time of `earlier` if that is later.
    fn after(self, earlier: Option<TimedEnd>) -> Self {
        let generated_at = earlier.map_or(self.generated_at, |earlier| self.generated_at.max(earlier.generated_at));
        Self { generated_at, ..self }
    }

    /// Within one millisecond the order is unknown, and the preview counts.
    fn supersedes(&self, generated_at: u64, now: Timestamp) -> bool {
        // A clock that was set back shows a time before the end: then it is not known how long ago that was.
        let ago = now.since(self.recorded_at).max(self.recorded_at.since(now));
        generated_at < self.generated_at && ago <= OVERTAKING_WINDOW
    }
}

impl Fence {
    /// An end was recorded: of this preview, or of all previews.
    pub(super) fn note_end(&mut self, control_id: Option<ControlId>, end: TimedEnd) {
        let Some(control_id) = control_id else {
            self.latest_end = Some(end.after(self.latest_end));
            return;
        };
        let known = self.single_ends.iter().position(|(id, _)| *id == control_id);
        let known = known.map(|position| self.single_ends.remove(position).1);
        self.single_ends.push((control_id, end.after(known)));
        let surplus = self.single_ends.len().saturating_sub(MAX_SINGLE_ENDS);
        self.single_ends.drain(..surplus);
    }

    /// Whether a recent end supersedes a preview that the platform made at `generated_at`.
    pub(super) fn supersedes(&self, control_id: ControlId, generated_at: u64, now: Timestamp) -> bool {
        let single = self.single_ends.iter().filter(|(id, _)| *id == control_id).map(|(_, end)| end);
        self.latest_end.iter().chain(single).any(|end| end.supersedes(generated_at, now))
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

    /// The agent signed out at `moment`. `issued` is a time after the issue of each push address of the session.
    pub(super) fn sign_out(&mut self, moment: Moment, issued: Timestamp) {
        self.signed_out = Some(moment);
        self.end_push_addresses(issued);
    }

    /// Push addresses that were issued before `issued` are over.
    pub(super) fn end_push_addresses(&mut self, issued: Timestamp) {
        self.push_addresses = Some(issued);
    }

    /// A request that began at `began` succeeded for the agent: the agent is signed in.
    pub(super) fn sign_in(&mut self, began: Moment) {
        if self.signed_out.is_some_and(|end| end.is_before(began)) {
            self.signed_out = None;
        }
    }

    /// Whether the session of a push address that was issued at `issued` is over.
    pub(super) fn is_over(&self, issued: Timestamp) -> bool {
        self.push_addresses.is_some_and(|fence| issued < fence)
    }

    /// Whether the agent signed out and has not signed in since.
    pub(super) fn is_signed_out(&self) -> bool {
        self.signed_out.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::preview::ManualClock;
    use crate::store::common_clock::CommonClock;
    use crate::store::moment::LedgerTime;

    fn time() -> LedgerTime {
        LedgerTime::new(Arc::new(CommonClock::new(Arc::new(ManualClock::new(Timestamp(1))))))
    }

    fn end(generated_at: u64, recorded_at: u64) -> TimedEnd {
        TimedEnd { generated_at, recorded_at: Timestamp(recorded_at) }
    }

    const ONE: ControlId = ControlId(1);

    #[test]
    fn each_agent_has_a_fence_of_its_own_and_their_number_is_bounded() {
        let (fences, time) = (Fences::new(10), time());
        let agent = |number: u32| AgentId::try_from(number).unwrap();
        for number in 101..=200 {
            let mut fence = fences.of(agent(number));
            assert!(!fence.is_signed_out(), "{number}");
            fence.sign_out(time.moment(), Timestamp(1));
            fences.set(agent(number), fence);
            assert!(fences.of(agent(number)).is_signed_out(), "{number}");
        }
        assert_eq!(fences.0.entries().len(), 10);
    }

    #[test]
    fn an_end_supersedes_only_what_was_made_before_it() {
        let mut fence = Fence::default();
        assert!(!fence.supersedes(ONE, 1000, Timestamp(1)));
        fence.note_end(None, end(1000, 1));
        fence.note_end(None, end(900, 2));
        assert!(fence.supersedes(ONE, 999, Timestamp(3)));
        assert!(!fence.supersedes(ONE, 1000, Timestamp(3)), "made in the same millisecond");
        assert!(!fence.supersedes(ONE, 1001, Timestamp(3)));
        assert!(!fence.supersedes(ONE, 999, Timestamp(5003)), "the window is over");
    }

    #[test]
    fn an_end_of_one_preview_supersedes_that_preview_only_and_few_are_remembered() {
        let mut fence = Fence::default();
        fence.note_end(Some(ONE), end(1000, 1));
        fence.note_end(Some(ONE), end(900, 1));
        assert!(fence.supersedes(ONE, 999, Timestamp(3)) && !fence.supersedes(ControlId(2), 999, Timestamp(3)));
        for id in 2..100 {
            fence.note_end(Some(ControlId(id)), end(1000, 1));
        }
        assert_eq!(fence.single_ends.len(), MAX_SINGLE_ENDS);
        assert!(fence.supersedes(ControlId(99), 999, Timestamp(3)));
    }

    #[test]
    fn moments_of_one_millisecond_have_an_order() {
        let time = time();
        let (first, second, third) = (time.moment(), time.moment(), time.moment());
        let mut fence = Fence::default();
        fence.end_session(third, second);
        assert!(fence.is_earlier_poll(first) && fence.is_earlier_poll(second) && !fence.is_earlier_poll(third));
        assert!(fence.is_earlier_push(first) && !fence.is_earlier_push(second));
    }

    #[test]
    fn a_push_address_is_over_when_its_session_is() {
        let time = time();
        let mut fence = Fence::default();
        assert!(!fence.is_over(Timestamp(0)));
        fence.end_push_addresses(Timestamp(5));
        assert!(fence.is_over(Timestamp(4)) && !fence.is_over(Timestamp(5)), "a sign-in that was issued at 5");
        fence.sign_out(time.moment(), Timestamp(6));
        assert!(fence.is_over(Timestamp(5)));
        fence.sign_in(time.moment());
        assert!(fence.is_over(Timestamp(5)), "a later success does not revive it");
    }

    #[test]
    fn only_a_later_success_proves_that_the_agent_is_signed_in_again() {
        let time = time();
        let mut fence = Fence::default();
        let before = time.moment();
        fence.sign_out(time.moment(), Timestamp(1));
        fence.sign_in(before);
        assert!(fence.is_signed_out());
        fence.sign_in(time.moment());
        assert!(!fence.is_signed_out());
    }
}
