//! How far a segment has been read, and whether each line of it follows from the lines before.

use std::rc::Rc;

use super::finding::Findings;
use crate::audit::checkpoint_line::checkpoint_line;
use crate::audit::digest::Digest;
use crate::audit::merkle::Tree;
use crate::audit::note::{self, Opened, Verifier};
use crate::audit::record::{Header, Kind};
use crate::audit::segment::SegmentName;
use crate::preview::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// No checkpoint was read yet.
    Opening,
    Sealed,
    /// A `close` record was read: only a checkpoint may follow.
    Closing,
    /// Nothing may follow.
    Complete,
}

/// The state of one segment. Only its first fault is reported, because further ones usually follow from it.
#[derive(Clone, Debug)]
pub(super) struct SegmentState {
    name: SegmentName,
    text: String,
    file: Rc<str>,
    seq: u64,
    head: Digest,
    tree: Tree,
    phase: Phase,
    /// The gateway ended with this segment.
    stop: bool,
    /// Segments come after it, and none of them says that it follows this one.
    orphan: bool,
    is_broken: bool,
    /// The key that its `open` record names, if it is one of the given keys: only this key may sign its checkpoints.
    key: Option<Verifier>,
}

impl SegmentState {
    pub(super) fn new(name: &SegmentName, seq: u64, head: Digest, orphan: bool) -> Self {
        Self {
            name: name.clone(),
            text: name.to_string(),
            file: name.file().into(),
            seq,
            head,
            tree: Tree::default(),
            phase: Phase::Opening,
            stop: false,
            orphan,
            is_broken: false,
            key: None,
        }
    }

    /// The `open` record names this key.
    pub(super) fn signed_by(&mut self, key: Option<&Verifier>) {
        self.key = key.cloned();
    }

    pub(super) fn name(&self) -> &str {
        &self.text
    }

    pub(super) fn file(&self) -> Rc<str> {
        Rc::clone(&self.file)
    }

    /// The sequence number of the last line.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The digest of the last line.
    pub(super) fn head(&self) -> Digest {
        self.head
    }

    /// How many lines were read.
    pub(super) fn lines(&self) -> u64 {
        self.tree.size()
    }

    /// The root of the tree over them.
    pub(super) fn root(&self) -> Digest {
        self.tree.root()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.phase == Phase::Complete
    }

    pub(super) fn ends_the_chain(&self) -> bool {
        self.stop
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn is_orphan(&self) -> bool {
        self.orphan
    }

    /// Reports a fault of the current line, if it is the first of this segment.
    pub(super) fn broken(&mut self, message: impl Into<String>, findings: &mut Findings) {
        self.broken_at(self.seq, message, findings);
    }

    pub(super) fn broken_at(&mut self, seq: u64, message: impl Into<String>, findings: &mut Findings) {
        if !std::mem::replace(&mut self.is_broken, true) {
            findings.broken(&*self.file, seq, message);
        }
    }

    pub(super) fn not_a_record(&mut self, digest: Digest, findings: &mut Findings) {
        let message = format!("line {} is no record", self.lines() + 1);
        self.broken_at(self.seq + 1, message, findings);
        self.seq += 1;
        self.head = digest;
        self.tree.push(digest);
    }

    pub(super) fn unknown_kind(&mut self, kind: &str, findings: &mut Findings) {
        self.broken(format!("is a record of the unknown kind {kind:?}"), findings);
    }

    pub(super) fn malformed(&mut self, kind: &str, error: &serde_json::Error, findings: &mut Findings) {
        self.broken(format!("is no {kind} record: {error}"), findings);
    }

    /// Checks that the line follows from the one before; returns its position in the segment.
    pub(super) fn begin_line(&mut self, header: &Header<'_>, findings: &mut Findings) -> u64 {
        let expected = self.seq + 1;
        let line = self.lines() + 1;
        let fault = if header.seq > expected {
            Some(format!("is missing: line {line} has seq {}", header.seq))
        } else if header.seq < expected {
            Some(format!("line {line} has seq {} again", header.seq))
        } else if header.prev != self.head {
            Some(format!("line {line} does not follow from the line before: one of the two was changed"))
        } else {
            None
        };
        if let Some(fault) = fault {
            self.broken_at(expected, fault, findings);
        }
        self.seq = header.seq;
        line - 1
    }

    /// Takes the line into account.
    pub(super) fn end_line(&mut self, kind: Option<Kind>, stop: bool, digest: Digest, findings: &mut Findings) {
        let is_first = self.lines() == 0;
        self.head = digest;
        self.tree.push(digest);
        if is_first != (kind == Some(Kind::Open)) {
            self.broken("a segment begins with its one open record", findings);
        }
        self.stop |= stop;
        self.phase = match (self.phase, kind) {
            (Phase::Complete, _) => {
                self.broken("follows the end of the segment", findings);
                Phase::Complete
            }
            (Phase::Closing, Some(Kind::Checkpoint)) => Phase::Complete,
            (Phase::Closing, _) => {
                self.broken("only a checkpoint may follow a close record", findings);
                Phase::Closing
            }
            (_, Some(Kind::Close)) => Phase::Closing,
            (_, Some(Kind::Checkpoint)) => Phase::Sealed,
            (Phase::Opening, Some(Kind::Open | Kind::Config)) => Phase::Opening,
            (Phase::Opening, _) => {
                self.broken("a signed checkpoint must come before the first record of a segment", findings);
                Phase::Sealed
            }
            (Phase::Sealed, _) => Phase::Sealed,
        };
    }

    /// Checks a checkpoint against all lines before it. Returns when it was signed; `None` if there is a fault.
    pub(super) fn check_checkpoint(
        &mut self,
        line: &str,
        note: &str,
        keys: &[Verifier],
        findings: &mut Findings,
    ) -> Option<Timestamp> {
        let own = if keys.is_empty() { keys } else { self.key.as_slice() };
        let checkpoint = match note::open(note, own) {
            Opened::Signed(checkpoint) => checkpoint,
            Opened::Unsigned(checkpoint) if keys.is_empty() => checkpoint,
            Opened::Unsigned(_) => {
                self.broken("the checkpoint is not signed by the key that the segment names", findings);
                return None;
            }
            Opened::Unreadable => {
                self.broken("the checkpoint is no signed note", findings);
                return None;
            }
        };
        let covers = (&*checkpoint.instance, &*checkpoint.segment, checkpoint.seq, checkpoint.head);
        if covers != (&*self.name.instance, &*self.text, self.seq.saturating_sub(1), self.head)
            || (checkpoint.lines, checkpoint.root) != (self.lines(), self.root())
        {
            self.broken("the checkpoint was signed for other lines than those before it", findings);
        } else if checkpoint_line(&checkpoint, note) != line.as_bytes() {
            self.broken("the checkpoint's line is not as the gateway wrote it", findings);
        } else if !self.is_broken {
            return Some(checkpoint.time);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::note::{Checkpoint, Signer};
    use crate::audit::verify::finding::Grade;

    /// An auditor who trusts the keys of two gateways: the owner of one key must not seal what the other gateway wrote.
    #[test]
    fn only_the_key_that_a_segment_names_signs_its_checkpoints() {
        let signers = [(); 2].map(|()| Signer::generate().unwrap().0);
        let keys = signers.each_ref().map(|signer| signer.verifier().clone());
        let name = SegmentName::parse("2026-11-25.1a2b3c4d.001").unwrap();
        for (signer, expected) in signers.iter().zip([Some(Timestamp(5)), None]) {
            let (mut findings, mut segment) = (Findings::default(), SegmentState::new(&name, 0, Digest::ZERO, false));
            let header = |seq, prev, kind| Header { seq, prev, at: Timestamp(5), kind };
            let open = Digest::of(b"open");
            segment.begin_line(&header(1, Digest::ZERO, "open"), &mut findings);
            segment.signed_by(Some(&keys[0]));
            segment.end_line(Some(Kind::Open), false, open, &mut findings);
            let checkpoint = Checkpoint {
                instance: name.instance.clone(),
                segment: name.to_string(),
                lines: segment.lines(),
                root: segment.root(),
                head: open,
                seq: 1,
                time: Timestamp(5),
            };
            let note = signer.sign(&checkpoint);
            let line = String::from_utf8(checkpoint_line(&checkpoint, &note)).unwrap();
            segment.begin_line(&header(2, open, "checkpoint"), &mut findings);
            assert_eq!(segment.check_checkpoint(&line, &note, &keys, &mut findings), expected);
            assert_eq!(findings.count(Grade::Broken), u64::from(expected.is_none()), "{:?}", findings.all());
        }
    }
}
