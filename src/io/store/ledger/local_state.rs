//! The state that belongs to this machine: memory, journal, and the process that takes over from this one.

use std::sync::Arc;

use super::Ledger;
use crate::preview::{AgentId, Announcement, Change, Clock, ControlId, Timestamp};
use crate::store::journal::Entry;
use crate::store::memory::Surpluses;
use crate::store::moment::Moment;
use crate::store::recent_ends::{GoneCause, RecentEnd};
use crate::store::redis::{SessionRelation, TimedChange};
use crate::store::succession::Succession;
use crate::telemetry::metrics::DropCause;

impl Ledger {
    /// Applies changes to everything that belongs to this machine: memory, journal, and the process that takes over.
    pub(super) fn apply_here(&self, agent: AgentId, changes: &[Change], at: Timestamp) -> Surpluses {
        let surplus = self.apply_to_memory(agent, changes, at);
        if let Some(succession) = &*self.succession.load() {
            changes.iter().for_each(|change| {
                let (change, at) = self.by_wall_clock(change.clone(), at);
                succession.add(agent, change, at);
            });
        }
        surplus
    }

    /// Applies changes to memory and journal.
    pub(super) fn apply_to_memory(&self, agent: AgentId, changes: &[Change], at: Timestamp) -> Surpluses {
        let surplus = self.local.apply(agent, changes.iter().cloned(), at);
        for _ in surplus.iter().filter(|surplus| surplus.previews > 0) {
            self.recent_ends.note(agent, RecentEnd { control_id: None, cause: GoneCause::MadeRoom, at });
        }
        // After the previews: an end in a journal that a snapshot does not need is in the previews of that snapshot.
        if let Some(journal) = self.journal.get() {
            changes.iter().filter_map(|change| Entry::of(agent, change, at)).for_each(|entry| journal.append(entry));
        }
        surplus
    }

    /// From now on each change also goes to the process that takes over; none any more with `None`.
    pub fn hand_on(&self, succession: Option<Succession>) {
        self.succession.store(succession.map(Arc::new));
    }

    /// Applies a change that the process made at `at` from which this one took over at `since`. The shared store has it
    /// already. A preview that was shown to an earlier session of the agent is not recorded. Returns false for a call that is
    /// one too many: this process has forwarded others meanwhile.
    pub fn adopt(&self, agent: AgentId, change: Change, at: Timestamp, since: Moment) -> bool {
        let _lock = self.lock(agent);
        if let Change::Called(control_id, call) = &change
            && self.is_one_too_many(agent, *control_id, call)
        {
            return false;
        }
        if !matches!(change, Change::Shown(_)) || !self.fences.of(agent).is_earlier_poll(since) {
            self.apply_here(agent, &[change], at.min(self.time.now()));
        }
        true
    }

    pub(super) fn note_dropped(&self, agent: AgentId, announcement: &Announcement, cause: DropCause) {
        self.metrics.previews.dropped(cause);
        let (control_id, at) = (announcement.control_id, self.time.now());
        self.recent_ends.note(agent, RecentEnd { control_id: Some(control_id), cause: GoneCause::Dropped(cause), at });
        if let Some(observer) = self.local.ends().observer() {
            observer.ended(agent, Some(control_id), &announcement.shown, cause.as_str());
        }
        tracing::debug!(
            target: "previewgate::previews",
            agent_id = agent.as_u32(), control_id = control_id.0, cause = cause.as_str(),
            "preview is not recorded: it is over already"
        );
    }

    /// The shared store says that a preview is over that this gateway has seen: another gateway has seen its end.
    pub(super) fn end_elsewhere(&self, agent: AgentId, control_id: ControlId) {
        let _lock = self.lock(agent);
        // It may have been shown again meanwhile.
        if self.shared.as_ref().is_none_or(|shared| shared.previews(agent).find(control_id).is_some()) {
            return;
        }
        let at = self.time.now();
        self.recent_ends.note(agent, RecentEnd { control_id: Some(control_id), cause: GoneCause::Elsewhere, at });
        self.apply_here(agent, &[Change::Cancelled(control_id)], at);
    }

    /// Ends from the journal of an earlier run, which the shared store may lack. `control_id` is none for all previews.
    pub(in crate::store) fn share_earlier_ends(
        &self,
        ends: impl IntoIterator<Item = (AgentId, Option<ControlId>, Timestamp)>,
    ) {
        let Some(shared) = &self.shared else { return };
        for (agent, control_id, at) in ends {
            let end = control_id.map_or(Change::Ended, Change::Cancelled);
            shared.add(agent, [TimedChange { late: true, ..TimedChange::new(end, at, SessionRelation::Any) }]);
        }
    }
}
