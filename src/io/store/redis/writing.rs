//! How changes reach Redis: with one round trip if the replica is up to date, and with one more for each gateway that has
//! written meanwhile.

use std::time::Duration;

use ::redis::{Value, cmd};
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::record::{AtOnce, Record, TimedChange};
use super::{Failure, SharedStore, Stored};
use crate::config::OnEndTimeout;
use crate::preview::{AgentId, Clock, millis};
use crate::telemetry::metrics::StoreOperation;

const SWAP: &str = include_str!("swap.lua");
/// Gateways that write the same agent at the same time: each attempt that fails is another one's success.
pub(super) const ATTEMPTS: usize = 16;
/// Agents that are written at the same time.
pub(super) const AT_ONCE: usize = 32;
const CATCH_UP_LIMIT: Duration = Duration::from_secs(1);

/// An answer ends previews, Redis does not have these ends in time, and the configuration forbids to deliver the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store does not have the end of a preview")]
pub struct EndsNotStored;

/// A record with the tag under which Redis is believed to have its beginning.
pub(super) struct Base {
    pub(super) tag: String,
    pub(super) record: Record,
    /// Redis itself has just said so.
    pub(super) verified: bool,
}

pub(super) enum Swap {
    Done(String, Record),
    Lost(Stored),
}

impl SharedStore {
    /// Takes changes in, to be written by [`Self::share`] or by [`Self::keep`].
    pub(in crate::store) fn add(&self, agent: AgentId, changes: impl IntoIterator<Item = TimedChange>) {
        let replica = self.replicas.of(agent);
        let known = replica.as_ref().and_then(|replica| replica.record.latest());
        for mut change in changes {
            if !change.late {
                // What this gateway knows of came before.
                change.at = known.map_or(change.at, |known| known.max(change.at));
                let known_end = |id| replica.as_ref()?.record.end_of(id);
                change.known_end = change.shows().and_then(known_end);
            }
            if self.outbox.add(agent, change).is_err() {
                self.finished(StoreOperation::Write, Some(&Failure::Full));
            }
        }
    }

    /// Writes what waits for these agents; returns when it is written, or when the time is over. With `on_store_failure =
    /// "reject"` it waits longer for ends.
    ///
    /// # Errors
    /// [`EndsNotStored`]; only with `on_end_timeout = "fail"`.
    pub(in crate::store) async fn share(&self, agents: &[AgentId]) -> Result<(), EndsNotStored> {
        let began = Instant::now();
        self.share_within(self.settings.timeout, agents).await;
        if !self.is_strict() || self.outbox.has_no_end_of(agents) {
            return Ok(());
        }
        self.link.call.notify_one();
        let limit = self.settings.end_timeout;
        if tokio::time::timeout_at(began + limit, self.outbox.without_end_of(agents)).await.is_ok() {
            return Ok(());
        }
        self.metrics.store.end_timed_out();
        let end_timeout_ms = millis(limit);
        match self.settings.on_end_timeout {
            OnEndTimeout::Fail => Err(EndsNotStored),
            OnEndTimeout::Pass => {
                if self.warnings.allow() {
                    tracing::warn!(
                        target: "previewgate::store",
                        end_timeout_ms,
                        "an answer that ends previews is delivered although the shared store does not have the end"
                    );
                }
                Ok(())
            }
        }
    }

    async fn share_within(&self, limit: Duration, agents: &[AgentId]) {
        let deadline = Instant::now() + limit;
        stream::iter(agents).for_each_concurrent(AT_ONCE, |agent| self.write(*agent, deadline)).await;
    }

    /// Has [`Self::keep`] write what waits.
    pub(in crate::store) fn share_soon(&self) {
        self.link.call.notify_one();
    }

    async fn write(&self, agent: AgentId, deadline: Instant) {
        let outcome = tokio::time::timeout_at(deadline, self.flush(agent)).await.unwrap_or(Err(Failure::Timeout));
        self.finished(StoreOperation::Write, outcome.as_ref().err());
    }

    async fn flush(&self, agent: AgentId) -> Result<(), Failure> {
        let lock = self.write_lock(agent).ok_or(Failure::NotConnected)?;
        let _lock = lock.lock().await;
        self.flush_locked(agent).await
    }

    /// The caller holds the agent's lock.
    pub(super) async fn flush_locked(&self, agent: AgentId) -> Result<(), Failure> {
        // Nothing to do is fine: somebody else took it along.
        let Some(batch) = self.outbox.begin(agent) else { return Ok(()) };
        let (tag, record) = self.replica(agent);
        self.put(agent, Base { tag, record, verified: false }, &batch.changes).await?;
        self.outbox.finish(agent, &batch);
        Ok(())
    }

    /// Compares what this gateway knows of `agent` with Redis, and writes what Redis lacks.
    pub(super) async fn heal(&self, agent: AgentId) -> Result<(), Failure> {
        let lock = self.write_lock(agent).ok_or(Failure::NotConnected)?;
        let _lock = lock.lock().await;
        let stored = self.fetch(agent).await?;
        let in_redis = self.record(&stored).unwrap_or_default();
        let mut known = self.replica(agent).1;
        known.expire(self.clock.now(), self.lifetime);
        known.merge(&in_redis);
        self.remember(agent, &stored.tag, &known);
        if known == in_redis || known.is_empty() {
            return Ok(());
        }
        self.put(agent, Base { tag: stored.tag, record: known, verified: false }, &[]).await
    }

    /// Writes the record with these changes. The caller holds the agent's lock.
    async fn put(&self, agent: AgentId, mut base: Base, changes: &[TimedChange]) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            match self.swap(agent, &base, changes).await? {
                Swap::Done(tag, record) => {
                    self.remember(agent, &tag, &record);
                    self.note_contact();
                    return Ok(());
                }
                Swap::Lost(stored) => {
                    // A state that nobody can read any more is replaced: it could only refuse everything for ever.
                    let mut record = self.record(&stored).unwrap_or_default();
                    let verified = base.record == record;
                    record.merge(&base.record);
                    self.remember(agent, &stored.tag, &record);
                    base = Base { tag: stored.tag, record, verified };
                }
            }
        }
        Err(Failure::Conflict)
    }

    pub(super) async fn swap(&self, agent: AgentId, base: &Base, changes: &[TimedChange]) -> Result<Swap, Failure> {
        let mut after = base.record.clone();
        // At each attempt: the process may have stood still since the one before.
        after.apply_all(&self.attempted(changes), self.bounds);
        after.expire(self.clock.now(), self.lifetime);
        if base.verified && after == base.record {
            return Ok(Swap::Done(base.tag.clone(), after));
        }
        self.outbox.attempt(agent, &after);
        let ends = changes.iter().any(TimedChange::is_end) && after.has_lost_previews(&base.record);
        let tag = new_tag()?;
        let mut connection = self.link.connection().ok_or(Failure::NotConnected)?;
        let mut swap = cmd("EVAL");
        swap.arg(SWAP).arg(1).arg(self.key(agent)).arg(&base.tag).arg(&tag).arg(after.to_json());
        swap.arg(millis(self.lifetime)).arg(u8::from(ends));
        swap.arg(self.channel()).arg(agent.as_u32());
        match swap.query_async(&mut connection).await? {
            Value::Int(1) => Ok(Swap::Done(tag, after)),
            Value::Int(_) => Err(Failure::Full),
            present => Stored::read(present).map(Swap::Lost),
        }
    }

    /// The changes as they count if they are written now.
    pub(super) fn attempted(&self, changes: &[TimedChange]) -> Vec<TimedChange> {
        let (now, at_once) = (self.clock.now(), self.at_once());
        changes.iter().map(|change| change.attempted(now, at_once)).collect()
    }

    fn at_once(&self) -> AtOnce {
        let held_end = self.is_strict().then_some(self.settings.end_timeout);
        // The wait for the journal comes before the write.
        AtOnce { change: self.settings.timeout.saturating_mul(2), held_end }
    }

    pub(super) fn write_lock(&self, agent: AgentId) -> Option<&tokio::sync::Mutex<()>> {
        self.write_locks.get(agent.as_u32() as usize % super::WRITE_LOCKS)
    }

    /// Writes what waits, until something goes wrong: the next heartbeat tries again.
    pub(super) async fn catch_up(&self) {
        for agents in self.outbox.agents().chunks(AT_ONCE) {
            // Nobody waits for these: a slow Redis gets them too.
            self.share_within(CATCH_UP_LIMIT, agents).await;
            if agents.iter().all(|agent| !self.outbox.of(*agent).is_empty()) {
                return;
            }
        }
    }
}

/// Different for each write: a counter would begin anew in a Redis that lost its memory.
fn new_tag() -> Result<String, Failure> {
    let mut bits = [0; 8];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| Failure::NoRandomness)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bits)))
}
