//! How a connection to an endpoint begins: name resolution and TCP, or a replacement in tests.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use crate::failure::{FailureKind, is_local_exhaustion};
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
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(unresolved)?.collect();
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = (FailureKind::Resolve, None);
    for address in addresses {
        let failed = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(Stream::tcp(socket)),
            Ok(Err(error)) if is_local_exhaustion(&error) => (FailureKind::LocalResources, Some(error)),
            Ok(Err(error)) => (FailureKind::Connect, Some(error)),
            Err(_) => (FailureKind::ConnectTimeout, None),
        };
        // A machine without IPv6 fails locally at each IPv6 address. The other addresses say more about the endpoint.
        if failed.0 != FailureKind::LocalResources || failure.0 == FailureKind::Resolve {
            failure = failed;
        }
    }
    Err(failure)
}

/// The resolver does not report the cause of its failure. If this machine cannot open a socket either, that is the cause.
fn unresolved(error: io::Error) -> DialError {
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
        Err(lack) if is_local_exhaustion(&lack) => (FailureKind::LocalResources, Some(lack)),
        Ok(_) | Err(_) if is_local_exhaustion(&error) => (FailureKind::LocalResources, Some(error)),
        Ok(_) | Err(_) => (FailureKind::Resolve, Some(error)),
    }
}
