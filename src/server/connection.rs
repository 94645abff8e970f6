//! One client connection, from its accepted stream to its last response.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tower::Service;

use super::admission::Accepted;
use super::handshake_failure::reason_of;
use super::rarely_woken::RarelyWoken;
use super::{Phase, PhaseWatch, Worker, WorkerState, proxy_header};
use crate::config::{Limits, ProxyProtocol};
use crate::downstream::{Abort, ClientAuthorities, ClientCertificate, ClientIo, Connection, MinRate, Timeouts};
use crate::gateway::{Generation, RecordedBody, RequestService};
use crate::stream::Stream;
use crate::telemetry::metrics::{HandshakeFailure, ProxyHeaderFault};

/// A client that connected just before the shutdown may send its first request within this time.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// The size of hyper's buffer for one connection, beyond the largest head. If the client does not read, so many bytes
/// of a response wait in memory, and the piece that came last.
const BUFFER_BESIDE_HEAD: usize = 8 * 1024;
/// Encrypted bytes that wait in memory if the client does not read: two TLS records.
const MAX_ENCRYPTED: usize = 32 * 1024;

/// The certificates of a client, its own first. Empty without any.
type Chain = Vec<CertificateDer<'static>>;

impl Worker {
    pub(super) async fn serve(
        self: &Arc<Self>,
        stream: Stream,
        peer: SocketAddr,
        accepted: Accepted,
        state: WorkerState,
        alive: mpsc::Sender<()>,
    ) {
        let generation = Arc::clone(&state.generation);
        // Boxed, because its state would otherwise stay allocated as long as the connection.
        let identified = Box::pin(identify(stream, peer, &generation)).await;
        let Some((stream, client)) = identified else { return };
        let Some(_admitted) = accepted.identify(client.ip(), &generation) else { return };
        let connection = Connection::new(client, generation.acceptor.is_some(), alive);
        let Some(acceptor) = &generation.acceptor else {
            return self.drive(stream, Arc::new(connection), state, pending()).await;
        };
        let patience = generation.config.limits.handshake_timeout;
        let handshake =
            self.handshakes.run(acceptor.tls().accept_with(stream, |tls| tls.set_buffer_limit(Some(MAX_ENCRYPTED))));
        // Boxed, because the state of the handshake would otherwise stay allocated as long as the connection.
        match Box::pin(tokio::time::timeout(patience, async { handshake.await.map(Box::new) })).await {
            // The stream is boxed too: each future that it passes through would keep a place of its size.
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                let connection = connection.identified_by(chain.first().map(ClientCertificate::new));
                let revoked = Box::pin(Arc::clone(self).revoked(client, acceptor.clients().clone(), chain));
                self.drive(stream, Arc::new(connection), state, revoked).await;
            }
            Ok(Err(error)) => {
                generation.services.metrics.client_connections.no_handshake(reason_of(&error));
                tracing::debug!(target: "previewgate::server", %client, %error, "TLS handshake failed");
            }
            Err(_) => {
                generation.services.metrics.client_connections.no_handshake(HandshakeFailure::Timeout);
                tracing::debug!(target: "previewgate::server", %client, "TLS handshake took too long");
            }
        }
    }

    /// Returns when a reload has put authorities in force that do not admit the client with this certificate chain.
    ///
    /// `admitted` are the authorities of its handshake.
    async fn revoked(self: Arc<Self>, client: SocketAddr, mut admitted: ClientAuthorities, chain: Chain) {
        let mut replacements = self.generation.replacements();
        loop {
            // The check comes before the wait: a reload may have happened during the handshake.
            let generation = self.generation.current().generation;
            if let Some(acceptor) = &generation.acceptor
                && !acceptor.clients().are_the_same(&admitted)
            {
                // As expensive as a part of a handshake, and after a reload due for all connections at once.
                let check = Box::pin(async { acceptor.clients().admit(&chain) });
                if !self.handshakes.run(check).await {
                    tracing::debug!(target: "previewgate::server", %client, "client certificate is no longer accepted");
                    return;
                }
                admitted = acceptor.clients().clone();
            }
            drop(generation);
            if replacements.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Serves HTTP/1.1 until one side closes, the client is `revoked`, or the process ends.
    async fn drive<S>(
        self: &Arc<Self>,
        stream: S,
        connection: Arc<Connection>,
        state: WorkerState,
        revoked: impl Future<Output = ()>,
    ) where
        S: AsyncRead + AsyncWrite + Abort + Send + Unpin + 'static,
    {
        let limits = &state.generation.config.limits;
        let mut io = ClientIo::new(stream, Arc::clone(&connection), limits.head_size, timeouts(limits));
        let (mut phase, mut revoked) = (self.phase.clone(), pin!(revoked));
        // Boxed, because `io` would otherwise have two places as long as the connection: before hyper has it, and after.
        let opening = Box::pin(async {
            let grace = tokio::select! {
                opened = io.first_bytes() => opened.ok().map(|()| None),
                grace = interruption(&mut phase, revoked.as_mut()) => Some(Some(grace)),
            };
            grace.map(|grace| (io, grace))
        });
        let Some((io, grace)) = opening.await else { return };
        let served = http1::Builder::new()
            .preserve_header_case(true)
            // The fields that the gateway adds itself.
            .title_case_headers(true)
            .max_buf_size(limits.head_size + BUFFER_BESIDE_HEAD)
            // `ClientIo` keeps all timeouts.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(io), self.service(Arc::clone(&connection), state))
            .with_upgrades();
        let mut served = pin!(served);
        let grace = match grace {
            Some(grace) => grace,
            None => {
                let interruption = pin!(interruption(&mut phase, revoked));
                tokio::select! {
                    biased;
                    // An error ends the connection, and nothing else: the request on it, if any, has been recorded.
                    _ = served.as_mut() => return,
                    grace = RarelyWoken::new(interruption) => grace,
                }
            }
        };
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            // hyper would close at once if no request has come yet. A client that was accepted may still send one.
            _ = tokio::time::timeout(grace, first_request(&connection)) => served.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = served => {}
            () = phase.until(Phase::Cut) => {}
        }
    }

    /// The data path for one connection. After a reload, the next request gets a new one.
    fn service(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        state: WorkerState,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<RecordedBody>,
        Error = Infallible,
        Future: Send,
    > + use<> {
        let worker = Arc::clone(self);
        let service = |state: &WorkerState, connection: &Arc<Connection>| {
            RequestService::new(&state.generation, &state.client, connection)
        };
        let current = Mutex::new((service(&state, &connection), state));
        service_fn(move |request| {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            if worker.generation.is_stale(&current.1) {
                let state = worker.generation.current();
                *current = (service(&state, &connection), state);
            }
            current.0.call(request)
        })
    }
}

/// Finds out who the client is: the peer, or with `listener.proxy_protocol` the one that a trusted proxy names. `None` if
/// the connection is to be closed.
async fn identify(stream: Stream, peer: SocketAddr, generation: &Generation) -> Option<(Stream, SocketAddr)> {
    let config = &generation.config;
    if config.listener.proxy_protocol == ProxyProtocol::Off {
        return Some((stream, peer));
    }
    let read = async {
        match config.listener.trusts(peer.ip()) {
            true => proxy_header::read(stream).await,
            false => Err(ProxyHeaderFault::Untrusted),
        }
    };
    let read = tokio::time::timeout(config.limits.handshake_timeout, read).await;
    match read.unwrap_or(Err(ProxyHeaderFault::Timeout)) {
        Ok((stream, client)) => Some((stream, client.unwrap_or(peer))),
        Err(fault) => {
            generation.services.metrics.client_connections.no_proxy_header(fault);
            if generation.services.proxy_warnings.allow() {
                let reason = fault.as_str();
                tracing::warn!(target: "previewgate::server", %peer, reason, "connection without a usable PROXY header");
            }
            None
        }
    }
}

/// Waits until the connection must end. Returns the time for the first request of a client that has just connected.
async fn interruption(phase: &mut PhaseWatch, revoked: impl Future<Output = ()>) -> Duration {
    tokio::select! {
        () = phase.until(Phase::Lingering) => FIRST_REQUEST_GRACE,
        () = revoked => Duration::ZERO,
    }
}

fn timeouts(limits: &Limits) -> Timeouts {
    Timeouts {
        first_byte: limits.first_byte_timeout,
        head: limits.head_timeout,
        idle: limits.idle_timeout,
        body: min_rate(limits),
    }
}

fn min_rate(limits: &Limits) -> MinRate {
    let span = limits.body_idle_timeout;
    let bytes = span.as_millis().saturating_mul(limits.body_min_rate as u128) / 1000;
    MinRate { span, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
}

/// Waits for the first request. It must be polled after the connection and by the same task, which wakes it.
fn first_request(connection: &Connection) -> impl Future<Output = ()> {
    poll_fn(|_| if connection.has_served() { Poll::Ready(()) } else { Poll::Pending })
}
