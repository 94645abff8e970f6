//! The state of the simulated platform: sessions, queued events, and previews that agents were shown.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::config::{AuthMode, SimulatorConfig};
use super::events::{EventShape, Meaning};
use super::failure::Failure;
use super::offer::Offer;
use super::telephone::{Call, Caused, Telephone};
use crate::config::CallPlan;
use crate::preview::AgentId;

/// The way in which a session gets its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The application polls.
    Poll,
    /// POSTs of `eventList` to the `callBackUri`, with the `service_token` (docs/protocol.md 6.3).
    Push {
        /// `callBackUri`
        uri: String,
        /// `serviceToken`
        token: String,
    },
    /// POSTs of one envelope each to the `pushUrl` (docs/protocol.md 6.4).
    PushUrl {
        /// `pushUrl`
        uri: String,
    },
}

impl Delivery {
    /// The text on the page and in the control interface.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Poll => "polls",
            Self::Push { .. } => "gets pushes (callBackUri)",
            Self::PushUrl { .. } => "gets pushes (pushUrl)",
        }
    }
}

/// An answer to a poll, byte for byte.
pub(super) struct RawAnswer {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// What the next poll of an agent gets.
pub(super) enum Next {
    Event(Value),
    Raw(RawAnswer),
}

/// A session that was just opened.
pub(super) struct Opened {
    pub(super) guid: String,
    /// Identifies the session. A GUID does not, because it may be renewed.
    pub(super) serial: u64,
}

#[derive(Default)]
struct Agent {
    serial: u64,
    session: Option<Session>,
    queue: VecDeque<Value>,
    raw: VecDeque<RawAnswer>,
    wake: Arc<Notify>,
    delivered: u64,
}

struct Session {
    guid: String,
    /// Still valid after a renewal: a request may have been under way.
    earlier_guid: Option<String>,
    polls: u32,
    last_seen: Instant,
    shown: Vec<(String, Vec<String>)>,
    delivery: Delivery,
    telephone: Telephone,
    /// The course of the agent's next calls; `None` for that of the simulator.
    plan: Option<CallPlan>,
    /// The contact that a campaign offers.
    offer: Option<Offer>,
}

/// The calls and the state of an agent.
pub(super) struct Activity {
    pub(super) calls: Vec<Call>,
    pub(super) busy: bool,
}

/// All agents. Every operation is one short critical section.
pub(super) struct Agents {
    book: Mutex<HashMap<AgentId, Agent>>,
    /// Wakes the polls of all agents at once.
    pub(super) any_wake: Notify,
    /// Sent to when sessions, calls or offers change.
    changes: watch::Sender<()>,
    shape: EventShape,
    node: String,
    auth: AuthMode,
    idle_sign_out: Duration,
}

impl Agents {
    pub(super) fn new(config: &SimulatorConfig) -> Self {
        Self {
            book: Mutex::default(),
            any_wake: Notify::new(),
            changes: watch::Sender::new(()),
            shape: config.events.clone(),
            node: config.node.clone(),
            auth: config.auth,
            idle_sign_out: config.idle_sign_out,
        }
    }

    /// Opens a session. Events that were injected before any session stay queued. Events of a session that it replaces are
    /// dropped.
    pub(super) fn sign_in(&self, agent: AgentId, force: bool, delivery: Delivery) -> Result<Opened, Failure> {
        let mut book = self.live(agent);
        let agent = book.entry(agent).or_default();
        if agent.session.is_some() && !force {
            return Err(Failure::SignedInAlready);
        }
        if agent.session.is_some() {
            // These events were for the session that ends.
            agent.queue.clear();
            agent.raw.clear();
        }
        let guid = self.new_guid();
        agent.serial += 1;
        agent.session = Some(Session {
            guid: guid.clone(),
            earlier_guid: None,
            polls: 0,
            last_seen: Instant::now(),
            shown: Vec::new(),
            delivery,
            telephone: Telephone::default(),
            plan: None,
            offer: None,
        });
        agent.wake.notify_waiters(); // ends a poll of the earlier session
        self.changes.send_replace(());
        Ok(Opened { guid, serial: agent.serial })
    }

    pub(super) fn sign_out(&self, agent: AgentId) {
        if let Some(agent) = self.lock().get_mut(&agent) {
            agent.sign_out();
            self.changes.send_replace(());
        }
    }

    /// Ends this session, if it is not over yet.
    pub(super) fn sign_out_session(&self, agent: AgentId, serial: u64) {
        if let Some(agent) = self.lock().get_mut(&agent).filter(|agent| agent.serial == serial) {
            agent.sign_out();
            self.changes.send_replace(());
        }
    }

    /// Whether this agent is signed in with this GUID. The agent counts as active.
    pub(super) fn check(&self, agent: AgentId, guid: Option<&str>) -> Result<(), Failure> {
        let mut book = self.live(agent);
        let session = book.get_mut(&agent).and_then(|agent| agent.session.as_mut()).ok_or(Failure::NotSignedIn)?;
        let known = guid.is_some_and(|guid| guid == session.guid || session.earlier_guid.as_deref() == Some(guid));
        if !known {
            return Err(Failure::NoPermission);
        }
        session.last_seen = Instant::now();
        Ok(())
    }

    /// Whether any signed-in agent has this GUID.
    pub(super) fn check_any(&self, guid: Option<&str>) -> Result<(), Failure> {
        let book = self.lock();
        let mut sessions = book.values().filter_map(|agent| agent.session.as_ref());
        if sessions.any(|session| guid == Some(session.guid.as_str())) { Ok(()) } else { Err(Failure::NoPermission) }
    }

    /// A new GUID if one is due under dynamic authentication (docs/protocol.md 2).
    pub(super) fn renewed_guid(&self, agent: AgentId) -> Option<String> {
        let AuthMode::Dynamic { every } = self.auth else { return None };
        let mut book = self.lock();
        let session = book.get_mut(&agent)?.session.as_mut()?;
        session.polls += 1;
        if session.polls < every {
            return None;
        }
        session.polls = 0;
        let guid = self.new_guid();
        session.earlier_guid = Some(std::mem::replace(&mut session.guid, guid.clone()));
        Some(guid)
    }

    /// Queues an event and wakes the polls that wait for it.
    pub(super) fn inject(&self, agent: AgentId, event: Value) {
        let mut book = self.lock();
        let agent = book.entry(agent).or_default();
        agent.queue.push_back(event);
        agent.wake.notify_waiters();
        self.any_wake.notify_waiters();
    }

    pub(super) fn inject_raw(&self, agent: AgentId, answer: RawAnswer) {
        let mut book = self.lock();
        let agent = book.entry(agent).or_default();
        agent.raw.push_back(answer);
        agent.wake.notify_waiters();
    }

    /// Notified when something changes for this agent.
    pub(super) fn wake_of(&self, agent: AgentId) -> Arc<Notify> {
        self.lock().entry(agent).or_default().wake.clone()
    }

    /// Takes the content of the next poll of this agent. It counts as shown from here on.
    pub(super) fn next(&self, agent: AgentId) -> Option<Next> {
        let mut book = self.lock();
        let agent = book.get_mut(&agent)?;
        match agent.raw.pop_front() {
            Some(raw) => Some(Next::Raw(raw)),
            None => agent.deliver_one().map(Next::Event),
        }
    }

    /// Takes all events that wait for this agent, oldest first.
    pub(super) fn take_all(&self, agent: AgentId) -> Vec<Value> {
        self.lock().get_mut(&agent).map(Agent::deliver_all).unwrap_or_default()
    }

    /// Takes all events that wait for agents that poll.
    pub(super) fn take_all_of_all_agents(&self) -> Vec<Value> {
        let mut book = self.lock();
        book.values_mut().filter(|agent| agent.polls()).flat_map(Agent::deliver_all).collect()
    }

    /// Records a preview as shown.
    pub(super) fn show(&self, agent: AgentId, control_id: String, numbers: Vec<String>) {
        let mut book = self.lock();
        if let Some(session) = book.get_mut(&agent).and_then(|agent| agent.session.as_mut()) {
            session.shown.push((control_id, numbers));
        }
    }

    /// The previews that this agent was shown in its session: control IDs and numbers.
    pub(super) fn previews(&self, agent: AgentId) -> Vec<(String, Vec<String>)> {
        let book = self.lock();
        let session = book.get(&agent).and_then(|agent| agent.session.as_ref());
        session.map(|session| session.shown.clone()).unwrap_or_default()
    }

    /// Whether this agent was shown this number under this control ID.
    pub(super) fn was_shown(&self, agent: AgentId, control_id: &str, number: &str) -> bool {
        let book = self.lock();
        let session = book.get(&agent).and_then(|agent| agent.session.as_ref());
        session.is_some_and(|session| {
            session.shown.iter().any(|(id, numbers)| id == control_id && numbers.iter().any(|n| n == number))
        })
    }

    /// Cancels a preview. Returns false if it was never shown.
    pub(super) fn cancel(&self, agent: AgentId, control_id: &str) -> bool {
        let mut book = self.lock();
        let Some(session) = book.get_mut(&agent).and_then(|agent| agent.session.as_mut()) else { return false };
        let before = session.shown.len();
        session.shown.retain(|(id, _)| id != control_id);
        session.offer.iter_mut().for_each(|offer| offer.cancelled(control_id));
        self.changes.send_replace(());
        session.shown.len() < before
    }

    /// Changes the telephone of an agent who is signed in, and queues the events that this causes.
    pub(super) fn with_telephone<T>(
        &self,
        id: AgentId,
        act: impl FnOnce(&mut Telephone) -> Result<(T, Caused), Failure>,
    ) -> Result<T, Failure> {
        let mut book = self.lock();
        let agent = book.get_mut(&id).ok_or(Failure::NotSignedIn)?;
        let session = agent.session.as_mut().ok_or(Failure::NotSignedIn)?;
        let (value, caused) = act(&mut session.telephone)?;
        if let Some(offer) = &mut session.offer {
            offer.follow(session.telephone.calls(), &caused);
        }
        let events = caused.iter().map(|(event_type, content)| self.shape.event(id, event_type, content));
        agent.queue.extend(events);
        agent.wake.notify_waiters();
        self.any_wake.notify_waiters();
        self.changes.send_replace(());
        Ok(value)
    }

    /// The calls and the state of this agent; `None` when it is not signed in.
    pub(super) fn activity(&self, agent: AgentId) -> Option<Activity> {
        let book = self.lock();
        let telephone = &book.get(&agent)?.session.as_ref()?.telephone;
        Some(Activity { calls: telephone.calls().to_vec(), busy: telephone.is_busy() })
    }

    /// The course of the next calls of this agent, if one was set.
    pub(super) fn plan(&self, agent: AgentId) -> Option<CallPlan> {
        self.lock().get(&agent)?.session.as_ref()?.plan
    }

    /// Sets the course of the next calls of this agent. Returns false if it is not signed in.
    pub(super) fn set_plan(&self, agent: AgentId, plan: CallPlan) -> bool {
        self.with_session(agent, |session| session.plan = Some(plan)).is_some()
    }

    /// A campaign offers a contact. Returns the session's number, or `None` if the agent is not signed in.
    pub(super) fn offer(&self, agent: AgentId, offer: Offer, plan: CallPlan) -> Option<u64> {
        self.with_session(agent, |session| (session.offer, session.plan) = (Some(offer), Some(plan)))?;
        self.lock().get(&agent).map(|agent| agent.serial)
    }

    /// Whether the contact that this session was offered is over; true if the session is.
    pub(super) fn offer_is_over(&self, agent: AgentId, serial: u64) -> bool {
        let book = self.lock();
        let session = book.get(&agent).filter(|agent| agent.serial == serial).and_then(|agent| agent.session.as_ref());
        session.and_then(|session| session.offer.as_ref()).is_none_or(Offer::is_over)
    }

    /// Whether this agent can be shown a contact: signed in, not busy and not in a call.
    pub(super) fn is_available(&self, agent: AgentId) -> bool {
        self.activity(agent).is_some_and(|activity| activity.calls.is_empty() && !activity.busy)
    }

    /// Waits until the condition holds. It is checked again whenever a session, a call or an offer changes.
    pub(super) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(self) && changes.changed().await.is_ok() {}
    }

    fn with_session<T>(&self, agent: AgentId, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let value = self.lock().get_mut(&agent)?.session.as_mut().map(act);
        self.changes.send_replace(());
        value
    }

    /// The present GUID; `None` when the agent is not signed in.
    pub(super) fn guid(&self, agent: AgentId) -> Option<String> {
        self.lock().get(&agent)?.session.as_ref().map(|session| session.guid.clone())
    }

    /// The present GUID of this session; `None` when it is over.
    pub(super) fn guid_of_session(&self, agent: AgentId, serial: u64) -> Option<String> {
        let book = self.lock();
        let agent = book.get(&agent).filter(|agent| agent.serial == serial)?;
        agent.session.as_ref().map(|session| session.guid.clone())
    }

    /// The way in which the present session gets its events.
    pub(super) fn delivery(&self, agent: AgentId) -> Option<Delivery> {
        self.lock().get(&agent)?.session.as_ref().map(|session| session.delivery.clone())
    }

    pub(super) fn signed_in(&self) -> Vec<AgentId> {
        let book = self.lock();
        let mut agents: Vec<_> = book.iter().filter(|(_, agent)| agent.session.is_some()).map(|(id, _)| *id).collect();
        agents.sort_unstable();
        agents
    }

    pub(super) fn delivered(&self, agent: AgentId) -> u64 {
        self.lock().get(&agent).map_or(0, |agent| agent.delivered)
    }

    pub(super) fn waiting(&self, agent: AgentId) -> usize {
        self.lock().get(&agent).map_or(0, |agent| agent.queue.len() + agent.raw.len())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Agent>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All agents, after this one was signed out if it has been silent for too long.
    fn live(&self, agent: AgentId) -> MutexGuard<'_, HashMap<AgentId, Agent>> {
        let mut book = self.lock();
        if let Some(agent) = book.get_mut(&agent) {
            let idle = agent.session.as_ref().is_some_and(|s| s.last_seen.elapsed() > self.idle_sign_out);
            if idle {
                agent.sign_out();
            }
        }
        book
    }

    fn new_guid(&self) -> String {
        format!("{}.{}", uuid(), self.node)
    }
}

impl Agent {
    fn sign_out(&mut self) {
        self.session = None;
        self.queue.clear();
        self.raw.clear();
        self.wake.notify_waiters();
    }

    fn polls(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.delivery == Delivery::Poll)
    }

    fn deliver_all(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.deliver_one()).collect()
    }

    fn deliver_one(&mut self) -> Option<Value> {
        let event = self.queue.pop_front()?;
        self.delivered += 1;
        match (Meaning::of(&event), self.session.as_mut()) {
            (Meaning::Shown { control_id, numbers }, Some(session)) => session.shown.push((control_id, numbers)),
            (Meaning::Released, Some(session)) => session.shown.clear(),
            (Meaning::SignedOut, _) => self.sign_out(),
            _ => {}
        }
        Some(event)
    }
}

/// A random UUID (version 4).
pub(super) fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    // This cannot fail with the system's generator. All zeros would be predictable, but still a valid UUID.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default()).join("-")
}
