//! Listens, accepts, speaks TLS, hands connections to hyper, and lets them go.
//!
//! Each worker thread has a listener of its own on the same address (`SO_REUSEPORT`), and a connection stays with the
//! worker that accepted it.

mod connection;
mod phase;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

pub use phase::{Phase, PhaseControl, PhaseWatch};
pub use tls::acceptor;

use crate::config::Limits;
use crate::gateway::Gateway;
use crate::telemetry::Sparingly;
use crate::telemetry::metrics::ShedKind;
use crate::upstream::Client;

/// Connections that wait to be accepted, for each worker. The system may allow fewer.
const BACKLOG: i32 = 4096;
/// How long to wait when the system has no file descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds one listening socket for each worker, all on the same address. Port 0 lets the system choose one for all.
///
/// # Errors
/// When the address is taken or not allowed.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = listen(address)?;
    let chosen = first.local_addr()?;
    let others = (1..workers).map(|_| listen(chosen));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What one worker serves connections with.
pub struct Worker {
    /// The data path, shared by all workers.
    pub gateway: Arc<Gateway>,
    /// This worker's way to the upstream.
    pub client: Arc<Client>,
    /// TLS, or plain HTTP.
    pub acceptor: Option<TlsAcceptor>,
    /// When to stop.
    pub phase: PhaseWatch,
}

impl Worker {
    /// Accepts and serves connections until the phase is [`Phase::Draining`], then waits until the last exchange is
    /// over or the phase is [`Phase::Ended`].
    pub async fn run(self, listener: TcpListener) {
        // Every connection and every exchange holds a sender; when all are gone, the receiver knows.
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let worker = Arc::new(self);
        worker.accept(listener, &alive).await;
        drop(alive);
        let mut phase = worker.phase.clone();
        tokio::select! {
            _ = gone.recv() => {}
            () = phase.until(Phase::Ended) => {}
        }
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener, alive: &mpsc::Sender<()>) {
        let mut phase = self.phase.clone();
        let trouble = Sparingly::every(Duration::from_secs(10));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = phase.until(Phase::Draining) => break,
            };
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer, alive),
                Err(error) => pause_after(&error, &trouble).await,
            }
        }
        // Closing a listener resets what waits in its backlog: those clients were promised a connection.
        while let Some(Ok((socket, peer))) = futures_util::FutureExt::now_or_never(listener.accept()) {
            self.admit(socket, peer, alive);
        }
    }

    /// Serves one more connection, if the limit allows it.
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, alive: &mpsc::Sender<()>) {
        let metrics = &self.gateway.metrics;
        let open = metrics.connections.downstream.enter();
        let most = i64::try_from(self.limits().connections).unwrap_or(i64::MAX);
        if metrics.connections.downstream.open() > most {
            return metrics.requests.shed(ShedKind::Connection);
        }
        let (worker, alive) = (Arc::clone(self), alive.clone());
        tokio::spawn(async move {
            worker.serve(socket, peer, alive).await;
            drop(open);
        });
    }

    fn limits(&self) -> &Limits {
        &self.gateway.config.limits
    }
}

/// Out of file descriptors or memory, `accept` fails again at once: wait for something to be closed. Everything else
/// concerns only the connection that was not accepted.
async fn pause_after(error: &io::Error, trouble: &Sparingly) {
    if trouble.now() {
        tracing::warn!(target: "previewgate::server", %error, "connection cannot be accepted");
    }
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !of_the_peer {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
