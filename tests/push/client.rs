//! Requests over TLS, to the gateway as an application or as CC-Gateway would send them.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use previewgate::preview::AgentId;
use previewgate::simulator::SelfSigned;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn retcode(&self) -> String {
        self.json()["retcode"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn request_to(method: Method, path: &str, fields: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "gate.example");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::from(body)).unwrap()
}

pub(crate) async fn call<B>(identity: &SelfSigned, address: SocketAddr, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(identity.client_config().unwrap()).connect(name, socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

pub(crate) async fn call_out(
    identity: &SelfSigned,
    gateway: SocketAddr,
    agent: AgentId,
    guid: &str,
    control_id: i64,
    number: &str,
) -> String {
    let path = format!("/agentgateway/resource/voicecall/{agent}/previewCallout");
    let fields = [("guid", guid), ("content-type", "application/json;charset=UTF-8")];
    let body = json!({"called": number, "callcontrolid": control_id}).to_string();
    let answer = call(identity, gateway, request_to(Method::PUT, &path, &fields, body.into())).await;
    answer
        .headers
        .get("x-previewgate-reason")
        .map_or_else(|| answer.retcode(), |reason| reason.to_str().unwrap().to_owned())
}

/// Sends a request; the connection ends when the result is dropped.
pub(crate) async fn call_until_dropped(
    identity: &SelfSigned,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> tokio::task::JoinSet<()> {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(identity.client_config().unwrap()).connect(name, socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    tasks.spawn(async move { drop(sender.send_request(request).await) });
    tasks
}
