//! Who learns that previews are over: the audit log, which is told why.

use std::sync::{Arc, OnceLock};

use crate::preview::{AgentId, Change, ControlId, Preview, ShownRef};

/// Learns which previews are over. It must not wait for anything: it is called while an agent's lock is held.
pub trait EndObserver: Send + Sync {
    /// A preview of `agent` is over. `shown` is where its announcements are recorded, as far as this gateway knows them.
    /// Without a control ID it is every preview of the agent, whichever gateway showed it.
    fn ended(&self, agent: AgentId, control_id: Option<ControlId>, shown: &[ShownRef], cause: &'static str);
}

/// The observer, if there is one. Clones share it.
#[derive(Clone, Default)]
pub(super) struct PreviewEnds(Arc<OnceLock<Arc<dyn EndObserver>>>);

impl PreviewEnds {
    /// Sets the observer. Only the first one counts.
    pub(super) fn observe(&self, observer: Arc<dyn EndObserver>) {
        let _ = self.0.set(observer);
    }

    /// The observer.
    pub(super) fn observer(&self) -> Option<&dyn EndObserver> {
        self.0.get().map(|observer| &**observer)
    }

    /// These previews of `agent` are over.
    pub(super) fn ended<'p>(
        &self,
        agent: AgentId,
        previews: impl IntoIterator<Item = &'p Preview>,
        cause: &'static str,
    ) {
        if let Some(observer) = self.observer() {
            for preview in previews {
                observer.ended(agent, Some(preview.control_id), &preview.shown, cause);
            }
        }
    }

    /// `change` ends these previews of `agent`. If other gateways share the previews, it may end some that only they know.
    pub(super) fn note(&self, agent: AgentId, ended: &[&Preview], change: &Change, cause: &'static str, shared: bool) {
        match self.observer() {
            Some(observer) if ended.is_empty() && shared => {
                observer.ended(agent, change.ended_preview(), &[], cause);
            }
            _ => self.ended(agent, ended.iter().copied(), cause),
        }
    }

    /// `change` ends previews that the same answer shows: they are not known yet.
    pub(super) fn note_at_once(&self, agent: AgentId, earlier: &[Change], change: &Change, cause: &'static str) {
        let Some(observer) = self.observer() else { return };
        for earlier in earlier {
            if let Change::Shown(shown) = earlier
                && change.ended_preview().is_none_or(|ended| ended == shown.control_id)
            {
                observer.ended(agent, Some(shown.control_id), &shown.shown, cause);
            }
        }
    }
}
