//! The source of a worker's connections: a listening TCP socket, or in-memory pipes.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::stream::Stream;

/// Connections that wait to be accepted, for each worker. The system may allow fewer.
const BACKLOG: i32 = 4096;

/// The source of a worker's connections.
#[derive(Debug)]
pub enum Listener {
    /// Listening TCP sockets, usually one.
    Tcp(Vec<TcpListener>),
    /// In-memory pipes, each with the address of its peer. Without a sender, it never accepts again.
    Memory(mpsc::Receiver<(DuplexStream, SocketAddr)>),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(vec![listener])
    }
}

impl From<Vec<TcpListener>> for Listener {
    fn from(listeners: Vec<TcpListener>) -> Self {
        Self::Tcp(listeners)
    }
}

impl Listener {
    /// The next connection and the address of its peer.
    pub(super) async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listeners) => accept_any(listeners).await.map(|(socket, peer)| (Stream::tcp(socket), peer)),
            Self::Memory(pipes) => match pipes.recv().await {
                Some((pipe, peer)) => Ok((Stream::Memory(pipe), peer)),
                None => std::future::pending().await,
            },
        }
    }

    /// The connections that wait to be accepted. Closing a listener resets them, although the system has already told
    /// their clients that they are connected.
    pub(super) fn accept_backlog(self) -> Vec<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listeners) => listeners.iter().flat_map(accept_backlog).collect(),
            Self::Memory(mut pipes) => {
                std::iter::from_fn(|| pipes.try_recv().ok()).map(|(pipe, peer)| (Stream::Memory(pipe), peer)).collect()
            }
        }
    }
}

/// The next connection of any of the sockets.
async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// This asks the system and not tokio: tokio tries only sockets that it knows to be ready, and does not know of connections
/// that came since its last check.
fn accept_backlog(listener: &TcpListener) -> Vec<(Stream, SocketAddr)> {
    let listener = SockRef::from(listener);
    let mut accepted = Vec::new();
    for _ in 0..BACKLOG {
        match listener.accept() {
            Ok((socket, peer)) => {
                let socket = std::net::TcpStream::from(socket);
                let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
                if let (Ok(socket), Some(peer)) = (socket, peer.as_socket()) {
                    accepted.push((Stream::tcp(socket), peer));
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(_) => break,
        }
    }
    accepted
}

/// Whether a failed `accept` concerns only the connection that was not accepted.
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Binds one listening socket for each worker, all on the same address. Port 0 lets the system choose one for all.
///
/// # Errors
/// When the address is taken or not allowed.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // With SO_REUSEPORT a second gateway could be started on the same address by mistake, and half of the connections
    // would reach a gateway that has not seen their agents' previews. A socket without the option fails in that case.
    drop(exclusive(address)?);
    let first = listen(address)?;
    let chosen = first.local_addr()?;
    let others = (1..workers).map(|_| listen(chosen));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// One listening socket for each worker, from a socket that is bound already: all workers accept from its one queue.
///
/// # Errors
/// When the system has no descriptor left.
pub fn share(socket: std::net::TcpListener, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let others: Vec<_> = (1..workers).map(|_| socket.try_clone()).collect::<Result<_, _>>()?;
    Ok(std::iter::once(socket).chain(others).collect())
}

/// Distributes `sockets` among the workers so that each socket has a worker, because each has its own queue of connections.
///
/// # Errors
/// When the system has no descriptor left.
pub fn distribute(sockets: &[std::net::TcpListener], workers: usize) -> io::Result<Vec<Vec<std::net::TcpListener>>> {
    let mut shares: Vec<Vec<_>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
    let rounds = workers.max(sockets.len());
    for (number, socket) in sockets.iter().cycle().take(if sockets.is_empty() { 0 } else { rounds }).enumerate() {
        let share = number % shares.len();
        if let Some(share) = shares.get_mut(share) {
            share.push(socket.try_clone()?);
        }
    }
    Ok(shares)
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that fails to bind if another socket has the address.
fn exclusive(address: SocketAddr) -> io::Result<Socket> {
    let socket = unbound(address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it, connections of the last process in TIME_WAIT would block the address.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_an_address_and_no_other_process_does() {
        let listeners = bind(([127, 0, 0, 1], 0).into(), 3).unwrap();
        let address = listeners.first().unwrap().local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn each_socket_has_a_worker_and_each_worker_a_socket() {
        for (sockets, workers, expected) in
            [(1, 3, vec![1, 1, 1]), (3, 1, vec![3]), (2, 2, vec![1, 1]), (3, 2, vec![2, 1])]
        {
            let bound: Vec<_> = (0..sockets).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let mut addresses: Vec<_> = bound.iter().map(|socket| socket.local_addr().unwrap()).collect();
            let shares = distribute(&bound, workers).unwrap();
            assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            let mut shared: Vec<_> = shares.iter().flatten().map(|socket| socket.local_addr().unwrap()).collect();
            shared.sort_unstable();
            shared.dedup();
            addresses.sort_unstable();
            assert_eq!(shared, addresses);
        }
    }
}
