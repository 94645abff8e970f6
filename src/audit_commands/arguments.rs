//! Arguments that several commands have.

use std::path::PathBuf;

/// Directories with audit logs.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Directories {
    /// Directories with audit logs: those of all gateways that share previews.
    #[arg(required = true, value_name = "DIR")]
    pub(super) directories: Vec<PathBuf>,
}
