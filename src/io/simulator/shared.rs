//! The state that all connections of one simulator share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::agents::Agents;
use super::config::SimulatorConfig;
use super::contacts::Contacts;
use super::journal::{Journal, PushDelivery};
use super::misbehaviour::Rules;
use crate::config::CallPlan;
use crate::preview::AgentId;

pub(super) struct Shared {
    pub(super) config: SimulatorConfig,
    pub(super) agents: Agents,
    pub(super) journal: Journal,
    pub(super) rules: Rules,
    pub(super) pushes: watch::Sender<Vec<PushDelivery>>,
    pub(super) connections_accepted: AtomicU64,
    pub(super) connections_open: watch::Sender<usize>,
    pub(super) held_polls: watch::Sender<usize>,
    pub(super) body_bytes: watch::Sender<u64>,
    /// The campaign, if there is one.
    pub(super) campaign: Option<Arc<Contacts>>,
    /// Closed when the simulator ends.
    pub(super) stop: watch::Receiver<()>,
    calls: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: SimulatorConfig, stop: watch::Receiver<()>) -> Arc<Self> {
        Arc::new(Self {
            agents: Agents::new(&config),
            journal: Journal::new(config.journal_entries),
            rules: Rules::default(),
            pushes: watch::Sender::new(Vec::new()),
            connections_accepted: AtomicU64::new(0),
            connections_open: watch::Sender::new(0),
            held_polls: watch::Sender::new(0),
            body_bytes: watch::Sender::new(0),
            campaign: config.campaign.clone().map(Contacts::new),
            stop,
            calls: AtomicU64::new(1000),
            config,
        })
    }

    /// Like `1455885056-1095`: seconds, then a running number.
    pub(super) fn new_call_id(&self) -> String {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("{seconds}-{}", self.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// The course of the agent's next calls: its own, or that of the simulator.
    pub(super) fn next_calls(&self, agent: AgentId) -> CallPlan {
        self.agents.plan(agent).unwrap_or(self.config.call)
    }

    /// Runs a task that ends with the simulator.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                _ = stop.changed() => {}
            }
        })
    }
}

/// Counts a poll as held until it is dropped.
pub(super) struct Held<'a>(&'a Shared);

impl<'a> Held<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        shared.held_polls.send_modify(|held| *held += 1);
        Self(shared)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held_polls.send_modify(|held| *held -= 1);
    }
}

/// Counts a connection as open until it is dropped.
pub(super) struct Open(pub(super) Arc<Shared>);

impl Open {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.connections_accepted.fetch_add(1, Ordering::Relaxed);
        shared.connections_open.send_modify(|open| *open += 1);
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.send_modify(|open| *open -= 1);
    }
}
