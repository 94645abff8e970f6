//! Tells requests that the process is ending, so that those that wait for something stop waiting.
//!
//! A poll that arrives while the gateway drains is not forwarded: the platform would hold it for ten seconds, and the drain
//! would never end. It is *parked*: it waits for half a second, and is then answered as a poll without an event. No event is
//! lost, because the platform was not asked. The last parked polls wait until the listeners close, so that all
//! clients get their answers at the same time. They poll again after 200 to 500 ms (docs/protocol.md 6.1), when the next
//! process serves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How long a poll is parked while the platform still holds other polls.
const PARKED: Duration = Duration::from_millis(500);

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStage {
    /// The gateway serves.
    Serving,
    /// Requests in progress are finished, and connections are still accepted.
    Draining,
    /// The platform holds no poll any more. The listeners close after the pause between two polls of an agent.
    Settling,
    /// The listeners are closed or about to be.
    Closing,
}

/// The stage of the drain, and the polls that are parked.
#[derive(Debug)]
pub struct Drain {
    stage: watch::Sender<DrainStage>,
    parked: AtomicUsize,
}

impl Default for Drain {
    fn default() -> Self {
        Self { stage: watch::Sender::new(DrainStage::Serving), parked: AtomicUsize::new(0) }
    }
}

impl Drain {
    /// Advances to `stage`. An earlier stage than the current one is ignored.
    pub fn advance(&self, stage: DrainStage) {
        self.stage.send_if_modified(|present| {
            let later = stage > *present;
            *present = stage.max(*present);
            later
        });
    }

    /// The number of parked polls.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Whether the end has begun.
    pub(super) fn has_begun(&self) -> bool {
        *self.stage.borrow() > DrainStage::Serving
    }

    /// Waits for `stage` or a later one.
    pub(super) async fn until(&self, stage: DrainStage) {
        // The sender is `self`, so the channel is open.
        let _ = self.stage.subscribe().wait_for(|present| *present >= stage).await;
    }

    /// Parks a poll: waits until it should be answered as a poll without an event.
    pub(super) async fn park(&self) {
        let _parked = Parked::new(&self.parked);
        let closed = tokio::time::timeout(PARKED, self.until(DrainStage::Closing)).await;
        if closed.is_err() && *self.stage.borrow() == DrainStage::Settling {
            self.until(DrainStage::Closing).await;
        }
    }
}

/// Counts a parked poll.
struct Parked<'a>(&'a AtomicUsize);

impl<'a> Parked<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
