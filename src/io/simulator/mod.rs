//! A CC-Gateway for tests, the demo and integrators: correct by default, with faults on request.
//!
//! It implements the part of the agent API that the gateway reads (`vendor`), calls with their states and events
//! (`call_control`, `telephone`), and downloads, uploads and echoes of any size (`transfer`). It runs campaigns
//! (`campaign`). It pushes events to applications that ask for it (`push`), records every request that arrives
//! ([`JournalEntry`]), and can be controlled over HTTP (`control`). It writes every byte itself (`http1`,
//! `connection`), so that it can break HTTP on purpose ([`Fault`]).
//!
//! It reads paths as leniently as the Java server that it simulates, so that a disguised callout that passes the
//! gateway is recognised here.

mod agents;
mod answer;
mod call_control;
mod campaign;
mod certificates;
mod config;
mod connection;
mod contacts;
mod control;
mod events;
mod failure;
mod handle;
mod http1;
mod journal;
mod misbehaviour;
mod offer;
mod push;
mod request;
mod shared;
mod telephone;
#[cfg(test)]
mod tests;
mod transfer;
mod vendor;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use agents::Delivery;
pub use certificates::{Authority, SelfSigned, self_signed};
pub use config::{AuthMode, PushRetry, SimulatorConfig};
pub use contacts::CampaignProgress;
pub use events::EventShape;
pub use handle::SimulatorHandle;
pub use journal::{JournalEntry, PushDelivery};
pub use misbehaviour::{Ending, Fault, Misbehaviour, Stage};
use shared::{Open, Shared};

use crate::stream::Stream;

/// Clients that may connect at once before the simulator accepts them.
const BACKLOG: u32 = 8192;
/// Bytes that wait in each direction of an in-memory connection.
const PIPE: usize = 64 * 1024;
/// The pause after a failed accept, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running simulator. Dropping it ends every connection at once.
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    stop: watch::Sender<()>,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Simulator {
    /// Binds and serves, on the runtime of the caller.
    pub async fn start(config: SimulatorConfig) -> io::Result<Simulator> {
        let listener = bind(config.address)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(());
        let shared = Shared::new(config, stopped);
        campaign::start(&shared);
        let accepting = Some(shared.spawn(accept(listener, shared.clone())));
        Ok(Self { address, shared, accepting, stop })
    }

    /// Serves the pipes of [`Simulator::connect`] only, and listens nowhere. Pushes still go over TCP.
    pub fn in_memory(config: SimulatorConfig) -> Simulator {
        let (stop, stopped) = watch::channel(());
        let (address, shared) = (config.address, Shared::new(config, stopped));
        campaign::start(&shared);
        Self { address, shared, accepting: None, stop }
    }

    /// Opens an in-memory connection of `peer` and returns its end, on the runtime of the caller.
    pub fn connect(&self, peer: SocketAddr) -> DuplexStream {
        let (theirs, ours) = tokio::io::duplex(PIPE);
        self.shared.spawn(connection::serve(Stream::Memory(ours), peer, Open::new(&self.shared)));
        theirs
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its remote control.
    pub fn handle(&self) -> SimulatorHandle {
        SimulatorHandle(self.shared.clone())
    }

    /// Ends every connection and waits until they and the listener are gone.
    pub async fn stop(self) {
        drop(self.stop);
        if let Some(accepting) = self.accepting {
            let _ = accepting.await;
        }
        SimulatorHandle(self.shared).wait_for_connections_open(0).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?; // restarted on the same port by failover tests
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                shared.spawn(connection::serve(Stream::tcp(socket), peer, Open::new(&shared)));
            }
            Err(error) => {
                tracing::debug!(target: "previewgate::simulator", %error, "simulator: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
