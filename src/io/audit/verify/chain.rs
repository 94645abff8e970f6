//! One chain, from its first line to its last: each line follows from the one before, each checkpoint is signed and
//! correct, and each segment begins where the one before ended.
//!
//! [`ChainReader::next`] hands out the lines in order. It checks each one on the way, so what reads a log has verified it.

use std::collections::VecDeque;
use std::fs;
use std::io;

use super::anchors::ChainAnchors;
use super::files::{ChainFiles, Opening, Predecessor, Segment};
use super::finding::{Findings, Grade};
use super::lines::{Lines, RawLine};
use super::pruned;
use super::segment_state::SegmentState;
use super::summary::ChainSummary;
use crate::audit::digest::Digest;
use crate::audit::lock::is_locked;
use crate::audit::note::Verifier;
use crate::audit::record::{FORMAT, Header, Kind, Open, Record};
use crate::preview::Timestamp;

/// A line that was read, and where it is.
#[derive(Debug)]
pub struct Line {
    /// The name of the segment's file.
    pub file: std::rc::Rc<str>,
    /// The position in the segment, from 0.
    pub index: u64,
    /// Its sequence number.
    pub seq: u64,
    /// When the record was made.
    pub at: Timestamp,
    /// Its subject.
    pub kind: Kind,
    /// The line without its line feed.
    pub text: String,
}

impl Line {
    /// The record; `None` if the line is not a valid one.
    pub fn record(&self) -> Option<Record<'_>> {
        Record::read(self.kind, &self.text).ok()
    }
}

/// The end of what was read so far.
#[derive(Clone, Debug)]
struct End {
    segment: Option<String>,
    seq: u64,
    head: Digest,
}

/// Reads one chain.
pub(super) struct ChainReader<'k> {
    files: VecDeque<Segment>,
    keys: &'k [Verifier],
    anchors: ChainAnchors,
    end: End,
    current: Option<(SegmentState, Lines, Option<Predecessor>)>,
    /// A fault was found: nothing that follows is sealed.
    is_broken: bool,
    /// What is known so far.
    pub(super) summary: ChainSummary,
}

impl<'k> ChainReader<'k> {
    pub(super) fn new(
        instance: String,
        files: ChainFiles,
        keys: &'k [Verifier],
        mut anchors: ChainAnchors,
        findings: &mut Findings,
    ) -> io::Result<Self> {
        let latest = files.segments.last().map(|segment| &segment.path);
        let live = files.locks.iter().chain(latest).any(|path| is_locked(path));
        let mut summary = ChainSummary { instance, pruned: files.pruned.len(), live, ..ChainSummary::default() };
        let ChainFiles { segments, pruned, .. } = files;
        let gone = pruned.iter().filter(|(name, _)| segments.iter().all(|segment| segment.name != **name));
        let notes = pruned::read(gone, keys, findings)?;
        // If a segment is about to be removed, its note is beside it already.
        for (name, path) in pruned.iter().filter(|(name, _)| segments.iter().any(|segment| segment.name == **name)) {
            anchors.add_note(&name.checkpoint_file(), &fs::read_to_string(path)?, keys, findings);
        }
        summary.pruned_before = notes.last().map(|note| note.time);
        let end = pruned::check(&notes, segments.first(), findings).map_or(
            End { segment: None, seq: 0, head: Digest::ZERO },
            |(segment, seq, head)| End { segment: Some(segment), seq, head },
        );
        anchors.cover_pruned(end.seq, &mut summary);
        Ok(Self { files: segments.into(), keys, anchors, end, current: None, is_broken: false, summary })
    }

    /// The next line; `None` at the end of the chain.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn next(&mut self, findings: &mut Findings) -> io::Result<Option<Line>> {
        loop {
            let Some((segment, lines, limit)) = &mut self.current else {
                if !self.open_next(findings)? {
                    return Ok(None);
                }
                continue;
            };
            if limit.as_ref().is_some_and(|limit| limit.seq == segment.seq()) {
                self.finish_segment(findings)?;
                continue;
            }
            let raw = lines.next()?;
            match raw {
                Some(RawLine::Whole(text)) => {
                    if let Some(line) = self.take(text, findings) {
                        return Ok(Some(line));
                    }
                }
                other => self.end_of_file(other, findings),
            }
        }
    }

    /// Opens the next segment that belongs to the chain.
    fn open_next(&mut self, findings: &mut Findings) -> io::Result<bool> {
        let Some(segment) = self.files.pop_front() else {
            self.finish_chain(findings);
            return Ok(false);
        };
        let successor = self.files.iter().find_map(|later| match &later.opening {
            Opening::After(before) => Some(Some(before)),
            Opening::First => Some(None),
            Opening::Unreadable | Opening::None => None,
        });
        let named = successor.flatten().filter(|before| before.segment == segment.name.to_string()).cloned();
        let orphan = successor.is_some() && named.is_none();
        if segment.opening == Opening::None && named.is_none() {
            let message = "has no whole line: the gateway ended when it began this segment";
            findings.add(Grade::Note, segment.name.file(), None, message);
            return Ok(true);
        }
        if orphan && super::abandoned::is_abandoned(&segment.path)? {
            findings.add(Grade::Note, segment.name.file(), None, "was begun and never used");
            return Ok(true);
        }
        let lines = Lines::open(&segment.path)?;
        self.check_opening(&segment, findings);
        self.summary.segments += 1;
        let state = SegmentState::new(&segment.name, self.end.seq, self.end.head, orphan);
        self.current = Some((state, lines, named));
        Ok(true)
    }

    /// Compares what a segment says about the one before with what was read there.
    fn check_opening(&mut self, segment: &Segment, findings: &mut Findings) {
        let file = segment.name.file();
        match &segment.opening {
            Opening::Unreadable | Opening::None => {}
            Opening::First if self.end.segment.is_none() => {}
            Opening::First => findings.broken(&file, 1, "begins the chain again, although segments come before it"),
            Opening::After(before) if self.end.segment.as_deref() == Some(&before.segment) => {}
            Opening::After(before) => {
                let missing = format!("{}.jsonl", before.segment);
                let message = format!("is missing, or is not in its place: {file} follows it");
                findings.broken(missing, before.seq, message);
                self.is_broken = true;
                self.end = End { segment: None, seq: before.seq, head: before.head };
            }
        }
    }

    /// Checks one line.
    fn take(&mut self, text: Vec<u8>, findings: &mut Findings) -> Option<Line> {
        let (segment, ..) = self.current.as_mut()?;
        let digest = Digest::of(&text);
        let Ok(text) = String::from_utf8(text) else {
            segment.not_a_record(digest, findings);
            return None;
        };
        let Ok(header) = serde_json::from_str::<Header<'_>>(&text) else {
            segment.not_a_record(digest, findings);
            return None;
        };
        let kind = Kind::parse(header.kind);
        let (seq, at) = (header.seq, header.at);
        let index = segment.begin_line(&header, findings);
        let record = kind.map(|kind| Record::read(kind, &text));
        match &record {
            None => segment.unknown_kind(header.kind, findings),
            Some(Err(error)) => segment.malformed(header.kind, error, findings),
            Some(Ok(Record::Open(open))) => Self::check_open(&mut self.summary, segment, open, self.keys, findings),
            Some(Ok(Record::Checkpoint(checkpoint))) => {
                let signed = segment.check_checkpoint(&text, &checkpoint.note, self.keys, findings);
                if let Some(time) = signed.filter(|_| !self.is_broken) {
                    self.summary.sealed = Some(seq);
                    self.summary.sealed_at = Some(time);
                    self.summary.unsealed = None;
                    self.summary.last_note = Some(checkpoint.note.to_string());
                }
            }
            Some(Ok(_)) => {}
        }
        let stop = matches!(&record, Some(Ok(Record::Close(close))) if close.stop);
        segment.end_line(kind, stop, digest, findings);
        self.anchors.check(segment, &mut self.summary, findings);
        self.note_line(seq, at, kind);
        let (segment, ..) = self.current.as_ref()?;
        record?.ok()?;
        Some(Line { file: segment.file(), index, seq, at, kind: kind?, text })
    }

    fn note_line(&mut self, seq: u64, at: Timestamp, kind: Option<Kind>) {
        let summary = &mut self.summary;
        let (first, _) = summary.lines.unwrap_or((seq, seq));
        summary.lines = Some((first, seq));
        let (begin, end) = summary.times.unwrap_or((at, at));
        summary.times = Some((begin.min(at), end.max(at)));
        if kind != Some(Kind::Checkpoint) {
            let (since, last) = summary.unsealed.unwrap_or((at, at));
            summary.unsealed = Some((since, last.max(at)));
        }
    }

    fn check_open(
        summary: &mut ChainSummary,
        segment: &mut SegmentState,
        open: &Open<'_>,
        keys: &[Verifier],
        findings: &mut Findings,
    ) {
        segment.signed_by(keys.iter().find(|key| key.to_string() == open.public_key));
        summary.retention_days = open.retention_days;
        summary.checkpoint_interval_ms = open.checkpoint_interval_ms;
        if open.format != FORMAT {
            let message = format!("has format {}, and this program reads format {FORMAT}", open.format);
            segment.broken(message, findings);
        } else if open.instance != summary.instance || open.segment != segment.name() {
            segment.broken(format!("is the content of segment {}", open.segment), findings);
        } else if !keys.is_empty() && keys.iter().all(|key| key.to_string() != open.public_key) {
            segment.broken(format!("is signed with another key: {}", open.public_key), findings);
        }
    }

    /// The file ended, or its last line is torn.
    fn end_of_file(&mut self, raw: Option<RawLine>, findings: &mut Findings) {
        let Some((mut segment, _, limit)) = self.current.take() else { return };
        match (&limit, raw) {
            (_, Some(RawLine::TooLong)) => segment.broken("has a line that is too long", findings),
            (Some(limit), _) => {
                let message = format!("ends here; the next segment says that it ended with seq {}", limit.seq);
                segment.broken(message, findings);
            }
            (None, _) if segment.is_orphan() => {
                segment.broken("is no part of the chain: no segment follows it", findings);
            }
            (None, Some(RawLine::Torn(bytes))) if segment.is_complete() => {
                segment.broken(format!("is followed by {} bytes that are no line", bytes.len()), findings);
            }
            // While a gateway writes, the last line may be incomplete.
            (None, Some(RawLine::Torn(bytes))) if !self.summary.live => {
                let message = format!("the last line is torn after {} bytes: the gateway was stopped", bytes.len());
                findings.add(Grade::Incomplete, &*segment.file(), Some(segment.seq() + 1), message);
            }
            (None, _) => {}
        }
        self.leave(&segment, limit.map(|limit| (limit.seq, limit.head)));
    }

    /// The last line that counts was read: compares with what the next segment says.
    fn finish_segment(&mut self, findings: &mut Findings) -> io::Result<()> {
        let Some((mut segment, mut lines, Some(limit))) = self.current.take() else { return Ok(()) };
        if segment.head() != limit.head {
            segment.broken("the last line is not the one that the next segment follows", findings);
        } else if segment.is_complete() != limit.closed {
            segment.broken("the next segment says otherwise about how this one ended", findings);
        }
        let (bytes, sha256) = lines.rest()?;
        let tail = limit.tail.map_or((0, Digest::of(b"")), |tail| (tail.bytes, tail.sha256));
        if (bytes, sha256) != tail {
            let message = format!("is followed by {bytes} bytes; the next segment says {}", tail.0);
            segment.broken_at(segment.seq() + 1, message, findings);
        } else if !limit.closed {
            let torn = if bytes == 0 { String::new() } else { format!(", and {bytes} bytes after it do not count") };
            let message = format!("the gateway or its disk failed after this line{torn}");
            findings.add(Grade::Incomplete, &*segment.file(), Some(segment.seq()), message);
        }
        self.leave(&segment, Some((limit.seq, limit.head)));
        Ok(())
    }

    /// Continues where the next segment says that this one ended, so that one fault is reported only once.
    fn leave(&mut self, segment: &SegmentState, named: Option<(u64, Digest)>) {
        self.is_broken |= segment.is_broken();
        let (seq, head) = named.unwrap_or((segment.seq(), segment.head()));
        self.end = End { segment: Some(segment.name().to_owned()), seq, head };
        self.summary.closed = segment.is_complete() && segment.ends_the_chain();
        self.summary.head = Some(segment.head());
    }

    fn finish_chain(&mut self, findings: &mut Findings) {
        let file = self.end.segment.as_ref().map_or(self.summary.instance.clone(), |name| format!("{name}.jsonl"));
        self.anchors.finish(self.end.seq, self.summary.anchored, &file, findings);
        if self.summary.lines.is_none() {
            if self.summary.pruned == 0 {
                findings.add(Grade::Incomplete, &file, None, "a chain was claimed, and none of its segments is there");
            }
            return;
        }
        if !self.summary.closed && !self.summary.live {
            let message = "the log does not end with a stop: the gateway was killed, or the end was cut off; `--anchor` shows which";
            findings.add(Grade::Incomplete, &file, Some(self.end.seq), message);
        }
        self.check_overdue(&file, findings);
        pruned::check_retention(&self.summary, findings);
    }

    /// Lines without a checkpoint for longer than the gateway takes to make one were written by something else.
    fn check_overdue(&self, file: &str, findings: &mut Findings) {
        const GRACE_MS: u64 = 60_000;
        let Some((since, last)) = self.summary.unsealed else { return };
        let allowed = self.summary.checkpoint_interval_ms.saturating_mul(2).saturating_add(GRACE_MS);
        if !self.is_broken && last.0.saturating_sub(since.0) > allowed {
            let seq = self.summary.sealed.unwrap_or_default() + 1;
            findings.broken(file, seq, "the lines from here on have no signed checkpoint, and one was due");
        }
    }
}
