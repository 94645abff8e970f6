//! Where previews that are over are reported: the debug log, and the audit log.

use std::sync::{Arc, OnceLock};

use super::preview_log::log_ended;
use crate::preview::{AgentId, Change, ControlId, Preview, ShownRef, Timestamp};

/// Learns which previews are over. It must not wait for anything: it is called while an agent's lock is held.
pub trait EndObserver: Send + Sync {
    /// A preview of `agent` is over. `shown` is where its announcements are recorded, as far as this gateway knows them.
    fn ended(&self, agent: AgentId, control_id: Option<ControlId>, shown: &[ShownRef], cause: &'static str);

    /// Previews of `agent` are over that only other gateways may know.
    fn ended_elsewhere(&self, agent: AgentId, scope: EndScope, cause: &'static str);
}

/// Which previews of an agent are over, whichever gateway showed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndScope {
    /// The one with this control ID.
    One(ControlId),
    /// All.
    All,
    /// Those that were shown before this time.
    Before(Timestamp),
}

impl EndScope {
    /// What `change` ends.
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Shown(_) | Change::Called(..) | Change::CallReturned(..) => None,
            Change::Cancelled(control_id) => Some(Self::One(*control_id)),
            Change::Ended => Some(Self::All),
            Change::EndedBefore(moment) => Some(Self::Before(*moment)),
        }
    }
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
        for preview in previews {
            log_ended(agent, preview.control_id, cause);
            if let Some(observer) = self.observer() {
                observer.ended(agent, Some(preview.control_id), &preview.shown, cause);
            }
        }
    }

    /// `change` ends these previews of `agent`. If other gateways share the previews, it may end some that only they know:
    /// all the others of this agent, or one that no event here has shown.
    pub(super) fn note(&self, agent: AgentId, ended: &[&Preview], change: &Change, cause: &'static str, shared: bool) {
        self.ended(agent, ended.iter().copied(), cause);
        let known_here = !ended.is_empty() && change.ended_preview().is_some();
        if let (Some(observer), Some(scope)) = (self.observer().filter(|_| shared && !known_here), EndScope::of(change))
        {
            observer.ended_elsewhere(agent, scope, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::preview::CallCount;

    #[derive(Default)]
    struct Observed(Mutex<Vec<String>>);

    impl EndObserver for Observed {
        fn ended(&self, _: AgentId, control_id: Option<ControlId>, shown: &[ShownRef], cause: &'static str) {
            self.0.lock().unwrap().push(format!("{:?} {} {cause}", control_id.map(|id| id.0), shown.len()));
        }

        fn ended_elsewhere(&self, _: AgentId, scope: EndScope, cause: &'static str) {
            self.0.lock().unwrap().push(format!("elsewhere {scope:?} {cause}"));
        }
    }

    /// What is observed when this change ends previews, of which `known` were shown here.
    fn observed(change: &Change, known: &[i64], shared: bool) -> Vec<String> {
        let (ends, observer) = (PreviewEnds::default(), Arc::new(Observed::default()));
        ends.observe(observer.clone());
        let preview = |id: &i64| Preview {
            control_id: ControlId(*id),
            numbers: Vec::new(),
            announced_at: Timestamp(1),
            shown: Vec::new(),
            calls: CallCount::default(),
        };
        let known: Vec<_> = known.iter().map(preview).collect();
        ends.note(AgentId::try_from(101).unwrap(), &known.iter().collect::<Vec<_>>(), change, "cause", shared);
        std::mem::take(&mut *observer.0.lock().unwrap())
    }

    #[test]
    fn with_a_shared_store_an_end_counts_for_what_other_gateways_showed() {
        let (one, all, before) = (Change::Cancelled(ControlId(7)), Change::Ended, Change::EndedBefore(Timestamp(9)));
        for (change, known, expected) in [
            (&one, &[][..], &["elsewhere One(ControlId(7)) cause"][..]),
            (&one, &[7], &["Some(7) 0 cause"]),
            (&all, &[], &["elsewhere All cause"]),
            // Other gateways may have shown more of this agent.
            (&all, &[7], &["Some(7) 0 cause", "elsewhere All cause"]),
            (&before, &[7], &["Some(7) 0 cause", "elsewhere Before(Timestamp(9)) cause"]),
        ] {
            assert_eq!(observed(change, known, true), expected, "{change:?} {known:?}");
            let alone: Vec<_> = expected.iter().filter(|end| !end.starts_with("elsewhere")).collect();
            assert_eq!(observed(change, known, false).iter().collect::<Vec<_>>(), alone, "{change:?} {known:?}");
        }
    }
}
