//! What becomes of a Redis that has lost something: each gateway writes again what it knows.
//!
//! A gateway compares all its replicas with Redis when it connects, and when a heartbeat shows that Redis is not the one that
//! it was: another epoch. A new epoch begins when Redis has lost everything, and when it lacks the last heartbeat of a gateway (a
//! replica became the master before it had the last writes). A replica holds what was shown and what has ended, and so it
//! restores both.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::broadcast::Listener;
use super::incarnation::Incarnation;
use super::writing::AT_ONCE;
use super::{Failure, SharedStore};
use crate::preview::AgentId;
use crate::telemetry::metrics::StoreOperation;

/// For one agent. Nobody waits for it: a slow Redis gets it too.
const HEAL_LIMIT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl SharedStore {
    /// What the last heartbeat found.
    pub(super) fn last_heartbeat(&self) -> Option<Incarnation> {
        self.incarnation.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A heartbeat has found this.
    pub(super) fn note_incarnation(&self, found: Incarnation) {
        let mut known = self.incarnation.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let has_lost = known.as_ref().is_some_and(|known| found.has_lost_writes_since(known));
        *known = Some(found);
        drop(known);
        if has_lost {
            tracing::warn!(target: "previewgate::store", "shared store has lost data: everything that is known here is written again");
            self.metrics.store.lost_data();
            self.heal.notify_one();
        }
    }

    /// Compares everything with Redis each time that it is asked to. Never ends.
    pub(super) async fn heal_when_asked(&self, listener: &dyn Listener) {
        loop {
            self.heal.notified().await;
            while let Err(error) = self.heal_all(listener).await {
                if self.warnings.allow() {
                    tracing::warn!(target: "previewgate::store", %error, "shared store may lack what is known here");
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn heal_all(&self, listener: &dyn Listener) -> Result<(), Failure> {
        let mut agents = self.replicas.agents();
        let restored = self.local.agents().into_iter().map(|(agent, _)| agent);
        agents.extend(restored.filter(|agent| self.replicas.of(*agent).is_none()));
        let heal = |agent: AgentId| async move {
            let outcome = tokio::time::timeout(HEAL_LIMIT, self.heal(agent)).await.unwrap_or(Err(Failure::Timeout));
            self.finished(StoreOperation::Write, outcome.as_ref().err());
            outcome.map(|()| agent)
        };
        let mut healed = stream::iter(agents).map(heal).buffer_unordered(AT_ONCE);
        while let Some(agent) = healed.next().await {
            self.report_ends(agent?, listener);
        }
        Ok(())
    }
}
