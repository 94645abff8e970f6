//! The phases of an orderly shutdown, and how all parts of the process learn of them.

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
    /// Nothing is waited for any longer.
    Ended,
}

/// Announces phases.
#[derive(Debug)]
pub struct PhaseControl(watch::Sender<Phase>);

/// Learns of phases.
#[derive(Clone, Debug)]
pub struct PhaseWatch(watch::Receiver<Phase>);

impl PhaseControl {
    /// Begins with [`Phase::Serving`].
    pub fn new() -> (Self, PhaseWatch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), PhaseWatch(receiver))
    }

    /// Moves on; moving back is ignored.
    pub fn announce(&self, phase: Phase) {
        self.0.send_if_modified(|present| {
            let later = phase > *present;
            *present = phase.max(*present);
            later
        });
    }
}

impl PhaseWatch {
    /// The present phase.
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits for `phase` or a later one. Never returns if the [`PhaseControl`] is gone before.
    pub async fn until(&mut self, phase: Phase) {
        if self.0.wait_for(|present| *present >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
