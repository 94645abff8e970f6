//! The phases of an orderly shutdown, and a channel that announces them to all parts of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The phase of the process. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serves, and reports that it is ready.
    Serving,
    /// Serves, but reports that it is not ready, so that load balancers choose another gateway.
    NotReady,
    /// Still accepts connections, until the held polls have their answers: a client that is refused signs its agent out.
    /// Each connection closes after its present response, and new polls are answered soon.
    Lingering,
    /// Accepts no new connection; each connection closes after its present response.
    Draining,
    /// The time is over: open connections are cut.
    Cut,
    /// The process does not wait for anything any more.
    Ended,
}

/// Announces phases.
#[derive(Debug)]
pub struct PhaseControl {
    phase: watch::Sender<Phase>,
    handed_over: Arc<AtomicBool>,
}

/// Learns of phases.
#[derive(Clone, Debug)]
pub struct PhaseWatch {
    phase: watch::Receiver<Phase>,
    handed_over: Arc<AtomicBool>,
}

impl PhaseControl {
    /// Begins with [`Phase::Serving`].
    pub fn new() -> (Self, PhaseWatch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        let handed_over = Arc::new(AtomicBool::new(false));
        (Self { phase: sender, handed_over: Arc::clone(&handed_over) }, PhaseWatch { phase: receiver, handed_over })
    }

    /// Announces a phase. An earlier phase than the current one is ignored.
    pub fn announce(&self, phase: Phase) {
        self.phase.send_if_modified(|present| {
            let later = phase > *present;
            *present = phase.max(*present);
            later
        });
    }
}

impl PhaseControl {
    /// Another process accepts from the same sockets from now on. To be called before [`Phase::Draining`] is announced.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
    }
}

impl PhaseWatch {
    /// Whether another process accepts from the same sockets.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// The present phase.
    pub fn now(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits for `phase` or a later one. Never returns if the [`PhaseControl`] is gone before.
    pub async fn until(&mut self, phase: Phase) {
        if self.phase.wait_for(|present| *present >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
