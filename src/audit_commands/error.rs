//! Why a command failed.

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// The configuration is refused.
    #[error("{0}")]
    Configuration(#[from] crate::config::Problems),
    /// Something cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Something cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    pub(super) fn about(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::Unusable(format!("{}: {error}", path.display()))
    }
}
