//! The scripted agent's application: HTTPS with a new connection for each request, as .NET clients do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longer than any step takes on a slow machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The name in the gateway's certificate.
const NAME: &str = "localhost";

/// A client of one server.
pub(super) struct Client {
    tls: TlsConnector,
    address: SocketAddr,
}

impl Client {
    /// Connects to `address`, with the trust of `tls`.
    pub(super) fn new(address: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self { tls: TlsConnector::from(tls), address }
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn send(&self, request: Request<Bytes>) -> io::Result<Response<Bytes>> {
        let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.map_err(timed_out)?
    }

    async fn exchange(&self, request: Request<Bytes>) -> io::Result<Response<Bytes>> {
        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let stream = self.tls.connect(name, socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut request = request.map(Full::new);
        let host = format!("{NAME}:{}", self.address.port()).parse().map_err(io::Error::other)?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}
