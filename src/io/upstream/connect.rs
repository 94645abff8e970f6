//! From an endpoint to a connection that can take a request: a stream, TLS, and HTTP/1.1 on top.

use std::io;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use super::dial::DialError;
use super::endpoint::Endpoint;
use super::failure::Cause;
use super::read_after_write_error::ReadAfterWriteError;
use super::request_body::TrackedBody;
use super::shared::Upstream;
use crate::failure::{FailureKind, is_local_exhaustion};
use crate::lazy_timer::LazyTimer;
use crate::stream::Stream;

/// Largest response head, and the largest piece of a response that is read at once. Several such pieces wait in memory if
/// the client does not read. Tomcat limits a head to 8 KiB.
const MAX_HEAD: usize = 32 * 1024;

/// A connection that takes one request after the other.
pub(super) struct Sender {
    pub(super) http: http1::SendRequest<TrackedBody>,
    /// For the wait for each response.
    pub(super) timer: LazyTimer,
}

/// Opens a connection within `connect_timeout`, and updates the health of the endpoint.
pub(super) async fn connect(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, Cause> {
    let attempt = tokio::time::timeout(upstream.settings.connect_timeout, establish(upstream, endpoint)).await;
    let outcome = attempt.unwrap_or_else(|_| Err((FailureKind::ConnectTimeout, None)));
    match outcome {
        Ok(sender) => {
            endpoint.connected();
            upstream.reconnection.restored();
            Ok(sender)
        }
        Err(failure) => {
            let cause = endpoint.cause(failure);
            endpoint.metrics.failed(cause.kind);
            upstream.connection_failed(endpoint, &cause);
            Err(cause)
        }
    }
}

async fn establish(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, DialError> {
    let patience = upstream.settings.connect_timeout;
    let stream = upstream.dial.dial(&endpoint.host, endpoint.port, patience).await?;
    if endpoint.server_name.is_some() {
        return http(upstream, tls(upstream, endpoint, stream).await?).await;
    }
    http(upstream, stream).await
}

/// The handshake with an `https` endpoint.
pub(super) async fn tls(
    upstream: &Upstream,
    endpoint: &Endpoint,
    stream: Stream,
) -> Result<TlsStream<Stream>, DialError> {
    let (Some(tls), Some(name)) = (&upstream.tls, &endpoint.server_name) else {
        return Err((FailureKind::Tls, Some(io::Error::other("no TLS for a plain endpoint"))));
    };
    let connected = tls.connect(name.clone(), stream).await.map_err(|error| {
        let kind = if is_local_exhaustion(&error) { FailureKind::LocalResources } else { FailureKind::Tls };
        (kind, Some(error))
    })?;
    let leaf = connected.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    if leaf.is_some_and(|leaf| endpoint.showed(leaf)) {
        upstream.report_certificates();
    }
    Ok(connected)
}

async fn http<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    upstream: &Upstream,
    stream: S,
) -> Result<Sender, DialError> {
    let (http, connection) = http1::Builder::new()
        .preserve_header_case(true)
        // The fields that the gateway adds itself.
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(ReadAfterWriteError::new(stream)))
        .await
        .map_err(|error| (FailureKind::Protocol, Some(io::Error::other(error))))?;
    let open = upstream.metrics.connections.upstream.enter();
    tokio::spawn(async move {
        // The request that waits for a response gets the error. The end of an idle connection is not an error.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok(Sender { http, timer: LazyTimer::default() })
}
