//! A call is counted in the step that swaps the agent's state: of two gateways that count at the same time, one swaps first,
//! and the other judges again by what it then finds.

use std::sync::Arc;

use super::record::{Record, SessionRelation, TimedChange};
use super::writing::{ATTEMPTS, Base, Swap};
use super::{Failure, SharedStore};
use crate::preview::{AgentId, AgentPreviews, Change, ControlId, CountedCall};
use crate::telemetry::metrics::StoreOperation;

impl SharedStore {
    /// Has `judge` decide by the previews of this instant, and counts the call if it agrees. Returns its last answer. A
    /// failure does not say that the call was not counted: the answer may be lost.
    pub(in crate::store) async fn count(
        &self,
        agent: AgentId,
        control_id: ControlId,
        call: &CountedCall,
        judge: &mut (dyn FnMut(&Arc<AgentPreviews>) -> bool + Send),
    ) -> Result<bool, Failure> {
        let counting = self.count_until_it_holds(agent, control_id, call, judge);
        let counted = tokio::time::timeout(self.settings.timeout, counting).await.unwrap_or(Err(Failure::Timeout));
        self.finished(StoreOperation::Write, counted.as_ref().err());
        counted
    }

    async fn count_until_it_holds(
        &self,
        agent: AgentId,
        control_id: ControlId,
        call: &CountedCall,
        judge: &mut (dyn FnMut(&Arc<AgentPreviews>) -> bool + Send),
    ) -> Result<bool, Failure> {
        let _lock = self.write_lock(agent).ok_or(Failure::NotConnected)?.lock().await;
        self.flush_locked(agent).await?;
        let timed = TimedChange::new(Change::Called(control_id, call.clone()), call.at, SessionRelation::Any);
        let mut stored = self.fetch(agent).await?;
        for _ in 0..ATTEMPTS {
            let mut record = self.record(&stored)?;
            record.merge(&self.replica(agent).1);
            // What came since the flush is judged by, and written by whoever brought it.
            if !judge(&Arc::new(self.judged(&record, stored.seen, agent))) {
                return Ok(false);
            }
            let base = Base { tag: stored.tag, record, verified: false };
            match self.swap(agent, &base, std::slice::from_ref(&timed)).await? {
                Swap::Done(tag, record) => {
                    self.remember(agent, &tag, &record);
                    self.note_contact();
                    return Ok(true);
                }
                Swap::Lost(present) => stored = present,
            }
        }
        Err(Failure::Conflict)
    }

    fn judged(&self, record: &Record, seen: bool, agent: AgentId) -> AgentPreviews {
        let mut present = record.clone();
        if self.is_strict() && !seen {
            present.forget_shown();
        }
        present.apply_all(&self.attempted(&self.outbox.of(agent)), self.bounds);
        present.previews(self.bounds)
    }
}
