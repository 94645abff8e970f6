//! Event polls.
//!
//! A response is read whole and its events are recorded before its first byte goes out. So a client that has seen an
//! event can act on it at once, through any connection. A response that is too large for that passes in pieces, and its
//! events are recorded before its last piece.

use std::sync::Arc;

use http::{Response, StatusCode};

use crate::gateway::client_body::ClientRequest;
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::event_record::{Arrival, record_body};
use crate::gateway::event_watch::EventWatch;
use crate::gateway::forward::{Buffered, buffer, forward, prepare, read_envelope};
use crate::gateway::headers::ask_for_readable;
use crate::gateway::record::Recorder;
use crate::gateway::respond::empty_poll;
use crate::gateway::response_body::ResponseBody;
use crate::gateway::set_guid::{follow_renewal, issued_guid};
use crate::gateway::signed_out::share_if_signed_out;
use crate::protocol::Delivery;
use crate::upstream::{Client, Unsent};

/// An event poll, of one agent or of all.
pub(in crate::gateway) async fn poll(
    context: &Arc<RequestContext>,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
) -> Result<Response<ResponseBody>, GatewayError> {
    if context.services().drain.has_begun() {
        drop(request.take());
        context.services().drain.park().await;
        return Ok(empty_poll(context));
    }
    let meant_for = context.agent();
    let delivery = if meant_for.is_some() { Delivery::Poll } else { Delivery::PollAll };
    let arrival = Arrival { meant_for, delivery, began: context.services().ledger.moment() };
    // The answer may be on its way when the client leaves.
    record.keep();
    let response = forward(context, record, client, &mut readable(context, request)?).await?;
    // The response has begun, so the platform counts the event as delivered: it must be recorded.
    record.must_finish();
    let buffered = buffer(response, context.limits().event_body).await?;
    pass_on(context, record, buffered, arrival).await
}

/// The request as it is sent: its answer must be readable here.
fn readable(context: &RequestContext, request: &mut ClientRequest) -> Result<Unsent, GatewayError> {
    let (mut head, body) = request.take()?.into_parts();
    ask_for_readable(&mut head.headers);
    Ok(prepare(context, head, body.streamed()))
}

/// Records the events of an answer and passes it on.
async fn pass_on(
    context: &Arc<RequestContext>,
    record: &mut Recorder,
    answer: Buffered,
    arrival: Arrival,
) -> Result<Response<ResponseBody>, GatewayError> {
    match answer {
        Buffered::Whole(head, bytes) => {
            if head.status == StatusCode::OK {
                let mut recorded = record_body(context, &head.headers, &bytes, arrival);
                record.shown = recorded.shown;
                recorded.agents.extend(follow_renewal(context, issued_guid(&head.headers)));
                context.services().ledger.share(&recorded.agents).await?;
            } else {
                // Nothing is shown by such an answer, but it can say that the agent has no session.
                let retcode = read_envelope(&head, &bytes, context.limits().event_body).retcode;
                share_if_signed_out(context, retcode.as_deref()).await?;
            }
            Ok(Response::from_parts(head, ResponseBody::Whole(bytes)))
        }
        Buffered::TooLarge(head, beginning, body) => {
            let body = if head.status == StatusCode::OK {
                ResponseBody::Events(Box::new(EventWatch::new(context, &head.headers, beginning, body, arrival)))
            } else {
                ResponseBody::Resumed(Some(beginning), body)
            };
            Ok(Response::from_parts(head, body))
        }
    }
}
