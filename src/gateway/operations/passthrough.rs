//! Everything that the gateway does not judge: streamed through, both ways, never buffered.

use std::sync::Arc;

use http::Response;

use crate::gateway::client_body::ClientRequest;
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::forward::{forward, prepare};
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::gateway::session_watch::SessionWatch;
use crate::upstream::Client;

/// Streams a request through. A short JSON response about an agent is read on its way: it may end a session.
pub(in crate::gateway) async fn forward_streamed(
    context: &Arc<RequestContext>,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (head, body) = request.take()?.into_parts();
    let mut unsent = prepare(context, head, body.streamed());
    let (head, body) = forward(context, record, client, &mut unsent).await?.into_parts();
    let body = if SessionWatch::applies(context, &head.headers, &body) {
        ResponseBody::Watched(Box::new(SessionWatch::new(Arc::clone(context), &head.headers, body)))
    } else {
        ResponseBody::Streamed(body)
    };
    Ok(Response::from_parts(head, body))
}
