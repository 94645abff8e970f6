//! A port that stays reserved, whether something listens on it or not.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Holds a port with a socket that is bound and does not listen.
///
/// - Connections are refused as long as nothing listens.
/// - A server that sets `SO_REUSEADDR` (all do) can listen on the same address, end, and listen again: the system gives
///   the port to no other process in the meantime.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
}

impl Port {
    /// Reserves a port of the system's choice.
    pub(crate) fn reserve() -> Self {
        let socket = bound((Ipv4Addr::LOCALHOST, 0).into());
        Self { address: socket.local_addr().unwrap(), socket }
    }

    /// Listens with the socket that has held the port.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(1024).unwrap()
    }

    /// Listens with another socket. The port stays reserved when that listener is dropped.
    pub(crate) fn listen_for_a_while(&self) -> TcpListener {
        bound(self.address).listen(1024).unwrap()
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
