//! The last decisions on callouts, for operators who ask what just happened and why.
//!
//! Each decision is kept with the agent's previews of that moment, so that a refusal can be explained although the
//! previews have changed since. Numbers are masked before they are kept, and formatted when an operator asks. The log and
//! the audit log are the lasting records. This one is bounded in entries and in bytes, and ends with the process.
//!
//! A decision is built before the lock is taken, and evicted decisions are freed after the lock is released, so that
//! workers seldom wait for each other.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::request_ids::RequestId;
use crate::config::Mode;
use crate::preview::{AgentId, AgentPreviews, ControlId, DialedNumber, Masked, Preview, Reason, Timestamp, Verdict};
use crate::protocol::envelope::SUCCESS;
use crate::store::{GoneCause, RecentEnd};
use crate::telemetry::{DecisionRecord, is_printable_ascii, sanitized};

/// Decisions that are kept.
pub const MAX_DECISIONS: usize = 1000;
/// Memory for all of them, in bytes. A decision takes about 600 bytes, and some KiB if its agent has many previews.
const MAX_BYTES: usize = 4 << 20;
/// When there is no room left, one client may have one part in this many of the callouts that were not forwarded.
const CLIENT_SHARE: usize = 4;
/// Previews that are kept with a decision: the newest ones, and also the one that the callout names.
const MAX_PREVIEWS: usize = 8;
/// Numbers that are kept of one preview.
const MAX_NUMBERS: usize = 8;
/// Characters that are kept of one masked number.
const MAX_NUMBER: usize = 32;
/// Characters that are kept of text that a client or the upstream chose.
const MAX_TEXT: usize = 128;
/// Minutes for which decisions are counted.
const MINUTES: usize = 60;
const MINUTE: u64 = 60;

/// One decision, and what it was based on.
#[derive(Debug)]
pub struct Decision {
    /// Its position among all decisions since the start.
    pub number: u64,
    /// When the response was known.
    pub at: SystemTime,
    /// From the path, if it contains a valid agent ID.
    pub agent_id: Option<AgentId>,
    /// What happened to the request.
    pub verdict: Verdict,
    /// The reason for the verdict.
    pub reason: Reason,
    /// The validation mode at the time of the decision.
    pub mode: Mode,
    /// The masked number, if it could be read.
    pub called: Option<SeenNumber>,
    /// `callcontrolid`, if it could be read.
    pub control_id: Option<ControlId>,
    /// Time since the matching preview was announced.
    pub preview_age: Option<Duration>,
    /// What the previews were looked up in, if several gateways share them.
    pub judged_by: Option<&'static str>,
    /// The `retcode` that the client received.
    pub retcode: Option<Cow<'static, str>>,
    /// The `result` of a successful response.
    pub call_id: Option<Arc<str>>,
    /// The endpoint that answered, or may have received the request.
    pub upstream: Option<Arc<str>>,
    /// The HTTP status that the client received; `None` if the client left before.
    pub status: Option<u16>,
    /// From the request head to the response.
    pub duration: Duration,
    /// The time that the upstream took.
    pub upstream_duration: Option<Duration>,
    /// The gateway's own name for the request.
    pub id: RequestId,
    /// The client's own name for the request, if it had one.
    pub given_id: Option<Box<str>>,
    /// The client's address.
    pub client: Arc<str>,
    /// The agent's previews at that moment, the newest first.
    pub previews: SmallVec<[SeenPreview; 1]>,
    /// Further previews that the agent had.
    pub more_previews: usize,
    /// Recent ends of earlier previews, the newest first.
    pub ended: Vec<SeenEnd>,
}

/// A preview of the agent at the moment of a decision.
#[derive(Debug)]
pub struct SeenPreview {
    /// The platform's name for it.
    pub control_id: ControlId,
    /// Masked numbers, the newest first.
    pub numbers: SmallVec<[SeenNumber; 1]>,
    /// Further numbers that it had.
    pub more_numbers: usize,
    /// Time since it was announced.
    pub age: Duration,
}

/// A masked number. `Display` writes a bounded number of printable characters.
#[derive(Clone, Copy, Debug)]
pub struct SeenNumber(Masked);

impl SeenNumber {
    fn of(number: &DialedNumber) -> Self {
        Self(number.masked())
    }
}

impl fmt::Display for SeenNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&sanitized(self.0, MAX_NUMBER), f)
    }
}

/// The end of an earlier preview, or of the agent's session.
#[derive(Clone, Copy, Debug)]
pub struct SeenEnd {
    /// The preview, if it was one.
    pub control_id: Option<ControlId>,
    /// The cause.
    pub cause: GoneCause,
    /// Time from the end to the decision.
    pub age: Duration,
}

/// The agent's previews, and their recent ends, when the callout was evaluated.
pub(super) struct Evidence<'a> {
    pub(super) previews: Option<&'a AgentPreviews>,
    pub(super) ended: &'a [RecentEnd],
    pub(super) at: Timestamp,
}

/// Texts of a decision that are shared with their owners instead of copied.
pub(super) struct Names<'a> {
    pub(super) id: RequestId,
    pub(super) client: &'a Arc<str>,
    pub(super) upstream: Option<&'a Arc<str>>,
    pub(super) call_id: Option<&'a Arc<str>>,
}

impl Decision {
    pub(super) fn new(record: &DecisionRecord<'_>, names: &Names<'_>, evidence: &Evidence<'_>) -> Self {
        let (previews, more_previews) = evidence.previews(record.control_id);
        Self {
            number: 0,
            at: SystemTime::now(),
            agent_id: record.agent_id,
            verdict: record.verdict,
            reason: record.reason,
            mode: record.mode,
            called: record.called.map(SeenNumber::of),
            control_id: record.control_id,
            preview_age: record.preview_age,
            judged_by: record.judged_by,
            retcode: record.retcode.map(code),
            call_id: names.call_id.map(|id| if is_short(id) { Arc::clone(id) } else { shortened(id).into() }),
            upstream: names.upstream.cloned(),
            status: record.status,
            duration: record.duration,
            upstream_duration: record.upstream_duration,
            id: names.id,
            given_id: Some(record.caller.request_id).filter(|id| *id != record.caller.id).map(shortened),
            client: Arc::clone(names.client),
            previews,
            more_previews,
            ended: evidence.ended(),
        }
    }

    /// The request ID, which the client received too.
    pub fn request_id(&self) -> Cow<'_, str> {
        self.given_id.as_deref().map_or_else(|| self.id.to_string().into(), Cow::Borrowed)
    }

    /// The approximate memory that it takes.
    fn bytes(&self) -> usize {
        let texts = [self.retcode.as_deref(), self.call_id.as_deref(), self.given_id.as_deref()];
        let texts = texts.into_iter().flatten().map(str::len).sum::<usize>();
        let previews = self.previews.iter().map(SeenPreview::bytes).sum::<usize>();
        let ended = self.ended.capacity() * size_of::<SeenEnd>();
        size_of::<Self>() + texts + self.client.len() + previews + ended
    }
}

impl Evidence<'_> {
    fn previews(&self, named: Option<ControlId>) -> (SmallVec<[SeenPreview; 1]>, usize) {
        let Some(known) = self.previews else { return (SmallVec::new(), 0) };
        let excess = known.len().saturating_sub(MAX_PREVIEWS);
        let wanted = |(position, preview): &(usize, &Preview)| *position >= excess || Some(preview.control_id) == named;
        let kept = known.iter().enumerate().filter(wanted).map(|(_, preview)| SeenPreview::of(preview, self.at));
        let mut previews: SmallVec<[_; 1]> = kept.collect();
        previews.reverse();
        let more = known.len().saturating_sub(previews.len());
        (previews, more)
    }

    /// Ends after the evaluation are left out: they had no effect on it.
    fn ended(&self) -> Vec<SeenEnd> {
        let before = self.ended.iter().filter(|end| end.at <= self.at);
        before.map(|end| SeenEnd { control_id: end.control_id, cause: end.cause, age: self.at.since(end.at) }).collect()
    }
}

impl SeenPreview {
    fn of(preview: &Preview, now: Timestamp) -> Self {
        let newest = preview.numbers.iter().rev().take(MAX_NUMBERS);
        Self {
            control_id: preview.control_id,
            numbers: newest.map(|shown| SeenNumber::of(&shown.number)).collect(),
            more_numbers: preview.numbers.len().saturating_sub(MAX_NUMBERS),
            age: now.since(preview.announced_at),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.numbers.capacity() * size_of::<SeenNumber>()
    }
}

/// The code of a success is not copied.
fn code(text: &str) -> Cow<'static, str> {
    if text == SUCCESS { Cow::Borrowed(SUCCESS) } else { shortened(text).into_string().into() }
}

fn shortened(text: &str) -> Box<str> {
    // Fast path: it is copied once.
    if is_short(text) { text.into() } else { sanitized(text, MAX_TEXT).to_string().into() }
}

/// Whether the text can be kept as it is: printable ASCII that is short enough.
fn is_short(text: &str) -> bool {
    text.len() <= MAX_TEXT && is_printable_ascii(text)
}

/// The last decisions, and the number of decisions in each of the last 60 minutes.
pub struct FlightRecorder {
    kept: Mutex<Kept>,
    number: AtomicU64,
    started: Instant,
}

struct Kept {
    forwarded: Queue,
    /// Refused or unverified.
    others: Queue,
    /// The number of entries in `others`, by client.
    clients: HashMap<IpAddr, usize>,
    minutes: VecDeque<Minute>,
}

/// Decisions, the oldest first.
#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    client: IpAddr,
    bytes: usize,
    decision: Arc<Decision>,
}

/// The number of decisions of each kind in one minute.
#[derive(Clone, Debug)]
pub struct Minute {
    /// Minutes since the start of the process.
    number: u64,
    counts: [[u32; Reason::ALL.len()]; Verdict::ALL.len()],
}

impl Minute {
    fn new(number: u64) -> Self {
        Self { number, counts: [[0; Reason::ALL.len()]; Verdict::ALL.len()] }
    }

    /// Decisions with this verdict.
    pub fn with_verdict(&self, verdict: Verdict) -> u64 {
        self.counts.get(verdict.index()).map_or(0, |counts| counts.iter().map(|count| u64::from(*count)).sum())
    }

    /// Decisions with this verdict and this reason.
    pub fn with_reason(&self, verdict: Verdict, reason: Reason) -> u64 {
        let counts = self.counts.get(verdict.index()).and_then(|counts| counts.get(reason.index()));
        counts.copied().map_or(0, u64::from)
    }

    fn count(&mut self, verdict: Verdict, reason: Reason) {
        let counts = self.counts.get_mut(verdict.index()).and_then(|counts| counts.get_mut(reason.index()));
        if let Some(count) = counts {
            *count = count.saturating_add(1);
        }
    }
}

impl Default for FlightRecorder {
    fn default() -> Self {
        let kept = Kept {
            forwarded: Queue::default(),
            others: Queue::default(),
            clients: HashMap::new(),
            minutes: VecDeque::with_capacity(MINUTES),
        };
        Self { kept: Mutex::new(kept), number: AtomicU64::new(1), started: Instant::now() }
    }
}

impl FlightRecorder {
    /// Keeps a decision of `now` on a callout of `client`.
    pub(super) fn keep(&self, client: IpAddr, decision: Decision, now: Instant) {
        let minute = self.minute(now);
        let decision = Decision { number: self.number.fetch_add(1, Ordering::Relaxed), ..decision };
        let entry = Entry { client, bytes: decision.bytes(), decision: Arc::new(decision) };
        let mut kept = self.lock();
        kept.count(minute, &entry.decision);
        let dropped = kept.push(entry);
        drop(kept);
        // After the lock: freeing an entry takes as long as building one.
        drop(dropped);
    }

    /// Every decision that is kept, the newest first.
    pub fn decisions(&self) -> Vec<Arc<Decision>> {
        let kept = self.lock();
        let entries = kept.forwarded.entries.iter().chain(&kept.others.entries);
        let mut decisions: Vec<_> = entries.map(|entry| Arc::clone(&entry.decision)).collect();
        drop(kept);
        decisions.sort_unstable_by_key(|decision| Reverse(decision.number));
        decisions
    }

    /// The last 60 minutes, the present one last.
    pub fn last_hour(&self) -> Vec<Minute> {
        let now = self.minute(Instant::now());
        let counted = self.lock().minutes.clone();
        let first = (now + 1).saturating_sub(MINUTES as u64);
        let of = |number| counted.iter().find(|minute| minute.number == number).cloned();
        (first..=now).map(|number| of(number).unwrap_or_else(|| Minute::new(number))).collect()
    }

    /// How long the process has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn minute(&self, now: Instant) -> u64 {
        now.duration_since(self.started).as_secs() / MINUTE
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn count(&mut self, minute: u64, decision: &Decision) {
        // At the turn of a minute, a worker may count for the earlier minute after another has begun the next one.
        if self.minutes.back().is_none_or(|last| last.number < minute) {
            if self.minutes.len() == MINUTES {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute::new(minute));
        }
        if let Some(last) = self.minutes.back_mut() {
            last.count(decision.verdict, decision.reason);
        }
    }

    /// Adds an entry, and returns the entries that were evicted for it.
    fn push(&mut self, entry: Entry) -> SmallVec<[Entry; 1]> {
        let client = entry.client;
        if entry.decision.verdict == Verdict::Forwarded {
            self.forwarded.push(entry);
        } else {
            *self.clients.entry(client).or_default() += 1;
            self.others.push(entry);
        }
        let mut dropped = SmallVec::new();
        while self.is_over() {
            match self.evict(client) {
                Some(entry) => dropped.push(entry),
                None => break,
            }
        }
        dropped
    }

    fn is_over(&self) -> bool {
        let count = self.forwarded.entries.len() + self.others.entries.len();
        count > MAX_DECISIONS || self.forwarded.bytes + self.others.bytes > MAX_BYTES
    }

    /// Evicts from the larger queue, so that a flood of refusals cannot take more than half of the room from forwarded
    /// callouts. Among the others, a client above its share loses an entry of its own.
    fn evict(&mut self, client: IpAddr) -> Option<Entry> {
        let over_count = self.forwarded.entries.len() + self.others.entries.len() > MAX_DECISIONS;
        let size = |queue: &Queue| if over_count { queue.entries.len() } else { queue.bytes };
        if size(&self.forwarded) > size(&self.others) {
            return self.forwarded.pop();
        }
        let of_client = self.clients.get(&client).copied().unwrap_or_default();
        let entry = match of_client > self.others.entries.len() / CLIENT_SHARE {
            true => self.others.pop_of(client),
            false => self.others.pop(),
        }?;
        if let Some(count) = self.clients.get_mut(&entry.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.clients.remove(&entry.client);
            }
        }
        Some(entry)
    }
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry)
    }

    /// Removes the oldest entry of one client.
    fn pop_of(&mut self, client: IpAddr) -> Option<Entry> {
        let position = self.entries.iter().position(|entry| entry.client == client)?;
        let entry = self.entries.remove(position)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
