//! The files of the directories that are verified together, by chain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::finding::{Findings, Grade};
use super::lines::{Lines, RawLine};
use crate::audit::digest::Digest;
use crate::audit::record::{Header, Open, Tail};
use crate::audit::segment::{SegmentName, chains};
use crate::preview::Timestamp;

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
    /// The time of its first line.
    pub(super) opened_at: Option<Timestamp>,
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
                if !is_file(&path, findings)? {
                    continue;
                }
                match segments.get(&name) {
                    None => drop(segments.insert(name, path)),
                    Some(known) => {
                        let kept = longer_copy(known, &path, findings)?;
                        segments.insert(name, kept);
                    }
                }
            }
            for (name, path) in chain.pruned {
                if is_file(&path, findings)? {
                    add_note(&mut files.pruned, name, path, findings)?;
                }
            }
            for path in chain.locks {
                if is_file(&path, findings)? {
                    files.locks.push(path);
                }
            }
        }
        report_strangers(directory, findings)?;
    }
    let mut chains = BTreeMap::new();
    for (instance, (segments, mut files)) in found {
        for (name, path) in segments {
            let (opening, opened_at) = opening(&path)?;
            files.segments.push(Segment { name, path, opening, opened_at });
        }
        chains.insert(instance, files);
    }
    Ok(chains)
}

/// Whether this is a file, or a link to one. To open anything else could wait without end. What is not, is reported.
fn is_file(path: &Path, findings: &mut Findings) -> io::Result<bool> {
    let message = match fs::metadata(path) {
        Ok(found) if found.is_file() => return Ok(true),
        Ok(_) => "is not a file: the gateway made no such thing",
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => "is a link to nothing",
        Err(error) => return Err(error),
    };
    findings.add(Grade::Broken, path.display().to_string(), None, message);
    Ok(false)
}

/// Adds the note of a segment that was removed. Two directories may have it; then it is the same.
fn add_note(
    notes: &mut BTreeMap<SegmentName, PathBuf>,
    name: SegmentName,
    path: PathBuf,
    findings: &mut Findings,
) -> io::Result<()> {
    if let Some(known) = notes.get(&name)
        && fs::read(known)? != fs::read(&path)?
    {
        let message = format!("differs from {}: two notes have this name", path.display());
        findings.add(Grade::Broken, known.display().to_string(), None, message);
    }
    notes.insert(name, path);
    Ok(())
}

/// What the first line says, and when it was made.
fn opening(path: &Path) -> io::Result<(Opening, Option<Timestamp>)> {
    let line = match Lines::open(path)?.next()? {
        Some(RawLine::Whole(line)) => line,
        Some(RawLine::TooLong) => return Ok((Opening::Unreadable, None)),
        Some(RawLine::Torn(_)) | None => return Ok((Opening::None, None)),
    };
    let at = serde_json::from_slice::<Header<'_>>(&line).ok().map(|header| header.at);
    let Ok(open) = serde_json::from_slice::<Open<'_>>(&line) else { return Ok((Opening::Unreadable, at)) };
    let opening = open.before.map_or(Opening::First, |before| {
        Opening::After(Predecessor {
            segment: before.segment.into_owned(),
            seq: before.seq,
            head: before.head,
            closed: before.closed,
            tail: before.tail,
        })
    });
    Ok((opening, at))
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
