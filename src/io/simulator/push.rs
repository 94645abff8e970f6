//! Pushed events: the simulated platform as an HTTP client of the application (docs/protocol.md 6.3 and 6.4).
//!
//! Each session that asked for push has a task. It posts in order and waits for each response. A failed post is
//! repeated as the vendor's guide says ([`PushRetry`]), and then the agent is signed out; by default it is not, so that a
//! test sees each attempt once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::agents::Delivery;
use super::certificates::provider;
#[cfg(doc)]
use super::config::PushRetry;
use super::events::text;
use super::journal::PushDelivery;
use super::shared::Shared;
use crate::preview::AgentId;

const MAX_ANSWER: usize = 64 * 1024;

/// Starts to push to this session, if it asked for that.
pub(super) fn start(shared: &Arc<Shared>, agent: AgentId, serial: u64, delivery: Delivery) {
    if delivery != Delivery::Poll {
        shared.spawn(push_until_over(shared.clone(), agent, serial, delivery));
    }
}

async fn push_until_over(shared: Arc<Shared>, agent: AgentId, serial: u64, delivery: Delivery) {
    let wake = shared.agents.wake_of(agent);
    let session = Session { shared: &shared, agent, serial };
    loop {
        let mut woken = std::pin::pin!(wake.notified());
        woken.as_mut().enable();
        if shared.agents.guid_of_session(agent, serial).is_none() {
            return;
        }
        let events = shared.agents.take_all(agent);
        if events.is_empty() {
            woken.await;
            continue;
        }
        match &delivery {
            Delivery::Poll => return,
            Delivery::Push { uri, token } => {
                let body = json!({"workNo": agent.to_string(), "eventList": events});
                session.push(uri, Some(token), &body, events.len()).await;
            }
            Delivery::PushUrl { uri } => {
                for event in events {
                    let body = json!({"message": "", "retcode": "0", "event": event});
                    session.push(uri, None, &body, 1).await;
                }
            }
        }
    }
}

/// The session that events are pushed to.
struct Session<'a> {
    shared: &'a Shared,
    agent: AgentId,
    serial: u64,
}

impl Session<'_> {
    /// Posts until the application accepts it, the session is over, or the platform gives the session up.
    async fn push(&self, uri: &str, token: Option<&str>, body: &Value, events: usize) {
        let agents = &self.shared.agents;
        let mut failing = Duration::ZERO;
        while let Some(guid) = agents.guid_of_session(self.agent, self.serial) {
            let outcome = post(uri, &guid, token, body).await;
            let accepted = outcome.as_ref().is_ok_and(is_accepted);
            record(self.shared, self.agent, uri, events, outcome);
            let Some(retry) = self.shared.config.push_retry.filter(|_| !accepted) else { return };
            tokio::time::sleep(retry.interval).await;
            failing += retry.interval;
            if failing >= retry.give_up {
                agents.sign_out_session(self.agent, self.serial);
            }
        }
    }
}

/// `{"message":"","retcode":"0"}`
fn is_accepted((status, body): &(u16, Bytes)) -> bool {
    let retcode = |body: &Value| body.get("retcode").and_then(text);
    let envelope = serde_json::from_slice(body).ok();
    *status == 200 && envelope.as_ref().and_then(retcode).as_deref() == Some("0")
}

fn record(shared: &Shared, agent: AgentId, uri: &str, events: usize, outcome: io::Result<(u16, Bytes)>) {
    let answer = outcome.map_err(|error| error.to_string());
    shared.pushes.send_modify(|pushes| pushes.push(PushDelivery { agent, uri: uri.to_owned(), events, answer }));
}

async fn post(uri: &str, guid: &str, token: Option<&str>, body: &Value) -> io::Result<(u16, Bytes)> {
    let uri: Uri = uri.parse().map_err(io::Error::other)?;
    let host = uri.host().ok_or_else(|| io::Error::other("the URI names no host"))?.to_owned();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header("Host", uri.authority().map_or(host.as_str(), |authority| authority.as_str()))
        .header("Content-Type", "application/json;charset=UTF-8")
        .header("Guid", guid);
    if let Some(token) = token {
        request = request.header("service_token", token);
    }
    let request = request.body(Full::new(Bytes::from(body.to_string()))).map_err(io::Error::other)?;
    let host = host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, port)).await?;
    if !tls {
        return exchange(socket, request).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    exchange(TlsConnector::from(trusting_client()?).connect(name, socket).await?, request).await
}

async fn exchange<S>(socket: S, request: Request<Full<Bytes>>) -> io::Result<(u16, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        outcome = &mut answer => outcome,
        _ = connection => answer.await,
    }
}

fn trusting_client() -> io::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsEverybody))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts any certificate: applications in tests have certificates of unknown authorities, and the simulator has no
/// secrets.
#[derive(Debug)]
struct TrustsEverybody;

impl ServerCertVerifier for TrustsEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
