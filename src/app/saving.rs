//! When the snapshot belongs to this process: from its start to its end, or from when an earlier process releases it, to
//! when a later one takes over.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use super::snapshotter::Snapshotter;

/// The snapshotter that runs, if the snapshot belongs to this process.
#[derive(Clone, Default)]
pub(super) struct Saving(Arc<Mutex<Option<(Snapshotter, AbortHandle)>>>);

impl Saving {
    /// The snapshot belongs to this process.
    pub(super) fn begin(&self, snapshotter: Snapshotter) {
        let running = tokio::spawn(snapshotter.clone().run()).abort_handle();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((snapshotter, running));
    }

    /// Saves for the last time, and leaves the file to others.
    pub(super) async fn end(&self) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((snapshotter, running)) = running {
            running.abort();
            snapshotter.finish().await;
        }
    }
}
