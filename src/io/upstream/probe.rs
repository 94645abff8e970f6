//! Probes endpoints: ejected ones, so that no request has to try whether they are back, and those that no request
//! reaches, so that a standby that is dead is noticed before it is needed.
//!
//! Endpoints in use are not probed: requests show their state. Probes run beside the data path, on connections of their
//! own.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::tls;
use super::dial::DialError;
use super::endpoint::Endpoint;
use super::failure::Cause;
use super::shared::{Probe, Upstream};
use crate::failure::FailureKind;

impl Upstream {
    /// Probes every endpoint that is due, all at the same time. Returns when all probes have ended.
    pub async fn probe_due(&self) {
        let due = self.endpoints.iter().filter(|endpoint| endpoint.wants_probe());
        join_all(due.map(|endpoint| self.probe_one(endpoint))).await;
    }

    /// Connects to an endpoint once, as for a request: with TLS if it is `https`, and with the GET of an `http` probe.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn try_endpoint(&self, endpoint: &Endpoint) -> Result<(), Cause> {
        let patience = self.settings.connect_timeout * 2;
        let attempt = match &self.probe {
            Probe::Http(_) => self.probe(endpoint, patience / 2, &self.probe),
            Probe::None | Probe::Tcp | Probe::Tls if endpoint.server_name.is_some() => {
                self.probe(endpoint, patience / 2, &Probe::Tls)
            }
            Probe::None | Probe::Tcp | Probe::Tls => self.probe(endpoint, patience / 2, &Probe::Tcp),
        };
        let outcome = tokio::time::timeout(patience, attempt).await;
        outcome.unwrap_or(Err((FailureKind::ConnectTimeout, None))).map_err(|failure| endpoint.cause(failure))
    }

    async fn probe_one(&self, endpoint: &Endpoint) {
        // Half of the time is for the connection, as for a request. The other half is for the response to a GET.
        let patience = self.settings.connect_timeout * 2;
        let outcome = tokio::time::timeout(patience, self.probe(endpoint, patience / 2, &self.probe)).await;
        match outcome.unwrap_or(Err((FailureKind::ConnectTimeout, None))) {
            Ok(()) => {
                endpoint.probed(matches!(self.probe, Probe::Http(_)));
                self.reconnection.restored();
            }
            Err(failure) => {
                let cause = endpoint.cause(failure);
                tracing::debug!(target: "previewgate::upstream", error = %cause, "probe failed");
                self.connection_failed(endpoint, &cause);
            }
        }
    }

    async fn probe(&self, endpoint: &Endpoint, patience: Duration, probe: &Probe) -> Result<(), DialError> {
        let timeout = || (FailureKind::ConnectTimeout, None);
        let dialed = self.dial.dial(&endpoint.host, endpoint.port, patience);
        let stream = tokio::time::timeout(patience, dialed).await.map_err(|_| timeout())??;
        match probe {
            Probe::None | Probe::Tcp => Ok(()),
            Probe::Tls => tls(self, endpoint, stream).await.map(drop),
            Probe::Http(path) if endpoint.server_name.is_some() => {
                ask(endpoint, path, tls(self, endpoint, stream).await?).await
            }
            Probe::Http(path) => ask(endpoint, path, stream).await,
        }
    }
}

async fn ask<S>(endpoint: &Endpoint, path: &str, stream: S) -> Result<(), DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| (FailureKind::Protocol, Some(io::Error::other(error)));
    let request = Request::get(path)
        .header(header::HOST, &endpoint.authority)
        .header(header::USER_AGENT, "previewgate")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| (FailureKind::Protocol, Some(io::Error::other(error))))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // The task ends when `sender` is dropped, also with this future.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    verdict(response.status())
}

/// A server that responds with 401 or 404 is alive. 502 and 503 say that it is not ready.
fn verdict(status: StatusCode) -> Result<(), DialError> {
    if !status.is_server_error() {
        return Ok(());
    }
    Err((FailureKind::Protocol, Some(io::Error::other(format!("the probe was answered with {}", status.as_u16())))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_but_a_server_error_shows_a_live_endpoint() {
        for (status, alive) in [(200, true), (302, true), (404, true), (401, true), (500, false), (503, false)] {
            assert_eq!(verdict(StatusCode::from_u16(status).unwrap()).is_ok(), alive, "{status}");
        }
    }
}
