//! Name resolution, TCP, TLS: from an endpoint to a connection that can take a request.

use std::io;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::endpoint::Endpoint;
use super::{Cause, RequestBody, Upstream};
use crate::telemetry::metrics::FailureKind;

/// Sockets are probed after this much silence: a held poll is silent for ten seconds, a dead peer for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Largest answer head. Tomcat's own limit is 8 KiB.
const LARGEST_HEAD: usize = 64 * 1024;

type Sender = http1::SendRequest<RequestBody>;

/// Opens a connection within `connect_timeout`; keeps the endpoint's health up to date.
pub(super) async fn connect(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, Cause> {
    let attempt = tokio::time::timeout(upstream.settings.connect_timeout, establish(upstream, endpoint)).await;
    let outcome = attempt.unwrap_or_else(|_| Err((FailureKind::ConnectTimeout, None)));
    match outcome {
        Ok(sender) => {
            endpoint.connected();
            Ok(sender)
        }
        Err((kind, source)) => {
            endpoint.metrics.failed(kind);
            let cause = Cause { kind, endpoint: endpoint.name.clone(), source: source.map(Into::into) };
            endpoint.unreachable(&cause);
            Err(cause)
        }
    }
}

type Stage = (FailureKind, Option<io::Error>);

async fn establish(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, Stage> {
    let socket = tcp(endpoint).await?;
    match (&upstream.tls, &endpoint.server_name) {
        (Some(tls), Some(name)) => {
            let stream = tls.connect(name.clone(), socket).await.map_err(|e| (FailureKind::Tls, Some(e)))?;
            http(upstream, stream).await
        }
        _ => http(upstream, socket).await,
    }
}

/// Tries each address of the name in turn. The name is resolved anew for every connection.
async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, Stage> {
    let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|error| (FailureKind::Resolve, Some(error)))?;
    let mut last = (FailureKind::Resolve, None);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                prepare(&socket);
                return Ok(socket);
            }
            Err(error) => last = (FailureKind::Connect, Some(error)),
        }
    }
    Err(last)
}

/// Requests are small and waited for; a peer that vanished must be noticed. Neither can fail on a live socket, and
/// neither is worth a refusal.
fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

async fn http<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    upstream: &Upstream,
    stream: S,
) -> Result<Sender, Stage> {
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        // The fields that the gateway adds itself.
        .title_case_headers(true)
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| (FailureKind::Protocol, Some(io::Error::other(error))))?;
    let open = upstream.metrics.connections.upstream.enter();
    tokio::spawn(async move {
        // Whoever waits for an answer gets the error; an idle connection may simply end.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok(sender)
}
