//! How a connection to an endpoint begins: name resolution and TCP, or a replacement in tests.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use crate::failure::FailureKind;
use crate::stream::Stream;

/// Why a connection to an endpoint cannot be established: the kind, and the system's error if there is one.
pub type DialError = (FailureKind, Option<io::Error>);

/// Opens streams to endpoints. TLS and HTTP come on top.
pub trait Dial: Send + Sync {
    /// Opens a stream to `port` of `host`, within `patience`.
    fn dial<'a>(&'a self, host: &'a str, port: u16, patience: Duration) -> BoxFuture<'a, Result<Stream, DialError>>;
}

/// Connects over TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16, patience: Duration) -> BoxFuture<'a, Result<Stream, DialError>> {
        Box::pin(tcp(host, port, patience))
    }
}

/// Resolves the name and tries its addresses in turn, each for its share of `patience`: an address that drops packets
/// must not use up the time of the others. The name is resolved for every connection, so that a change of DNS takes
/// effect at once.
async fn tcp(host: &str, port: u16, patience: Duration) -> Result<Stream, DialError> {
    let addresses: Vec<_> =
        tokio::net::lookup_host((host, port)).await.map_err(|error| (FailureKind::Resolve, Some(error)))?.collect();
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = (FailureKind::Resolve, None);
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(Stream::tcp(socket)),
            Ok(Err(error)) => last = (FailureKind::Connect, Some(error)),
            Err(_) => last = (FailureKind::ConnectTimeout, None),
        }
    }
    Err(last)
}
