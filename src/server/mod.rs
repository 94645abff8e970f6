//! Listens, accepts, speaks TLS, hands connections to hyper, and lets them go.
//!
//! Each worker thread has a listener of its own on the same address (`SO_REUSEPORT`), and a connection stays with the
//! worker that accepted it.

mod admission;
mod connection;
mod handshake_queue;
mod live;
mod phase;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

pub use admission::Admission;
use handshake_queue::HandshakeQueue;
pub use live::{Generation, Live, View, WorkerView};
pub use phase::{Phase, PhaseControl, PhaseWatch};
pub use tls::acceptor;

use crate::log_throttle::LogThrottle;

/// Connections that wait to be accepted, for each worker. The system may allow fewer.
const BACKLOG: i32 = 4096;
/// How long to wait when the system has no file descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often idle upstream connections are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Binds one listening socket for each worker, all on the same address. Port 0 lets the system choose one for all.
///
/// # Errors
/// When the address is taken or not allowed.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // With SO_REUSEPORT a second gateway could be started on the same address by mistake, and every other connection
    // would find one that has not seen its agent's previews. A socket without it finds the address taken.
    drop(exclusive(address)?);
    let first = listen(address)?;
    let chosen = first.local_addr()?;
    let others = (1..workers).map(|_| listen(chosen));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// The same for a listening socket that somebody else bound: all workers accept from its one queue.
///
/// # Errors
/// When the system has no descriptor left.
pub fn share(socket: std::net::TcpListener, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let others: Vec<_> = (1..workers).map(|_| socket.try_clone()).collect::<Result<_, _>>()?;
    Ok(std::iter::once(socket).chain(others).collect())
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that has the address to itself.
fn exclusive(address: SocketAddr) -> io::Result<Socket> {
    let socket = unbound(address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the last process that linger in TIME_WAIT do not stand in the way.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// What one worker serves connections with.
pub struct Worker {
    view: WorkerView,
    admission: Arc<Admission>,
    handshakes: HandshakeQueue,
    phase: PhaseWatch,
}

impl Worker {
    /// A worker that serves under whatever is in force those whom `admission` lets in.
    pub fn new(live: Live, admission: Arc<Admission>, phase: PhaseWatch) -> Self {
        Self { view: WorkerView::new(live), admission, handshakes: HandshakeQueue::new(), phase }
    }

    /// Accepts and serves connections until the phase is [`Phase::Draining`], then waits until the last exchange is
    /// over or the phase is [`Phase::Ended`].
    pub async fn run(self, listener: TcpListener) {
        // Every connection and every exchange holds a sender; when all are gone, the receiver knows.
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let mut phase = self.phase.clone();
        let worker = Arc::new(self);
        let housekeeping = tokio::spawn(worker.clone().keep_house());
        worker.accept(listener, &alive).await;
        drop(alive);
        tokio::select! {
            _ = gone.recv() => {}
            () = phase.until(Phase::Ended) => {}
        }
        housekeeping.abort();
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener, alive: &mpsc::Sender<()>) {
        let mut phase = self.phase.clone();
        let trouble = LogThrottle::every(Duration::from_secs(10));
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
        self.accept_the_rest(&listener, alive);
    }

    /// Closing a listener resets what waits in its backlog: those clients were promised a connection. The system is asked
    /// and not tokio, which tries only what it knows to be ready: it has not heard yet of those who came since it last
    /// looked, and of nobody at all if the end is announced before its first look.
    fn accept_the_rest(self: &Arc<Self>, listener: &TcpListener, alive: &mpsc::Sender<()>) {
        let listener = SockRef::from(listener);
        for _ in 0..BACKLOG {
            match listener.accept() {
                Ok((socket, peer)) => {
                    let socket = std::net::TcpStream::from(socket);
                    let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
                    if let (Ok(socket), Some(peer)) = (socket, peer.as_socket()) {
                        self.admit(socket, peer, alive);
                    }
                }
                Err(error) if concerns_the_peer_only(&error) => {}
                Err(_) => break,
            }
        }
    }

    /// Serves one more connection, if the limits allow it.
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, alive: &mpsc::Sender<()>) {
        let view = self.view.now();
        let gateway = &view.generation.gateway;
        let admitted = self.admission.admit(peer.ip(), &gateway.config.limits, &gateway.metrics);
        let Some(admitted) = admitted else { return };
        let (worker, alive) = (Arc::clone(self), alive.clone());
        tokio::spawn(async move {
            worker.serve(socket, peer, view, alive).await;
            drop(admitted);
        });
    }

    async fn keep_house(self: Arc<Self>) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            housekeeping.tick().await;
            self.view.now().client.expire_idle();
        }
    }
}

/// Out of file descriptors or memory, `accept` fails again at once: wait for something to be closed. Everything else
/// concerns only the connection that was not accepted.
async fn pause_after(error: &io::Error, trouble: &LogThrottle) {
    if trouble.allow() {
        tracing::warn!(target: "previewgate::server", %error, "connection cannot be accepted");
    }
    if !concerns_the_peer_only(error) {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn concerns_the_peer_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_an_address_and_nobody_else_does() {
        let listeners = bind(([127, 0, 0, 1], 0).into(), 3).unwrap();
        let address = listeners.first().unwrap().local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
