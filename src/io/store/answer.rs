//! An answer or push with events: where it comes from, and what became of its events.

use smallvec::SmallVec;

use super::fences::Fence;
use super::moment::{LedgerTime, Moment};
use super::recent_ends::EndCause;
use super::redis::SessionRelation;
use crate::preview::{AgentId, Change, ControlId, Timestamp};
use crate::protocol::{Delivery, Event, EventType};
use crate::telemetry::metrics::DropCause;

/// Where events come from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The agent who was polled, or who signed in for the push. None for a poll of all agents.
    pub meant_for: Option<AgentId>,
    /// How the events arrived.
    pub delivery: Delivery,
    /// The `Guid` of the poll or of the push.
    pub session: Option<&'a [u8]>,
    /// When the poll began, or when the push arrived.
    pub began: Moment,
    /// When the events arrived, by the ledger's clock. The audit log has the same time, so that both judge alike.
    pub at: Timestamp,
}

/// What became of the events of one answer or push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Agents whose previews changed: to be passed to [`Ledger::share`](super::Ledger::share) before the client sees the answer.
    pub agents: SmallVec<[AgentId; 1]>,
    /// Events that could not be read, or that name no agent or the wrong one.
    pub unreadable: usize,
    /// Previews that were not recorded because they are over already.
    pub outdated: usize,
    /// What each event did, in the order of the events.
    pub outcomes: SmallVec<[Outcome; 1]>,
}

/// What one event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changes no preview.
    Irrelevant,
    /// It changes previews, but it is not clear whose.
    NoAgent,
    /// It ended this preview of the agent, or all of them.
    Ended(AgentId, Option<ControlId>),
    /// It showed a preview to this agent.
    Shown {
        /// The agent.
        agent: AgentId,
        /// Older previews of this agent that had to make room.
        evicted: usize,
    },
    /// It showed a preview that is over already.
    Dropped(AgentId, DropCause),
}

/// A change of one agent's previews, with what decides whether it still counts.
pub(super) struct Pending {
    pub(super) agent: AgentId,
    /// The position of the event in its answer.
    pub(super) position: usize,
    pub(super) event_type: EventType,
    pub(super) change: Change,
    pub(super) generated_at: Option<u64>,
}

impl Recorded {
    pub(super) fn note(&mut self, position: usize, outcome: Outcome) {
        if let Some(place) = self.outcomes.get_mut(position) {
            *place = outcome;
        }
    }

    pub(super) fn note_evicted(&mut self, position: usize, count: usize) {
        if let Some(Outcome::Shown { evicted, .. }) = self.outcomes.get_mut(position) {
            *evicted = count;
        }
    }
}

/// One answer or push, as far as it decides whether its previews count.
pub(super) struct Answer<'a> {
    pub(super) source: &'a Source<'a>,
    /// The `retcode` is a success, or absent as in pushes.
    pub(super) succeeded: bool,
}

impl Answer<'_> {
    /// Why a preview that this answer shows is not recorded, if there is a reason.
    pub(super) fn objection(
        &self,
        fence: &Fence,
        control_id: ControlId,
        generated_at: Option<u64>,
        now: Timestamp,
    ) -> Option<DropCause> {
        let began = self.source.began;
        let earlier_session = match self.source.delivery {
            Delivery::Poll | Delivery::PollAll => fence.is_earlier_poll(began),
            Delivery::Push | Delivery::PushUrl => fence.is_earlier_push(began),
        };
        if !self.succeeded {
            Some(DropCause::FailedAnswer)
        } else if earlier_session {
            Some(DropCause::EarlierSession)
        } else {
            let superseded = generated_at.is_some_and(|made| fence.supersedes(control_id, made, now));
            superseded.then_some(DropCause::Outdated)
        }
    }

    pub(super) fn session_relation(&self, time: &LedgerTime) -> SessionRelation {
        match self.source.delivery {
            Delivery::Poll | Delivery::PollAll => SessionRelation::PolledSince(time.of(self.source.began)),
            Delivery::Push | Delivery::PushUrl => SessionRelation::PushedAt(time.of(self.source.began)),
        }
    }
}

/// Whether an answer to a poll of `agent` shows a preview to the agent.
pub(super) fn shows_preview(events: &[Event], agent: AgentId) -> bool {
    let mut mine = events.iter().filter(|event| event.whose(Some(agent)).is_some());
    mine.any(|event| matches!(event.change, Some(Change::Shown(_))))
}

/// The agent that all events name.
pub(super) fn only_agent(events: &[Event]) -> Option<AgentId> {
    let mut agents = events.iter().map(|event| event.agent);
    let first = agents.next()??;
    agents.all(|agent| agent == Some(first)).then_some(first)
}

/// Why previews end that an event of this type ends.
pub(super) fn cause_of(event_type: EventType) -> EndCause {
    match event_type {
        EventType::ShutdownService => EndCause::ShutDown,
        EventType::Preview
        | EventType::PreviewCallOut
        | EventType::PreviewCallOutEx
        | EventType::ReleasePreview
        | EventType::Other => EndCause::Released,
    }
}
