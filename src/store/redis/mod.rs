//! Previews in a Redis that several gateways share.
//!
//! Each agent is one hash, `{prefix}agent:{id}`: the state as JSON, a random tag that changes with each write, and a
//! mark that the agent was seen. A write reads the state, applies the changes ([`record`]), and puts the new state in
//! place of the old one if the tag is still the same ([`SWAP`], which Redis executes as one step). Otherwise it begins
//! again with the state that Redis has now.
//!
//! Every change goes through the [`outbox`]. The answer that brought it waits until it is written, but no longer than
//! `previews.store.timeout`. A change that is not written by then is tried again when Redis is back. A read returns what
//! Redis has, with the changes applied that this gateway still has in the outbox.
//!
//! What remains possible, most of it only while Redis is away or a gateway is cut off from it:
//! - With `on_store_failure = "local"`, a preview that was ended through another gateway is still good here, until the
//!   end arrives or the TTL is over.
//! - An end that is in the outbox of a gateway that is killed never arrives. Nor does one that is still there when the
//!   gateway ends in order and Redis does not come back within `shutdown.drain`.
//! - Changes that arrive late are put in order by the wall clocks of the gateways that saw them. If these differ by
//!   `d`, an end and a preview of one agent that passed through two gateways within `d` may be taken in the wrong order.
//! - A sign-in for push ends what was shown before it, by the clock of the gateway that it passed. A push through
//!   another gateway whose clock is behind by `d`, within `d` after it, may be taken for one of the session before.
//! - Which of two polls of one agent overtook the other, each gateway decides by what it saw itself (`Fences`). An answer to
//!   a poll or a streamed answer that the agent is not signed in is believed if this gateway itself knows that the GUID is the
//!   agent's own (`Sessions`).
//! - A Redis that loses its memory forgets ends too. With "local", each gateway then goes by its own cache for agents
//!   that Redis knows nothing about.

mod calls;
mod heartbeat;
mod joining;
mod link;
mod outbox;
mod record;
mod shared_key;

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, Value, cmd, from_redis_value};
use futures_util::stream::{self, StreamExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::heartbeat::{Beat, beat};
use self::joining::Joining;
use self::link::{Driver, Link, LinkError, connect};
use self::outbox::{Batch, Outbox};
use self::record::{Record, SharedLearnt};
pub(super) use self::record::{SessionRelation, TimedChange};
use self::shared_key::SharedKey;
use super::MemoryStore;
use super::guid_key::{GuidHash, GuidKey, random_secret};
use super::sessions::{Learnt, Session};
use crate::config::{OnStoreFailure, Previews, RedisStore};
use crate::log_throttle::LogThrottle;
use crate::preview::{AgentId, AgentPreviews, Bounds, Change, Clock, Timestamp};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{StoreOperation, StoreOutcome};

const SWAP: &str = include_str!("swap.lua");
/// Attempts to write one agent. An attempt fails only if another gateway has written the agent in the meantime.
const ATTEMPTS: usize = 16;
/// Agents that are written at the same time.
const AT_ONCE: usize = 32;
/// Between two heartbeats, and between two attempts to write what is late.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A connection is given up if Redis does not answer a heartbeat within this time.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(1);
/// Longest time for writing the late changes of up to [`AT_ONCE`] agents.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(1);
/// Between two connections, and between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at what is left when the gateway ends.
const LEAVING_PAUSE: Duration = Duration::from_millis(20);
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// A larger difference between the clocks of this gateway and of Redis is reported.
const MAX_SKEW: Duration = Duration::from_secs(2);
const SKEW_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Writes of one agent take turns, so that a gateway does not conflict with itself. Agents share the locks, so that their
/// number is bounded.
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
    write_locks: Vec<Mutex<()>>,
    warnings: LogThrottle,
    skew_warnings: LogThrottle,
    clock: Arc<dyn Clock>,
    /// Whether Redis was reached since the start.
    pub(super) joining: Joining,
}

/// What is known of an agent.
pub(super) struct Known {
    /// Whether Redis has seen the agent at all.
    pub(super) seen: bool,
    /// What it may call.
    pub(super) previews: AgentPreviews,
    /// Its session, if that is known, as hashes under [`SharedStore::hash`]'s key.
    pub(super) session: Option<Session>,
}

/// Why an operation in Redis failed.
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

enum Swap {
    Done,
    Lost(Stored),
}

impl SharedStore {
    pub(super) fn new(
        settings: RedisStore,
        previews: &Previews,
        metrics: Arc<Metrics>,
        local: Arc<MemoryStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let outbox = Arc::new(Outbox::new(previews.max_agents));
        let joining = Joining::new(settings.start_timeout);
        let counted = Arc::clone(&outbox);
        metrics.store.pending_from(move || counted.len() as u64);
        Self {
            settings,
            lifetime: previews.ttl.saturating_mul(2),
            bounds: Bounds { per_agent: previews.per_agent },
            metrics,
            local,
            guid_key: SharedKey::default(),
            link: Link::default(),
            outbox,
            write_locks: std::iter::repeat_with(Mutex::default).take(WRITE_LOCKS).collect(),
            warnings: LogThrottle::every(WARNING_INTERVAL),
            skew_warnings: LogThrottle::every(SKEW_WARNING_INTERVAL),
            clock,
            joining,
        }
    }

    pub(super) fn on_failure(&self) -> OnStoreFailure {
        self.settings.on_store_failure
    }

    /// Whether Redis is connected and nothing waits to be written.
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
            let mut record = self.record(&stored)?;
            record.apply_all(&pending, self.bounds);
            let session = self.guid_key.current().and_then(|key| record.session(key.id()));
            Ok(Known { seen: stored.seen, previews: record.previews, session })
        });
        self.finished(StoreOperation::Read, known.as_ref().err());
        known
    }

    /// Adds changes to the outbox. [`Self::share`] or [`Self::keep`] writes them.
    pub(super) fn add(&self, agent: AgentId, changes: impl IntoIterator<Item = TimedChange>) {
        for change in changes {
            if self.outbox.add(agent, change).is_err() {
                self.finished(StoreOperation::Write, Some(&Failure::Full));
            }
        }
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

    /// Writes what waits for these agents; returns when it is written, or when the time is over.
    pub(super) async fn share(&self, agents: &[AgentId]) {
        self.share_within(self.settings.timeout, agents).await;
    }

    async fn share_within(&self, limit: Duration, agents: &[AgentId]) {
        let deadline = Instant::now() + limit;
        stream::iter(agents).for_each_concurrent(AT_ONCE, |agent| self.write(*agent, deadline)).await;
    }

    /// Has [`Self::keep`] write what waits.
    pub(super) fn share_soon(&self) {
        self.link.call.notify_one();
    }

    async fn write(&self, agent: AgentId, deadline: Instant) {
        let outcome = tokio::time::timeout_at(deadline, self.flush(agent)).await.unwrap_or(Err(Failure::Timeout));
        self.finished(StoreOperation::Write, outcome.as_ref().err());
    }

    async fn flush(&self, agent: AgentId) -> Result<(), Failure> {
        let _lock = self.write_lock(agent)?.lock().await;
        self.flush_locked(agent).await
    }

    /// Writes of one agent take turns.
    fn write_lock(&self, agent: AgentId) -> Result<&Mutex<()>, Failure> {
        self.write_locks.get(agent.as_u32() as usize % WRITE_LOCKS).ok_or(Failure::NotConnected)
    }

    /// The caller holds the agent's lock.
    async fn flush_locked(&self, agent: AgentId) -> Result<(), Failure> {
        // Another task may have written the changes while this one waited for the lock.
        let Some(batch) = self.outbox.begin(agent) else { return Ok(()) };
        let mut stored = self.fetch(agent).await?;
        for _ in 0..ATTEMPTS {
            match self.swap(agent, &stored, &batch).await? {
                Swap::Done => {
                    self.outbox.finish(agent, &batch);
                    return Ok(());
                }
                Swap::Lost(present) => stored = present,
            }
        }
        Err(Failure::Conflict)
    }

    async fn fetch(&self, agent: AgentId) -> Result<Stored, Failure> {
        let mut connection = self.link.connection().ok_or(Failure::NotConnected)?;
        let mut fetch = cmd("HMGET");
        fetch.arg(self.key(agent)).arg(&["tag", "state", "seen"]);
        match fetch.query_async(&mut connection).await {
            Ok(answer) => Stored::read(answer),
            // Something else is kept under this name: nothing is known of the agent, and the next write replaces it.
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Stored::unknown()),
            Err(error) => Err(error.into()),
        }
    }

    async fn swap(&self, agent: AgentId, stored: &Stored, batch: &Batch) -> Result<Swap, Failure> {
        // A state that cannot be read is replaced. If it stayed, each read of this agent would fail.
        let before = self.record(stored).unwrap_or_default();
        let mut after = self.beginning(agent, stored).unwrap_or_else(|| before.clone());
        after.apply_all(&batch.changes, self.bounds);
        if stored.state.is_some() && after == before {
            return Ok(Swap::Done);
        }
        let mut changes = batch.changes.iter().filter_map(|timed| timed.change.as_ref());
        let ends = changes.any(Change::is_end) && after.has_lost_previews(&before);
        self.replace(agent, stored, &after, ends).await
    }

    /// Puts `after` in the place of `stored`, if that is still what Redis has. `ends`: it ends something.
    async fn replace(&self, agent: AgentId, stored: &Stored, after: &Record, ends: bool) -> Result<Swap, Failure> {
        let mut connection = self.link.connection().ok_or(Failure::NotConnected)?;
        let mut swap = cmd("EVAL");
        swap.arg(SWAP).arg(1).arg(self.key(agent)).arg(&stored.tag).arg(tag()?).arg(after.to_json());
        swap.arg(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX)).arg(u8::from(ends));
        match swap.query_async(&mut connection).await? {
            Value::Int(1) => Ok(Swap::Done),
            Value::Int(_) => Err(Failure::Full),
            present => Stored::read(present).map(Swap::Lost),
        }
    }

    /// What the state of an agent begins with if Redis has never seen the agent: with "local", this gateway's own previews.
    fn beginning(&self, agent: AgentId, stored: &Stored) -> Option<Record> {
        let stands_in = !stored.seen && self.settings.on_store_failure == OnStoreFailure::Local;
        stands_in.then(|| self.local.previews(agent))?.map(|previews| Record::of(AgentPreviews::clone(&previews)))
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

    /// Counts the operation. Logs a failure, but not more often than every [`WARNING_INTERVAL`].
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

/// What must go on whether or not there are requests.
impl SharedStore {
    /// Keeps a connection, and writes what is late. Never ends.
    pub(super) async fn keep(&self) {
        loop {
            if let Err(error) = self.connect_and_attend().await
                && self.warnings.allow()
            {
                tracing::warn!(target: "previewgate::store", %error, "shared store cannot be used");
            }
            self.joining.note_attempt();
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Like [`Self::keep`], until `end`; then until everything is written, for what is left of the time that `end` returns.
    pub(super) async fn keep_until(&self, end: impl Future<Output = Instant>) {
        let leaving = async {
            let deadline = end.await;
            let waited = self.outbox.len();
            (waited, tokio::time::timeout_at(deadline, self.emptied()).await.is_ok())
        };
        let (agents, all) = tokio::select! {
            () = self.keep() => return,
            outcome = leaving => outcome,
        };
        if !all {
            let agents = self.outbox.len();
            tracing::warn!(target: "previewgate::store", agents, "changes of agents do not reach the shared store: it is away");
        } else if agents > 0 {
            tracing::info!(target: "previewgate::store", agents, "shared store has every change");
        }
    }

    /// Waits until nothing is left to be written.
    async fn emptied(&self) {
        while self.outbox.len() > 0 {
            self.link.call.notify_one();
            tokio::time::sleep(LEAVING_PAUSE).await;
        }
    }

    /// One connection, from its beginning to its end. An error if it cannot be used from the beginning.
    async fn connect_and_attend(&self) -> Result<(), LinkError> {
        let (connection, driver) = connect(&self.settings).await?;
        // Before anything is shared, so that what is learnt about sessions can be.
        self.heartbeat(connection.clone()).await?;
        self.link.set(Some(connection));
        self.metrics.store.up(true);
        self.joining.joined();
        let pending = self.outbox.len();
        tracing::info!(target: "previewgate::store", agents_pending = pending, "shared store connected");
        let why = self.attend(driver).await;
        self.link.set(None);
        self.metrics.store.up(false);
        let error = why.map_or_else(|| "the connection has ended".to_owned(), |error| error.to_string());
        tracing::warn!(target: "previewgate::store", error, "shared store lost");
        Ok(())
    }

    /// Until the connection ends or hangs, or Redis cannot be used any more; then returns why.
    async fn attend(&self, mut driver: Driver) -> Option<LinkError> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = driver.ended() => return None,
                _ = heartbeat.tick() => {}
                () = self.link.call.notified() => {}
            }
            if let Err(error) = self.heartbeat(self.link.connection()?).await {
                return Some(error);
            }
            self.catch_up().await;
        }
    }

    /// Asks whether Redis can be used. Takes the key of GUIDs from it, and compares the clocks.
    async fn heartbeat(&self, mut connection: MultiplexedConnection) -> Result<(), LinkError> {
        // With a configured key, nothing secret is written.
        let proposal = if self.guid_key.is_configured() { None } else { random_secret() };
        let proposal = proposal.as_ref().map_or(&b"configured"[..], |secret| secret);
        let name = format!(
            "{}{}",
            self.settings.prefix,
            if self.guid_key.is_configured() { "heartbeat" } else { "session-key" }
        );
        let asked = self.clock.now();
        let beat = tokio::time::timeout(HEARTBEAT_LIMIT, beat(&mut connection, name, proposal));
        let Beat { secret, time } = beat.await.map_err(|_| LinkError::Timeout)??;
        self.guid_key.agree(&secret);
        if let Some(time) = time {
            self.compare_clocks(asked, time);
        }
        Ok(())
    }

    /// Redis's clock showed `theirs` between `asked` and now. Only what cannot be explained by that is a difference.
    fn compare_clocks(&self, asked: Timestamp, theirs: Timestamp) {
        let now = self.clock.now();
        let (ahead, behind) = (asked.since(theirs), theirs.since(now));
        self.metrics.store.clock_ahead(ahead.as_secs_f64() - behind.as_secs_f64());
        let skew = ahead.max(behind);
        if skew > MAX_SKEW && self.skew_warnings.allow() {
            let skew_ms = u64::try_from(skew.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                target: "previewgate::store",
                skew_ms,
                "the clocks of this gateway and of the shared store differ: events that pass through several gateways may be taken in the wrong order"
            );
        }
    }

    /// Writes what waits, until something goes wrong: the next heartbeat tries again.
    async fn catch_up(&self) {
        for agents in self.outbox.agents().chunks(AT_ONCE) {
            // No answer waits for these, so a slow Redis may take longer than `previews.store.timeout`.
            self.share_within(CATCH_UP_LIMIT, agents).await;
            if agents.iter().all(|agent| !self.outbox.of(*agent).is_empty()) {
                return;
            }
        }
    }
}

/// Connects, authenticates and asks for a sign of life.
pub(super) async fn try_once(settings: &RedisStore) -> Result<(), String> {
    let (mut connection, _driver) = connect(settings).await.map_err(|error| error.to_string())?;
    let ping = cmd("PING");
    let pong = ping.query_async::<Value>(&mut connection);
    match tokio::time::timeout(HEARTBEAT_LIMIT, pong).await {
        Ok(pong) => pong.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
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

/// Different for each write: a counter would begin anew in a Redis that lost its memory.
fn tag() -> Result<String, Failure> {
    let mut bits = [0; 8];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| Failure::NoRandomness)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bits)))
}
