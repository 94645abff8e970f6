//! The end of the process, as far as requests must know of it: requests that wait for something stop waiting.

use tokio::sync::watch;

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStage {
    /// The gateway serves.
    Serving,
    /// Requests in progress are finished.
    Draining,
}

/// Tells requests that the process ends.
#[derive(Debug)]
pub struct Drain(watch::Sender<DrainStage>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(DrainStage::Serving))
    }
}

impl Drain {
    /// Moves on to `stage`; moving back is ignored.
    pub fn advance(&self, stage: DrainStage) {
        self.0.send_if_modified(|present| {
            let later = stage > *present;
            *present = stage.max(*present);
            later
        });
    }

    /// Waits for `stage` or a later one.
    pub(super) async fn until(&self, stage: DrainStage) {
        // The sender is `self`, so the channel is open.
        let _ = self.0.subscribe().wait_for(|present| *present >= stage).await;
    }
}
