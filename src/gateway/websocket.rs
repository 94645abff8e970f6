//! WebSocket, let through unvalidated when `validation.allow_websocket` says so.
//!
//! CC-Gateway can be switched to a WebSocket mode whose message format is not public (protocol.md 1): a callout in it
//! cannot be told from anything else. So it is off unless an operator takes that upon himself; then it is warned about
//! at every start, and [`tunnels that are open`](crate::telemetry::metrics::ConnectionMetrics) are counted.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::{GatewayBody, Inbound};
use super::error::GatewayError;
use super::handler::{ask, streamed};
use super::headers::{prepare_request, prepare_response};
use crate::upstream::Client;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// Whether a request asks for a WebSocket, or could be taken to.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    let names_it = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().windows(9).any(|w| w == b"websocket");
    headers.contains_key(header::SEC_WEBSOCKET_KEY) || headers.get_all(header::UPGRADE).iter().any(names_it)
}

/// Whether a request is a handshake as RFC 6455 (4.1) has it.
pub(super) fn is_handshake<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && is_asked_for(request.headers())
}

/// Passes the handshake on and, if the upstream agrees, everything after it, both ways.
pub(super) async fn tunnel(
    client: Arc<Client>,
    mut request: Request<Inbound>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let from_client = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    prepare_request(&mut head, &exchange);
    insist(&mut head.headers);
    let mut response = ask(&client, &exchange, Request::from_parts(head, streamed(body))).await?;
    let to_upstream = hyper::upgrade::on(&mut response);
    let (mut head, body) = response.into_parts();
    prepare_response(&mut head);
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(head, GatewayBody::Streamed(body)));
    }
    insist(&mut head.headers);
    // From here on the client's bytes are no HTTP, and the gate lets them pass.
    exchange.connection.switch_to_raw();
    let open = exchange.gateway.metrics.connections.websockets.enter();
    tokio::spawn(async move {
        carry(from_client, to_upstream).await;
        // The exchange lasts as long as the tunnel, and with it its place among the requests in flight.
        drop((exchange, open));
    });
    Ok(Response::from_parts(head, GatewayBody::Whole(bytes::Bytes::new())))
}

/// The fields of a handshake that belong to one connection only are said anew on the next.
fn insist(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, WEBSOCKET);
}

/// Copies both ways until one side ends.
async fn carry(from_client: OnUpgrade, to_upstream: OnUpgrade) {
    if let (Ok(client), Ok(upstream)) = tokio::join!(from_client, to_upstream) {
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        // However it ends, both sides are told by their connection's end.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    }
}
