//! The writer: one thread that turns records into lines, chains, signs and writes them.
//!
//! [`queue`] takes records without waiting; this thread takes all that wait, writes them with one `write(2)` (and one
//! `fdatasync(2)` if `audit.durability` is "synced"), and then lets the callouts go on that wait for them. A disk that
//! stands still stops this thread and nothing else. [`disk`] is the directory.
//!
//! A record has its place in the chain only when it is written. So a segment that fails can be left behind: what was not
//! confirmed is written again at the start of the next one, and the `open` record there says how many bytes of the old
//! file do not count.

mod disk;
pub(super) mod queue;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::disk::{Directory, End, SegmentFile, Storage};
use self::queue::{Batch, Queue, Work};
use super::digest::Digest;
use super::merkle::Tree;
use super::note::{Checkpoint, Signer};
use super::number_keys::NumberKeys;
use super::progress::Sealed;
use super::record::{
    Before, Close, FORMAT, Kind, Lost, Open, Record, SignedCheckpoint, Tail, append_body, append_line,
};
use super::segment::SegmentName;
use super::time;
use crate::config::Durability;
use crate::preview::{Clock, Timestamp};

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
    next_checkpoint: Instant,
    /// The last line of the log that said that records cannot be written.
    warned: Option<Instant>,
}

/// Where the chain ends.
struct ChainEnd {
    instance: String,
    latest: Option<SegmentName>,
    end: Option<End>,
}

struct OpenSegment {
    file: Box<dyn SegmentFile>,
    name: SegmentName,
    /// Which multiple of `audit.segment` it was opened in.
    period: u64,
    position: Position,
    /// Bytes of lines that count.
    bytes: u64,
    /// Lines after the last checkpoint.
    unsealed: bool,
    /// Lines that are being written.
    pending: Option<Pending>,
}

/// A position in a chain, and in the tree of the segment.
#[derive(Clone, Debug)]
struct Position {
    seq: u64,
    head: Digest,
    tree: Tree,
}

impl Position {
    /// Appends the line of `body`, with line feed, and moves on.
    fn append(&mut self, lines: &mut Vec<u8>, body: &[u8]) {
        let start = lines.len();
        append_line(lines, self.seq + 1, self.head, body);
        self.head = Digest::of(lines.get(start..).unwrap_or_default());
        self.seq += 1;
        self.tree.push(self.head);
        lines.push(b'\n');
    }
}

struct Pending {
    lines: Vec<u8>,
    written: usize,
    after: Position,
}

/// Why lines are not confirmed.
enum Unwritten {
    /// The same bytes may be written later.
    NotNow(io::Error),
    /// The segment cannot be used any more.
    SegmentLost(io::Error),
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
            next_checkpoint: now,
            warned: None,
        }
    }

    /// Opens the first segment; the writer tries again by itself later if it fails.
    pub(super) fn open_first(&mut self) -> io::Result<()> {
        let opened = self.ensure_open("start");
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
                self.close(true);
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
                    confirm(batch, first);
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
        self.try_commit(batch).map(|first| confirm(batch, first)).is_ok()
    }

    /// One attempt. Returns the sequence number of the first record.
    fn try_commit(&mut self, batch: &Batch) -> io::Result<u64> {
        if self.is_rotation_due() {
            self.rotate();
        }
        self.ensure_open(if self.chain.is_some() { "recovery" } else { "start" })?;
        let synced = self.settings.durability == Durability::Synced && batch.entries.iter().any(|e| e.waiter.is_some());
        self.write(batch.bodies(), synced).map_err(|unwritten| match unwritten {
            Unwritten::NotNow(error) => error,
            Unwritten::SegmentLost(error) => {
                self.leave_segment();
                error
            }
        })
    }

    /// Writes the lines of `bodies` to the open segment; if that was begun before, goes on where it stopped.
    fn write<'b>(&mut self, bodies: impl Iterator<Item = &'b [u8]>, synced: bool) -> Result<u64, Unwritten> {
        const NONE: ErrorKind = ErrorKind::NotFound;
        let segment = self.segment.as_mut().ok_or_else(|| Unwritten::NotNow(NONE.into()))?;
        if segment.pending.is_none() {
            let mut after = segment.position.clone();
            let mut lines = Vec::new();
            bodies.for_each(|body| after.append(&mut lines, body));
            segment.pending = Some(Pending { lines, written: 0, after });
        }
        let Some(pending) = segment.pending.as_mut() else { return Err(Unwritten::NotNow(NONE.into())) };
        while let Some(rest) = pending.lines.get(pending.written..).filter(|rest| !rest.is_empty()) {
            match segment.file.write(rest) {
                Ok(0) => return Err(Unwritten::NotNow(ErrorKind::WriteZero.into())),
                Ok(written) => pending.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => return Err(Unwritten::NotNow(error)),
                Err(error) => return Err(Unwritten::SegmentLost(error)),
            }
        }
        if synced {
            // After an error nobody knows which pages are on the disk: the lines are written again elsewhere.
            segment.file.sync().map_err(Unwritten::SegmentLost)?;
        }
        if !segment.file.is_there().map_err(Unwritten::SegmentLost)? {
            return Err(Unwritten::SegmentLost(io::Error::other("the file of the audit log was removed")));
        }
        let first = segment.position.seq + 1;
        segment.bytes += pending.lines.len() as u64;
        segment.unsealed |= !pending.lines.is_empty();
        if let Some(pending) = segment.pending.take() {
            segment.position = pending.after;
        }
        self.queue.chain.reached(segment.position.seq, segment.position.head);
        Ok(first)
    }

    /// Leaves a segment behind that cannot be written any more.
    fn leave_segment(&mut self) {
        let (Some(segment), Some(chain)) = (self.segment.take(), self.chain.as_mut()) else { return };
        let unconfirmed = segment.pending.as_ref().and_then(|pending| pending.lines.get(..pending.written));
        let tail = unconfirmed
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| Tail { bytes: bytes.len() as u64, sha256: Digest::of(bytes) });
        let Position { seq, head, .. } = segment.position;
        chain.end = Some(End { segment: segment.name, seq, head, closed: false, tail });
    }

    /// Opens a segment if none is open: reads the end of the chain first, if that was not done yet.
    fn ensure_open(&mut self, cause: &'static str) -> io::Result<()> {
        if self.segment.is_some() {
            return Ok(());
        }
        let chain = match self.chain.take() {
            Some(chain) => chain,
            None => {
                let recovered = self.storage.recover()?;
                self.queue.set_instance(&recovered.instance);
                ChainEnd { instance: recovered.instance, latest: recovered.latest, end: recovered.end }
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
            cause: cause.into(),
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
        self.segment = Some(OpenSegment {
            file,
            name,
            period: period(now, self.settings.segment),
            position: Position { seq, head, tree: Tree::default() },
            bytes: 0,
            unsealed: false,
            pending: None,
        });
        let begun = self.write(bodies.iter().map(Vec::as_slice), false).and_then(|_| self.seal(false));
        begun.map_err(|(Unwritten::NotNow(error) | Unwritten::SegmentLost(error))| {
            // Nothing of it counts yet; the next attempt begins another file.
            if let Some(segment) = self.segment.take() {
                self.storage.remove(&segment.name);
            }
            error
        })?;
        self.queue.count(Kind::Open);
        (1..bodies.len()).for_each(|_| self.queue.count(Kind::Config));
        Ok(())
    }

    /// Writes a signed checkpoint of all lines so far.
    fn seal(&mut self, synced: bool) -> Result<(), Unwritten> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let checkpoint = Checkpoint {
            instance: segment.name.instance.clone(),
            segment: segment.name.to_string(),
            lines: segment.position.tree.size(),
            root: segment.position.tree.root(),
            head: segment.position.head,
            seq: segment.position.seq,
            time: self.clock.now(),
        };
        let note = self.signer.sign(&checkpoint);
        let body = body_of(checkpoint.time, &Record::Checkpoint(SignedCheckpoint { note: note.as_str().into() }));
        self.write(std::iter::once(&body[..]), synced)?;
        if let Some(segment) = &mut self.segment {
            segment.unsealed = false;
        }
        self.next_checkpoint = Instant::now() + self.settings.checkpoint_interval;
        self.queue.count(Kind::Checkpoint);
        self.queue.chain.sealed(Sealed { seq: checkpoint.seq, at: checkpoint.time });
        // The log goes elsewhere: whoever keeps it has an anchor that this machine cannot change.
        tracing::info!(target: "previewgate::audit", segment = checkpoint.segment, seq = checkpoint.seq, note, "audit checkpoint");
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
        } else if unsealed {
            match self.seal(false) {
                Ok(()) => {}
                Err(unwritten) => self.give_up_sealing(unwritten),
            }
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
        match self.write(std::iter::once(&body[..]), false) {
            Ok(_) => self.queue.count(Kind::Lost),
            Err(unwritten) => {
                self.queue.return_losses(losses);
                self.give_up_sealing(unwritten);
            }
        }
    }

    fn is_rotation_due(&self) -> bool {
        let Some(segment) = &self.segment else { return false };
        let other_period = period(self.clock.now(), self.settings.segment) != segment.period;
        segment.pending.is_none() && (other_period || segment.bytes >= self.settings.segment_bytes)
    }

    /// Ends the segment. The next record opens another.
    fn rotate(&mut self) {
        self.close(false);
        self.storage.prune(self.clock.now(), self.settings.retention);
    }

    fn close(&mut self, stop: bool) {
        let body = body_of(self.clock.now(), &Record::Close(Close { stop }));
        let closed = self.write(std::iter::once(&body[..]), false).and_then(|_| self.seal(true));
        match closed {
            Ok(()) => {
                self.queue.count(Kind::Close);
                self.leave_segment();
                if let Some(end) = self.chain.as_mut().and_then(|chain| chain.end.as_mut()) {
                    end.closed = true;
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

fn body_of(at: Timestamp, record: &Record<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    append_body(&mut body, at, record);
    body
}

/// Lets the callouts go on.
fn confirm(batch: &mut Batch, first: u64) {
    for (seq, entry) in (first..).zip(batch.entries.drain(..)) {
        if let Some(waiter) = entry.waiter {
            // A callout that waited too long is gone.
            let _ = waiter.send(seq);
        }
    }
}

/// Errors after which the same file can be written again: no room, or a file system that is read-only for now.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem | ErrorKind::WouldBlock
    )
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
