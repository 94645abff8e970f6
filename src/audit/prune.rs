//! Removes old segments as a whole. The last signed note of each one remains, so that the chain can still be followed from
//! its first line.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::record::{Header, Kind, SignedCheckpoint};
use super::segment::{Chain, SegmentName, chains};
use super::time;
use crate::preview::Timestamp;

/// Prunes every chain of a directory; returns how many segments were removed.
///
/// # Errors
/// When a file cannot be read, written or removed.
pub fn prune(directory: &Path, now: Timestamp, age: Duration) -> io::Result<usize> {
    chains([directory])?.values().map(|chain| prune_chain(directory, chain, now, age)).sum()
}

/// Prunes one chain; returns how many segments were removed.
pub(super) fn prune_instance(directory: &Path, instance: &str, now: Timestamp, age: Duration) -> io::Result<usize> {
    let chain = chains([directory])?.remove(instance).unwrap_or_default();
    prune_chain(directory, &chain, now, age)
}

/// Removes the oldest segments first. The last one always stays, because the chain continues from it.
fn prune_chain(directory: &Path, chain: &Chain, now: Timestamp, age: Duration) -> io::Result<usize> {
    let mut removed = 0;
    let mut segments = chain.segments.iter().peekable();
    while let Some((name, path)) = segments.next() {
        // A segment holds records up to the start of the next one.
        let Some((next, _)) = segments.peek() else { break };
        if !is_older(next, now, age) {
            break;
        }
        if let Some(note) = last_note(path)? {
            keep_note(directory, name, &note)?;
        }
        fs::remove_file(path)?;
        removed += 1;
    }
    Ok(removed)
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
    let temporary = directory.join(format!(".{name}.tmp"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    fs::File::open(directory)?.sync_all()
}
