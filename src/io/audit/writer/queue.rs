//! The queue between the gateway and the writer: records wait here in order. Nothing here waits for a disk.
//!
//! To wake a thread costs more than to write a record. So a worker wakes the writer once for all callouts that it has judged
//! one after the other, when it has nothing else to do ([`Queue::before_park`]).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::waiters::{Confirmation, Ticket, Waiters, confirm};
use crate::audit::progress::SharedProgress;
use crate::audit::record::{ConfigInForce, Kind, Record, append_body};
use crate::preview::Timestamp;

/// Maximum size of the waiting records, in bytes: enough for 20,000 callouts while a disk hangs.
const MAX_WAITING: usize = 32 << 20;
/// Additional bytes for the outcomes of callouts that were sent. The requests in flight limit their number.
const RESERVE: usize = 8 << 20;

/// How long records wait for company if no callout waits for them: to wake the writer for each of them would cost more than
/// the records. A process that is killed loses no more than what came within this time.
const LINGER: Duration = Duration::from_millis(5);
/// They wait for no longer if there are so many bytes.
const MAX_LINGERING: usize = 256 << 10;

thread_local! {
    /// The callouts of this thread that wait.
    static WAITERS: Arc<Waiters> = Arc::default();
    /// Whether this thread calls [`Queue::before_park`] before it waits.
    static WAKES_BEFORE_PARK: Cell<bool> = const { Cell::new(false) };
}

/// A waiting record: where its body ends, and the callout that waits for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) end: usize,
    pub(super) waiter: Option<Ticket>,
}

/// Records that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bodies: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// When the first of them was made.
    pub(super) oldest: Option<Timestamp>,
}

impl Batch {
    /// The bodies, in order.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.end));
        starts.zip(&self.entries).map(|(start, entry)| self.bodies.get(start..entry.end).unwrap_or_default())
    }

    /// The records are written. The first one has this number.
    pub(super) fn confirm(&mut self, first: u64) {
        let entries = (first..).zip(self.entries.drain(..));
        confirm(entries.filter_map(|(seq, entry)| Some((seq, entry.waiter?))));
    }

    /// Wakes the callouts that wait for these records, without a confirmation.
    pub(super) fn give_up_waiting(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.waiter = None);
    }

    fn clear(&mut self) {
        self.bodies.clear();
        self.entries.clear();
        self.oldest = None;
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
    /// A callout waits, or much else does.
    is_urgent: bool,
    /// What the writer waits for.
    idle: Idle,
    closing: bool,
    finished: bool,
}

/// What the writer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Idle {
    /// Nothing: it writes.
    #[default]
    No,
    /// A callout, or the end of [`LINGER`].
    Lingering,
    /// Any record.
    Asleep,
}

impl Idle {
    /// Whether the writer must be woken for a record.
    fn ends_with(self, is_urgent: bool) -> bool {
        match self {
            Self::No => false,
            Self::Lingering => is_urgent,
            Self::Asleep => true,
        }
    }
}

/// Shared by the gateway and the writer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    /// A worker will wake the writer when it has nothing else to do.
    wake_is_due: AtomicBool,
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
            wake_is_due: AtomicBool::new(false),
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

    /// Like [`Queue::push`]. The confirmation has the sequence number as soon as the record is written as
    /// `audit.durability` asks for. `None` if the record is lost.
    pub(crate) fn push_and_wait(&self, at: Timestamp, record: &Record<'_>) -> Option<Confirmation> {
        // Only a thread that ends has none of its own.
        let waiters = WAITERS.try_with(Arc::clone).unwrap_or_default();
        let (waiter, written) = waiters.wait();
        self.add(at, record, Some(waiter)).then_some(written)
    }

    fn add(&self, at: Timestamp, record: &Record<'_>, waiter: Option<Ticket>) -> bool {
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
        state.waiting.oldest.get_or_insert(at);
        let end = state.waiting.bodies.len();
        let is_urgent = waiter.is_some() || end >= MAX_LINGERING;
        state.waiting.entries.push(Entry { end, waiter });
        state.is_urgent |= is_urgent;
        let wakes = state.idle.ends_with(is_urgent);
        // A writer that lingers looks for records by itself: a worker that never has nothing to do cannot keep it waiting.
        let wakes_later = wakes && state.idle == Idle::Lingering && WAKES_BEFORE_PARK.get();
        if wakes && !wakes_later {
            state.idle = Idle::No;
        }
        drop(state);
        count(&self.taken, kind);
        if wakes_later {
            self.wake_is_due.store(true, Ordering::Relaxed);
        } else if wakes {
            self.work.notify_one();
        }
        true
    }

    /// To be called by a thread whenever it has nothing to do: wakes its callouts whose records are written, and the writer
    /// if callouts wait for it. From the first call on, the callouts of this thread wake the writer here only, unless it is
    /// asleep.
    pub(crate) fn before_park(&self) {
        WAKES_BEFORE_PARK.set(true);
        let _ = WAITERS.try_with(|waiters| waiters.wake_settled());
        // Read first: this is called often.
        if !self.wake_is_due.load(Ordering::Relaxed) || !self.wake_is_due.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        let wakes = state.idle.ends_with(state.is_urgent);
        if wakes {
            state.idle = Idle::No;
        }
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Waits for records until `deadline`, and takes all that there are. Records for which no callout waits come together.
    pub(super) fn next(&self, batch: &mut Batch, deadline: Instant) -> Work {
        batch.clear();
        let mut state = self.lock();
        let mut lingering = Instant::now() + LINGER;
        while !state.is_urgent && !state.closing {
            let now = Instant::now();
            let (until, idle) = match state.waiting.entries.is_empty() {
                // Under load, the next record comes soon, and need not wake this thread.
                true if now < lingering => (lingering.min(deadline), Idle::Lingering),
                true => (deadline, Idle::Asleep),
                false => (lingering, Idle::Lingering),
            };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            state.idle = idle;
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if idle == Idle::Asleep {
                lingering = Instant::now() + LINGER;
            }
        }
        state.idle = Idle::No;
        state.is_urgent = false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Store;

    /// Pushes the record of a callout. Returns whether the writer, which waits like this, was woken at once.
    fn wakes_at_once(queue: &Queue, idle: Idle) -> bool {
        queue.lock().idle = idle;
        let record = Record::Store(Store { state: "lost".into(), since: Timestamp(1) });
        assert!(queue.push_and_wait(Timestamp(1), &record).is_some());
        queue.lock().idle == Idle::No
    }

    #[test]
    fn the_callouts_of_a_worker_wake_the_writer_together() {
        let queue = Queue::default();
        assert!(wakes_at_once(&queue, Idle::Lingering), "this thread does not say when it has nothing to do");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                queue.before_park();
                assert!(!wakes_at_once(&queue, Idle::Lingering));
                assert!(!wakes_at_once(&queue, Idle::Lingering));
                queue.before_park();
                assert_eq!(queue.lock().idle, Idle::No, "woken");
                // Nothing would end its sleep if this thread never had nothing to do.
                assert!(wakes_at_once(&queue, Idle::Asleep));
            });
        });
        assert!(wakes_at_once(&queue, Idle::Lingering), "another thread is not concerned");
    }
}
