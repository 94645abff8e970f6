//! Name resolution, TCP, TLS: from an endpoint to a connection that can take a request.

use std::io;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::failure::Cause;
use super::health::FailureMode;
use super::read_after_write_error::ReadAfterWriteError;
use super::request_body::TrackedBody;
use super::shared::Upstream;
use crate::failure::FailureKind;
use crate::sockets;

/// Largest answer head, and the largest piece of an answer that is read at once: of those, several wait in memory for a
/// client that does not read. Tomcat's own limit for a head is 8 KiB.
const MAX_HEAD: usize = 32 * 1024;

pub(super) type Sender = http1::SendRequest<TrackedBody>;

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
            endpoint.failed(FailureMode::Unreachable, &cause);
            Err(cause)
        }
    }
}

pub(super) type Stage = (FailureKind, Option<io::Error>);

async fn establish(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, Stage> {
    let socket = tcp(endpoint, upstream.settings.connect_timeout).await?;
    if endpoint.server_name.is_some() {
        return http(upstream, tls(upstream, endpoint, socket).await?).await;
    }
    http(upstream, socket).await
}

/// The handshake with an `https` endpoint.
pub(super) async fn tls(
    upstream: &Upstream,
    endpoint: &Endpoint,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, Stage> {
    let (Some(tls), Some(name)) = (&upstream.tls, &endpoint.server_name) else {
        return Err((FailureKind::Tls, Some(io::Error::other("no TLS for a plain endpoint"))));
    };
    tls.connect(name.clone(), socket).await.map_err(|error| (FailureKind::Tls, Some(error)))
}

/// Tries each address of the name in turn, none for longer than its share of `patience`: one that swallows packets
/// must not keep the others from being tried. The name is resolved anew for every connection.
pub(super) async fn tcp(endpoint: &Endpoint, patience: Duration) -> Result<TcpStream, Stage> {
    let addresses: Vec<_> = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|error| (FailureKind::Resolve, Some(error)))?
        .collect();
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = (FailureKind::Resolve, None);
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                sockets::prepare(&socket);
                return Ok(socket);
            }
            Ok(Err(error)) => last = (FailureKind::Connect, Some(error)),
            Err(_) => last = (FailureKind::ConnectTimeout, None),
        }
    }
    Err(last)
}

async fn http<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    upstream: &Upstream,
    stream: S,
) -> Result<Sender, Stage> {
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        // The fields that the gateway adds itself.
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(ReadAfterWriteError::new(stream)))
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
