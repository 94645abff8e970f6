//! The remote control of a simulator, for tests and the demo: it changes the platform and reads what arrived.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::agents::{Delivery, RawAnswer};
use super::contacts::CampaignProgress;
use super::journal::{JournalEntry, PushDelivery};
use super::misbehaviour::Misbehaviour;
use super::shared::Shared;
use crate::preview::{AgentId, ControlId};

/// Remote control and evidence of one simulator; cheap to clone, and readable after the simulator has stopped.
#[derive(Clone)]
pub struct SimulatorHandle(pub(super) Arc<Shared>);

impl std::fmt::Debug for SimulatorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatorHandle").finish_non_exhaustive()
    }
}

impl SimulatorHandle {
    /// Queues one event object; a held poll of this agent is answered with it at once.
    ///
    /// Without a session, the event waits for the next sign-in. A sign-out drops waiting events.
    pub fn inject(&self, agent: AgentId, event: Value) {
        self.0.agents.inject(agent, event);
    }

    /// Answers the next poll of this agent with exactly this body and these headers (`Content-Length` and `Date` are
    /// added where they are missing). The simulator does not look into it: see [`SimulatorHandle::shown`].
    pub fn inject_raw(&self, agent: AgentId, body: impl Into<Bytes>, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.0.agents.inject_raw(agent, RawAnswer { headers, body: body.into() });
    }

    /// Shows the agent a preview: `AgentEvent_Preview_CallOut`, or `…_Ex` for several numbers with commas.
    pub fn preview(&self, agent: AgentId, control_id: ControlId, numbers: &str) {
        self.inject(agent, self.0.config.events.preview(agent, control_id, numbers));
    }

    /// Ends the agent's preview: `AgentEvent_Release_Preview`.
    pub fn release(&self, agent: AgentId) {
        self.inject(agent, self.0.config.events.release(agent));
    }

    /// Counts this preview as shown without delivering anything.
    pub fn shown(&self, agent: AgentId, control_id: ControlId, numbers: &[&str]) {
        let numbers = numbers.iter().map(|number| (*number).to_owned()).collect();
        self.0.agents.show(agent, control_id.to_string(), numbers);
    }

    /// Opens a session of an agent that polls, in place of any earlier one, and returns the GUID.
    pub fn sign_in_directly(&self, agent: AgentId) -> String {
        self.0.agents.sign_in(agent, true, Delivery::Poll).map(|opened| opened.guid).unwrap_or_default()
    }

    /// Ends the agent's session. No client is notified.
    pub fn sign_out_directly(&self, agent: AgentId) {
        self.0.agents.sign_out(agent);
    }

    /// The agent's present GUID; `None` when it is not signed in.
    pub fn guid(&self, agent: AgentId) -> Option<String> {
        self.0.agents.guid(agent)
    }

    /// The way in which the agent's session gets its events.
    pub fn delivery(&self, agent: AgentId) -> Option<Delivery> {
        self.0.agents.delivery(agent)
    }

    /// Adds a rule; the oldest that matches a request comes first.
    pub fn misbehave(&self, rule: Misbehaviour) {
        self.0.rules.add(rule);
    }

    /// Removes all rules: no more misbehaviour.
    pub fn behave(&self) {
        self.0.rules.clear();
    }

    /// The progress of the campaign; `None` without one.
    pub fn campaign(&self) -> Option<CampaignProgress> {
        self.0.campaign.as_ref().map(|campaign| campaign.progress())
    }

    /// The requests that arrived, in the order in which they were read. If there were too many, only the newest.
    pub fn journal(&self) -> Vec<Arc<JournalEntry>> {
        self.0.journal.entries()
    }

    /// The requests that would make a telephone ring, in any spelling.
    pub fn callouts(&self) -> Vec<Arc<JournalEntry>> {
        self.journal().into_iter().filter(|entry| entry.is_callout()).collect()
    }

    /// Takes every request out of the journal, in the order of [`SimulatorHandle::journal`].
    pub fn take_journal(&self) -> Vec<Arc<JournalEntry>> {
        self.0.journal.take()
    }

    /// Empties the journal; [`SimulatorHandle::requests`] goes on counting.
    pub fn clear_journal(&self) {
        self.0.journal.clear();
    }

    /// The number of requests that have arrived.
    pub fn requests(&self) -> u64 {
        *self.0.journal.written.borrow()
    }

    /// Waits until this number of requests has arrived.
    pub async fn wait_for_requests(&self, count: u64) {
        reached(&self.0.journal.written, |&now| now >= count).await;
    }

    /// Polls that wait for an event at this moment.
    pub fn held_polls(&self) -> usize {
        *self.0.held_polls.borrow()
    }

    /// Waits until at least this number of polls is held.
    pub async fn wait_for_held_polls(&self, count: usize) {
        reached(&self.0.held_polls, |&now| now >= count).await;
    }

    /// Waits until no poll is held.
    pub async fn wait_for_no_held_poll(&self) {
        reached(&self.0.held_polls, |&now| now == 0).await;
    }

    /// Events that this agent got, by polling or by push.
    pub fn events_delivered(&self, agent: AgentId) -> u64 {
        self.0.agents.delivered(agent)
    }

    /// Events and raw answers that wait for this agent.
    pub fn events_waiting(&self, agent: AgentId) -> usize {
        self.0.agents.waiting(agent)
    }

    /// Every post to an application, in order of completion.
    pub fn pushes(&self) -> Vec<PushDelivery> {
        self.0.pushes.borrow().clone()
    }

    /// Waits until this number of posts has succeeded or failed.
    pub async fn wait_for_pushes(&self, count: usize) {
        reached(&self.0.pushes, |now| now.len() >= count).await;
    }

    /// Bytes of request bodies that have arrived, incomplete bodies included.
    pub fn body_bytes(&self) -> u64 {
        *self.0.body_bytes.borrow()
    }

    /// Waits until this number of bytes of request bodies has arrived. Proves that an upload is streamed.
    pub async fn wait_for_body_bytes(&self, count: u64) {
        reached(&self.0.body_bytes, |&now| now >= count).await;
    }

    /// The number of connections that were accepted.
    pub fn connections_accepted(&self) -> u64 {
        self.0.connections_accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn connections_open(&self) -> usize {
        *self.0.connections_open.borrow()
    }

    /// Waits until exactly this number of connections is open.
    pub async fn wait_for_connections_open(&self, count: usize) {
        reached(&self.0.connections_open, |&now| now == count).await;
    }
}

async fn reached<T>(value: &watch::Sender<T>, condition: impl FnMut(&T) -> bool) {
    // Cannot fail: the sender is borrowed for as long as this waits.
    let _ = value.subscribe().wait_for(condition).await;
}
