//! What lies between a gateway and a server: a TCP relay whose connections can be slow, silent or cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What becomes of the bytes of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Open,
    /// Each answer comes so much later, half of it in each direction.
    Slow(Duration),
    /// Bytes wait until the passage is open again.
    Silent,
    /// All connections are closed, and new ones are closed at once.
    Cut,
}

/// A relay on a thread of its own; ends when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
}

impl Relay {
    /// Relays to `target`.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (passage, state) = watch::channel(Passage::Open);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serve(TcpListener::from_std(listener).unwrap(), target, state).await });
        });
        Self { address, passage }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub(crate) fn is(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, mut state: watch::Receiver<Passage>) {
    let mut dropped = state.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = dropped.wait_for(|_| false) => return,
        };
        if *state.borrow_and_update() != Passage::Cut {
            tokio::spawn(relay(client, target, state.clone()));
        }
    }
}

async fn relay(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<Passage>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        () = pass(from_client, to_server, there) => {}
        () = pass(from_server, to_client, back) => {}
        _ = state.wait_for(|passage| *passage == Passage::Cut) => {}
    }
}

/// Passes bytes on in one direction until either end is closed.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Passage>) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let arrived = state.clone();
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let delay = match *arrived.borrow() {
                        Passage::Slow(delay) => delay / 2,
                        Passage::Open | Passage::Silent | Passage::Cut => Duration::ZERO,
                    };
                    let _ = sender.send((Instant::now() + delay, buffer[..length].to_vec()));
                }
            }
        }
    };
    let write = async {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if state.wait_for(|passage| *passage != Passage::Silent).await.is_err()
                || to.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
