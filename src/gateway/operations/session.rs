//! Requests that change whether a preview is still good: sign-in, sign-out, cancelPreviewCallout (protocol.md 7).
//!
//! Each is forwarded, and its response is read before the client gets it: on success the previews end. A sign-in that
//! asks for push gets the gateway's own push addresses in place of the application's.

use bytes::Bytes;
use http::{Request, Response, header, request};

use crate::config::Mode;
use crate::gateway::client_body::ClientBody;
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::forward::{Buffered, buffer, forward, read_envelope};
use crate::gateway::headers::replace_length;
use crate::gateway::read_whole::{Unread, read_whole};
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::gateway::signed_out::share_if_signed_out;
use crate::preview::{AgentId, Change};
use crate::protocol::sign_in::{SignInFault, push_addresses};
use crate::protocol::{ParsedCancel, media_type, parse_cancel, query};
use crate::store::{EndCause, Moment, SignIn};
use crate::telemetry::metrics::SignInHandling;
use crate::upstream::{Client, RequestBody, UpstreamBody};

/// Longest response to a session operation that is read for its `retcode`, in bytes.
const MAX_ENVELOPE: usize = 64 * 1024;
/// Longest sign-in that is parsed, in bytes. It holds a handful of short parameters.
const MAX_SIGN_IN: usize = 64 * 1024;

/// A sign-in: on success the agent's earlier previews are void.
pub(in crate::gateway) async fn sign_in(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: Request<ClientBody>,
    agent: AgentId,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (mut head, mut body) = request.into_parts();
    let began = context.services().ledger.moment();
    let mut pushes = false;
    let body = match read_body(context, &mut body, MAX_SIGN_IN).await? {
        Ok(bytes) => match with_relayed_push(context, agent, &bytes)? {
            Some(rewritten) => {
                pushes = true;
                replace_length(&mut head, &rewritten);
                RequestBody::Whole(rewritten)
            }
            None => RequestBody::Whole(bytes),
        },
        Err(beginning) => {
            note_unread(
                context,
                "sign-in is too large to be looked into: if it asks for push, its previews are unknown",
            );
            body.resumed(beginning)
        }
    };
    let response = forward(context, record, client, head, body).await?;
    apply_on_success(context, record, response, agent, OnSuccess::SignIn { began, pushes }).await
}

/// A sign-out: on success the previews of `agent` are void.
pub(in crate::gateway) async fn sign_out(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: Request<ClientBody>,
    agent: AgentId,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (head, body) = request.into_parts();
    let response = forward(context, record, client, head, body.streamed()).await?;
    apply_on_success(context, record, response, agent, OnSuccess::End(Change::Ended, EndCause::SignedOut)).await
}

/// `cancelPreviewCallout`: on success that one preview is void.
pub(in crate::gateway) async fn cancel(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: Request<ClientBody>,
    agent: AgentId,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (mut head, mut body) = request.into_parts();
    // If it is unclear which preview the upstream gives back, none of the agent's previews can be relied on.
    let (change, body) = match read_body(context, &mut body, context.limits().callout_body).await? {
        Ok(bytes) => {
            let (change, bytes) = cancelled(&mut head, bytes);
            (change, RequestBody::Whole(bytes))
        }
        Err(beginning) => (Change::Ended, body.resumed(beginning)),
    };
    let response = forward(context, record, client, head, body).await?;
    apply_on_success(context, record, response, agent, OnSuccess::End(change, EndCause::Cancelled)).await
}

/// The change that a successful cancellation makes, and the body to forward: one that every reader reads in the same way,
/// if there is one.
fn cancelled(head: &mut request::Parts, body: Bytes) -> (Change, Bytes) {
    let in_query = head.uri.query().is_some_and(query::may_name_a_field);
    let encoded = head.headers.contains_key(header::CONTENT_ENCODING);
    if in_query || encoded || media_type::may_declare_another_charset(&head.headers) {
        return (Change::Ended, body);
    }
    match parse_cancel(&body) {
        ParsedCancel::One { control_id, rewritten } => {
            if let Some(rewritten) = &rewritten {
                replace_length(head, rewritten);
            }
            (Change::Cancelled(control_id), rewritten.unwrap_or(body))
        }
        ParsedCancel::Unclear => (Change::Ended, body),
    }
}

/// The whole body, or its beginning if it is longer than `max` bytes.
async fn read_body(
    context: &RequestContext,
    body: &mut ClientBody,
    max: usize,
) -> Result<Result<Bytes, Bytes>, GatewayError> {
    match tokio::time::timeout(context.limits().callout_body_timeout, read_whole(body, max)).await {
        Ok(Ok(bytes)) => Ok(Ok(bytes)),
        Ok(Err(Unread::TooLarge(beginning))) => Ok(Err(beginning)),
        Ok(Err(Unread::Broken(error))) => Err(GatewayError::incomplete_body(&error)),
        Err(_) => Err(GatewayError::BodyTimeout),
    }
}

/// What a session operation changes if it succeeds.
enum OnSuccess {
    /// It ends previews.
    End(Change, EndCause),
    /// It begins a session. `pushes`: the sign-in asks for push through this gateway.
    SignIn { began: Moment, pushes: bool },
}

/// Applies `change` to the state of `agent` if the upstream has done what it was asked to do.
async fn apply_on_success(
    context: &RequestContext,
    record: &mut Recorder,
    response: Response<UpstreamBody>,
    agent: AgentId,
    change: OnSuccess,
) -> Result<Response<ResponseBody>, GatewayError> {
    // The upstream has acted: the previews must end although the client may have left.
    record.must_finish();
    match buffer(response, MAX_ENVELOPE).await? {
        Buffered::Whole(head, bytes) => {
            let envelope = read_envelope(&head, &bytes, MAX_ENVELOPE);
            if envelope.is_success() {
                let ledger = &context.services().ledger;
                match change {
                    OnSuccess::End(change, cause) => ledger.end(agent, change, cause),
                    OnSuccess::SignIn { began, pushes } => {
                        ledger.sign_in(agent, &SignIn { began, pushes, session: None });
                    }
                }
                ledger.share(&[agent]).await;
            }
            share_if_signed_out(context, envelope.retcode.as_deref()).await;
            Ok(Response::from_parts(head, ResponseBody::Whole(bytes)))
        }
        Buffered::TooLarge(response) => Ok(response),
    }
}

/// The sign-in with push addresses of the gateway; `None` if it is forwarded unchanged.
fn with_relayed_push(context: &RequestContext, agent: AgentId, body: &[u8]) -> Result<Option<Bytes>, GatewayError> {
    match (push_addresses(body), context.generation.push.relay()) {
        (Ok(addresses), _) if addresses.is_empty() => return Ok(None),
        // The upstream will most likely not accept it as a sign-in either.
        (Err(SignInFault::NotAnObject), _) => {
            note_unread(context, "sign-in cannot be read: if it asks for push, its previews are unknown");
        }
        (_, None) => note_unchanged(context, agent, "[push] is off"),
        (found, Some(relay)) => {
            let rewritten = found.map_err(explain).and_then(|addresses| relay.rewritten(agent, body, &addresses));
            match rewritten {
                Ok(rewritten) => {
                    context.services().metrics.pushes.signed_in(SignInHandling::Rewritten);
                    return Ok(Some(Bytes::from(rewritten)));
                }
                Err(objection) => refuse_unless_monitoring(context, agent, objection)?,
            }
        }
    }
    Ok(None)
}

/// If forwarded unchanged, the agent would see contacts that the gateway must refuse. Failing the sign-in makes the
/// misconfiguration visible at once. Monitor mode refuses nothing, callouts of that agent included.
fn refuse_unless_monitoring(
    context: &RequestContext,
    agent: AgentId,
    objection: &'static str,
) -> Result<(), GatewayError> {
    if context.config().validation.mode == Mode::Monitor {
        note_unchanged(context, agent, objection);
        return Ok(());
    }
    context.services().metrics.pushes.signed_in(SignInHandling::Refused);
    context.warn_about_events(objection);
    Err(GatewayError::SignIn(objection))
}

fn explain(fault: SignInFault) -> &'static str {
    match fault {
        SignInFault::NotAnObject => "the sign-in is not a JSON object",
        SignInFault::Repeated => "callBackUri, serviceToken or pushUrl is given twice",
        SignInFault::NotText => "callBackUri or pushUrl is not a string",
    }
}

/// Logged once for each agent: the sign-in is repeated every day.
fn note_unchanged(context: &RequestContext, agent: AgentId, why: &'static str) {
    context.services().metrics.pushes.signed_in(SignInHandling::Passed);
    if context.generation.push.is_first_warning(agent) {
        let (agent_id, request_id) = (agent.as_u32(), context.id());
        let message =
            "sign-in asks for push and is forwarded unchanged: the gateway does not see this agent's previews";
        tracing::warn!(target: "previewgate::push", agent_id, request_id, why, "{message}");
    }
}

fn note_unread(context: &RequestContext, message: &'static str) {
    context.services().metrics.pushes.signed_in(SignInHandling::Unread);
    context.warn_about_events(message);
}
