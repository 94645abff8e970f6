//! Requests that change whether a preview is still good: sign-in, sign-out, cancelPreviewCallout (docs/protocol.md 7).
//!
//! Each is forwarded, and its response is read before the client gets it: on success the previews end. A sign-in that
//! asks for push gets the gateway's own push addresses in place of the application's.

use bytes::Bytes;
use http::{HeaderMap, Response, header, request};

use crate::config::Mode;
use crate::gateway::client_body::{BodyRead, ClientRequest};
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::forward::{Buffered, buffer, forward, prepare, resumed};
use crate::gateway::headers::{ask_for_readable, replace_length};
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::gateway::set_guid::issued_guid;
use crate::gateway::signed_out::share_if_signed_out;
use crate::preview::{AgentId, Change, Timestamp};
use crate::protocol::sign_in::{SignInFault, push_addresses, signed_in_agent};
use crate::protocol::{Envelope, Outcome, ParsedCancel, content, media_type, parse_cancel, query};
use crate::store::{EndCause, EndsNotStored, Moment, SignIn};
use crate::telemetry::metrics::SignInHandling;
use crate::upstream::{Client, Failure, RequestBody};

/// Maximum size of a sign-in that is parsed, in bytes. It has only a few short parameters.
const MAX_SIGN_IN: usize = 64 * 1024;

/// A sign-in: on success the agent's earlier previews are void. `agent` is `None` for a sign-in by account, whose answer
/// names the agent.
pub(in crate::gateway) async fn sign_in(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
    agent: Option<AgentId>,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (mut head, body) = request.take()?.into_parts();
    let services = context.services();
    let began = services.ledger.moment_of_sign_in();
    let issued = services.ledger.issue_time();
    let mut pushes = false;
    let body = match body.read(MAX_SIGN_IN, context.limits()).await? {
        BodyRead::Whole(bytes) => match with_relayed_push(context, agent, issued, &bytes)? {
            Some(rewritten) => {
                pushes = true;
                replace_length(&mut head, &rewritten);
                RequestBody::Whole(rewritten)
            }
            None => RequestBody::Whole(bytes),
        },
        BodyRead::TooLarge(body) => {
            note_unread(
                context,
                "sign-in is too large to be looked into: if it asks for push, its previews are unknown",
            );
            body
        }
    };
    ask_for_readable(&mut head.headers);
    let change = OnSuccess::SignIn { began, issued, pushes };
    forward_and_apply(context, record, client, (head, body), agent, change).await
}

/// A sign-out: on success the previews of `agent` are void.
pub(in crate::gateway) async fn sign_out(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
    agent: AgentId,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (head, body) = request.take()?.into_parts();
    let change = OnSuccess::End(Change::Ended, EndCause::SignedOut);
    forward_and_apply(context, record, client, (head, body.streamed()), Some(agent), change).await
}

/// `cancelPreviewCallout`: on success that one preview is void.
pub(in crate::gateway) async fn cancel(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
    agent: AgentId,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (mut head, body) = request.take()?.into_parts();
    let limits = context.limits();
    // If it is unclear which preview the upstream ends, all previews of the agent end.
    let (change, body) = match body.read(limits.callout_body, limits).await? {
        BodyRead::Whole(bytes) => {
            let (change, bytes) = cancelled(&mut head, bytes);
            (change, RequestBody::Whole(bytes))
        }
        BodyRead::TooLarge(body) => (Change::Ended, body),
    };
    let change = OnSuccess::End(change, EndCause::Cancelled);
    forward_and_apply(context, record, client, (head, body), Some(agent), change).await
}

/// The change that a successful cancellation makes, and the body to forward: in a spelling that every reader reads in the
/// same way, if that is possible.
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

/// What a session operation changes if it succeeds.
enum OnSuccess {
    /// It ends previews.
    End(Change, EndCause),
    /// It begins a session. `pushes`: the sign-in asks for push through this gateway, at addresses issued at `issued`.
    SignIn { began: Moment, issued: Timestamp, pushes: bool },
}

/// Forwards a session operation and applies what its answer says, before the client gets it.
async fn forward_and_apply(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    (head, body): (request::Parts, RequestBody),
    agent: Option<AgentId>,
    change: OnSuccess,
) -> Result<Response<ResponseBody>, GatewayError> {
    // The upstream may act on the request although the client leaves: the outcome must be known.
    record.must_finish();
    let max = context.limits().event_body;
    let buffered = match forward(context, record, client, &mut prepare(context, head, body)).await {
        Ok(response) => buffer(response, max).await,
        Err(error) => Err(error),
    };
    match buffered {
        Ok(Buffered::Whole(head, bytes)) => {
            let text = content::decoded(&head.headers, &bytes, max).unwrap_or_default();
            apply(context, &head.headers, &text, agent, &change).await?;
            Ok(Response::from_parts(head, ResponseBody::Whole(bytes)))
        }
        Ok(Buffered::TooLarge(head, beginning, body)) => {
            end_if_unclear(context, agent, &change).await?;
            Ok(resumed(head, beginning, body))
        }
        // Nothing was sent, so nothing has changed.
        Err(error @ GatewayError::Upstream(Failure::NotSent(_))) => Err(error),
        Err(error) => {
            // The client gets an error in any case.
            let _ = end_if_unclear(context, agent, &change).await;
            Err(error)
        }
    }
}

/// Applies `change` to the state of `agent`, unless the answer says that the upstream refused the request.
async fn apply(
    context: &RequestContext,
    headers: &HeaderMap,
    answer: &[u8],
    agent: Option<AgentId>,
    change: &OnSuccess,
) -> Result<(), EndsNotStored> {
    let envelope = Envelope::read(answer);
    match envelope.outcome() {
        Outcome::Success => {
            let by_account = agent.is_none();
            let Some(agent) = agent.or_else(|| signed_in_agent(answer)) else {
                leave_unclaimed(context, headers, change);
                return Ok(());
            };
            let services = context.services();
            match change {
                OnSuccess::End(change, cause) => services.ledger.end(agent, change.clone(), *cause),
                OnSuccess::SignIn { began, issued, pushes } => {
                    let sign_in = SignIn { began: *began, pushes: *pushes, session: issued_guid(headers) };
                    services.ledger.sign_in(agent, &sign_in);
                    if *pushes {
                        services.ledger.begin_push_session(agent, *issued);
                    }
                    if by_account {
                        services.account_sign_ins.signed_in(*issued, agent);
                    }
                }
            }
            services.ledger.share(&[agent]).await
        }
        Outcome::Failure(_) => share_if_signed_out(context, envelope.retcode.as_deref()).await,
        Outcome::Unreadable => {
            if agent.is_none() {
                leave_unclaimed(context, headers, change);
            }
            end_if_unclear(context, agent, change).await
        }
    }
}

/// Remembers the GUID of a sign-in by account whose answer does not name the agent. Later requests with it do.
fn leave_unclaimed(context: &RequestContext, headers: &HeaderMap, change: &OnSuccess) {
    context.warn_about_events("answer to a sign-in by account does not name the agent");
    if let (OnSuccess::SignIn { began, .. }, Some(guid)) = (change, issued_guid(headers)) {
        context.services().ledger.sign_in_of_unknown_agent(guid, *began);
    }
}

/// Ends the previews that a request with an unknown outcome may have ended, if the request was or may have been the agent's
/// own. A stranger must not end them: he can cause an unknown outcome, for example by closing the connection in the middle
/// of a body.
async fn end_if_unclear(
    context: &RequestContext,
    agent: Option<AgentId>,
    change: &OnSuccess,
) -> Result<(), EndsNotStored> {
    let Some(agent) = agent else { return Ok(()) };
    let ledger = &context.services().ledger;
    if !ledger.look_up(agent, context.guid_bytes()).await.ownership.may_be_own() {
        return Ok(());
    }
    match change {
        OnSuccess::End(change, _) => ledger.end(agent, change.clone(), EndCause::UnknownOutcome),
        OnSuccess::SignIn { began, pushes, .. } => {
            ledger.end_by_unclear_sign_in(agent, &SignIn { began: *began, pushes: *pushes, session: None });
        }
    }
    context
        .warn_about_events("outcome of a session operation is unknown: the previews that it may have ended are void");
    ledger.share(&[agent]).await
}

/// The sign-in with push addresses of the gateway; `None` if it is forwarded unchanged.
fn with_relayed_push(
    context: &RequestContext,
    agent: Option<AgentId>,
    issued: Timestamp,
    body: &[u8],
) -> Result<Option<Bytes>, GatewayError> {
    match (push_addresses(body), context.generation.push.relay()) {
        (Ok(addresses), _) if addresses.is_empty() => return Ok(None),
        // The upstream will most likely not accept it as a sign-in either.
        (Err(SignInFault::NotAnObject), _) => {
            note_unread(context, "sign-in cannot be read: if it asks for push, its previews are unknown");
        }
        (_, None) => note_unchanged(context, agent, "[push] is off"),
        (found, Some(relay)) => {
            let rewritten =
                found.map_err(explain).and_then(|addresses| relay.rewritten(agent, issued, body, &addresses));
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
    agent: Option<AgentId>,
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

/// Logs once for each agent that its sign-in is forwarded unchanged, because the sign-in is repeated every day.
fn note_unchanged(context: &RequestContext, agent: Option<AgentId>, why: &'static str) {
    context.services().metrics.pushes.signed_in(SignInHandling::Passed);
    if agent.is_none_or(|agent| context.generation.push.is_first_warning(agent)) {
        let (agent_id, request_id) = (agent.map(AgentId::as_u32), context.id());
        let message =
            "sign-in asks for push and is forwarded unchanged: the gateway does not see this agent's previews";
        tracing::warn!(target: "previewgate::push", agent_id, request_id, why, "{message}");
    }
}

fn note_unread(context: &RequestContext, message: &'static str) {
    context.services().metrics.pushes.signed_in(SignInHandling::Unread);
    context.warn_about_events(message);
}
