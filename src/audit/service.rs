//! The audit log as the gateway uses it: one method for each thing that happens.
//!
//! Only [`Audit::decision`] waits, and only for as long as `audit.timeout` allows. Everything else copies its record into
//! the queue of the [`writer`](super::writer) and returns.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand;

use super::changes;
use super::digest::{Digest, Mac};
use super::note::{KeyError, Signer};
use super::number_keys::{NumberKey, NumberKeys, Subject};
use super::record::{
    Call, Called, ConfigInForce, Decision, Delivered, Ended, JudgedPreview, KeyedMac, Kind, Number, Outcome, Record,
    Shown, Store,
};
use super::writer::queue::Queue;
use super::writer::{Writer, WriterSettings};
use crate::preview::{
    AgentId, Announcement, Clock, ControlId, DialedNumber, Preview, Reason, RecordId, ShownRef, Timestamp, Verdict,
};
use crate::telemetry::sanitized;

/// Longest text in a record that a client or the upstream chose.
const MAX_TEXT: usize = 128;
/// Longest masked number.
const MAX_NUMBER: usize = 64;

/// What the audit log needs to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the segments are.
    pub directory: PathBuf,
    /// The file of the Ed25519 key.
    pub signing_key: PathBuf,
    /// The directory of the number keys.
    pub number_keys: PathBuf,
    /// How the writer works.
    pub writer: WriterSettings,
    /// Longest time that a callout waits for its record.
    pub timeout: Duration,
    /// How long the end of the process waits for the last records.
    pub exit: Duration,
}

/// Why the audit log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The signing key cannot be used.
    #[error("audit.signing_key {}: {source}", path.display())]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// The number keys cannot be read or made.
    #[error("audit.number_keys {}: {source}", path.display())]
    NumberKeys {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The writer's thread cannot be made, or the system has no random numbers.
    #[error("the audit log cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// The record of a callout was not confirmed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot record the callout")]
pub struct AuditUnavailable {
    /// The decision's name, if its record may still be written.
    pub id: Option<RecordId>,
}

/// A decision that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionRef {
    /// Its name.
    pub id: RecordId,
    /// Its position in the chain; absent if nobody waited for it.
    pub seq: Option<u64>,
}

/// An event that shows a preview.
#[derive(Clone, Debug)]
pub struct ShownFacts<'a> {
    /// The agent.
    pub agent: AgentId,
    /// What is shown.
    pub announcement: &'a Announcement,
    /// The platform's name for the event.
    pub event_type: &'a str,
    /// How it reached the application.
    pub delivery: &'a str,
    /// The digest of the event's bytes.
    pub event: Digest,
    /// When the platform made it.
    pub generated_at: Option<u64>,
    /// The session's GUID.
    pub guid: Option<&'a [u8]>,
    /// What is kept of `callData`.
    pub evidence: &'a BTreeMap<String, Evidence>,
}

/// A member of `callData` that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// As it is.
    Value(String),
    /// As its keyed hash.
    Hash(String),
}

/// A callout that was judged.
#[derive(Clone, Debug)]
pub struct DecisionFacts<'a> {
    /// The agent, if the path names one.
    pub agent: Option<AgentId>,
    /// The result.
    pub verdict: Verdict,
    /// The reason.
    pub reason: Reason,
    /// `validation.mode`
    pub mode: &'a str,
    /// The setting that let it through although the rule refused it, in `enforce` mode.
    pub allowed_by: Option<&'a str>,
    /// The number to call, if it could be read.
    pub called: Option<&'a DialedNumber>,
    /// The control ID, if it could be read.
    pub control_id: Option<ControlId>,
    /// The agent's previews that the callout was judged by.
    pub previews: &'a [Preview],
    /// When it was judged.
    pub at: Timestamp,
    /// `previews.ttl`
    pub ttl: Duration,
    /// Where the previews came from; absent if the rule was not applied.
    pub judged_by: Option<&'a str>,
    /// The client's address.
    pub client: Option<&'a str>,
    /// The SHA-256 of the client's certificate.
    pub certificate: Option<Digest>,
    /// The session's GUID.
    pub guid: Option<&'a [u8]>,
    /// The request's ID.
    pub request_id: &'a str,
    /// The request's trace ID.
    pub trace_id: Option<&'a str>,
}

/// The result of a callout.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutcomeFacts<'a> {
    /// `answered`, `failed` or `not_sent`.
    pub result: &'a str,
    /// The HTTP status of the upstream's answer.
    pub status: Option<u16>,
    /// `retcode`
    pub retcode: Option<&'a str>,
    /// The platform's name for the call.
    pub call_id: Option<&'a str>,
    /// The endpoint.
    pub upstream: Option<&'a str>,
    /// The upstream's part of the time.
    pub upstream_duration: Option<Duration>,
}

/// What the platform reports on a call.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// The agent.
    pub agent: AgentId,
    /// The platform's name for the call.
    pub call_id: &'a str,
    /// The platform's name for the event.
    pub event_type: &'a str,
    /// `alerting`, `talking`, `failed` or `released`.
    pub phase: &'a str,
    /// The digest of the event's bytes.
    pub event: Digest,
    /// When the platform made it.
    pub generated_at: Option<u64>,
}

/// The state of the audit log, for `/readyz` and the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Records cannot be written at the moment.
    pub failing: bool,
    /// Records taken, by kind.
    pub taken: Vec<(Kind, u64)>,
    /// Records lost, by kind.
    pub lost: Vec<(Kind, u64)>,
}

/// The audit log of one gateway.
pub struct Audit {
    queue: Arc<Queue>,
    keys: Arc<NumberKeys>,
    clock: Arc<dyn Clock>,
    instance: String,
    run: u64,
    next: AtomicU64,
    timeout: Duration,
}

/// Ends the audit log when dropped: writes what there is, closes the segment and signs it.
#[derive(Debug)]
#[must_use = "dropping the guard ends the audit log"]
pub struct AuditGuard {
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
    exit: Duration,
}

impl Audit {
    /// Reads the keys, opens a segment and starts the writer. A directory that cannot be written is no error: callouts are
    /// refused until it can.
    ///
    /// # Errors
    /// [`AuditError`]
    pub fn start(settings: &Settings, clock: Arc<dyn Clock>) -> Result<(Arc<Self>, AuditGuard), AuditError> {
        let path = settings.signing_key.clone();
        let signer = Signer::read(&path).map_err(|source| AuditError::SigningKey { path, source })?;
        let path = settings.number_keys.clone();
        let keys = NumberKeys::open(&path, clock.now()).map_err(|source| AuditError::NumberKeys { path, source })?;
        let (queue, keys) = (Arc::new(Queue::default()), Arc::new(keys));
        let mut writer = Writer::new(
            &settings.directory,
            signer,
            Arc::clone(&keys),
            Arc::clone(&clock),
            settings.writer,
            Arc::clone(&queue),
        );
        let instance = match writer.open_first() {
            Ok(instance) => instance.to_owned(),
            Err(error) => {
                tracing::error!(target: "previewgate::audit", %error, "the audit log cannot be opened");
                String::new()
            }
        };
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let thread = thread::Builder::new().name("audit".into()).spawn(move || {
            let _log = tracing::dispatcher::set_default(&dispatch);
            writer.run();
        })?;
        let mut run = [0; 8];
        rand::fill(&mut run).map_err(|_| io::Error::other("the system has no random numbers"))?;
        let guard = AuditGuard { queue: Arc::clone(&queue), thread: Some(thread), exit: settings.exit };
        let (run, next, timeout) = (u64::from_be_bytes(run), AtomicU64::new(1), settings.timeout);
        Ok((Arc::new(Self { queue, keys, clock, instance, run, next, timeout }), guard))
    }

    /// The name of the chain that this gateway writes; empty if the directory could not be opened at the start.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    fn next_id(&self) -> RecordId {
        RecordId { run: self.run, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// An agent is about to be shown a preview. `None`: the record is lost, and counted as lost.
    pub fn shown(&self, at: Timestamp, facts: &ShownFacts<'_>) -> Option<ShownRef> {
        let key = self.keys.at(at)?;
        let numbers = facts.announcement.numbers.iter().map(|number| Number {
            masked: masked(number).into(),
            hmac: key.mac(Subject::Number, number.reveal().as_bytes()),
        });
        let evidence = facts.evidence.iter().map(|(name, value)| (name.as_str().into(), kept(value, &key).into()));
        let id = self.next_id();
        let record = Record::Shown(Shown {
            id,
            agent: facts.agent.as_u32(),
            control_id: facts.announcement.control_id.0,
            numbers: numbers.collect(),
            key: key.id(),
            event_type: facts.event_type.into(),
            delivery: facts.delivery.into(),
            event: facts.event,
            generated_at: facts.generated_at,
            session: session(facts.guid, &key),
            evidence: evidence.collect(),
        });
        self.queue.push(at, &record).then(|| ShownRef { record: id, key: key.id() })
    }

    /// The answer that shows these previews was handed to the client's socket, or was not.
    pub fn delivered(&self, shown: &[ShownRef], written: bool) {
        if !shown.is_empty() {
            let result = if written { "written" } else { "client_gone" };
            self.push(&Record::Delivered(Delivered { shown: names(shown), result: result.into() }));
        }
    }

    /// A preview of an agent is over.
    pub fn ended(&self, agent: AgentId, control_id: ControlId, shown: &[ShownRef], cause: &str) {
        let record =
            Ended { agent: agent.as_u32(), control_id: control_id.0, shown: names(shown), cause: cause.into() };
        self.push(&Record::Ended(record));
    }

    /// Records a callout that is about to go upstream, and waits until the record is where `audit.durability` asks for.
    ///
    /// # Errors
    /// [`AuditUnavailable`] when that takes longer than `audit.timeout`. The record may still be written later: if the
    /// callout is refused, [`Audit::outcome`] must say that it was not sent.
    pub async fn decision(&self, facts: &DecisionFacts<'_>) -> Result<DecisionRef, AuditUnavailable> {
        // While the disk is known to fail, the next callout need not wait to find out.
        if self.queue.is_failing() {
            self.queue.lose(facts.at, Kind::Decision);
            return Err(AuditUnavailable { id: None });
        }
        let id = self.next_id();
        let written = {
            let record = Record::Decision(self.decision_record(id, facts));
            self.queue.push_and_wait(facts.at, &record)
        };
        let Some(written) = written else { return Err(AuditUnavailable { id: None }) };
        match tokio::time::timeout(self.timeout, written).await {
            Ok(Ok(seq)) => Ok(DecisionRef { id, seq: Some(seq) }),
            Ok(Err(_)) => Err(AuditUnavailable { id: Some(id) }),
            Err(_) => {
                if self.queue.set_failing(true) {
                    tracing::error!(target: "previewgate::audit", "the disk of the audit log does not answer");
                }
                Err(AuditUnavailable { id: Some(id) })
            }
        }
    }

    /// Records a callout that does not go upstream; does not wait. Also for callouts that are sent although
    /// [`Audit::decision`] failed (`audit.on_failure`).
    pub fn note_decision(&self, facts: &DecisionFacts<'_>) -> Option<DecisionRef> {
        let id = self.next_id();
        let taken = self.queue.push(facts.at, &Record::Decision(self.decision_record(id, facts)));
        taken.then_some(DecisionRef { id, seq: None })
    }

    fn decision_record<'a>(&self, id: RecordId, facts: &DecisionFacts<'a>) -> Decision<'a> {
        let relevant = relevant(facts.previews, facts.control_id);
        let current = self.keys.at(facts.at);
        let called = facts.called.map(|number| Called {
            masked: masked(number).into(),
            hmacs: self.hashes(number, &relevant, current.as_deref()),
        });
        let judged = |preview: &&Preview| JudgedPreview {
            control_id: preview.control_id.0,
            age_ms: millis(facts.at.since(preview.announced_at)),
            shown: names(&preview.shown),
        };
        Decision {
            id,
            agent: facts.agent.map(AgentId::as_u32),
            verdict: facts.verdict.as_str().into(),
            reason: facts.reason.as_str().into(),
            mode: facts.mode.into(),
            allowed_by: facts.allowed_by.map(Into::into),
            called,
            control_id: facts.control_id.map(|id| id.0),
            previews: relevant.iter().map(judged).collect(),
            ttl_ms: millis(facts.ttl),
            judged_by: facts.judged_by.map(Into::into),
            client: facts.client.map(Into::into),
            certificate: facts.certificate,
            session: current.and_then(|key| session(facts.guid, &key)),
            request_id: sanitized(facts.request_id, MAX_TEXT).to_string().into(),
            trace_id: facts.trace_id.map(|id| sanitized(id, MAX_TEXT).to_string().into()),
        }
    }

    /// The number under each key that it can be compared under.
    fn hashes(&self, number: &DialedNumber, previews: &[&Preview], current: Option<&NumberKey>) -> Vec<KeyedMac> {
        let bytes = number.reveal().as_bytes();
        let mut hashes: Vec<KeyedMac> = Vec::new();
        let mut add = |key: &NumberKey| {
            if !hashes.iter().any(|known| known.key == key.id()) {
                hashes.push(KeyedMac { key: key.id(), hmac: key.mac(Subject::Number, bytes) });
            }
        };
        for shown in previews.iter().flat_map(|preview| &preview.shown) {
            match current.filter(|current| current.id() == shown.key) {
                Some(key) => add(key),
                None => {
                    if let Some(key) = self.keys.find(shown.key) {
                        add(&key);
                    }
                }
            }
        }
        if hashes.is_empty()
            && let Some(key) = current
        {
            hashes.push(KeyedMac { key: key.id(), hmac: key.mac(Subject::Number, bytes) });
        }
        hashes
    }

    /// The result of a callout.
    pub fn outcome(&self, decision: RecordId, facts: &OutcomeFacts<'_>) {
        self.push(&Record::Outcome(Outcome {
            decision,
            result: facts.result.into(),
            status: facts.status,
            retcode: facts.retcode.map(|text| sanitized(text, MAX_TEXT).to_string().into()),
            call_id: facts.call_id.map(|text| sanitized(text, MAX_TEXT).to_string().into()),
            upstream: facts.upstream.map(Into::into),
            upstream_ms: facts.upstream_duration.map(millis),
        }));
    }

    /// The platform reports on a call.
    pub fn call(&self, facts: &CallFacts<'_>, decision: Option<RecordId>) {
        self.push(&Record::Call(Call {
            agent: facts.agent.as_u32(),
            call_id: sanitized(facts.call_id, MAX_TEXT).to_string().into(),
            decision,
            event_type: sanitized(facts.event_type, MAX_TEXT).to_string().into(),
            phase: facts.phase.into(),
            event: facts.event,
            generated_at: facts.generated_at,
        }));
    }

    /// The shared store was lost, or is back.
    pub fn store(&self, lost: bool, since: Timestamp) {
        let state = if lost { "lost" } else { "back" };
        self.push(&Record::Store(Store { state: state.into(), since }));
    }

    /// A configuration is in force from now on. Both are TOML texts as `check` prints them; `old` is empty at the start.
    pub fn config(&self, trigger: &str, mode: &str, old: &str, new: &str) {
        let changes = changes::between(old, new);
        let configuration = Digest::of(new.as_bytes());
        self.push(&Record::Config(ConfigInForce {
            trigger: trigger.into(),
            mode: mode.into(),
            configuration,
            changes,
        }));
    }

    /// Certificate or key files were read again.
    pub fn files_read_again(&self, mode: &str, configuration: &str, files: &[(String, Digest)]) {
        let changes = files.iter().map(|(key, digest)| changes::file(key, *digest)).collect();
        let configuration = Digest::of(configuration.as_bytes());
        let trigger = "certificates".into();
        self.push(&Record::Config(ConfigInForce { trigger, mode: mode.into(), configuration, changes }));
    }

    fn push(&self, record: &Record<'_>) {
        self.queue.push(self.clock.now(), record);
    }

    /// How the log is.
    pub fn status(&self) -> Status {
        let each = |count: &dyn Fn(Kind) -> u64| Kind::ALL.iter().map(|kind| (*kind, count(*kind))).collect();
        Status {
            failing: self.queue.is_failing(),
            taken: each(&|kind| self.queue.taken(kind)),
            lost: each(&|kind| self.queue.lost(kind)),
        }
    }

    /// Whether records cannot be written at the moment.
    pub fn is_failing(&self) -> bool {
        self.queue.is_failing()
    }

    /// The keyed hash of a value in the month of `at`, for tests and `audit hash`.
    pub fn hash(&self, at: Timestamp, number: &DialedNumber) -> Option<Mac> {
        self.keys.at(at).map(|key| key.mac(Subject::Number, number.reveal().as_bytes()))
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        // A thread that hangs in a disk is left behind; the process ends without it.
        if self.queue.close(self.exit)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Shares the guard among those who may end the log; the first one ends it.
#[derive(Clone, Debug)]
pub struct SharedGuard(Arc<Mutex<Option<AuditGuard>>>);

impl SharedGuard {
    /// Takes the guard.
    pub fn new(guard: AuditGuard) -> Self {
        Self(Arc::new(Mutex::new(Some(guard))))
    }

    /// Ends the log.
    pub fn end(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn masked(number: &DialedNumber) -> String {
    sanitized(number.masked(), MAX_NUMBER).to_string()
}

fn kept(value: &Evidence, key: &NumberKey) -> String {
    match value {
        Evidence::Value(text) => sanitized(text, MAX_TEXT).to_string(),
        Evidence::Hash(text) => key.mac(Subject::Evidence, text.as_bytes()).to_string(),
    }
}

fn session(guid: Option<&[u8]>, key: &NumberKey) -> Option<Mac> {
    guid.map(|guid| key.mac(Subject::Session, guid))
}

fn names(shown: &[ShownRef]) -> Vec<RecordId> {
    shown.iter().map(|shown| shown.record).collect()
}

/// The preview that the callout names, or all if it names none of them: what the verdict follows from.
fn relevant(previews: &[Preview], control_id: Option<ControlId>) -> Vec<&Preview> {
    let named: Vec<_> = previews.iter().filter(|preview| Some(preview.control_id) == control_id).collect();
    if named.is_empty() { previews.iter().collect() } else { named }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
