//! What is in force right now, and can be replaced while connections stay open.
//!
//! A reload makes a new [`Generation`] and puts it in place in one step. A request is handled from its first byte to
//! its last by the generation that was in force when it began; the next request on the same connection finds the new
//! one. Previews, metrics and the load belong to no generation and outlive them all.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use crate::gateway::Gateway;
use crate::upstream::{Client, Upstream};

/// Everything that follows from one configuration and the files that it names.
pub struct Generation {
    /// The data path under this configuration.
    pub gateway: Arc<Gateway>,
    /// Endpoints, their health, and TLS towards them.
    pub upstream: Arc<Upstream>,
    /// TLS towards the clients, or plain HTTP.
    pub acceptor: Option<TlsAcceptor>,
}

/// The place of the generation in force. Clones share it.
#[derive(Clone)]
pub struct Live(Arc<ArcSwap<Generation>>);

impl Live {
    /// Begins with `first`.
    pub fn new(first: Generation) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The generation in force.
    pub fn generation(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// Puts `next` in force.
    pub fn replace(&self, next: Generation) {
        self.0.store(Arc::new(next));
    }

    /// Whether `generation` is still in force.
    fn is(&self, generation: &Arc<Generation>) -> bool {
        Arc::ptr_eq(&self.0.load(), generation)
    }
}

/// One worker's view: the generation in force, and this worker's connections to its upstream.
pub struct WorkerView {
    live: Live,
    present: Mutex<View>,
}

/// A generation and a client of its upstream.
#[derive(Clone)]
pub struct View {
    /// The generation.
    pub generation: Arc<Generation>,
    /// This worker's way to that generation's upstream.
    pub client: Arc<Client>,
}

impl WorkerView {
    /// The view of one worker.
    pub fn new(live: Live) -> Self {
        let present = Mutex::new(View::of(live.generation()));
        Self { live, present }
    }

    /// The present view. After a reload the old client is let go: its idle connections close, and those in use when
    /// their answers are complete.
    pub fn now(&self) -> View {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.live.is(&present.generation) {
            present.client.retire();
            *present = View::of(self.live.generation());
        }
        present.clone()
    }

    /// Whether `view` is out of date.
    pub fn is_stale(&self, view: &View) -> bool {
        !self.live.is(&view.generation)
    }
}

impl View {
    fn of(generation: Arc<Generation>) -> Self {
        let client = Arc::new(Client::new(Arc::clone(&generation.upstream)));
        Self { generation, client }
    }
}
