//! The files of the directories that are verified together, by chain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::finding::{Findings, Grade};
use super::lines::{Lines, RawLine};
use crate::audit::digest::Digest;
use crate::audit::record::{Open, Tail};
use crate::audit::segment::{SegmentName, chains};

/// The files of one chain, oldest first.
#[derive(Debug, Default)]
pub(super) struct ChainFiles {
    pub(super) segments: Vec<Segment>,
    /// Segments of which only the last signed note is there.
    pub(super) pruned: BTreeMap<SegmentName, PathBuf>,
    pub(super) locks: Vec<PathBuf>,
}

/// A segment, and what its first line says.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: SegmentName,
    pub(super) path: PathBuf,
    pub(super) opening: Opening,
}

/// The first line of a segment.
#[derive(Debug, PartialEq)]
pub(super) enum Opening {
    /// The segment follows another one.
    After(Predecessor),
    /// The segment begins a chain.
    First,
    /// The first line is no `open` record.
    Unreadable,
    /// The file has no whole line.
    None,
}

/// What a segment says about the one before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Predecessor {
    pub(super) segment: String,
    pub(super) seq: u64,
    pub(super) head: Digest,
    pub(super) closed: bool,
    pub(super) tail: Option<Tail>,
}

/// Lists the files of each chain, and reports files that do not belong there.
pub(super) fn list(directories: &[PathBuf], findings: &mut Findings) -> io::Result<BTreeMap<String, ChainFiles>> {
    let mut found: BTreeMap<String, (BTreeMap<SegmentName, PathBuf>, ChainFiles)> = BTreeMap::new();
    for directory in directories {
        for (instance, chain) in chains([directory.as_path()])? {
            let (segments, files) = found.entry(instance).or_default();
            for (name, path) in chain.segments {
                match segments.get(&name) {
                    None => drop(segments.insert(name, path)),
                    Some(known) => {
                        let kept = longer_copy(known, &path, findings)?;
                        segments.insert(name, kept);
                    }
                }
            }
            files.pruned.extend(chain.pruned);
            files.locks.extend(chain.locks);
        }
        report_strangers(directory, findings)?;
    }
    let mut chains = BTreeMap::new();
    for (instance, (segments, mut files)) in found {
        for (name, path) in segments {
            let opening = opening(&path)?;
            files.segments.push(Segment { name, path, opening });
        }
        chains.insert(instance, files);
    }
    Ok(chains)
}

fn opening(path: &Path) -> io::Result<Opening> {
    let line = match Lines::open(path)?.next()? {
        Some(RawLine::Whole(line)) => line,
        Some(RawLine::TooLong) => return Ok(Opening::Unreadable),
        Some(RawLine::Torn(_)) | None => return Ok(Opening::None),
    };
    let Ok(open) = serde_json::from_slice::<Open<'_>>(&line) else { return Ok(Opening::Unreadable) };
    Ok(open.before.map_or(Opening::First, |before| {
        Opening::After(Predecessor {
            segment: before.segment.into_owned(),
            seq: before.seq,
            head: before.head,
            closed: before.closed,
            tail: before.tail,
        })
    }))
}

/// Chooses between two files with one name: the longer one. Reports them if the longer one does not begin with the other.
fn longer_copy(known: &Path, other: &Path, findings: &mut Findings) -> io::Result<PathBuf> {
    if fs::canonicalize(known)? == fs::canonicalize(other)? {
        return Ok(known.to_owned());
    }
    let (known_bytes, other_bytes) = (fs::metadata(known)?.len(), fs::metadata(other)?.len());
    if !begin_alike(known, other)? {
        let message = format!("differs from {}: two segments have this name", other.display());
        findings.add(Grade::Broken, known.display().to_string(), None, message);
    }
    Ok(if other_bytes > known_bytes { other } else { known }.to_owned())
}

fn begin_alike(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (a, b) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        let common = a.min(b);
        if left.get(..common) != right.get(..common) {
            return Ok(false);
        }
        if common < left.len() {
            return Ok(true);
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Reports files that look like segments and are not: a copy under another name is a duplicated segment.
fn report_strangers(directory: &Path, findings: &mut Findings) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_segment = name.strip_suffix(".jsonl").is_some_and(|stem| SegmentName::parse(stem).is_some());
        if name.contains(".jsonl") && !is_segment {
            let grade = if name.ends_with(".jsonl") { Grade::Broken } else { Grade::Note };
            findings.add(grade, name, None, "is not the name of a segment: the gateway made no such file");
        }
    }
    Ok(())
}
