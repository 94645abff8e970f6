//! The segment that is being written: lines that count, and lines that are on their way.

use std::io::{self, ErrorKind};

use super::disk::{End, LaterSync, SegmentFile};
use crate::audit::digest::Digest;
use crate::audit::merkle::Tree;
use crate::audit::note::{Checkpoint, Signer};
use crate::audit::progress::Sealed;
use crate::audit::record::{Record, SignedCheckpoint, Tail, append_body, append_line};
use crate::audit::segment::SegmentName;
use crate::config::Durability;
use crate::preview::Timestamp;

/// Memory that is kept from one batch to the next, in bytes.
const MAX_SPARE: usize = 1 << 20;

/// The open segment.
pub(super) struct OpenSegment {
    file: Box<dyn SegmentFile>,
    pub(super) name: SegmentName,
    /// Which multiple of `audit.segment` it was opened in.
    pub(super) period: u64,
    position: Position,
    /// Bytes of lines that count.
    pub(super) bytes: u64,
    /// Lines after the last checkpoint.
    pub(super) unsealed: bool,
    /// Whether records in it count.
    usage: Usage,
    /// Lines that are being written.
    pending: Option<Pending>,
    /// The memory of the last lines, for the next ones.
    spare: Vec<u8>,
}

/// Whether lines of a segment count.
#[derive(Debug)]
pub(super) enum Usage {
    /// It was begun after a failure, and may fail too. Its checkpoint is announced when the first record follows.
    Begun(Option<Announcement>),
    /// It stays, whatever happens.
    Used,
}

/// A checkpoint, for the log of the gateway.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) sealed: Sealed,
    segment: String,
    note: String,
}

/// A position in a chain, and in the tree of the segment.
#[derive(Clone, Debug)]
struct Position {
    seq: u64,
    head: Digest,
    tree: Tree,
}

struct Pending {
    lines: Vec<u8>,
    written: usize,
    after: Position,
    checkpoint: Option<Announcement>,
}

/// What seals the lines.
pub(super) struct Seal<'s> {
    pub(super) signer: &'s Signer,
    pub(super) at: Timestamp,
}

/// Lines that count from now on.
pub(super) struct Written {
    /// The sequence number of the first.
    pub(super) first: u64,
    /// The checkpoint among them.
    pub(super) checkpoint: Option<Announcement>,
}

/// Why lines are not confirmed.
pub(super) enum Unwritten {
    /// The same bytes may be written later.
    NotNow(io::Error),
    /// The segment cannot be used any more.
    SegmentLost(io::Error),
}

impl Announcement {
    /// The log goes elsewhere: whoever keeps it has an anchor that this machine cannot change.
    pub(super) fn log(self) {
        let Self { sealed: Sealed { seq, .. }, segment, note } = self;
        tracing::info!(target: "previewgate::audit", segment, seq, note, "audit checkpoint");
    }
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

    /// Appends a signed checkpoint of all lines so far.
    fn seal(&mut self, lines: &mut Vec<u8>, name: &SegmentName, seal: &Seal<'_>) -> Announcement {
        let checkpoint = Checkpoint {
            instance: name.instance.clone(),
            segment: name.to_string(),
            lines: self.tree.size(),
            root: self.tree.root(),
            head: self.head,
            seq: self.seq,
            time: seal.at,
        };
        let note = seal.signer.sign(&checkpoint);
        self.append(lines, &body_of(seal.at, &Record::Checkpoint(SignedCheckpoint { note: note.as_str().into() })));
        let sealed = Sealed { seq: checkpoint.seq, at: checkpoint.time };
        Announcement { sealed, segment: checkpoint.segment, note }
    }
}

impl OpenSegment {
    /// An empty segment that follows the line with this number and digest.
    pub(super) fn new(
        file: Box<dyn SegmentFile>,
        name: SegmentName,
        period: u64,
        (seq, head): (u64, Digest),
        usage: Usage,
    ) -> Self {
        let position = Position { seq, head, tree: Tree::default() };
        Self { file, name, period, position, bytes: 0, unsealed: false, usage, pending: None, spare: Vec::new() }
    }

    /// Writes the lines of `bodies`, and a checkpoint after them; if that was begun before, goes on where it stopped.
    pub(super) fn write<'b>(
        &mut self,
        bodies: impl Iterator<Item = &'b [u8]>,
        durability: Durability,
        seal: Option<Seal<'_>>,
    ) -> Result<Written, Unwritten> {
        let mut pending = self.pending.take().unwrap_or_else(|| self.prepare(bodies, seal));
        let outcome = self.put(&mut pending, durability);
        if let Err(unwritten) = outcome {
            self.pending = Some(pending);
            return Err(unwritten);
        }
        let Pending { mut lines, after, checkpoint, .. } = pending;
        let first = self.position.seq + 1;
        self.position = after;
        self.bytes += lines.len() as u64;
        self.unsealed = checkpoint.is_none() && (self.unsealed || !lines.is_empty());
        // What a disk that hung has left behind need not stay.
        if lines.capacity() <= MAX_SPARE {
            lines.clear();
            self.spare = lines;
        }
        Ok(Written { first, checkpoint })
    }

    fn prepare<'b>(&mut self, bodies: impl Iterator<Item = &'b [u8]>, seal: Option<Seal<'_>>) -> Pending {
        let (mut after, mut lines) = (self.position.clone(), std::mem::take(&mut self.spare));
        bodies.for_each(|body| after.append(&mut lines, body));
        let checkpoint = seal.map(|seal| after.seal(&mut lines, &self.name, &seal));
        Pending { lines, written: 0, after, checkpoint }
    }

    fn put(&mut self, pending: &mut Pending, durability: Durability) -> Result<(), Unwritten> {
        while let Some(rest) = pending.lines.get(pending.written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(Unwritten::NotNow(ErrorKind::WriteZero.into())),
                Ok(written) => pending.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => return Err(Unwritten::NotNow(error)),
                Err(error) => return Err(Unwritten::SegmentLost(error)),
            }
        }
        if durability == Durability::Synced {
            // After an error it is unknown which pages are on the disk, so the lines are written again elsewhere.
            self.file.sync().map_err(Unwritten::SegmentLost)?;
        }
        if self.file.is_there().map_err(Unwritten::SegmentLost)? {
            Ok(())
        } else {
            Err(Unwritten::SegmentLost(io::Error::other("the file of the audit log was removed")))
        }
    }

    /// The number and the digest of the last line that counts.
    pub(super) fn last_line(&self) -> (u64, Digest) {
        (self.position.seq, self.position.head)
    }

    /// A checkpoint was written. Returns it if it can be announced now, and not only when the segment is used.
    pub(super) fn sealed(&mut self, checkpoint: Announcement) -> Option<Announcement> {
        match &mut self.usage {
            Usage::Begun(waiting) => {
                *waiting = Some(checkpoint);
                None
            }
            Usage::Used => Some(checkpoint),
        }
    }

    /// Records are in the segment, and confirmed. Returns the checkpoint that can be announced now.
    pub(super) fn note_use(&mut self) -> Option<Announcement> {
        match std::mem::replace(&mut self.usage, Usage::Used) {
            Usage::Begun(waiting) => waiting,
            Usage::Used => None,
        }
    }

    /// Waits for the disk, from another thread.
    pub(super) fn later_sync(&self) -> io::Result<LaterSync> {
        self.file.later_sync()
    }

    /// Whether no record in it counts, and no other segment need name it.
    pub(super) fn is_unused(&self) -> bool {
        matches!(self.usage, Usage::Begun(_))
    }

    /// Whether lines are on their way.
    pub(super) fn is_writing(&self) -> bool {
        self.pending.is_some()
    }

    /// Its end, as the next segment names it. Whatever was written and not confirmed is its tail.
    pub(super) fn end(self) -> End {
        let unconfirmed = self.pending.as_ref().and_then(|pending| pending.lines.get(..pending.written));
        let tail = unconfirmed
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| Tail { bytes: bytes.len() as u64, sha256: Digest::of(bytes) });
        let Position { seq, head, .. } = self.position;
        End { segment: self.name, seq, head, closed: false, tail }
    }
}

/// Errors after which the same file can be written again: no room, or a file system that is read-only for now.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem | ErrorKind::WouldBlock
    )
}

/// A record without the number and the digest that its line begins with.
pub(super) fn body_of(at: Timestamp, record: &Record<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    append_body(&mut body, at, record);
    body
}
