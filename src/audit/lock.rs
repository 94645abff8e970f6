//! Whether a gateway writes a file at this moment.
//!
//! A gateway has two files of its chain locked: the lock file, and the segment that it writes.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Whether this file is locked. A copy of a directory is never locked.
pub(super) fn is_locked(path: &Path) -> bool {
    // This takes a lock for a moment, until the file is closed. A gateway that starts in this moment begins a new chain.
    let file = File::open(path);
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}
