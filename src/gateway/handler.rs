//! Innermost: each operation's own handling, and the plain way to the upstream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Body;
use http_body_util::BodyExt;
use tower::Service;

use super::body::{GatewayBody, Inbound};
use super::error::GatewayError;
use super::exchange::Exchange;
use super::headers::{GUID, prepare_request, prepare_response};
use super::{callout, observe, push, sign_in, websocket};
use crate::protocol::Operation;
use crate::upstream::{Client, Failure, RequestBody, RoutingKey, UpstreamBody, UpstreamResponse};

/// See the module.
#[derive(Clone)]
pub(super) struct Handler(Arc<Client>);

impl Handler {
    pub(super) fn new(client: &Arc<Client>) -> Self {
        Self(Arc::clone(client))
    }
}

impl Service<Request<Inbound>> for Handler {
    type Response = Response<GatewayBody>;
    type Error = GatewayError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<GatewayBody>, GatewayError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Inbound>) -> Self::Future {
        let client = Arc::clone(&self.0);
        match request.body().exchange.operation {
            Ok(Operation::PreviewCallout { agent }) => Box::pin(callout::judge_and_forward(client, request, agent)),
            Ok(Operation::PollEvents { agent }) => Box::pin(observe::poll(client, request, Some(agent))),
            Ok(Operation::PollAllEvents) => Box::pin(observe::poll(client, request, None)),
            Ok(Operation::CancelPreviewCallout { agent }) => Box::pin(observe::cancel(client, request, agent)),
            Ok(Operation::SignIn { agent, .. }) => Box::pin(sign_in::sign_in(client, request, agent)),
            Ok(Operation::SignOut { agent, .. }) => Box::pin(observe::sign_out(client, request, agent)),
            Ok(Operation::Push { .. }) => Box::pin(push::relay(request)),
            // Unclassified and rewritten requests come this far in monitor mode only.
            Ok(Operation::CalloutPreflight | Operation::Other { .. }) | Err(_)
                if request.body().exchange.concerns_callouts =>
            {
                Box::pin(callout::pass_unjudged(client, request))
            }
            // Comes this far only where it is allowed.
            Ok(Operation::Other { .. }) if websocket::is_handshake(&request) => {
                Box::pin(websocket::tunnel(client, request))
            }
            Ok(Operation::Other { .. } | Operation::CalloutPreflight) | Err(_) => Box::pin(stream(client, request)),
        }
    }
}

/// Streams a request through, both ways, without looking at it.
async fn stream(client: Arc<Client>, request: Request<Inbound>) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let response = send(&client, &exchange, head, streamed(body)).await?;
    Ok(observe::watched(response, &exchange))
}

/// A body that is passed on as it comes.
pub(super) fn streamed(body: Inbound) -> RequestBody {
    if body.is_end_stream() { RequestBody::Whole(Bytes::new()) } else { RequestBody::Streamed(boxed(body)) }
}

pub(super) fn boxed(body: Inbound) -> crate::upstream::StreamedBody {
    body.map_err(Into::into).boxed_unsync()
}

/// Sends a request on and returns the answer, its head made fit for the client.
pub(super) async fn send(
    client: &Client,
    exchange: &Exchange,
    mut head: request::Parts,
    body: RequestBody,
) -> Result<Response<UpstreamBody>, GatewayError> {
    prepare_request(&mut head, exchange);
    let (mut head, body) = ask(client, exchange, Request::from_parts(head, body)).await?.into_parts();
    prepare_response(&mut head);
    if let Some(origin) = &exchange.origin {
        exchange.gateway.origins.learn(origin, &head.headers);
    }
    Ok(Response::from_parts(head, body))
}

/// Sends a prepared request and takes note of who answered and when.
pub(super) async fn ask(
    client: &Client,
    exchange: &Exchange,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, GatewayError> {
    let agent = exchange.operation.ok().and_then(Operation::agent);
    let route = client.upstream().route(RoutingKey::new(agent, request.headers().get(GUID)));
    let sent = Instant::now();
    let answer = client.send(request, route).await;
    if let Err(Failure::MaybeSent(cause)) = &answer {
        exchange.upstream_unclear(&cause.endpoint);
    }
    let UpstreamResponse { response, endpoint } = answer?;
    if let Some(answered) = client.upstream().endpoints().get(endpoint) {
        exchange.upstream_answered(&answered.name, sent.elapsed());
    }
    Ok(response)
}
