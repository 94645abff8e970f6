//! Event polls, and the events in them and in pushes.
//!
//! A response is read whole and its events are recorded before its first byte goes out. So a client that has seen an
//! event can act on it at once, through any connection.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};

use crate::gateway::client_body::ClientBody;
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::forward::{Buffered, buffer, forward};
use crate::gateway::headers::ask_for_readable;
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::preview::AgentId;
use crate::protocol::{Delivery, content, parse_events};
use crate::store::{Moment, Source};
use crate::upstream::Client;

/// An event poll, of one agent or of all.
pub(in crate::gateway) async fn poll(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: Request<ClientBody>,
) -> Result<Response<ResponseBody>, GatewayError> {
    let began = context.services().ledger.moment();
    let (mut head, body) = request.into_parts();
    ask_for_readable(&mut head.headers);
    // The answer may be on its way when the client leaves.
    record.keep();
    let response = forward(context, record, client, head, body.streamed()).await?;
    // The response has begun, so the platform counts the event as delivered: it must be recorded.
    record.must_finish();
    match buffer(response, context.limits().event_body).await? {
        Buffered::Whole(head, bytes) => {
            if head.status == StatusCode::OK {
                let agent = context.agent();
                let delivery = if agent.is_some() { Delivery::Poll } else { Delivery::PollAll };
                let agents = record_events(context, &head.headers, &bytes, agent, delivery, began);
                context.services().ledger.share(&agents).await;
            }
            Ok(Response::from_parts(head, ResponseBody::Whole(bytes)))
        }
        Buffered::TooLarge(response) => {
            context.services().metrics.events.body_unread();
            context.warn_about_events("event answer is too large to be looked into: its previews are unknown");
            Ok(response)
        }
    }
}

/// Records the events of an answer or a push. The result names the agents whose changes must be shared before anybody
/// sees the events. `meant_for` is the agent who was polled or who signed in for the push, if it is one. `began` is the
/// moment when the poll began or the push arrived.
#[must_use]
pub(in crate::gateway) fn record_events(
    context: &RequestContext,
    headers: &HeaderMap,
    body: &Bytes,
    meant_for: Option<AgentId>,
    delivery: Delivery,
    began: Moment,
) -> Vec<AgentId> {
    let services = context.services();
    let parsed = content::decoded(headers, body, context.limits().event_body).ok();
    let Some(found) = parsed.and_then(|text| parse_events(&text).ok()) else {
        services.metrics.events.parse_failed();
        context.warn_about_events("events cannot be read: their previews are unknown");
        return Vec::new();
    };
    if found.dropped_numbers > 0 {
        context.warn_about_events("preview shows more or longer numbers than are kept");
    }
    let session = context.guid.as_ref().map(HeaderValue::as_bytes);
    let recorded = services.ledger.record(found, &Source { meant_for, delivery, session, began });
    if recorded.unreadable > 0 {
        context.warn_about_events("event cannot be read: its preview is unknown");
    }
    recorded.agents
}
