//! Why a request cannot be explained.

use std::io;
use std::path::PathBuf;

use crate::config::Problems;

/// Why nothing could be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The request is a body alone, and nothing says whose it is.
    #[error("the request is a body alone: say whose it is with --agent ID, or in a member \"agent\"")]
    NoAgent,
    /// The configuration is not good.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The explanation cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}
