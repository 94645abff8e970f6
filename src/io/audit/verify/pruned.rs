//! Segments that were removed at the end of their retention. Their last signed notes keep the chain connected.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::files::{Opening, Segment};
use super::finding::{Findings, Grade};
use super::summary::ChainSummary;
use crate::audit::checkpoint_line::checkpoint_line;
use crate::audit::digest::Digest;
use crate::audit::note::{self, Checkpoint, Opened, Verifier};
use crate::audit::segment::SegmentName;
use crate::preview::Timestamp;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The last note of a segment that is gone.
pub(super) struct Note {
    file: String,
    segment: String,
    first: u64,
    /// The sequence number and the digest of the checkpoint's own line.
    end: (u64, Digest),
    pub(super) time: Timestamp,
}

pub(super) fn read<'f>(
    files: impl Iterator<Item = (&'f SegmentName, &'f PathBuf)>,
    keys: &[Verifier],
    findings: &mut Findings,
) -> io::Result<Vec<Note>> {
    let mut notes = Vec::new();
    for (name, path) in files {
        let text = fs::read_to_string(path)?;
        let file = name.checkpoint_file();
        match note::open(&text, keys) {
            Opened::Unsigned(_) if !keys.is_empty() => {
                findings.add(Grade::Broken, file, None, "is not signed by the given key");
            }
            Opened::Signed(checkpoint) | Opened::Unsigned(checkpoint) => {
                if checkpoint.segment != name.to_string() {
                    findings.broken(&file, checkpoint.seq, format!("is the note of {}", checkpoint.segment));
                }
                notes.push(Note::new(file, &checkpoint, &text));
            }
            Opened::Unreadable => findings.add(Grade::Broken, file, None, "is no signed note"),
        }
    }
    Ok(notes)
}

impl Note {
    fn new(file: String, checkpoint: &Checkpoint, text: &str) -> Self {
        let Checkpoint { segment, seq, lines, time, .. } = checkpoint;
        let digest = Digest::of(&checkpoint_line(checkpoint, text));
        let first = (seq + 1).saturating_sub(*lines);
        Self { file, segment: segment.clone(), first, end: (seq + 1, digest), time: *time }
    }
}

/// Checks that the notes follow each other, and that the first segment follows the last note. Returns the end of the last
/// segment that was removed.
pub(super) fn check(notes: &[Note], first: Option<&Segment>, findings: &mut Findings) -> Option<(String, u64, Digest)> {
    let mut last: Option<&Note> = None;
    for note in notes {
        let expected = last.map_or(1, |last| last.end.0 + 1);
        if note.first < expected || (last.is_none() && note.first > expected) {
            findings.broken(&note.file, note.first, format!("does not follow: seq {expected} is expected here"));
        } else if note.first > expected {
            let message =
                format!("seq {expected} to {} came after the last checkpoint of their segment", note.first - 1);
            findings.add(Grade::Note, &note.file, Some(expected), message);
        }
        last = Some(note);
    }
    let last = last?;
    let mut end = (last.segment.clone(), last.end.0, last.end.1);
    if let Some(Segment { opening: Opening::After(before), name, .. }) = first
        && before.segment == last.segment
    {
        let is_checkpoint = (before.seq, before.head) == last.end;
        if !is_checkpoint && (before.closed || before.seq <= last.end.0) {
            let message = format!("is not the end that {} follows", name.file());
            findings.broken(&last.file, last.end.0, message);
        }
        end = (before.segment.clone(), before.seq, before.head);
    }
    Some(end)
}

/// A segment that was removed before its time was not removed by the gateway.
pub(super) fn check_retention(summary: &ChainSummary, findings: &mut Findings) {
    let (Some(ended), promised) = (summary.pruned_before, summary.retention_days.saturating_mul(DAY_MS)) else {
        return;
    };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let newest = summary.times.map_or(0, |(_, newest)| newest.0);
    let now = u64::try_from(since_epoch).unwrap_or(u64::MAX).max(newest);
    // Retention is counted in whole days, so a segment may be removed up to a day too early.
    if promised > 0 && ended.0.saturating_add(promised) > now.saturating_add(DAY_MS) {
        let message =
            format!("was removed although the gateway promised to keep it for {} days", summary.retention_days);
        findings.add(Grade::Broken, format!("chain {}", summary.instance), None, message);
    }
}
