//! Why a snapshot file cannot be used.

use std::io;

/// Why a file was not restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// Something else than a snapshot.
    #[error("it is not a snapshot of previews")]
    Foreign,
    /// A snapshot, but of another version.
    #[error("it was written by a version of previewgate with another format")]
    Version,
    /// A snapshot that is not whole any more.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The system does not let it be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
}
