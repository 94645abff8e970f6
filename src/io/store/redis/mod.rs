//! Previews in a Redis that several gateways share. docs/several-gateways.md explains the protocol and its guarantees.
//!
//! Each agent is one hash, `{prefix}agent:{id}`: a [`Record`] as JSON, a random tag that changes with each write, and a
//! mark that the agent was seen. Every gateway has a [replica](Replicas) of it. A write puts the changes into the replica's
//! record, and swaps it for the state in Redis if that still has the replica's tag ([`SWAP`], which Redis executes as one
//! step). If another gateway has written, the write begins again with what Redis has instead. Each write is broadcast, so
//! that the replicas of all gateways know what was shown and what has ended.
//!
//! Every change goes through the [`outbox`]: whoever made it waits until it is written, but no longer than
//! `previews.store.timeout`, and what is not written by then is tried again when Redis is back. A read is Redis's answer,
//! merged with the replica, plus whatever this gateway still has in the outbox.
//!
//! A gateway that connects, or finds that Redis has lost something, compares all its replicas with Redis ([`healing`]).

mod broadcast;
mod calls;
mod healing;
mod heartbeat;
mod incarnation;
mod joining;
mod keeping;
mod link;
#[cfg(test)]
mod model;
mod outbox;
mod record;
mod replicas;
mod shared_key;
mod writing;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::redis::{RedisError, Value, cmd, from_redis_value};
use tokio::sync::{Mutex, Notify};

pub(super) use self::broadcast::Listener;
use self::incarnation::Incarnation;
use self::joining::Joining;
pub(super) use self::keeping::try_once;
pub use self::link::DialStore;
use self::link::Link;
pub use self::link::Node;
use self::outbox::Outbox;
pub(super) use self::record::{Fence, SessionRelation, TimedChange};
use self::record::{Record, SharedLearnt};
use self::replicas::{Replica, Replicas};
use self::shared_key::SharedKey;
pub use self::writing::EndsNotStored;
use super::MemoryStore;
use super::common_clock::{CommonClock, moved};
use super::guid_key::{GuidHash, GuidKey};
use super::sessions::{Learnt, Session};
use crate::config::{OnStoreFailure, Previews, RedisStore};
use crate::log_throttle::LogThrottle;
use crate::preview::{AgentId, AgentPreviews, Bounds, Change, Clock, Timestamp};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{StoreOperation, StoreOutcome};

const WARNING_INTERVAL: Duration = Duration::from_secs(10);
const SKEW_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Writes of one agent take turns, so that a gateway does not conflict with itself. Agents share them, for boundedness.
const WRITE_LOCKS: usize = 256;

/// The shared store, from this gateway's point of view.
pub(super) struct SharedStore {
    settings: RedisStore,
    lifetime: Duration,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    local: Arc<MemoryStore>,
    guid_key: SharedKey,
    link: Link,
    outbox: Arc<Outbox>,
    replicas: Replicas,
    write_locks: Vec<Mutex<()>>,
    warnings: LogThrottle,
    skew_warnings: LogThrottle,
    clock: Arc<CommonClock>,
    /// Where Redis keeps the number of this gateway's heartbeats.
    number_key: String,
    /// Redis was asked for the time.
    is_clock_known: AtomicBool,
    /// Whether Redis was reached since the start.
    pub(super) joining: Joining,
    /// When Redis last answered, by the clock of all gateways.
    contact: std::sync::Mutex<Timestamp>,
    incarnation: std::sync::Mutex<Option<Incarnation>>,
    /// Redis may lack something that a replica has, or the other way round.
    heal: Notify,
    dial: OnceLock<Arc<dyn DialStore>>,
}

/// What is known of an agent.
pub(super) struct Known {
    /// What it may call.
    pub(super) previews: AgentPreviews,
    /// Its session, if that is known, as hashes under [`SharedStore::hash`]'s key.
    pub(super) session: Option<Session>,
    /// Redis has seen the agent. Without that mark it has lost its memory, or never knew.
    pub(super) seen: bool,
}

/// The shared store, as operators see it.
#[derive(Clone, Debug)]
pub struct StoreCondition {
    /// What happens while it is away, which names the guarantee.
    pub on_failure: OnStoreFailure,
    /// The Redis that is connected.
    pub node: Option<Arc<Node>>,
    /// How long ago it answered. Before the first answer: how long ago the gateway started.
    pub last_answer: Duration,
    /// Agents with changes that it does not have.
    pub agents_pending: usize,
    /// Agents of whom this gateway knows what all gateways share.
    pub agents_known: u64,
}

/// Why Redis was of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("not connected")]
    NotConnected,
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("the state of an agent cannot be read: {0}")]
    State(#[from] serde_json::Error),
    #[error("an unexpected answer")]
    Answer,
    #[error("out of memory")]
    Full,
    #[error("not done in time")]
    Timeout,
    #[error("another gateway kept changing the same agent")]
    Conflict,
    #[error("the system has no random numbers")]
    NoRandomness,
}

/// What Redis holds of an agent: the tag it was written with, and the state.
struct Stored {
    tag: String,
    state: Option<Vec<u8>>,
    seen: bool,
}

impl SharedStore {
    pub(super) fn new(
        settings: RedisStore,
        previews: &Previews,
        metrics: Arc<Metrics>,
        local: Arc<MemoryStore>,
        clock: Arc<CommonClock>,
    ) -> Self {
        let outbox = Arc::new(Outbox::new(previews.max_agents));
        let joining = Joining::new(settings.start_timeout);
        let counted = Arc::clone(&outbox);
        metrics.store.pending_from(move || counted.len() as u64);
        let run = RandomState::new().build_hasher().finish();
        let number_key = format!("{}heartbeat:{run:016x}", settings.prefix);
        let (lifetime, bounds) = (previews.ttl.saturating_mul(2), Bounds { per_agent: previews.per_agent });
        Self {
            settings,
            lifetime,
            bounds,
            metrics,
            local,
            guid_key: SharedKey::default(),
            link: Link::default(),
            outbox,
            replicas: Replicas::new(previews.max_agents, bounds, lifetime),
            write_locks: std::iter::repeat_with(Mutex::default).take(WRITE_LOCKS).collect(),
            warnings: LogThrottle::every(WARNING_INTERVAL),
            skew_warnings: LogThrottle::every(SKEW_WARNING_INTERVAL),
            contact: std::sync::Mutex::new(clock.now()),
            clock,
            number_key,
            is_clock_known: AtomicBool::new(false),
            joining,
            incarnation: std::sync::Mutex::new(None),
            heal: Notify::new(),
            dial: OnceLock::new(),
        }
    }

    /// Reaches Redis this way, instead of over TCP. To be called before [`Self::keep_until`].
    pub(super) fn use_dial(&self, dial: Arc<dyn DialStore>) {
        let _ = self.dial.set(dial);
    }

    fn dial(&self) -> Option<&dyn DialStore> {
        self.dial.get().map(|dial| &**dial)
    }

    pub(super) fn on_failure(&self) -> OnStoreFailure {
        self.settings.on_store_failure
    }

    /// Whether callouts are judged by Redis or not at all. Then an end counts from when it is in Redis.
    fn is_strict(&self) -> bool {
        self.settings.on_store_failure == OnStoreFailure::Reject
    }

    /// Gives the changes that wait a new time: the clock of all gateways was wrong by so many milliseconds. What Redis has
    /// stays as it is.
    pub(super) fn redate(&self, by: i64) {
        self.outbox.redate(by);
        let mut contact = self.contact.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *contact = moved(*contact, by);
    }

    /// What operators see of it.
    pub(super) fn condition(&self) -> StoreCondition {
        StoreCondition {
            on_failure: self.settings.on_store_failure,
            node: self.link.node(),
            last_answer: self.clock.now().since(self.last_contact()),
            agents_pending: self.outbox.len(),
            agents_known: self.replicas.len(),
        }
    }

    /// Connected, and nothing waits to be written.
    pub(super) fn is_well(&self) -> bool {
        self.link.is_up() && self.outbox.len() == 0
    }

    /// What may be called, in bounded time. Before Redis was reached once after the start, this waits for it, up to
    /// `start_timeout`.
    pub(super) async fn read(&self, agent: AgentId) -> Result<Known, Failure> {
        self.joining.wait().await;
        // Before Redis is asked: a change that is written in between is then seen twice, which does no harm, and not
        // missed.
        let pending = self.outbox.of(agent);
        let fetched = tokio::time::timeout(self.settings.timeout, self.fetch(agent)).await;
        let known = fetched.unwrap_or(Err(Failure::Timeout)).and_then(|stored| {
            let mut record = self.learn(agent, &stored.tag, self.record(&stored)?).record.clone();
            if self.is_strict() && !stored.seen {
                record.forget_shown();
            }
            record.apply_all(&self.attempted(&pending), self.bounds);
            Ok(self.known(&record, stored.seen))
        });
        self.finished(StoreOperation::Read, known.as_ref().err());
        known
    }

    /// What may be called as far as this gateway knows, for a Redis that is away. A preview counts up to `local_grace` after
    /// it was shown or Redis last answered: it may have ended through another gateway since.
    pub(super) fn own(&self, agent: AgentId) -> Known {
        let mut record = self.view(agent);
        let (now, grace) = (self.clock.now(), self.settings.local_grace);
        if now.since(self.last_contact()) > grace {
            record.only_shown_since(now.before(grace));
        }
        self.known(&record, false)
    }

    /// What may be called, as far as this gateway knows.
    pub(super) fn previews(&self, agent: AgentId) -> AgentPreviews {
        self.view(agent).previews(self.bounds)
    }

    /// Ends that wait to be written, with their times.
    pub(super) fn pending_ends(&self) -> Vec<(AgentId, Change, Timestamp)> {
        let ends = self.outbox.ends().into_iter();
        ends.filter_map(|(agent, timed)| Some((agent, timed.change?, timed.seen))).collect()
    }

    fn known(&self, record: &Record, seen: bool) -> Known {
        let session = self.guid_key.current().and_then(|key| record.session(key.id()));
        Known { previews: record.previews(self.bounds), session, seen }
    }

    /// Everything that this gateway knows of an agent.
    fn view(&self, agent: AgentId) -> Record {
        let mut record = self.replica(agent).1;
        record.apply_all(&self.attempted(&self.outbox.of(agent)), self.bounds);
        record
    }

    /// The replica's tag and record. Without a replica, the record is what a snapshot has brought.
    fn replica(&self, agent: AgentId) -> (String, Record) {
        match self.replicas.of(agent) {
            Some(replica) => (replica.tag.clone(), replica.record.clone()),
            None => (String::new(), self.local.previews(agent).map(|own| Record::of(&own)).unwrap_or_default()),
        }
    }

    /// Redis has this state: the replica knows it from now on, and a new one also what a snapshot has brought.
    fn learn(&self, agent: AgentId, tag: &str, mut in_redis: Record) -> Arc<Replica> {
        if self.replicas.of(agent).is_none() {
            in_redis.merge(&self.replica(agent).1);
        }
        self.remember(agent, tag, &in_redis)
    }

    fn remember(&self, agent: AgentId, tag: &str, record: &Record) -> Arc<Replica> {
        self.replicas.learn(agent, tag, record, self.clock.now())
    }

    /// What was learnt about a session, for [`Self::add`]; `guid` is the GUID. None while the key is not known.
    pub(super) fn learnt(&self, guid: Option<&[u8]>, begins: bool) -> Option<SharedLearnt> {
        let key = self.guid_key.current()?;
        let guid = Some(key.hash(guid?)?);
        Some(SharedLearnt { key: key.id(), learnt: Learnt { guid, begins } })
    }

    /// The hash of `guid` under the key that the gateways share, if that is known.
    pub(super) fn hash(&self, guid: &[u8]) -> Option<GuidHash> {
        self.guid_key.current()?.hash(guid)
    }

    /// Shares hashes under this key, instead of one that is kept in Redis.
    pub(super) fn use_guid_key(&self, key: GuidKey) {
        self.guid_key.configure(key);
    }

    /// Does the caches' pending housekeeping.
    pub(super) fn maintain(&self) {
        self.replicas.maintain();
    }

    async fn fetch(&self, agent: AgentId) -> Result<Stored, Failure> {
        let mut connection = self.link.connection().ok_or(Failure::NotConnected)?;
        let mut fetch = cmd("HMGET");
        fetch.arg(self.key(agent)).arg(&["tag", "state", "seen"]);
        let stored = match fetch.query_async(&mut connection).await {
            Ok(answer) => Stored::read(answer)?,
            // Something else is kept under this name: nothing is known of the agent, and the next write replaces it.
            Err(error) if error.code() == Some("WRONGTYPE") => Stored::unknown(),
            Err(error) => return Err(error.into()),
        };
        self.note_contact();
        Ok(stored)
    }

    fn last_contact(&self) -> Timestamp {
        *self.contact.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Redis has answered.
    fn note_contact(&self) {
        *self.contact.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = self.clock.now();
    }

    fn record(&self, stored: &Stored) -> Result<Record, Failure> {
        match &stored.state {
            Some(json) => Ok(Record::from_json(json, self.bounds)?),
            None => Ok(Record::default()),
        }
    }

    fn key(&self, agent: AgentId) -> String {
        format!("{}agent:{agent}", self.settings.prefix)
    }

    fn channel(&self) -> String {
        format!("{}changes", self.settings.prefix)
    }

    /// Counts, and says now and then what is wrong.
    fn finished(&self, operation: StoreOperation, failure: Option<&Failure>) {
        let outcome = match failure {
            None => StoreOutcome::Ok,
            Some(Failure::Timeout) => StoreOutcome::Timeout,
            Some(Failure::Conflict) => StoreOutcome::Conflict,
            Some(
                Failure::NotConnected
                | Failure::Redis(_)
                | Failure::State(_)
                | Failure::Answer
                | Failure::Full
                | Failure::NoRandomness,
            ) => StoreOutcome::Failed,
        };
        self.metrics.store.finished(operation, outcome);
        let Some(failure) = failure else { return };
        if matches!(failure, Failure::Timeout | Failure::Redis(_)) {
            // The connection may be one that hangs, or lead to a Redis that cannot be used any more.
            self.link.call.notify_one();
        }
        if self.warnings.allow() {
            let agents_pending = self.outbox.len();
            let operation = operation.as_str();
            tracing::warn!(target: "previewgate::store", operation, agents_pending, error = %failure, "shared store failed");
        }
    }
}

impl Stored {
    fn unknown() -> Self {
        Self { tag: String::new(), state: None, seen: false }
    }

    fn read(answer: Value) -> Result<Self, Failure> {
        type Fields = (Option<String>, Option<Vec<u8>>, Option<Value>);
        let (tag, state, seen): Fields = from_redis_value(answer).map_err(|_| Failure::Answer)?;
        let seen = seen.is_some() || state.is_some();
        Ok(Self { tag: tag.unwrap_or_default(), state, seen })
    }
}
