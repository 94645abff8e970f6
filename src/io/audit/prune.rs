//! Removes old segments as a whole. The last signed note of each one remains, so that the chain can still be followed from
//! its first line.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::note;
use super::record::{Header, Kind, SignedCheckpoint};
use super::segment::{Chain, SegmentName, chains};
use super::time;
use crate::preview::Timestamp;

/// Which segments of a chain may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All but the last, from which a gateway goes on.
    ButLast,
    /// All: no gateway writes the chain any more.
    All,
}

/// Prunes every chain of a directory; returns how many segments were removed.
///
/// # Errors
/// When a file cannot be read, written or removed.
pub fn prune(directory: &Path, now: Timestamp, age: Duration) -> io::Result<usize> {
    chains([directory])?.values().map(|chain| prune_chain(directory, chain, now, age, Extent::ButLast)).sum()
}

/// Removes the oldest segments of one chain first; returns how many.
pub(super) fn prune_chain(
    directory: &Path,
    chain: &Chain,
    now: Timestamp,
    age: Duration,
    extent: Extent,
) -> io::Result<usize> {
    let mut removed = 0;
    let mut segments = chain.segments.iter().peekable();
    while let Some((name, path)) = segments.next() {
        let is_old = match (segments.peek(), extent) {
            // A segment holds records up to the start of the next one.
            (Some((next, _)), _) => is_older(next, now, age),
            (None, Extent::All) => unless_removed(ended_before(path, now, age))?.unwrap_or_default(),
            (None, Extent::ButLast) => false,
        };
        if !is_old {
            break;
        }
        // Another process may prune the same directory.
        removed += usize::from(unless_removed(remove(directory, name, path))?.is_some());
    }
    Ok(removed)
}

/// `None` if the file is not there: another process has removed it.
pub(super) fn unless_removed<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn remove(directory: &Path, name: &SegmentName, path: &Path) -> io::Result<()> {
    if let Some(note) = last_note(path)? {
        keep_note(directory, name, &note)?;
    }
    fs::remove_file(path)
}

/// Whether the last checkpoint of a segment is older than `age`.
fn ended_before(path: &Path, now: Timestamp, age: Duration) -> io::Result<bool> {
    let opened = last_note(path)?.map(|note| note::open(&note, &[]));
    let Some(note::Opened::Signed(end) | note::Opened::Unsigned(end)) = opened else { return Ok(false) };
    Ok(now.since(end.time) > age)
}

fn is_older(next: &SegmentName, now: Timestamp, age: Duration) -> bool {
    time::start_of_day(&next.day).is_some_and(|start| now.since(start) > age)
}

fn last_note(path: &Path) -> io::Result<Option<String>> {
    let content = fs::read(path)?;
    let mut lines = content.split(|byte| *byte == b'\n').rev();
    let checkpoint = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?;
        let header: Header<'_> = serde_json::from_str(line).ok()?;
        let is_checkpoint = header.kind == Kind::Checkpoint.as_str();
        let note = is_checkpoint.then(|| serde_json::from_str::<SignedCheckpoint<'_>>(line).ok())??.note;
        Some(note.into_owned())
    };
    Ok(lines.find_map(checkpoint))
}

fn keep_note(directory: &Path, name: &SegmentName, note: &str) -> io::Result<()> {
    let path = directory.join(name.checkpoint_file());
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    // Always a new file: a link with this name must not lead the one who prunes to another file.
    unless_removed(fs::remove_file(&temporary))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    fs::File::open(directory)?.sync_all()
}
