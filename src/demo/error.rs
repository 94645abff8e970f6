//! Why `previewgate demo` and `previewgate simulate` end without success.

use std::io;

use crate::app::StartError;
use crate::config::Problems;

/// Why the demo did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Steps did not end as the script says.
    #[error("{0} steps of the demo did not end as expected")]
    Deviated(usize),
    /// The gateway's configuration was refused.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The gateway did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Sockets, files, or the standard output.
    #[error(transparent)]
    Io(#[from] io::Error),
}
