//! The audit log as the gateway uses it: one method for each kind of record.
//!
//! Only [`Audit::decision`] waits, for at most `audit.timeout`. All other methods copy their record into the queue of the
//! [`writer`](super::writer) and return.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand;
use smallvec::{SmallVec, smallvec};

use super::changes::{self, ConfigTrigger, Values};
use super::digest::Mac;
use super::facts::{CallFacts, DecisionFacts, DecisionRef, Evidence, OutcomeFacts, ShownFacts};
use super::known_macs::KnownMacs;
use super::note::{KeyError, Signer};
use super::number_keys::{NumberKey, NumberKeys, Subject};
use super::progress::Progress;
use super::recipient::Recipient;
use super::record::{
    Call, Called, Decision, Delivered, Ended, JudgedPreview, KeyedMac, Kind, Number, Outcome, Record, Refusals,
    ShortList, Shown, Store,
};
use super::writer::queue::Queue;
use super::writer::{Writer, WriterSettings};
use crate::config::{self, Config};
use crate::preview::{
    AgentId, AgentPreviews, Clock, ControlId, DialedNumber, Preview, Reason, RecordId, ShownRef, Timestamp, Verdict,
    millis,
};
use crate::telemetry::{bounded, is_printable_ascii, sanitized};

/// Longest text in a record that a client or the upstream chose.
const MAX_TEXT: usize = 128;
/// Longest masked number.
const MAX_NUMBER: usize = 64;
/// Most previews that a decision lists.
const MAX_PREVIEWS: usize = 16;
/// How long a start waits until the log is open.
const OPEN: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last records.
const EXIT: Duration = Duration::from_secs(5);

/// The settings of an audit log.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the segments are.
    pub directory: PathBuf,
    /// The file of the Ed25519 key.
    pub signing_key: PathBuf,
    /// The directory of the number keys.
    pub number_keys: PathBuf,
    /// The file of the auditor's public key: numbers are stored encrypted to it as well.
    pub recipient: Option<PathBuf>,
    /// How the writer works.
    pub writer: WriterSettings,
    /// How long the end of the process waits for the last records.
    pub exit: Duration,
}

impl From<&config::Audit> for Settings {
    fn from(audit: &config::Audit) -> Self {
        Self {
            directory: audit.directory.clone(),
            signing_key: audit.signing_key.clone(),
            number_keys: audit.number_keys.clone(),
            recipient: audit.recipient.clone(),
            writer: WriterSettings {
                durability: audit.durability,
                checkpoint_interval: audit.checkpoint_interval,
                segment: audit.segment,
                segment_bytes: audit.segment_size as u64,
                retention: audit.retention,
            },
            exit: EXIT,
        }
    }
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
    /// The auditor's public key cannot be used.
    #[error("audit.recipient {}: {source}", path.display())]
    Recipient {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyError,
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

/// The state of the audit log, for `/readyz`, the metrics and the status page.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Records cannot be written at the moment.
    pub failing: bool,
    /// Records taken, by kind.
    pub taken: Vec<(Kind, u64)>,
    /// Records lost, by kind.
    pub lost: Vec<(Kind, u64)>,
    /// How far the chain has come; `None` until the first line is written.
    pub chain: Option<Progress>,
    /// Callouts of this process that went upstream and whose outcome has no record yet.
    pub open_decisions: u64,
}

/// The audit log of one gateway.
pub struct Audit {
    queue: Arc<Queue>,
    keys: Arc<NumberKeys>,
    macs: KnownMacs,
    signer: Arc<Signer>,
    recipient: Option<Recipient>,
    /// As the last `config` record has it.
    configuration: Mutex<Values>,
    clock: Arc<dyn Clock>,
    run: u64,
    next: AtomicU64,
    /// Decisions to send a callout that have no outcome yet.
    open: AtomicU64,
}

/// Ends the audit log when dropped: writes the records that wait, closes the segment and signs it.
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
        let (audit, mut writer) = Self::prepare(settings, clock)?;
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let (opened, opening) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("audit".into()).spawn(move || {
            let _log = tracing::dispatcher::set_default(&dispatch);
            if let Err(error) = writer.open_first() {
                tracing::error!(target: "previewgate::audit", %error, "the audit log cannot be opened");
            }
            drop(opened);
            writer.run();
        })?;
        // A disk that stands still must not keep the gateway from serving polls.
        if opening.recv_timeout(OPEN) == Err(RecvTimeoutError::Timeout) {
            audit.queue.set_failing(true);
            tracing::error!(target: "previewgate::audit", "the disk of the audit log does not answer");
        }
        let guard = AuditGuard { queue: Arc::clone(&audit.queue), thread: Some(thread), exit: settings.exit };
        Ok((Arc::new(audit), guard))
    }

    /// Reads the keys; the writer does nothing yet.
    fn prepare(settings: &Settings, clock: Arc<dyn Clock>) -> Result<(Self, Writer), AuditError> {
        let path = settings.signing_key.clone();
        let signer = Arc::new(Signer::read(&path).map_err(|source| AuditError::SigningKey { path, source })?);
        let path = settings.number_keys.clone();
        let keys = NumberKeys::open(&path, clock.now()).map_err(|source| AuditError::NumberKeys { path, source })?;
        let recipient = settings.recipient.as_deref().map(read_recipient).transpose()?;
        let (queue, keys) = (Arc::new(Queue::default()), Arc::new(keys));
        let writer = Writer::new(
            &settings.directory,
            Arc::clone(&signer),
            Arc::clone(&keys),
            Arc::clone(&clock),
            settings.writer,
            Arc::clone(&queue),
        );
        let mut run = [0; 8];
        rand::fill(&mut run).map_err(|_| io::Error::other("the system has no random numbers"))?;
        let run = u64::from_be_bytes(run);
        let (configuration, next, open) = (Mutex::default(), AtomicU64::new(1), AtomicU64::new(0));
        let macs = KnownMacs::default();
        Ok((Self { queue, keys, macs, signer, recipient, configuration, clock, run, next, open }, writer))
    }

    /// The name of the chain that this gateway writes; empty until the directory could be opened.
    pub fn instance(&self) -> &str {
        self.queue.instance()
    }

    fn next_id(&self) -> RecordId {
        RecordId { run: self.run, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// An agent is about to be shown a preview. `None`: the record is lost, and counted as lost.
    pub fn shown(&self, at: Timestamp, facts: &ShownFacts<'_>) -> Option<ShownRef> {
        let key = self.keys.at(at)?;
        let numbers = facts.announcement.numbers.iter().map(|number| Number {
            masked: masked(number).into(),
            hmac: self.macs.mac(&key, Subject::Number, number.reveal().as_bytes()),
        });
        let evidence = facts.evidence.iter().map(|(name, value)| (name.as_str().into(), kept(value, &key).into()));
        let id = self.next_id();
        let record = Record::Shown(Shown {
            id,
            agent: facts.agent.as_u32(),
            control_id: facts.announcement.control_id.0,
            numbers: numbers.collect(),
            key: key.id(),
            sealed: self.sealed(id, &facts.announcement.numbers).map(Into::into),
            event_type: facts.event_type.into(),
            delivery: facts.delivery.into(),
            event: facts.event,
            position: facts.position,
            generated_at: facts.generated_at,
            session: self.session(facts.guid, &key),
            evidence: evidence.collect(),
        });
        self.queue.push(at, &record).then(|| ShownRef { record: id, key: key.id(), at: None })
    }

    /// Records whether the answer or push that shows these previews reached the client.
    pub fn delivered(&self, shown: &[ShownRef], result: &str) {
        if !shown.is_empty() {
            self.push(&Record::Delivered(Delivered { shown: names(shown), result: result.into() }));
        }
    }

    /// Callouts that were refused and only counted.
    pub fn refusals(&self, since: Timestamp, client: Option<&str>, reasons: &[(Reason, u64)]) {
        let reasons = reasons.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect();
        self.push(&Record::Refusals(Refusals { since, client: client.map(Into::into), reasons }));
    }

    /// A preview of an agent is over.
    pub fn ended(&self, agent: AgentId, control_id: Option<ControlId>, shown: &[ShownRef], cause: &str) {
        let control_id = control_id.map(|id| id.0);
        let record =
            Ended { agent: agent.as_u32(), control_id, shown: names(shown), before: None, cause: cause.into() };
        self.push(&Record::Ended(record));
    }

    /// The previews of an agent are over that any gateway showed before `moment`.
    pub fn ended_before(&self, agent: AgentId, moment: Timestamp, cause: &str) {
        let (shown, before, cause) = (ShortList::default(), Some(moment), cause.into());
        self.push(&Record::Ended(Ended { agent: agent.as_u32(), control_id: None, shown, before, cause }));
    }

    /// Records a callout that is about to go upstream, and waits until the record is where `audit.durability` asks for.
    ///
    /// # Errors
    /// [`AuditUnavailable`] when that takes longer than `timeout`. The record may still be written later: if the
    /// callout is refused, [`Audit::outcome`] must say that it was not sent.
    pub fn decision<'s>(
        &'s self,
        facts: &DecisionFacts<'_>,
        timeout: Duration,
    ) -> impl Future<Output = Result<DecisionRef, AuditUnavailable>> + use<'s> {
        let id = facts.id;
        // While the disk is known to fail, the next callout need not wait to find out.
        let written = (!self.queue.is_failing())
            .then(|| self.queue.push_and_wait(facts.at, &Record::Decision(self.decision_record(facts))))
            .flatten();
        self.opened(facts, written.is_some());
        async move {
            let written = written.ok_or(AuditUnavailable { id: None })?;
            match tokio::time::timeout(timeout, written).await {
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
    }

    /// Records a callout that does not go upstream; does not wait. Also for callouts that are sent although
    /// [`Audit::decision`] failed (`audit.on_failure`).
    pub fn note_decision(&self, facts: &DecisionFacts<'_>) -> Option<DecisionRef> {
        let taken = self.queue.push(facts.at, &Record::Decision(self.decision_record(facts)));
        self.opened(facts, taken);
        taken.then_some(DecisionRef { id: facts.id, seq: None })
    }

    /// Counts a decision that will have an outcome.
    fn opened(&self, facts: &DecisionFacts<'_>, taken: bool) {
        if taken && facts.verdict != Verdict::Rejected {
            self.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn decision_record<'a>(&self, facts: &DecisionFacts<'a>) -> Decision<'a> {
        let relevant = facts.previews.map(|previews| relevant(previews, facts.control_id)).unwrap_or_default();
        let current = self.keys.at(facts.at);
        let called = facts.called.map(|number| Called {
            masked: masked(number).into(),
            hmacs: self.hashes(number, &relevant, current.as_deref()),
            // A number of a preview is already encrypted in the record of the preview.
            sealed: if relevant.iter().any(|preview| preview.find(number).is_some()) {
                None
            } else {
                self.sealed(facts.id, std::slice::from_ref(number)).map(Into::into)
            },
        });
        let judged = |preview: &&Preview| JudgedPreview {
            control_id: preview.control_id.0,
            age_ms: millis(facts.at.since(preview.announced_at)),
            number_age_ms: facts
                .called
                .and_then(|called| preview.find(called))
                .map(|number| millis(facts.at.since(number.shown_at))),
            shown: names(&preview.shown),
        };
        Decision {
            id: facts.id,
            agent: facts.agent.map(AgentId::as_u32),
            tenant: facts.tenant.map(Into::into),
            verdict: facts.verdict.as_str().into(),
            reason: facts.reason.as_str().into(),
            mode: facts.mode.into(),
            allowed_by: facts.allowed_by.map(Into::into),
            called,
            control_id: facts.control_id.map(|id| id.0),
            previews: relevant.iter().map(judged).collect(),
            calls: counted_calls(facts),
            calls_per_number: facts.rule.calls_per_number,
            ttl_ms: millis(facts.rule.ttl),
            judged_by: facts.judged_by.map(Into::into),
            client: facts.client.map(Into::into),
            certificate: facts.certificate,
            session: current.and_then(|key| self.session(facts.guid, &key)),
            session_match: facts.session_match.map(Into::into),
            unconfirmed: facts.unconfirmed,
            request_id: bounded(facts.request_id, MAX_TEXT),
            trace_id: facts.trace_id.map(|id| id.to_string().into()),
        }
    }

    fn session(&self, guid: Option<&[u8]>, key: &NumberKey) -> Option<Mac> {
        guid.map(|guid| self.macs.mac(key, Subject::Session, guid))
    }

    /// The numbers for the auditor, if there is one.
    fn sealed(&self, record: RecordId, numbers: &[DialedNumber]) -> Option<String> {
        let recipient = self.recipient.as_ref().filter(|_| !numbers.is_empty())?;
        let numbers: Vec<&str> = numbers.iter().map(DialedNumber::reveal).collect();
        recipient.seal(record, &numbers)
    }

    /// The number under each key that it can be compared under.
    fn hashes(&self, number: &DialedNumber, previews: &[&Preview], current: Option<&NumberKey>) -> ShortList<KeyedMac> {
        let bytes = number.reveal().as_bytes();
        let mut hashes = ShortList::<KeyedMac>::default();
        let mut add = |key: &NumberKey| {
            if !hashes.iter().any(|known| known.key == key.id()) {
                hashes.push(KeyedMac { key: key.id(), hmac: self.macs.mac(key, Subject::Number, bytes) });
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
            hashes.push(KeyedMac { key: key.id(), hmac: self.macs.mac(key, Subject::Number, bytes) });
        }
        hashes
    }

    /// Records the result of a callout. If the queue is full, the decision stays without outcome.
    pub fn outcome(&self, decision: RecordId, facts: &OutcomeFacts<'_>) {
        let record = Record::Outcome(Outcome {
            decision,
            result: facts.result.into(),
            reason: facts.reason.map(|reason| reason.as_str().into()),
            unconfirmed: facts.unconfirmed,
            status: facts.status,
            retcode: facts.retcode.map(|text| bounded(text, MAX_TEXT)),
            call_id: facts.call_id.map(|text| bounded(text, MAX_TEXT)),
            upstream: facts.upstream.map(Into::into),
            upstream_ms: facts.upstream_duration.map(millis),
        });
        if self.queue.push(self.clock.now(), &record) {
            let closed = |open: u64| Some(open.saturating_sub(1));
            let _ = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, closed);
        }
    }

    /// The platform reports on a call.
    pub fn call(&self, facts: &CallFacts<'_>, decision: Option<RecordId>) {
        self.push(&Record::Call(Call {
            agent: facts.agent.as_u32(),
            call_id: bounded(facts.call_id, MAX_TEXT),
            decision,
            event_type: bounded(facts.event_type, MAX_TEXT),
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

    /// A configuration is in force from now on, or the files that it names have another content.
    pub fn config(&self, trigger: ConfigTrigger, config: &Config) {
        let values = changes::values(config, &|secret| self.signer.fingerprint_of_secret(secret));
        let mut known = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = changes::between(&known, &values);
        // Every segment begins with it, so that each can be read alone.
        let all = changes::between(&Values::new(), &values);
        self.queue.set_configuration(changes::in_force(ConfigTrigger::Segment, config, all));
        self.push(&Record::Config(changes::in_force(trigger, config, changes)));
        *known = values;
    }

    fn push(&self, record: &Record<'_>) {
        self.queue.push(self.clock.now(), record);
    }

    /// The state of the log.
    pub fn status(&self) -> Status {
        let each = |count: &dyn Fn(Kind) -> u64| Kind::ALL.iter().map(|kind| (*kind, count(*kind))).collect();
        Status {
            failing: self.queue.is_failing(),
            taken: each(&|kind| self.queue.taken(kind)),
            lost: each(&|kind| self.queue.lost(kind)),
            chain: self.queue.chain.now(),
            open_decisions: self.open.load(Ordering::Relaxed),
        }
    }

    /// To be called by a thread whenever it has nothing to do. Its callouts then wake the writer together.
    pub fn before_park(&self) {
        self.queue.before_park();
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

/// A guard with several owners. The first one that calls [`SharedGuard::end`] ends the log.
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

fn read_recipient(path: &Path) -> Result<Recipient, AuditError> {
    Recipient::read(path).map_err(|source| AuditError::Recipient { path: path.to_owned(), source })
}

fn masked(number: &DialedNumber) -> String {
    let (text, masked) = (number.reveal(), number.masked());
    // Nearly every number: nothing of it is to be escaped or cut.
    if text.len() <= MAX_NUMBER && is_printable_ascii(text) {
        let mut whole = String::with_capacity(text.len());
        // Writing to a string cannot fail.
        let _ = write!(whole, "{masked}");
        return whole;
    }
    sanitized(masked, MAX_NUMBER).to_string()
}

fn kept(value: &Evidence, key: &NumberKey) -> String {
    match value {
        Evidence::Value(text) => sanitized(text, MAX_TEXT).to_string(),
        Evidence::Hash(text) => key.mac(Subject::Evidence, text.as_bytes()).to_string(),
    }
}

fn names(shown: &[ShownRef]) -> ShortList<RecordId> {
    shown.iter().map(|shown| shown.record).collect()
}

/// The previews that the verdict follows from: the one that the callout names, or the newest ones if it names none.
fn relevant(previews: &AgentPreviews, control_id: Option<ControlId>) -> SmallVec<[&Preview; 1]> {
    match control_id.and_then(|control_id| previews.find(control_id)) {
        Some(named) => smallvec![named],
        None => previews.iter().skip(previews.len().saturating_sub(MAX_PREVIEWS)).collect(),
    }
}

/// The calls of the number that is called, under the control ID that is named.
fn counted_calls(facts: &DecisionFacts<'_>) -> Vec<RecordId> {
    let preview = facts.control_id.and_then(|control_id| facts.previews?.find(control_id));
    let calls = preview.zip(facts.called).into_iter().flat_map(|(preview, called)| preview.calls.of(called));
    calls.map(|call| call.id).collect()
}

#[cfg(test)]
mod tests;
