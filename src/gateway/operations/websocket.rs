//! WebSocket, tunnelled without validation where `validation.allow_websocket` permits it.
//!
//! CC-Gateway can be switched to a WebSocket mode whose message format is not public (docs/protocol.md 1). The gateway
//! cannot recognise a callout in it. So it is off by default. When it is on, a warning is logged at every start and
//! [open tunnels](crate::telemetry::metrics::ConnectionMetrics) are counted.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::gateway::client_body::ClientRequest;
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::forward::{prepare_request, send};
use crate::gateway::headers::prepare_response;
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::telemetry::metrics::OpenGuard;
use crate::upstream::{Client, Unsent};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// Whether a request is a handshake as RFC 6455 (4.1) defines it.
pub(in crate::gateway) fn is_handshake(context: &RequestContext) -> bool {
    context.method == Method::GET && context.classified.websocket
}

/// Both sides of a connection that has switched from HTTP to another protocol.
pub(in crate::gateway) struct Tunnel {
    from_client: OnUpgrade,
    to_upstream: OnUpgrade,
    open: OpenGuard,
}

/// Forwards the handshake. If the upstream agrees, the result holds the tunnel to be carried.
pub(in crate::gateway) async fn open(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
) -> Result<(Response<ResponseBody>, Option<Tunnel>), GatewayError> {
    let mut request = request.take()?;
    let from_client = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    prepare_request(&mut head, context);
    insert_upgrade(&mut head.headers);
    let mut unsent = Unsent::new(Request::from_parts(head, body.streamed()));
    let mut response = send(context, record, client, &mut unsent).await?;
    let to_upstream = hyper::upgrade::on(&mut response);
    prepare_response(&mut response);
    let (mut head, body) = response.into_parts();
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok((Response::from_parts(head, ResponseBody::Streamed(body)), None));
    }
    insert_upgrade(&mut head.headers);
    // From here on the client's bytes are not HTTP, and the framer must not inspect them.
    context.connection.switch_to_raw();
    let tunnel = Tunnel { from_client, to_upstream, open: context.services().metrics.connections.websockets.enter() };
    Ok((Response::from_parts(head, ResponseBody::Whole(Bytes::new())), Some(tunnel)))
}

/// The fields of a handshake belong to one connection only: each hop sets them again.
fn insert_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, WEBSOCKET);
}

impl Tunnel {
    /// Copies both ways until one side ends. The record lasts as long, and with it the place among the requests in
    /// flight.
    pub(in crate::gateway) fn spawn(self, record: Box<Recorder>) {
        tokio::spawn(async move {
            let Self { from_client, to_upstream, open } = self;
            if let (Ok(client), Ok(upstream)) = tokio::join!(from_client, to_upstream) {
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                // Both sides see the end of their connection, however the tunnel ends.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            }
            drop((record, open));
        });
    }
}
