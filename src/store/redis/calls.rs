//! A call is counted in the step that swaps the agent's state: of two gateways that count at the same time, one swaps first,
//! and the other judges again by what it then finds.

use std::sync::Arc;

use super::record::{SessionRelation, TimedChange};
use super::{ATTEMPTS, Failure, SharedStore, Swap};
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
        let _lock = self.write_lock(agent)?.lock().await;
        self.flush_locked(agent).await?;
        let mut stored = self.fetch(agent).await?;
        let (change, at) = (Some(Change::Called(control_id, call.clone())), call.at);
        let timed = TimedChange { change, learnt: None, at, session: SessionRelation::Any, late: false };
        for _ in 0..ATTEMPTS {
            let known = self.record(&stored)?;
            let mut record = self.beginning(agent, &stored).unwrap_or(known);
            // What came since the flush is judged by, and written by whoever brought it.
            let mut present = record.clone();
            present.apply_all(&self.outbox.of(agent), self.bounds);
            if !judge(&Arc::new(present.previews)) {
                return Ok(false);
            }
            record.apply_all(std::slice::from_ref(&timed), self.bounds);
            match self.replace(agent, &stored, &record, false).await? {
                Swap::Done => return Ok(true),
                Swap::Lost(present) => stored = present,
            }
        }
        Err(Failure::Conflict)
    }
}
