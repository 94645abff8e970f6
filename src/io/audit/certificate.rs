//! A certificate: the records of one call, each with its path to a signed checkpoint. It proves that they are in the log
//! without showing any other record.
//!
//! ```json
//! {"format": "previewgate-audit-certificate/1",
//!  "records": [{"segment": "2026-11-25.1a2b3c4d.001", "index": 6, "line": "{…}", "path": ["<hex>", …], "note": "…"}]}
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::merkle;
use super::note::{self, Opened, Verifier};
use super::record::{Header, Kind, Record};
use super::verify::{Line, Scan};

const FORMAT: &str = "previewgate-audit-certificate/1";

/// The records of one call with their proofs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    format: String,
    records: Vec<ProvedRecord>,
}

/// A line of the log, and the proof that it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvedRecord {
    /// The name of its segment.
    segment: String,
    /// Its position in the segment, from 0.
    index: u64,
    /// The line without its line feed.
    line: String,
    /// The sibling hashes on the way from the line to the root, the lowest first.
    path: Vec<String>,
    /// The signed note with the root.
    note: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No checkpoint follows the line yet.
    #[error("{file} seq {seq} is not sealed yet: try again after the next checkpoint (audit.checkpoint_interval)")]
    Unsealed {
        /// The segment's file.
        file: String,
        /// The line.
        seq: u64,
    },
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// It has another format.
    #[error("this is not a certificate of the format {FORMAT}")]
    Format,
    /// A record is not what the signed note covers.
    #[error("record {position}: {reason}")]
    Record {
        /// Its position in the certificate, from 1.
        position: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Certificate {
    /// Makes the certificate of these lines.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn make(directories: &[PathBuf], lines: &[&Line]) -> Result<Self, CertificateError> {
        let mut segments: BTreeMap<String, SegmentDigests> = BTreeMap::new();
        for line in lines {
            segments.entry(line.file.to_string()).or_default();
        }
        let days: Vec<&str> = lines.iter().filter_map(|line| line.file.split('.').next()).collect();
        let days = days.iter().min().zip(days.iter().max()).map(|(first, last)| (*first, *last));
        Scan { directories, days, needles: &[] }.each(|_, line| {
            if let Some(segment) = segments.get_mut(&*line.file) {
                segment.add(&line);
            }
            Ok::<_, io::Error>(())
        })?;
        let prove = |line: &&Line| segments.get(&*line.file).and_then(|segment| segment.prove(line));
        let unsealed = |line: &&Line| CertificateError::Unsealed { file: line.file.to_string(), seq: line.seq };
        let records = lines.iter().map(|line| prove(line).ok_or_else(|| unsealed(line)));
        Ok(Self { format: FORMAT.to_owned(), records: records.collect::<Result<_, _>>()? })
    }

    /// Checks every record; returns their lines.
    ///
    /// # Errors
    /// [`Unproved`]
    pub fn verify(&self, keys: &[Verifier]) -> Result<Vec<Line>, Unproved> {
        if self.format != FORMAT {
            return Err(Unproved::Format);
        }
        let numbered = self.records.iter().zip(1..);
        numbered
            .map(|(record, position)| record.verify(keys).map_err(|reason| Unproved::Record { position, reason }))
            .collect()
    }
}

/// The digests of all lines of a segment, and its checkpoints.
#[derive(Default)]
struct SegmentDigests {
    lines: Vec<Digest>,
    /// The position of each checkpoint, and its note.
    notes: BTreeMap<usize, String>,
}

impl SegmentDigests {
    fn add(&mut self, line: &Line) {
        if let Some(Record::Checkpoint(checkpoint)) = line.record() {
            self.notes.insert(self.lines.len(), checkpoint.note.into_owned());
        }
        self.lines.push(Digest::of(line.text.as_bytes()));
    }

    fn prove(&self, line: &Line) -> Option<ProvedRecord> {
        let index = usize::try_from(line.index).ok()?;
        let (covered, note) = self.notes.range(index + 1..).next()?;
        let path = merkle::path(self.lines.get(..*covered)?, index)?;
        Some(ProvedRecord {
            segment: line.file.trim_end_matches(".jsonl").to_owned(),
            index: line.index,
            line: line.text.clone(),
            path: path.iter().map(ToString::to_string).collect(),
            note: note.clone(),
        })
    }
}

impl ProvedRecord {
    fn verify(&self, keys: &[Verifier]) -> Result<Line, &'static str> {
        let Opened::Signed(checkpoint) = note::open(&self.note, keys) else {
            return Err("its note is not signed by the given key");
        };
        if checkpoint.segment != self.segment {
            return Err("its note is about another segment");
        }
        let path: Option<Vec<Digest>> = self.path.iter().map(|hash| Digest::parse(hash)).collect();
        let path = path.ok_or("its path is unreadable")?;
        let digest = Digest::of(self.line.as_bytes());
        if merkle::root_by_path(digest, self.index, checkpoint.lines, &path) != Some(checkpoint.root) {
            return Err("it is not in the log that its note covers");
        }
        let header: Header<'_> = serde_json::from_str(&self.line).map_err(|_| "it is no record")?;
        let kind = Kind::parse(header.kind).ok_or("its kind is unknown")?;
        let (seq, at) = (header.seq, header.at);
        let file = format!("{}.jsonl", self.segment).into();
        Ok(Line { file, index: self.index, seq, at, kind, text: self.line.clone() })
    }
}
