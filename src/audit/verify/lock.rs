//! Whether a gateway writes a chain at this moment.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Whether one of the lock files is locked. A copy of a directory is never locked.
pub(super) fn is_held(locks: &[PathBuf]) -> bool {
    locks.iter().any(|path| {
        // This takes a lock for a moment, until the file is closed. A gateway that starts in this moment begins a new chain.
        let file = File::open(path);
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    })
}
