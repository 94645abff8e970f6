//! Listens, accepts, admits and identifies clients, does TLS, hands connections to hyper, and drains them at the end.
//!
//! Each worker thread has a listener of its own on the same address (`SO_REUSEPORT`), and a connection stays with the
//! worker that accepted it.

mod active;
mod admission;
mod connection;
mod handshake_failure;
mod handshake_queue;
mod listener;
mod phase;
mod proxy_header;
mod rarely_woken;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::mpsc;

pub use active::{ActiveGeneration, WorkerGeneration, WorkerState};
pub use admission::Admission;
use handshake_queue::HandshakeQueue;
use listener::concerns_one_connection;
pub use listener::{Listener, bind, distribute, share};
pub use phase::{Phase, PhaseControl, PhaseWatch};

use crate::gateway::DrainStage;
use crate::log_throttle::LogThrottle;
use crate::stream::Stream;
use crate::telemetry::metrics::AcceptError;

/// Pause when the system has no file descriptor or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Interval of the check for upstream connections that have been idle for too long.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Everything that one worker needs to serve connections.
pub struct Worker {
    generation: WorkerGeneration,
    admission: Arc<Admission>,
    handshakes: HandshakeQueue,
    phase: PhaseWatch,
}

impl Worker {
    /// A worker that serves the connections that `admission` admits, by the generation in force.
    pub fn new(active: ActiveGeneration, admission: Arc<Admission>, phase: PhaseWatch) -> Self {
        Self { generation: WorkerGeneration::new(active), admission, handshakes: HandshakeQueue::new(), phase }
    }

    /// Accepts and serves connections until the phase is [`Phase::Draining`], then waits until the last request is
    /// complete or the phase is [`Phase::Ended`].
    pub async fn run(self, listener: impl Into<Listener>) {
        // Every connection and every request holds a sender. The channel closes with the last of them.
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let mut phase = self.phase.clone();
        let worker = Arc::new(self);
        let housekeeping = tokio::spawn(worker.clone().keep_house());
        worker.accept(listener.into(), &alive).await;
        drop(alive);
        tokio::select! {
            _ = gone.recv() => {}
            () = phase.until(Phase::Ended) => {}
        }
        housekeeping.abort();
    }

    async fn accept(self: &Arc<Self>, mut listener: Listener, alive: &mpsc::Sender<()>) {
        self.accept_until(Phase::Lingering, &mut listener, alive).await;
        self.advance(DrainStage::Draining);
        self.accept_until(Phase::Draining, &mut listener, alive).await;
        self.advance(DrainStage::Closing);
        // Another process accepts from the same queue.
        if self.phase.is_handed_over() {
            return;
        }
        for (stream, peer) in listener.accept_backlog() {
            self.admit(stream, peer, alive);
        }
    }

    async fn accept_until(self: &Arc<Self>, end: Phase, listener: &mut Listener, alive: &mpsc::Sender<()>) {
        let mut phase = self.phase.clone();
        let warnings = LogThrottle::every(Duration::from_secs(10));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = phase.until(end) => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, alive),
                Err(error) => {
                    let services = &self.generation.current().generation.services;
                    services.metrics.client_connections.not_accepted(kind_of(&error));
                    pause_after(&error, &warnings).await;
                }
            }
        }
    }

    /// Tells the requests how far the end of the process has come.
    fn advance(&self, stage: DrainStage) {
        self.generation.current().generation.services.drain.advance(stage);
    }

    /// Serves one more connection, if the limits allow it. The limit of all connections counts from here on, the limit
    /// of one client from when the client is identified.
    fn admit(self: &Arc<Self>, stream: Stream, peer: SocketAddr, alive: &mpsc::Sender<()>) {
        let state = self.generation.current();
        let generation = &state.generation;
        let accepted = self.admission.accept(peer.ip(), &generation.config.limits, &generation.services.metrics);
        let Some(accepted) = accepted else { return };
        let (worker, alive) = (Arc::clone(self), alive.clone());
        tokio::spawn(async move {
            worker.serve(stream, peer, accepted, state, alive).await;
        });
    }

    async fn keep_house(self: Arc<Self>) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            housekeeping.tick().await;
            self.generation.current().client.expire_idle();
        }
    }
}

/// The kind of a failed `accept`.
fn kind_of(error: &io::Error) -> AcceptError {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => AcceptError::Descriptors,
        Some(Errno::NOMEM | Errno::NOBUFS) => AcceptError::Memory,
        _ if concerns_one_connection(error) => AcceptError::Gone,
        _ => AcceptError::Other,
    }
}

/// Without file descriptors or memory, the next `accept` would fail at once: wait until something is closed. Any other
/// error concerns only the connection that was not accepted.
async fn pause_after(error: &io::Error, warnings: &LogThrottle) {
    if warnings.allow() {
        tracing::warn!(target: "previewgate::server", %error, "connection cannot be accepted");
    }
    if !concerns_one_connection(error) {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_accept_has_its_kind() {
        for (error, kind) in [
            (Errno::MFILE, AcceptError::Descriptors),
            (Errno::NFILE, AcceptError::Descriptors),
            (Errno::NOMEM, AcceptError::Memory),
            (Errno::NOBUFS, AcceptError::Memory),
            (Errno::CONNABORTED, AcceptError::Gone),
            (Errno::PERM, AcceptError::Other),
        ] {
            assert_eq!(kind_of(&error.into()), kind, "{error}");
        }
    }
}
