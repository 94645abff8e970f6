//! One client connection, from TCP to its last answer.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Phase, Worker};
use crate::downstream::framing::MOST_FIELDS;
use crate::downstream::{Connection, Gate, Waits};
use crate::gateway;

/// A peer that vanished without a word is noticed after this much silence.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// hyper's buffer for one connection; the gate has bounded the head already.
const LARGEST_BUFFER: usize = 512 * 1024;

impl Worker {
    pub(super) async fn serve(&self, socket: TcpStream, peer: SocketAddr, alive: mpsc::Sender<()>) {
        let _ = socket.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
        let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
        let connection = Arc::new(Connection::new(peer, self.acceptor.is_some(), alive));
        let Some(acceptor) = &self.acceptor else {
            return self.drive(socket, connection).await;
        };
        match tokio::time::timeout(self.limits().handshake_timeout, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => self.drive(stream, connection).await,
            Ok(Err(error)) => {
                tracing::debug!(target: "previewgate::server", client = %peer, %error, "TLS handshake failed");
            }
            Err(_) => tracing::debug!(target: "previewgate::server", client = %peer, "TLS handshake took too long"),
        }
    }

    /// HTTP/1.1 until one side has had enough or the process ends.
    async fn drive<S>(&self, stream: S, connection: Arc<Connection>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.limits();
        let waits = Waits {
            first_byte: limits.first_byte_timeout,
            head: limits.head_timeout,
            idle: limits.idle_timeout,
            body: limits.body_idle_timeout,
        };
        let service = gateway::stack(&self.gateway, &self.client, &connection);
        let gate = Gate::new(stream, connection, limits.head_size, waits);
        let connection = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(MOST_FIELDS)
            .max_buf_size(LARGEST_BUFFER)
            // The gate keeps all the waits.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(gate), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        let mut phase = self.phase.clone();
        tokio::select! {
            // An error ends the connection, and nothing else: the exchange on it, if any, has been recorded.
            _ = connection.as_mut() => return,
            () = phase.until(Phase::Draining) => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = connection => {}
            () = phase.until(Phase::Cut) => {}
        }
    }
}
