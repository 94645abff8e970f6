//! Saves previews while the snapshot file belongs to this process.
//!
//! The file belongs to the process from its start, or from when an earlier process releases it. It belongs to the process
//! until its end, or until a later process takes over.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use super::snapshotter::Snapshotter;

/// The snapshotter that runs, if the snapshot belongs to this process.
#[derive(Clone, Default)]
pub(super) struct Saving(Arc<Mutex<Option<(Snapshotter, AbortHandle)>>>);

impl Saving {
    /// Saves previews from now on, because the snapshot file belongs to this process.
    pub(super) fn begin(&self, snapshotter: Snapshotter) {
        let running = tokio::spawn(snapshotter.clone().run()).abort_handle();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((snapshotter, running));
    }

    /// Saves for the last time, and releases the file.
    pub(super) async fn end(&self) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((snapshotter, running)) = running {
            running.abort();
            snapshotter.finish().await;
        }
    }
}
