//! The generation in force, which a reload replaces while connections stay open.
//!
//! A request is handled from its first byte to its last by the generation that was in force when its head arrived. The
//! next request on the same connection finds the new one. Previews, metrics and the load belong to the services of the
//! process and outlive every generation.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::gateway::Generation;
use crate::upstream::Client;

/// The place of the generation in force. Clones share it.
#[derive(Clone)]
pub struct ActiveGeneration(Arc<Active>);

struct Active {
    generation: ArcSwap<Generation>,
    replaced: watch::Sender<()>,
}

impl ActiveGeneration {
    /// Begins with `first`.
    pub fn new(first: Generation) -> Self {
        Self(Arc::new(Active { generation: ArcSwap::from_pointee(first), replaced: watch::Sender::new(()) }))
    }

    /// The generation in force.
    pub fn current(&self) -> Arc<Generation> {
        self.0.generation.load_full()
    }

    /// Puts `next` in force.
    pub fn replace(&self, next: Generation) {
        self.0.generation.store(Arc::new(next));
        self.0.replaced.send_replace(());
    }

    /// Whether `generation` is still in force.
    fn is_current(&self, generation: &Arc<Generation>) -> bool {
        Arc::ptr_eq(&self.0.generation.load(), generation)
    }
}

/// One worker's share of the generation in force: the generation, and this worker's connections to its upstream.
pub struct WorkerGeneration {
    active: ActiveGeneration,
    state: Mutex<WorkerState>,
}

/// A generation and a client of its upstream.
#[derive(Clone)]
pub struct WorkerState {
    /// The generation.
    pub generation: Arc<Generation>,
    /// This worker's connections to the upstream of that generation.
    pub client: Arc<Client>,
}

impl WorkerGeneration {
    /// The share of one worker.
    pub fn new(active: ActiveGeneration) -> Self {
        let state = Mutex::new(WorkerState::of(active.current()));
        Self { active, state }
    }

    /// The current state. After a reload the old client is retired: its idle connections close at once, and those in
    /// use when their responses are complete.
    pub fn current(&self) -> WorkerState {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.active.is_current(&state.generation) {
            state.client.retire();
            *state = WorkerState::of(self.active.current());
        }
        state.clone()
    }

    /// Sees each replacement of the generation in force from now on.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.active.0.replaced.subscribe()
    }

    /// Whether `state` is out of date.
    pub fn is_stale(&self, state: &WorkerState) -> bool {
        !self.active.is_current(&state.generation)
    }
}

impl WorkerState {
    fn of(generation: Arc<Generation>) -> Self {
        let client = Arc::new(Client::new(Arc::clone(&generation.upstream)));
        Self { generation, client }
    }
}
