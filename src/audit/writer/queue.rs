//! The queue between the gateway and the writer: records wait here in order. Nothing here waits for a disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::audit::progress::SharedProgress;
use crate::audit::record::{ConfigInForce, Kind, Record, append_body};
use crate::preview::Timestamp;

/// Maximum size of the waiting records, in bytes: enough for 20,000 callouts while a disk hangs.
const MAX_WAITING: usize = 32 << 20;
/// Additional bytes for the outcomes of callouts that were sent. The requests in flight limit their number.
const RESERVE: usize = 8 << 20;

/// A waiting record: where its body ends, and the callout that waits for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) end: usize,
    pub(super) waiter: Option<oneshot::Sender<u64>>,
}

/// Records that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bodies: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Batch {
    /// The bodies, in order.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.end));
        starts.zip(&self.entries).map(|(start, entry)| self.bodies.get(start..entry.end).unwrap_or_default())
    }

    /// Wakes the callouts that wait for these records, without a confirmation.
    pub(super) fn give_up_waiting(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.waiter = None);
    }

    fn clear(&mut self) {
        self.bodies.clear();
        self.entries.clear();
    }
}

/// What the writer has to do when it wakes.
pub(super) enum Work {
    /// Write the batch. It is empty if the deadline came first.
    Records,
    /// Write the batch, which is the last one, and end.
    End,
}

/// Records that the queue could not take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Losses {
    pub(super) since: Timestamp,
    pub(super) records: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    losses: Option<Losses>,
    /// The writer waits for a record.
    idle: bool,
    closing: bool,
    finished: bool,
}

/// Shared by the gateway and the writer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    progress: Condvar,
    max_waiting: usize,
    /// Records of each kind that were taken.
    taken: [AtomicU64; Kind::ALL.len()],
    /// Records of each kind that were not.
    lost: [AtomicU64; Kind::ALL.len()],
    /// The last write failed, or a callout waited too long.
    failing: AtomicBool,
    /// The name of the chain, once it is known.
    instance: OnceLock<String>,
    /// The configuration in force: each segment begins with it.
    configuration: Mutex<Option<ConfigInForce<'static>>>,
    /// How far the chain has come.
    pub(crate) chain: SharedProgress,
}

impl Default for Queue {
    fn default() -> Self {
        Self::bounded(MAX_WAITING)
    }
}

impl Queue {
    /// A queue for at most `max_waiting` bytes.
    pub(super) fn bounded(max_waiting: usize) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            max_waiting,
            taken: [const { AtomicU64::new(0) }; Kind::ALL.len()],
            lost: [const { AtomicU64::new(0) }; Kind::ALL.len()],
            failing: AtomicBool::new(false),
            instance: OnceLock::new(),
            configuration: Mutex::default(),
            chain: SharedProgress::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record, or counts it as lost if too many wait already.
    pub(crate) fn push(&self, at: Timestamp, record: &Record<'_>) -> bool {
        self.add(at, record, None)
    }

    /// Like [`Queue::push`]. The receiver gets the sequence number as soon as the record is written as `audit.durability`
    /// asks for. `None` if the record is lost.
    pub(crate) fn push_and_wait(&self, at: Timestamp, record: &Record<'_>) -> Option<oneshot::Receiver<u64>> {
        let (waiter, written) = oneshot::channel();
        self.add(at, record, Some(waiter)).then_some(written)
    }

    fn add(&self, at: Timestamp, record: &Record<'_>, waiter: Option<oneshot::Sender<u64>>) -> bool {
        let kind = record.kind();
        let bound = match kind {
            Kind::Outcome => self.max_waiting.saturating_add(RESERVE),
            _ => self.max_waiting,
        };
        let mut state = self.lock();
        if state.closing || state.waiting.bodies.len() >= bound {
            let losses = state.losses.get_or_insert_with(|| Losses { since: at, records: BTreeMap::new() });
            *losses.records.entry(kind.as_str()).or_default() += 1;
            drop(state);
            count(&self.lost, kind);
            return false;
        }
        append_body(&mut state.waiting.bodies, at, record);
        let end = state.waiting.bodies.len();
        state.waiting.entries.push(Entry { end, waiter });
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        count(&self.taken, kind);
        if idle {
            self.work.notify_one();
        }
        true
    }

    /// Waits for records until `deadline`, and takes all that there are.
    pub(super) fn next(&self, batch: &mut Batch, deadline: Instant) -> Work {
        batch.clear();
        let mut state = self.lock();
        while state.waiting.entries.is_empty() && !state.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.idle = true;
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.idle = false;
        std::mem::swap(&mut state.waiting, batch);
        if state.closing { Work::End } else { Work::Records }
    }

    /// Pauses before the next attempt. Returns false if the writer must end.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let state = self.lock();
        let (state, _) =
            self.work.wait_timeout_while(state, pause, |state| !state.closing).unwrap_or_else(PoisonError::into_inner);
        !state.closing
    }

    /// Wakes the callouts in the queue, without a confirmation.
    pub(super) fn give_up_waiting(&self) {
        self.lock().waiting.give_up_waiting();
    }

    /// What was lost since this was last called.
    pub(super) fn take_losses(&self) -> Option<Losses> {
        self.lock().losses.take()
    }

    /// Counts losses again whose own record could not be written.
    pub(super) fn return_losses(&self, losses: Losses) {
        let mut state = self.lock();
        match &mut state.losses {
            None => state.losses = Some(losses),
            Some(newer) => {
                newer.since = losses.since.min(newer.since);
                for (kind, count) in losses.records {
                    *newer.records.entry(kind).or_default() += count;
                }
            }
        }
    }

    /// Asks the writer to write everything and to end. Waits for at most `patience`; returns whether it has ended.
    pub(crate) fn close(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        state.closing = true;
        self.work.notify_all();
        let waited = self.progress.wait_timeout_while(state, patience, |state| !state.finished);
        waited.unwrap_or_else(PoisonError::into_inner).0.finished
    }

    /// The writer has ended.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.progress.notify_all();
    }

    /// Sets whether writing fails at the moment. Returns whether that has changed.
    pub(crate) fn set_failing(&self, failing: bool) -> bool {
        // Read first: the writer calls this for every batch.
        self.failing.load(Ordering::Relaxed) != failing && self.failing.swap(failing, Ordering::Relaxed) != failing
    }

    /// Whether records cannot be written at the moment.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Sets the name of the chain.
    pub(super) fn set_instance(&self, instance: &str) {
        let _ = self.instance.set(instance.to_owned());
    }

    /// The name of the chain; empty until it is known.
    pub(crate) fn instance(&self) -> &str {
        self.instance.get().map_or("", String::as_str)
    }

    /// Sets the configuration that further segments begin with.
    pub(crate) fn set_configuration(&self, configuration: ConfigInForce<'static>) {
        *self.configuration.lock().unwrap_or_else(PoisonError::into_inner) = Some(configuration);
    }

    /// The configuration in force, once it is known.
    pub(super) fn configuration(&self) -> Option<ConfigInForce<'static>> {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a record that the writer made itself.
    pub(super) fn count(&self, kind: Kind) {
        count(&self.taken, kind);
    }

    /// Records of this kind that were taken.
    pub(crate) fn taken(&self, kind: Kind) -> u64 {
        self.taken.get(kind.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Records of this kind that were lost.
    pub(crate) fn lost(&self, kind: Kind) -> u64 {
        self.lost.get(kind.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

fn count(counters: &[AtomicU64; Kind::ALL.len()], kind: Kind) {
    if let Some(counter) = counters.get(kind.index()) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
