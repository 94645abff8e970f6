//! Anchors: signed notes that were kept elsewhere. A chain that was cut off or made again does not contain the lines that
//! they name.

use std::collections::BTreeMap;

use super::finding::{Findings, Grade};
use super::segment_state::SegmentState;
use super::summary::ChainSummary;
use crate::audit::note::{self, Checkpoint, Opened, Verifier};

/// The anchors of one chain that were not met yet, by the line that they name.
#[derive(Debug, Default)]
pub(super) struct ChainAnchors(BTreeMap<u64, Vec<Anchor>>);

#[derive(Debug)]
struct Anchor {
    source: String,
    checkpoint: Checkpoint,
}

/// The anchors in a file, by chain.
pub(super) fn read(
    source: &str,
    text: &str,
    keys: &[Verifier],
    findings: &mut Findings,
) -> BTreeMap<String, ChainAnchors> {
    let mut anchors: BTreeMap<String, ChainAnchors> = BTreeMap::new();
    let notes = note::find_notes(text);
    if notes.is_empty() {
        findings.add(Grade::Broken, source, None, "the file of the anchor holds no signed note");
    }
    for note in notes {
        if let Some(checkpoint) = opened(source, &note, keys, findings) {
            let chain = anchors.entry(checkpoint.instance.clone()).or_default();
            chain.add(source, checkpoint);
        }
    }
    anchors
}

fn opened(source: &str, note: &str, keys: &[Verifier], findings: &mut Findings) -> Option<Checkpoint> {
    match note::open(note, keys) {
        Opened::Signed(checkpoint) => return Some(checkpoint),
        Opened::Unsigned(checkpoint) if keys.is_empty() => return Some(checkpoint),
        Opened::Unsigned(checkpoint) => {
            findings.broken(source, checkpoint.seq, "the anchor is not signed by the given key");
        }
        Opened::Unreadable => findings.add(Grade::Broken, source, None, "the anchor is no signed note"),
    }
    None
}

impl ChainAnchors {
    fn add(&mut self, source: &str, checkpoint: Checkpoint) {
        let anchors = self.0.entry(checkpoint.seq).or_default();
        if anchors.iter().all(|known| known.checkpoint != checkpoint) {
            anchors.push(Anchor { source: source.to_owned(), checkpoint });
        }
    }

    /// A signed note that lies beside the segments.
    pub(super) fn add_note(&mut self, source: &str, note: &str, keys: &[Verifier], findings: &mut Findings) {
        if let Some(checkpoint) = opened(source, note, keys, findings) {
            self.add(source, checkpoint);
        }
    }

    /// Compares the line that was just read with the anchors that name it.
    pub(super) fn check(&mut self, segment: &SegmentState, summary: &mut ChainSummary, findings: &mut Findings) {
        if self.0.is_empty() {
            return;
        }
        for Anchor { source, checkpoint } in self.0.remove(&segment.seq()).unwrap_or_default() {
            let read = (segment.name(), segment.lines(), segment.head(), segment.root());
            if read == (&*checkpoint.segment, checkpoint.lines, checkpoint.head, checkpoint.root) {
                summary.anchored = Some(checkpoint.seq);
            } else {
                let message = format!("the line is not the one that the anchor in {source} names");
                findings.broken(&*segment.file(), checkpoint.seq, message);
            }
        }
    }

    /// Removes the anchors of lines that were pruned, which cannot be compared any more. The last of these lines counts as
    /// anchored.
    pub(super) fn cover_pruned(&mut self, last: u64, summary: &mut ChainSummary) {
        let later = self.0.split_off(&(last + 1));
        if let Some((seq, _)) = self.0.last_key_value() {
            summary.anchored = Some(*seq);
        }
        self.0 = later;
    }

    /// Ends the comparison when the chain was read to its end: each anchor that is left names a line that is gone. `met` is
    /// the last line that an anchor named.
    pub(super) fn finish(&mut self, last: u64, met: Option<u64>, file: &str, findings: &mut Findings) {
        // A note is published after its own line was written. That line follows the one that the note names.
        if met == Some(last) {
            findings.broken(file, last + 1, "the end was cut off: the anchor's own checkpoint is gone");
        }
        for Anchor { source, checkpoint } in std::mem::take(&mut self.0).into_values().flatten() {
            let (file, seq) = (format!("{}.jsonl", checkpoint.segment), checkpoint.seq);
            if seq > last {
                let message = format!("the end was cut off: the anchor in {source} names seq {seq}");
                findings.broken(file, last + 1, message);
            } else {
                findings.broken(file, seq, format!("the line that the anchor in {source} names is not there"));
            }
        }
    }

    /// Reports that the chain of these anchors is missing.
    pub(super) fn missing(mut self, findings: &mut Findings) {
        self.finish(0, None, "", findings);
    }
}
