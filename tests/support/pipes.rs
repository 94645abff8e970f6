//! Connections to a gateway that listens in memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::Wire;

/// Bytes that wait in each direction of a connection.
const SIZE: usize = 64 * 1024;
/// The address of all clients, but for those that a test gives another.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// A way to a listener in memory.
#[derive(Clone)]
pub(crate) struct Pipes(mpsc::Sender<(DuplexStream, SocketAddr)>);

impl Pipes {
    /// A way to the listener at the other end of `sender`.
    pub(crate) fn new(sender: mpsc::Sender<(DuplexStream, SocketAddr)>) -> Self {
        Self(sender)
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> io::Result<Wire> {
        self.connect_from(CLIENT).await
    }

    /// Opens a connection of the client with this address.
    pub(crate) async fn connect_from(&self, client: IpAddr) -> io::Result<Wire> {
        let (ours, theirs) = tokio::io::duplex(SIZE);
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.0.send((theirs, (client, 50_000).into())).await.map_err(refused)?;
        Ok(Wire::over(ours))
    }
}
