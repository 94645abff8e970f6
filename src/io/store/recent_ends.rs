//! What ended the previews of each agent lately, for operators who ask why a callout was refused.
//!
//! No decision depends on it. It is bounded twice: by agents, and by ends of one agent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::label_enum;
use crate::preview::{AgentId, ControlId, Timestamp};
use crate::telemetry::metrics::DropCause;

/// Ends that are remembered of one agent.
const MAX_ENDS: usize = 8;
/// Agents share the locks, so that their number is bounded.
const SHARDS: usize = 64;
/// Agents that are remembered under one lock: 8,192 in all, about 3 MiB.
const MAX_AGENTS: usize = 128;

label_enum! {
    /// Why previews ended, as debug lines and the flight recorder name it.
    pub enum EndCause {
        /// The platform released the preview.
        Released = "released",
        /// The platform logged the agent out (`AgentOther_ShutdownService`).
        ShutDown = "shut_down",
        /// The agent signed in: a new session.
        SignedIn = "signed_in",
        /// The agent signed out, or was signed out.
        SignedOut = "signed_out",
        /// The application gave the preview back (`cancelPreviewCallout`).
        Cancelled = "cancelled",
        /// The platform answered that the agent has no session (100-006, 100-008).
        NoSession = "no_session",
        /// A request that may have ended previews has an unknown outcome.
        UnknownOutcome = "unknown_outcome",
    }
}

/// Why a preview is gone, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneCause {
    /// It has ended.
    Ended(EndCause),
    /// It was over before it was recorded.
    Dropped(DropCause),
    /// `previews.per_agent` was reached.
    MadeRoom,
    /// Another gateway that shares the previews has seen its end.
    Elsewhere,
}

impl GoneCause {
    /// The word for records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended(cause) => cause.as_str(),
            Self::Dropped(cause) => cause.as_str(),
            Self::MadeRoom => "made_room",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The end of a preview, or of an agent's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentEnd {
    /// The preview; none for a session that ended without a known preview, and for previews that made room for others.
    pub control_id: Option<ControlId>,
    /// The cause.
    pub cause: GoneCause,
    /// When the gateway learnt of it.
    pub at: Timestamp,
}

/// The recent ends of all agents.
pub(super) struct RecentEnds(Vec<Mutex<Shard>>);

type Shard = HashMap<AgentId, VecDeque<RecentEnd>>;

impl RecentEnds {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(Mutex::default).take(SHARDS).collect())
    }

    /// Remembers an end. The oldest end of the same agent makes room, or the agent whose last end is the oldest.
    pub(super) fn note(&self, agent: AgentId, end: RecentEnd) {
        let Some(mut shard) = self.shard(agent) else { return };
        if shard.len() >= MAX_AGENTS && !shard.contains_key(&agent) {
            let last = |ends: &VecDeque<RecentEnd>| ends.back().map(|end| end.at);
            let oldest = shard.iter().min_by_key(|(_, ends)| last(ends)).map(|(agent, _)| *agent);
            oldest.and_then(|agent| shard.remove(&agent));
        }
        let ends = shard.entry(agent).or_default();
        if ends.len() == MAX_ENDS {
            ends.pop_front();
        }
        ends.push_back(end);
    }

    /// What ended lately for this agent, the newest first.
    pub(super) fn of(&self, agent: AgentId) -> Vec<RecentEnd> {
        let Some(shard) = self.shard(agent) else { return Vec::new() };
        shard.get(&agent).map(|ends| ends.iter().rev().copied().collect()).unwrap_or_default()
    }

    fn shard(&self, agent: AgentId) -> Option<std::sync::MutexGuard<'_, Shard>> {
        let shard = self.0.get(agent.as_u32() as usize % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(number: i64) -> RecentEnd {
        let cause = GoneCause::Ended(EndCause::Released);
        RecentEnd { control_id: Some(ControlId(number)), cause, at: Timestamp(number.unsigned_abs()) }
    }

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    #[test]
    fn the_newest_ends_of_an_agent_stay() {
        let ends = RecentEnds::new();
        (0..20).for_each(|number| ends.note(agent(101), end(number)));
        let kept: Vec<_> = ends.of(agent(101)).iter().map(|end| end.at.0).collect();
        assert_eq!(kept, [19, 18, 17, 16, 15, 14, 13, 12]);
        assert!(ends.of(agent(102)).is_empty());
    }

    #[test]
    fn the_number_of_agents_is_bounded_and_the_newest_stay() {
        let ends = RecentEnds::new();
        (101..=10_000).for_each(|number| ends.note(agent(number), end(i64::from(number))));
        let kept: usize = ends.0.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(kept, SHARDS * MAX_AGENTS);
        assert_eq!(ends.of(agent(10_000)).len(), 1);
        assert!(ends.of(agent(101)).is_empty());
    }

    /// Records have had these words from the beginning.
    #[test]
    fn each_cause_has_a_word_of_its_own() {
        let ended = EndCause::ALL.iter().copied().map(GoneCause::Ended);
        let dropped = DropCause::ALL.iter().copied().map(GoneCause::Dropped);
        let all = ended.chain(dropped).chain([GoneCause::MadeRoom, GoneCause::Elsewhere]);
        let words: Vec<_> = all.map(GoneCause::as_str).collect();
        let expected = "released shut_down signed_in signed_out cancelled no_session unknown_outcome \
                        outdated earlier_session failed_answer made_room elsewhere";
        assert_eq!(words.join(" "), expected);
    }
}
