//! The audit directory as the writer sees it. It is a trait, so that tests can use a disk that fails on demand.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::audit::checkpoint_line::checkpoint_line;
use crate::audit::digest::{Digest, Hex};
use crate::audit::lock::is_locked;
use crate::audit::note;
use crate::audit::prune::{Extent, prune_chain, unless_removed};
use crate::audit::record::{Header, Kind, Tail};
use crate::audit::segment::{Chain, SegmentName, chains};
use crate::preview::Timestamp;

/// The file of a segment.
pub(super) trait SegmentFile: Send {
    /// Writes some of the bytes at the end.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until everything that was written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Whether the file still has its name. Records in a removed file would be lost.
    fn is_there(&mut self) -> io::Result<bool>;
    /// Does what [`sync`](Self::sync) does, from another thread, and if need be later than this file is open.
    fn later_sync(&self) -> io::Result<LaterSync>;
}

/// Waits until the disk has everything that was written to a file.
pub(super) type LaterSync = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A directory with the chain of one instance.
pub(super) trait Storage: Send {
    /// Claims a chain that no other process writes, and reads its end.
    fn recover(&mut self) -> io::Result<Recovered>;
    /// Makes the file of a new segment.
    fn create(&mut self, name: &SegmentName) -> io::Result<Box<dyn SegmentFile>>;
    /// Removes the file of a segment of which no record counts.
    fn remove(&mut self, name: &SegmentName) -> io::Result<()>;
    /// Removes old segments, see [`crate::audit::prune`].
    fn prune(&mut self, now: Timestamp, retention: Duration);
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recovered {
    /// The chain's name.
    pub(super) instance: String,
    /// The latest segment, with lines or without.
    pub(super) latest: Option<SegmentName>,
    /// The last line that counts.
    pub(super) end: Option<End>,
}

/// The last line of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub(super) segment: SegmentName,
    pub(super) seq: u64,
    pub(super) head: Digest,
    pub(super) closed: bool,
    pub(super) tail: Option<Tail>,
}

/// An audit directory on a disk.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    claimed: Option<Claim>,
}

#[derive(Debug)]
struct Claim {
    instance: String,
    /// Locked as long as it is open.
    lock: File,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), claimed: None }
    }

    /// Claims the first chain that no process writes, or a new one. Two gateways may write to one directory: each has its own
    /// chain. So do a gateway and the one that takes over from it.
    fn claim(&self) -> io::Result<(Claim, Recovered)> {
        for (instance, _) in chains([self.path.as_path()])? {
            match self.claim_chain(instance.clone()) {
                Ok(Some(claimed)) => return Ok(claimed),
                Ok(None) => {}
                // Written by another user: a gateway was started by hand, as root.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    tracing::warn!(target: "previewgate::audit", instance, %error, "a chain of the audit log belongs to another user");
                }
                Err(error) => return Err(error),
            }
        }
        let mut bytes = [0; 4];
        rand::fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
        let taken = || io::Error::other("another process took the new chain");
        self.claim_chain(Hex::<4>(bytes).to_string())?.ok_or_else(taken)
    }

    /// Claims this chain, and reads its end. `None` if another process writes it.
    fn claim_chain(&self, instance: String) -> io::Result<Option<(Claim, Recovered)>> {
        let Some((claim, chain)) = self.claim_idle(instance)? else { return Ok(None) };
        let instance = claim.instance.clone();
        let recovered = Recovered { latest: latest(&chain), end: end(&chain)?, instance };
        Ok(Some((claim, recovered)))
    }

    /// Claims a chain that no process writes, and lists its files. The lock file alone does not tell: it may have been removed
    /// while a gateway runs. That gateway has its open segment locked too.
    fn claim_idle(&self, instance: String) -> io::Result<Option<(Claim, Chain)>> {
        let Some(claim) = self.try_claim(instance)? else { return Ok(None) };
        let chain = chains([self.path.as_path()])?.remove(&claim.instance).unwrap_or_default();
        let is_written = chain.segments.last_key_value().is_some_and(|(_, path)| is_locked(path));
        Ok((!is_written).then_some((claim, chain)))
    }

    /// Claims the chain again if the directory was removed and is back: another process must not take the same chain.
    fn renew_claim(&mut self) -> io::Result<()> {
        let Some(claim) = &self.claimed else { return Err(io::Error::other("no chain is claimed")) };
        let path = self.path.join(format!("{}.lock", claim.instance));
        if fs::metadata(path).is_ok_and(|found| claim.lock.metadata().is_ok_and(|ours| ours.ino() == found.ino())) {
            return Ok(());
        }
        let taken = || io::Error::other("another process writes this chain");
        self.claimed = Some(self.try_claim(claim.instance.clone())?.ok_or_else(taken)?);
        Ok(())
    }

    /// Prunes the own chain, and those that nobody writes any more: a gateway that takes over from another begins its own.
    fn prune_chains(&self, now: Timestamp, retention: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for (instance, chain) in chains([self.path.as_path()])? {
            if self.claimed.as_ref().is_some_and(|claim| claim.instance == instance) {
                removed += prune_chain(&self.path, &chain, now, retention, Extent::ButLast)?;
            } else if let Some((_claim, chain)) = self.claim_idle(instance)? {
                // The claim is held until the chain is pruned.
                removed += prune_chain(&self.path, &chain, now, retention, Extent::All)?;
            }
        }
        Ok(removed)
    }

    fn try_claim(&self, instance: String) -> io::Result<Option<Claim>> {
        let path = self.path.join(format!("{instance}.lock"));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Claim { instance, lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A child process has a copy of the descriptor until it begins its own program.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Storage for Directory {
    fn recover(&mut self) -> io::Result<Recovered> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let (claim, recovered) = self.claim()?;
        self.claimed = Some(claim);
        Ok(recovered)
    }

    fn create(&mut self, name: &SegmentName) -> io::Result<Box<dyn SegmentFile>> {
        self.renew_claim()?;
        let path = self.path.join(name.file());
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from);
        // The name of the file is safe only when the directory is on the disk too.
        let synced = locked.and_then(|()| File::open(&self.path)).and_then(|directory| directory.sync_all());
        if let Err(error) = synced {
            // The file is empty, and the next attempt needs its name.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let inode = file.metadata()?.ino();
        Ok(Box::new(Segment { file, path, inode, name_checked: Instant::now() }))
    }

    fn remove(&mut self, name: &SegmentName) -> io::Result<()> {
        unless_removed(fs::remove_file(self.path.join(name.file()))).map(drop)
    }

    fn prune(&mut self, now: Timestamp, retention: Duration) {
        match self.prune_chains(now, retention) {
            Ok(0) => {}
            Ok(segments) => {
                tracing::info!(target: "previewgate::audit", segments, "old segments removed (audit.retention)");
            }
            Err(error) => {
                tracing::warn!(target: "previewgate::audit", %error, "old segments cannot be removed");
            }
        }
    }
}

/// Interval of the check that the name of an open segment still leads to it. Before each commit, only the number of its
/// names is checked.
const NAME_CHECK: Duration = Duration::from_secs(1);

struct Segment {
    /// Locked as long as the segment is open.
    file: File,
    path: PathBuf,
    inode: u64,
    name_checked: Instant,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // The descriptor has copies that may be open for longer: for a later sync, and in a child process that has not begun its
        // own program yet. The next gateway is to continue this chain.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl SegmentFile for Segment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_there(&mut self) -> io::Result<bool> {
        if self.file.metadata()?.nlink() == 0 {
            return Ok(false);
        }
        if self.name_checked.elapsed() < NAME_CHECK {
            return Ok(true);
        }
        self.name_checked = Instant::now();
        match fs::symlink_metadata(&self.path) {
            Ok(found) => Ok(found.ino() == self.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn later_sync(&self) -> io::Result<LaterSync> {
        let file = self.file.try_clone()?;
        Ok(Box::new(move || file.sync_data()))
    }
}

fn latest(chain: &Chain) -> Option<SegmentName> {
    chain.segments.keys().chain(chain.pruned.keys()).max().cloned()
}

/// The last line that counts, in the latest segment that has one.
fn end(chain: &Chain) -> io::Result<Option<End>> {
    for (name, path) in chain.segments.iter().rev() {
        if let Some(end) = end_of_segment(name, path)? {
            return Ok(Some(end));
        }
    }
    // Everything was pruned, so the chain continues after the last checkpoint.
    let Some((name, path)) = chain.pruned.last_key_value() else { return Ok(None) };
    let note = fs::read_to_string(path)?;
    let (note::Opened::Signed(checkpoint) | note::Opened::Unsigned(checkpoint)) = note::open(&note, &[]) else {
        return Err(io::Error::other(format!("{} is not a checkpoint", path.display())));
    };
    let head = Digest::of(&checkpoint_line(&checkpoint, &note));
    Ok(Some(End { segment: name.clone(), seq: checkpoint.seq + 1, head, closed: true, tail: None }))
}

/// The last whole line that can be read as a record; whatever follows it is its tail.
fn end_of_segment(name: &SegmentName, path: &Path) -> io::Result<Option<End>> {
    let content = fs::read(path)?;
    let mut last = None;
    let mut position = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        position += line.len();
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if let Ok(header) = serde_json::from_slice::<Header<'_>>(line) {
            last = Some((header.seq, Digest::of(line), header.kind == Kind::Checkpoint.as_str(), position));
        }
    }
    let closes = content.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty()).nth(1);
    let closed = closes
        .and_then(|line| serde_json::from_slice::<Header<'_>>(line).ok())
        .is_some_and(|header| header.kind == Kind::Close.as_str());
    Ok(last.map(|(seq, head, is_checkpoint, end)| {
        let rest = content.get(end..).unwrap_or_default();
        let tail = (!rest.is_empty()).then(|| Tail { bytes: rest.len() as u64, sha256: Digest::of(rest) });
        End { segment: name.clone(), seq, head, closed: closed && is_checkpoint && tail.is_none(), tail }
    }))
}

#[cfg(test)]
mod tests;
