//! Ends of previews: each is applied once, and then reported to the operators and to the audit log.

use smallvec::smallvec;

use super::Ledger;
use crate::preview::{AgentId, Change, Clock, Preview};
use crate::store::found_ends::FoundEnd;
use crate::store::recent_ends::{EndCause, GoneCause, RecentEnd};
use crate::store::redis::SessionRelation;

impl Ledger {
    /// Applies an end that is no event. The caller holds the agent's lock.
    pub(super) fn apply_end(&self, agent: AgentId, change: Change, cause: EndCause, session: SessionRelation) {
        let known = self.local.previews(agent);
        let known = known.iter().flat_map(|known| known.iter());
        let ended = known.filter(|known| change.ends(known)).cloned().collect();
        self.apply(agent, smallvec![change.clone()], session);
        self.note_ends(agent, [FoundEnd { change, cause, ended }]);
    }

    /// Reports ends that are applied already.
    pub(super) fn note_ends(&self, agent: AgentId, ends: impl IntoIterator<Item = FoundEnd>) {
        for FoundEnd { change, cause, ended } in ends {
            self.note_end(agent, &ended.iter().collect::<Vec<_>>(), &change, cause);
        }
    }

    /// Remembers each preview that `change` has ended. A session that ends without a preview is remembered too. This comes
    /// after the change: no callout is judged by what the audit log says is over.
    fn note_end(&self, agent: AgentId, ended: &[&Preview], change: &Change, cause: EndCause) {
        let (at, gone) = (self.time.now(), GoneCause::Ended(cause));
        let note = |control_id| self.recent_ends.note(agent, RecentEnd { control_id, cause: gone, at });
        self.local.ends().note(agent, ended, change, cause.as_str(), self.is_shared());
        if ended.is_empty() {
            note(change.ended_preview());
        }
        for preview in ended {
            note(Some(preview.control_id));
        }
    }
}
