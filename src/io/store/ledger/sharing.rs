//! The ledger and the shared store: what a callout is judged by, and when an answer may reach its client.

use std::sync::Arc;

use tokio::time::Instant;

use super::Ledger;
use crate::config::OnStoreFailure;
use crate::preview::{AgentId, AgentPreviews, Clock, ControlId};
use crate::store::redis::{DialStore, EndsNotStored, Known, Listener, SharedStore, StoreCondition};
use crate::store::sessions::Ownership;
use crate::store::{PreviewSource, StoreState, Unavailable};

/// What is known of an agent and a GUID, here and at other gateways.
#[derive(Debug)]
pub struct LookUp {
    /// What the agent may call at this instant; an error if the shared store did not answer in time and `on_store_failure` is
    /// not "local".
    pub previews: Result<Option<Arc<AgentPreviews>>, Unavailable>,
    /// Where the previews come from.
    pub source: PreviewSource,
    /// The shared store did not answer in time.
    pub away: bool,
    /// Whose the GUID is.
    pub ownership: Ownership,
}

impl Ledger {
    /// Reaches the shared store this way, instead of over TCP. To be called before [`Self::stay_connected_until`].
    pub fn reach_store_by(&self, dial: Arc<dyn DialStore>) {
        if let Some(shared) = &self.shared {
            shared.use_dial(dial);
        }
    }

    /// What `agent` may call at this instant, whichever gateway the events came through.
    ///
    /// # Errors
    /// When the shared store did not answer in time and `on_store_failure` is not "local".
    pub async fn previews(&self, agent: AgentId) -> Result<Option<Arc<AgentPreviews>>, Unavailable> {
        self.look_up(agent, b"").await.previews
    }

    /// What `agent` may call at this instant, and whose `guid` is, whichever gateway learnt it.
    pub async fn look_up(&self, agent: AgentId, guid: &[u8]) -> LookUp {
        let ownership = self.session_of(guid, agent);
        let Some(shared) = &self.shared else {
            let previews = Ok(self.local.previews(agent));
            return LookUp { previews, source: PreviewSource::Memory, away: false, ownership };
        };
        // Boxed, so that a callout without Redis is not larger for it.
        let known = Box::pin(shared.read(agent)).await;
        let ownership = match &known {
            Ok(Known { session: Some(session), .. }) => {
                let is_own = shared.hash(guid).is_some_and(|guid| session.has(guid, self.time.now()));
                ownership.with_shared(is_own)
            }
            Ok(Known { session: None, .. }) | Err(_) => ownership,
        };
        let away = known.is_err();
        let known = match (known, shared.on_failure()) {
            (Ok(known), _) => Ok(known),
            (Err(_), OnStoreFailure::Local) => Ok(shared.own(agent)),
            (Err(_), OnStoreFailure::Reject) => Err(Unavailable::Reject),
            (Err(_), OnStoreFailure::Forward) => Err(Unavailable::Forward),
        };
        // Redis marks each agent that it has seen. Without the mark, the gateway's own knowledge decides.
        let is_own = shared.on_failure() == OnStoreFailure::Local && known.as_ref().is_ok_and(|known| !known.seen);
        let source = if is_own { PreviewSource::Memory } else { PreviewSource::Shared };
        let previews = known.map(|known| Some(Arc::new(known.previews)).filter(|previews| !previews.is_empty()));
        LookUp { previews, source, away, ownership }
    }

    /// Waits until the changes of these agents are where they outlive this process: their ends in the journal, and all
    /// changes in the shared store, where other gateways see them. Waits no longer than a moment for the journal and
    /// `previews.store.timeout` for the store; what is not there by then follows as soon as possible. With `on_store_failure =
    /// "reject"` it waits up to `end_timeout` for ends.
    ///
    /// # Errors
    /// [`EndsNotStored`], and the answer must not reach the client; only with `on_end_timeout = "fail"`.
    pub async fn share(&self, agents: &[AgentId]) -> Result<(), EndsNotStored> {
        if agents.is_empty() {
            return Ok(());
        }
        self.wait_for_journal().await;
        if let Some(succession) = self.succession.load_full() {
            Box::pin(succession.handed_on()).await;
        }
        match &self.shared {
            Some(shared) => Box::pin(shared.share(agents)).await,
            None => Ok(()),
        }
    }

    /// Shares all pending changes without waiting.
    pub fn share_soon(&self) {
        if let Some(shared) = &self.shared {
            shared.share_soon();
        }
    }

    /// Maintains the connection to the shared store until `end`, and then writes what waits until the instant that `end`
    /// returns. Returns at once if there is no shared store. To be run once.
    pub async fn stay_connected_until(&self, end: impl Future<Output = Instant>) {
        if let Some(shared) = &self.shared {
            shared.keep_until(end, self).await;
        }
    }

    /// Whether there is a shared store.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether the shared store was not reached since the start, and callouts wait for it.
    pub fn is_joining(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.joining.is_going_on())
    }

    /// The state of the shared store.
    pub fn state(&self) -> StoreState {
        if self.shared.as_ref().is_none_or(SharedStore::is_well) { StoreState::Ok } else { StoreState::Failing }
    }

    /// The shared store, as operators see it; none if there is none.
    pub fn store_condition(&self) -> Option<StoreCondition> {
        self.shared.as_ref().map(SharedStore::condition)
    }

    /// The previews of `agent` that all gateways share, as far as this one knows; none if it shares none.
    pub fn shared_previews(&self, agent: AgentId) -> Option<AgentPreviews> {
        self.shared.as_ref().map(|shared| shared.previews(agent))
    }
}

impl Listener for Ledger {
    fn ended_elsewhere(&self, agent: AgentId, control_id: ControlId) {
        self.end_elsewhere(agent, control_id);
    }

    fn clock_stepped(&self, by: i64, is_first: bool) {
        self.correct_clock(by, is_first);
    }
}
