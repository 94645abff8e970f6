//! The writer: one thread that turns records into lines, chains, signs and writes them.
//!
//! [`queue`] takes records without waiting; this thread takes all that wait, writes them with one `write(2)` (and one
//! `fdatasync(2)` if `audit.durability` is "synced"), and then lets the callouts go on that wait for them. A disk that
//! stands still stops this thread and nothing else. [`disk`] is the directory.
//!
//! A record has its place in the chain only when it is written. So a segment that fails can be left behind: what was not
//! confirmed is written again at the start of the next one, and the `open` record there says how many bytes of the old
//! file do not count.

mod announcer;
mod disk;
mod open_segment;
pub(super) mod queue;
#[cfg(test)]
mod tests;
mod waiters;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::announcer::Announcer;
use self::disk::{Directory, End, Storage};
use self::open_segment::{Announcement, OpenSegment, Seal, Unwritten, Usage, Written, body_of};
use self::queue::{Batch, Queue, Work};
use super::digest::Digest;
use super::note::Signer;
use super::number_keys::NumberKeys;
use super::record::{Before, Close, FORMAT, Kind, Lost, Open, Record};
use super::segment::SegmentName;
use super::time;
use crate::config::Durability;
use crate::preview::{Clock, Timestamp, millis};

/// Between two attempts to write: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Attempts until callouts are refused. The first may fail because a segment failed: the next one opens another.
const ATTEMPTS: u32 = 3;

/// How the writer works.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// When a record counts as written.
    pub durability: Durability,
    /// Longest time between two checkpoints while records are written.
    pub checkpoint_interval: Duration,
    /// A new segment begins at each multiple of this since midnight UTC.
    pub segment: Duration,
    /// And beyond this many bytes.
    pub segment_bytes: u64,
    /// Older segments are removed.
    pub retention: Duration,
}

/// The thread's own state.
pub(super) struct Writer {
    queue: Arc<Queue>,
    storage: Box<dyn Storage>,
    signer: Arc<Signer>,
    keys: Arc<NumberKeys>,
    clock: Arc<dyn Clock>,
    settings: WriterSettings,
    /// Of the chain; `None` until the directory could be read.
    chain: Option<ChainEnd>,
    segment: Option<OpenSegment>,
    announcer: Announcer,
    next_checkpoint: Instant,
    /// When the first record was made that no checkpoint covers.
    unsealed_since: Option<Timestamp>,
    /// The last line of the log that said that records cannot be written.
    warned: Option<Instant>,
}

/// Where the chain ends.
struct ChainEnd {
    instance: String,
    latest: Option<SegmentName>,
    end: Option<End>,
    /// Why the next segment begins.
    cause: &'static str,
}

/// Why a segment begins: the gateway starts, the segment before is complete, or it could not be written any more.
const START: &str = "start";
const ROTATION: &str = "rotation";
const RECOVERY: &str = "recovery";

/// Whether a signed checkpoint of all lines follows the lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sealing {
    Sealed,
    Unsealed,
}

/// Why a segment is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Another segment follows.
    Rotation,
    /// The gateway ends.
    Stop,
}

impl Writer {
    pub(super) fn new(
        directory: &Path,
        signer: Arc<Signer>,
        keys: Arc<NumberKeys>,
        clock: Arc<dyn Clock>,
        settings: WriterSettings,
        queue: Arc<Queue>,
    ) -> Self {
        Self::with_storage(Box::new(Directory::new(directory)), signer, keys, clock, settings, queue)
    }

    fn with_storage(
        storage: Box<dyn Storage>,
        signer: Arc<Signer>,
        keys: Arc<NumberKeys>,
        clock: Arc<dyn Clock>,
        settings: WriterSettings,
        queue: Arc<Queue>,
    ) -> Self {
        let now = Instant::now();
        Self {
            queue,
            storage,
            signer,
            keys,
            clock,
            settings,
            chain: None,
            segment: None,
            announcer: Announcer::new(Announcement::log),
            next_checkpoint: now,
            unsealed_since: None,
            warned: None,
        }
    }

    /// Opens the first segment; the writer tries again by itself later if it fails.
    pub(super) fn open_first(&mut self) -> io::Result<()> {
        let opened = self.ensure_open();
        self.queue.set_failing(opened.is_err());
        opened
    }

    /// Writes until the end.
    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            let work = self.queue.next(&mut batch, self.next_checkpoint);
            if !self.commit(&mut batch) {
                break;
            }
            self.report_losses();
            if let Work::End = work {
                self.close(Ending::Stop);
                break;
            }
            if Instant::now() >= self.next_checkpoint {
                self.housekeeping();
            }
            // After a checkpoint that failed no record may come to try again with: callouts may be refused.
            let is_well = self.segment.is_some() && !self.queue.is_failing();
            if !is_well && !self.commit(&mut Batch::default()) {
                break;
            }
        }
        self.queue.finish();
    }

    /// Writes the batch and wakes the callouts that wait for it; false if the end was asked for and it cannot be written.
    fn commit(&mut self, batch: &mut Batch) -> bool {
        if batch.entries.is_empty() && self.segment.is_some() {
            self.recovered();
            return true;
        }
        let mut pause = FIRST_PAUSE;
        for attempt in 1_u32.. {
            match self.try_commit(batch) {
                Ok(first) => {
                    self.recovered();
                    batch.confirm(first);
                    return true;
                }
                Err(error) if attempt >= ATTEMPTS => self.failed(&error),
                Err(_) => {}
            }
            if attempt == ATTEMPTS {
                // Their records are still written; they need not wait for the whole timeout to learn that it takes longer.
                batch.give_up_waiting();
                self.queue.give_up_waiting();
            }
            if !self.queue.rest(pause) && !self.try_last(batch) {
                return false;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
        false
    }

    /// One last attempt at the end: a disk that is full must not keep the process.
    fn try_last(&mut self, batch: &mut Batch) -> bool {
        self.try_commit(batch).map(|first| batch.confirm(first)).is_ok()
    }

    /// One attempt. Returns the sequence number of the first record.
    fn try_commit(&mut self, batch: &Batch) -> io::Result<u64> {
        if self.is_rotation_due() {
            self.rotate();
        }
        self.ensure_open()?;
        // After a failure, the disk is well only when it takes the lines.
        let is_awaited = self.queue.is_failing() || batch.entries.iter().any(|entry| entry.waiter.is_some());
        let durability = if is_awaited { self.settings.durability } else { Durability::Written };
        // Records that waited for a disk, or for a machine that was suspended, are sealed at once: their times may span more
        // than the interval.
        let since = self.unsealed_since.into_iter().chain(batch.oldest).min();
        let spans = since.is_some_and(|since| self.clock.now().since(since) >= self.settings.checkpoint_interval);
        let is_due = !batch.entries.is_empty() && (spans || Instant::now() >= self.next_checkpoint);
        let sealing = if is_due { Sealing::Sealed } else { Sealing::Unsealed };
        let first = self.write(batch.bodies(), durability, sealing).map_err(|unwritten| match unwritten {
            Unwritten::NotNow(error) => error,
            Unwritten::SegmentLost(error) => {
                self.leave_segment();
                error
            }
        })?;
        if !batch.entries.is_empty() {
            self.note_use(durability);
        }
        if sealing == Sealing::Unsealed {
            self.unsealed_since = since;
        }
        Ok(first)
    }

    /// Writes the lines of `bodies` to the open segment. Returns the sequence number of the first.
    fn write<'b>(
        &mut self,
        bodies: impl Iterator<Item = &'b [u8]>,
        durability: Durability,
        sealing: Sealing,
    ) -> Result<u64, Unwritten> {
        let segment = self.segment.as_mut().ok_or_else(|| Unwritten::NotNow(ErrorKind::NotFound.into()))?;
        let seal = match sealing {
            Sealing::Sealed => Some(Seal { signer: &self.signer, at: self.clock.now() }),
            Sealing::Unsealed => None,
        };
        let Written { first, checkpoint } = segment.write(bodies, durability, seal)?;
        if let Some(checkpoint) = checkpoint {
            self.next_checkpoint = Instant::now() + self.settings.checkpoint_interval;
            self.unsealed_since = None;
            self.queue.count(Kind::Checkpoint);
            self.queue.chain.sealed(checkpoint.sealed);
            let due = segment.sealed(checkpoint);
            self.announce(due, durability);
        }
        if let Some(segment) = &self.segment {
            let (seq, head) = segment.last_line();
            self.queue.chain.reached(seq, head);
        }
        Ok(first)
    }

    /// Records are in the segment, and confirmed.
    fn note_use(&mut self, durability: Durability) {
        let due = self.segment.as_mut().and_then(OpenSegment::note_use);
        self.announce(due, durability);
    }

    /// Announces a checkpoint, once the disk has its lines: after a write with `durability`.
    fn announce(&mut self, due: Option<Announcement>, durability: Durability) {
        let (Some(checkpoint), Some(segment)) = (due, &self.segment) else { return };
        if durability == Durability::Synced {
            self.announcer.announce(checkpoint);
            return;
        }
        let sync = segment.later_sync();
        if let Err(error) = sync.and_then(|sync| self.announcer.announce_later(checkpoint, sync)) {
            tracing::warn!(target: "previewgate::audit", %error, "a checkpoint is not announced");
        }
    }

    /// Leaves a segment behind that cannot be written any more.
    fn leave_segment(&mut self) {
        let (Some(segment), Some(chain)) = (self.segment.take(), self.chain.as_mut()) else { return };
        // Nothing counts in a segment that was never used. A disk that fails for an hour must not be filled with such files.
        // If the file cannot be removed, the next segment must name it.
        let is_gone = segment.is_unused() && self.storage.remove(&segment.name).is_ok();
        if !is_gone {
            chain.end = Some(segment.end());
        }
    }

    /// Opens a segment if none is open: reads the end of the chain first, if that was not done yet.
    fn ensure_open(&mut self) -> io::Result<()> {
        if self.segment.is_some() {
            return Ok(());
        }
        let chain = match self.chain.take() {
            Some(chain) => chain,
            None => {
                let recovered = self.storage.recover()?;
                self.queue.set_instance(&recovered.instance);
                ChainEnd { instance: recovered.instance, latest: recovered.latest, end: recovered.end, cause: START }
            }
        };
        let chain = self.chain.insert(chain);
        let now = self.clock.now();
        let name = next_name(chain, now);
        let file = self.storage.create(&name)?;
        let (seq, head) = chain.end.as_ref().map_or((0, Digest::ZERO), |end| (end.seq, end.head));
        let open = Record::Open(Open {
            format: FORMAT,
            version: concat!("previewgate ", env!("CARGO_PKG_VERSION")).into(),
            instance: chain.instance.clone().into(),
            segment: name.to_string().into(),
            cause: chain.cause.into(),
            public_key: self.signer.verifier().to_string().into(),
            checkpoint_interval_ms: millis(self.settings.checkpoint_interval),
            retention_days: self.settings.retention.as_secs() / (24 * 60 * 60),
            before: chain.end.as_ref().map(|end| Before {
                segment: end.segment.to_string().into(),
                seq: end.seq,
                head: end.head,
                closed: end.closed,
                tail: end.tail,
            }),
        });
        let mut bodies = vec![body_of(now, &open)];
        let configuration = self.queue.configuration();
        bodies.extend(configuration.map(|configuration| body_of(now, &Record::Config(configuration))));
        chain.latest = Some(name.clone());
        let usage = if chain.cause == RECOVERY { Usage::Begun(None) } else { Usage::Used };
        self.segment = Some(OpenSegment::new(file, name, period(now, self.settings.segment), (seq, head), usage));
        let begun = self.write(bodies.iter().map(Vec::as_slice), Durability::Written, Sealing::Sealed);
        begun.map_err(|(Unwritten::NotNow(error) | Unwritten::SegmentLost(error))| {
            // Nothing of it counts yet; the next attempt begins another file.
            if let Some(segment) = self.segment.take() {
                let _ = self.storage.remove(&segment.name);
            }
            error
        })?;
        if let Some(chain) = &mut self.chain {
            chain.cause = RECOVERY;
        }
        self.queue.count(Kind::Open);
        (1..bodies.len()).for_each(|_| self.queue.count(Kind::Config));
        Ok(())
    }

    /// At each checkpoint interval.
    fn housekeeping(&mut self) {
        self.next_checkpoint = Instant::now() + self.settings.checkpoint_interval;
        if let Err(error) = self.keys.prepare(self.clock.now()) {
            tracing::warn!(target: "previewgate::audit", %error, "the keys of the numbers cannot be read or made");
        }
        let unsealed = self.segment.as_ref().is_some_and(|segment| segment.unsealed);
        // A commit without records rotates; so a quiet night has its own file too.
        if self.is_rotation_due() {
            self.rotate();
            let mut nothing = Batch::default();
            self.commit(&mut nothing);
        } else if unsealed && let Err(unwritten) = self.write(std::iter::empty(), Durability::Written, Sealing::Sealed)
        {
            self.give_up_sealing(unwritten);
        }
    }

    fn give_up_sealing(&mut self, unwritten: Unwritten) {
        match unwritten {
            // The next commit must not take these bytes for its own.
            Unwritten::NotNow(error) | Unwritten::SegmentLost(error) => {
                self.leave_segment();
                tracing::warn!(target: "previewgate::audit", %error, "a segment of the audit log is left: it cannot be written");
            }
        }
    }

    fn report_losses(&mut self) {
        let Some(losses) = self.queue.take_losses() else { return };
        let records = losses.records.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        let body = body_of(self.clock.now(), &Record::Lost(Lost { since: losses.since, records }));
        match self.write(std::iter::once(&body[..]), Durability::Written, Sealing::Unsealed) {
            Ok(_) => {
                self.queue.count(Kind::Lost);
                self.note_use(Durability::Written);
            }
            Err(unwritten) => {
                self.queue.return_losses(losses);
                self.give_up_sealing(unwritten);
            }
        }
    }

    fn is_rotation_due(&self) -> bool {
        let Some(segment) = &self.segment else { return false };
        let other_period = period(self.clock.now(), self.settings.segment) != segment.period;
        !segment.is_writing() && (other_period || segment.bytes >= self.settings.segment_bytes)
    }

    /// Ends the segment. The next record opens another.
    fn rotate(&mut self) {
        self.close(Ending::Rotation);
        self.storage.prune(self.clock.now(), self.settings.retention);
    }

    fn close(&mut self, ending: Ending) {
        let body = body_of(self.clock.now(), &Record::Close(Close { stop: ending == Ending::Stop }));
        // In one write, so that a reader sees neither line or both.
        match self.write(std::iter::once(&body[..]), Durability::Synced, Sealing::Sealed) {
            Ok(_) => {
                self.queue.count(Kind::Close);
                self.note_use(Durability::Synced);
                self.leave_segment();
                if let Some(chain) = &mut self.chain {
                    chain.cause = ROTATION;
                    chain.end.iter_mut().for_each(|end| end.closed = true);
                }
            }
            Err(unwritten) => self.give_up_sealing(unwritten),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        const INTERVAL: Duration = Duration::from_secs(10);
        self.queue.set_failing(true);
        if self.warned.is_none_or(|warned| warned.elapsed() >= INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::error!(target: "previewgate::audit", %error, "the audit log cannot be written");
        }
    }

    fn recovered(&mut self) {
        if self.queue.set_failing(false) {
            self.warned = None;
            tracing::info!(target: "previewgate::audit", "the audit log is written again");
        }
    }
}

fn next_name(chain: &ChainEnd, now: Timestamp) -> SegmentName {
    let today = time::day(now);
    let instance = chain.instance.clone();
    match &chain.latest {
        // A clock that was set back does not change the order of the files.
        Some(latest) if latest.day >= today => {
            SegmentName { day: latest.day.clone(), number: latest.number + 1, instance }
        }
        _ => SegmentName { day: today, number: 1, instance },
    }
}

fn period(now: Timestamp, segment: Duration) -> u64 {
    now.0 / millis(segment).max(1)
}
