//! Where the previews of all agents are kept, shared by every worker. Outlives a connection, a session, a reload and,
//! with a [`snapshot`], the process.
//!
//! [`MemoryStore`] is this gateway's own memory, and always there. With `previews.store.kind = "redis"` every change also
//! goes to a Redis that several gateways share, and callouts are judged by what is in it.

mod memory;
mod recent_ends;
mod redis;
mod sessions;
pub mod snapshot;

use std::sync::Arc;

use self::redis::{Known, SharedStore};
use crate::config::{OnStoreFailure, Previews, StoreKind};
use crate::label_enum;
use crate::preview::{AgentId, AgentPreviews, Change, Clock};
use crate::telemetry::Metrics;

pub use memory::MemoryStore;
pub use recent_ends::RecentEnds;
pub use sessions::Sessions;

/// The previews of all agents.
pub struct PreviewStore {
    local: Arc<MemoryStore>,
    shared: Option<SharedStore>,
}

/// The shared store could not tell what an agent was shown, and the local one must not stand in for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// `on_store_failure = "reject"`
    Reject,
    /// `on_store_failure = "forward"`
    Forward,
}

label_enum! {
    /// How the store is.
    pub enum StoreState {
        /// Everything that is known is where it belongs.
        Ok = "ok",
        /// The shared store is away, or does not know everything yet.
        Failing = "failing",
    }
}

impl PreviewStore {
    /// As configured, and empty. Does not connect: see [`Self::keep`].
    pub fn new(config: &Previews, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let local = Arc::new(MemoryStore::new(config, Arc::clone(&clock), Arc::clone(&metrics)));
        let shared = match &config.store {
            StoreKind::Memory => None,
            StoreKind::Redis(redis) => {
                Some(SharedStore::new(redis.clone(), config, clock, metrics, Arc::clone(&local)))
            }
        };
        Self { local, shared }
    }

    /// This gateway's own memory.
    pub fn local(&self) -> &MemoryStore {
        &self.local
    }

    /// What `agent` was shown, as of now, through whichever gateway.
    ///
    /// # Errors
    /// When the shared store did not answer in time and `on_store_failure` is not "local".
    pub async fn previews(&self, agent: AgentId) -> Result<Option<Arc<AgentPreviews>>, Unavailable> {
        let Some(shared) = &self.shared else { return Ok(self.local.previews(agent)) };
        // Boxed, so that a callout without Redis is not larger for it.
        match (Box::pin(shared.read(agent)).await, shared.on_failure()) {
            // Redis keeps a mark of every agent it has seen. Without one it has lost its memory, or never knew.
            (Ok(Known { seen: false, .. }) | Err(_), OnStoreFailure::Local) => Ok(self.local.previews(agent)),
            (Ok(known), _) => Ok(Some(Arc::new(known.previews))),
            (Err(_), OnStoreFailure::Reject) => Err(Unavailable::Reject),
            (Err(_), OnStoreFailure::Forward) => Err(Unavailable::Forward),
        }
    }

    /// Applies changes of one agent in order, as one step, to this gateway's memory. For other gateways to see them,
    /// [`Self::share`] must follow.
    pub fn apply(&self, agent: AgentId, changes: impl IntoIterator<Item = Change>) {
        match &self.shared {
            None => self.local.apply(agent, changes),
            Some(shared) => {
                let changes: Vec<_> = changes.into_iter().collect();
                self.local.apply(agent, changes.iter().cloned());
                shared.add(agent, changes);
            }
        }
    }

    /// Waits until the other gateways can see what was applied to these agents, but not longer than
    /// `previews.store.timeout`; what they cannot see by then follows when it can.
    pub async fn share(&self, agents: &[AgentId]) {
        if let Some(shared) = &self.shared
            && !agents.is_empty()
        {
            Box::pin(shared.share(agents)).await;
        }
    }

    /// The same for those who cannot wait.
    pub fn share_soon(&self) {
        if let Some(shared) = &self.shared {
            shared.share_soon();
        }
    }

    /// Keeps the connection to the shared store, for ever; returns at once if there is none. To be run once.
    pub async fn keep(&self) {
        if let Some(shared) = &self.shared {
            shared.keep().await;
        }
    }

    /// Whether there is a shared store.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// How it is.
    pub fn state(&self) -> StoreState {
        if self.shared.as_ref().is_none_or(SharedStore::is_well) { StoreState::Ok } else { StoreState::Failing }
    }

    /// Does the cache's pending housekeeping, see [`MemoryStore::maintain`].
    pub fn maintain(&self) {
        self.local.maintain();
    }
}
