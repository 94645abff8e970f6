//! `previews.calls_per_number`: a callout is judged and counted in one step. Two callouts may come at once, at one gateway
//! or at two that share the previews; only one of them can be the last permitted call.

use std::sync::Arc;

use super::Ledger;
use crate::config::OnStoreFailure;
use crate::preview::{AgentId, AgentPreviews, Callout, Change, Clock, ControlId, CountedCall, RecordId};
use crate::store::Unavailable;
use crate::store::redis::{SessionRelation, TimedChange};
use crate::store::succession::CallAnswer;

/// Whether a callout counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It counts, and may be forwarded.
    Yes,
    /// The judge refused it.
    Refused,
    /// The process that takes over from this one has already forwarded the last permitted call.
    UsedElsewhere,
}

/// Decides whether a callout is forwarded. It may be called more than once, because previews can change in between. The
/// last result counts.
type Judge<'j> = dyn FnMut(&Arc<AgentPreviews>) -> bool + Send + 'j;

impl Ledger {
    /// Lets `judge` decide by the agent's previews of this instant, and counts the call that the callout named `id` makes if
    /// it agrees. When this returns, the count survives a crash.
    ///
    /// # Errors
    /// The shared store did not answer in time, and `on_store_failure` is not "local". A caller that forwards the callout
    /// nevertheless must count it with [`Self::count_unjudged`]; any other caller must give it back with
    /// [`Self::return_call`].
    pub async fn count_call(
        &self,
        agent: AgentId,
        callout: &Callout,
        id: RecordId,
        judge: &mut Judge<'_>,
    ) -> Result<Counted, Unavailable> {
        let (control_id, call) = (callout.control_id, &self.call(callout, id));
        let Some(shared) = &self.shared else { return self.count_here(agent, control_id, call, judge).await };
        match (Box::pin(shared.count(agent, control_id, call, judge)).await, shared.on_failure()) {
            (Ok(false), _) => Ok(Counted::Refused),
            (Ok(true), _) => {
                // Redis has counted it. It is also counted in memory, for times without Redis.
                self.change_here(agent, Change::Called(control_id, call.clone()));
                self.wait_for_journal().await;
                Ok(Counted::Yes)
            }
            (Err(_), OnStoreFailure::Local) => self.count_here(agent, control_id, call, judge).await,
            (Err(_), OnStoreFailure::Reject) => Err(Unavailable::Reject),
            (Err(_), OnStoreFailure::Forward) => Err(Unavailable::Forward),
        }
    }

    /// Counts a callout that is forwarded although the previews could not be read.
    pub async fn count_unjudged(&self, agent: AgentId, callout: &Callout, id: RecordId) {
        self.note_call(agent, callout, id);
        self.wait_for_journal().await;
    }

    /// Counts a callout that was forwarded.
    pub fn note_call(&self, agent: AgentId, callout: &Callout, id: RecordId) {
        let change = Change::Called(callout.control_id, self.call(callout, id));
        self.change_here(agent, change.clone());
        self.report_to_store(agent, change);
    }

    /// The call that the callout named `id` makes. It has the time of the ledger's clock, so that its order among the ends of
    /// sessions is right.
    fn call(&self, callout: &Callout, id: RecordId) -> CountedCall {
        CountedCall { number: callout.called.clone(), id, at: self.time.now() }
    }

    /// The call was certainly not sent: it does not count.
    pub async fn return_call(&self, agent: AgentId, control_id: ControlId, id: RecordId) {
        let change = Change::CallReturned(control_id, id);
        self.change_here(agent, change.clone());
        self.report_to_store(agent, change);
        // It ends nothing, so nothing is to be held back.
        let _ = self.share(&[agent]).await;
    }

    async fn count_here(
        &self,
        agent: AgentId,
        control_id: ControlId,
        call: &CountedCall,
        judge: &mut Judge<'_>,
    ) -> Result<Counted, Unavailable> {
        let number = {
            let _lock = self.lock(agent);
            let known = match &self.shared {
                // What other gateways have shown counts too, as in `look_up`.
                Some(shared) => Arc::new(shared.own(agent).previews),
                None => self.local.previews(agent).unwrap_or_default(),
            };
            if !judge(&known) {
                return Ok(Counted::Refused);
            }
            let change = Change::Called(control_id, call.clone());
            let at = self.time.now();
            self.apply_to_memory(agent, std::slice::from_ref(&change), at);
            self.report_to_store(agent, change.clone());
            let (change, at) = self.by_wall_clock(change, at);
            self.succession.load().as_ref().map(|succession| succession.add(agent, change, at))
        };
        self.wait_for_journal().await;
        let (Some(number), Some(succession)) = (number, self.succession.load_full()) else { return Ok(Counted::Yes) };
        let answer = Box::pin(succession.answer_about(number)).await;
        match answer {
            CallAnswer::Counted => Ok(Counted::Yes),
            CallAnswer::Used | CallAnswer::Unknown => {
                self.change_here(agent, Change::CallReturned(control_id, call.id));
                self.report_to_store(agent, Change::CallReturned(control_id, call.id));
                if answer == CallAnswer::Used { Ok(Counted::UsedElsewhere) } else { Err(Unavailable::Reject) }
            }
        }
    }

    /// Whether the process that takes over must refuse this call of the earlier one. The caller holds the agent's lock.
    pub(super) fn is_one_too_many(&self, agent: AgentId, control_id: ControlId, call: &CountedCall) -> bool {
        // With Redis, the decision was made there.
        if self.shared.is_some() {
            return false;
        }
        let known = self.local.previews(agent);
        let preview = known.as_ref().and_then(|known| known.find(control_id));
        preview.is_some_and(|preview| preview.calls.is_used(&call.number, self.calls_per_number))
    }

    /// Waits, for a limited time, until the appended entries of the journal survive this process.
    pub(super) async fn wait_for_journal(&self) {
        if let Some(journal) = self.journal.get() {
            journal.written().await;
        }
    }

    fn change_here(&self, agent: AgentId, change: Change) {
        let _lock = self.lock(agent);
        self.apply_here(agent, &[change], self.time.now());
    }

    fn report_to_store(&self, agent: AgentId, change: Change) {
        let Some(shared) = &self.shared else { return };
        shared.add(agent, [TimedChange::new(change, self.time.now(), SessionRelation::Any)]);
        shared.share_soon();
    }
}
