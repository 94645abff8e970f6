//! Whether a gateway writes a file at this moment.
//!
//! A gateway has two files of its chain locked: the lock file, and the segment that it writes.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Whether this file is locked. A copy of a directory is never locked.
pub(super) fn is_locked(path: &Path) -> bool {
    // This takes a lock for a moment. A gateway that starts in this moment begins a new chain.
    let Ok(file) = File::open(path) else { return false };
    let locked = flock(&file, FlockOperation::NonBlockingLockShared);
    // Not only by closing it: a child process has a copy of the descriptor until it begins its own program.
    let _ = flock(&file, FlockOperation::Unlock);
    locked == Err(Errno::WOULDBLOCK)
}
