//! A `previewCallout`: read, evaluated, and forwarded or refused. A body that some reader could read in another way is
//! forwarded in a spelling that has one reading (`protocol::callout`).

use http::{Response, request};

use super::call_count::{count, give_back};
use crate::gateway::audited::Basis;
use crate::gateway::audited_callout::record_decision;
use crate::gateway::client_body::{BodyRead, ClientRequest};
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::forward::{Buffered, buffer, forward, prepare, read_envelope, resumed};
use crate::gateway::headers::replace_length;
use crate::gateway::policy::{
    AgentState, Evaluation, Objection, apply_policy, evaluate, is_refused_as_foreign, parse_request,
};
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::gateway::signed_out::share_if_signed_out;
use crate::preview::{AgentId, AgentPreviews};
use crate::store::{LookUp, Ownership};
use crate::upstream::{Client, Failure, RequestBody, Unsent};

/// Evaluates a callout of `agent`, and forwards or refuses it.
pub(in crate::gateway) async fn handle(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
    agent: AgentId,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (mut head, body) = request.take()?.into_parts();
    let limits = context.limits();
    let (evaluation, session, mut body) = match body.read(limits.callout_body, limits).await? {
        BodyRead::Whole(bytes) => {
            let (evaluation, session) = evaluated(context, record, agent, &head, &bytes).await;
            (evaluation, session, RequestBody::Whole(bytes))
        }
        BodyRead::TooLarge(body) => (Evaluation::too_large(), Ownership::Unknown, body),
    };
    if let Some(rewritten) = evaluation.rewritten {
        replace_length(&mut head, &rewritten);
        body = RequestBody::Whole(rewritten);
    }
    record.callout = evaluation.callout;
    record.preview_age = evaluation.preview_age;
    let warming_up = context.services().is_warming_up();
    let mut verdict = apply_policy(evaluation.outcome, &context.config().validation, warming_up)?;
    if context.config().previews.calls_per_number > 0 {
        // Boxed, so that a callout without this limit is not larger for it.
        verdict = Box::pin(count(context, record, agent, session, verdict)).await?;
    }
    record.decide(verdict);
    call(context, record, client, &mut prepare(context, head, body)).await
}

/// Forwards a request that may be a callout but has no clear reading, in monitor mode.
pub(in crate::gateway) async fn forward_unverified(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (head, body) = request.take()?.into_parts();
    call(context, record, client, &mut prepare(context, head, body.streamed())).await
}

/// The rule, applied to the previews of this instant. A release that arrives a moment later does not revoke it, just as
/// it would not revoke a callout that reached the platform a moment earlier.
async fn evaluated(
    context: &RequestContext,
    record: &mut Recorder,
    agent: AgentId,
    head: &request::Parts,
    body: &[u8],
) -> (Evaluation, Ownership) {
    // The checks that need no previews come first: a request that fails them costs no query to a shared store.
    let parsed = match parse_request(head.uri.query(), &head.headers, body) {
        Ok(parsed) => parsed,
        Err(objection) => return (Evaluation::malformed(objection), Ownership::Unknown),
    };
    let services = context.services();
    // Before the previews are read. The audit log would otherwise seem to say that a callout was judged by a preview after its
    // end, when the end came between reading and judging.
    let now = services.clock.now();
    let LookUp { previews, source, away, ownership } = services.ledger.look_up(agent, context.guid_bytes()).await;
    if is_refused_as_foreign(ownership, &context.config().validation) {
        return (Evaluation::refused(parsed, Objection::ForeignSession), ownership);
    }
    let previews = match previews {
        Ok(previews) => previews,
        Err(unavailable) => return (Evaluation::refused(parsed, Objection::Unknowable(unavailable)), ownership),
    };
    let none = AgentPreviews::default();
    let known = previews.as_deref().unwrap_or(&none);
    let state = AgentState {
        previews: known,
        signed_out: known.is_empty() && services.ledger.is_signed_out(agent),
        session: ownership,
        away,
    };
    let evaluation = evaluate(parsed, state, now, context.config().previews.rule());
    let (judged_by, session) = (source.as_str(), session_word(ownership));
    record.basis = Some(Basis { previews, at: now, judged_by, session });
    (evaluation, ownership)
}

fn session_word(session: Ownership) -> &'static str {
    match session {
        Ownership::Own => "own",
        Ownership::Other(_) | Ownership::NotOwn => "foreign",
        Ownership::Unknown => "unknown",
    }
}

/// Sends the evaluated bytes once, and records what the upstream answers.
async fn call(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    unsent: &mut Unsent,
) -> Result<Response<ResponseBody>, GatewayError> {
    // From here on the telephone may ring: the outcome is recorded although the client may not wait for it.
    record.must_finish();
    // Before the first byte is sent: whatever happens from now on, the log shows that the telephone may have rung.
    if let Err(error) = record_decision(context, record).await {
        give_back(context, record).await;
        return Err(error);
    }
    record.audited.may_be_sent();
    let response = match forward(context, record, client, unsent).await {
        Ok(response) => response,
        Err(error) => {
            if matches!(error, GatewayError::Upstream(Failure::NotSent(_))) {
                record.audited.was_not_sent();
                give_back(context, record).await;
            }
            return Err(error);
        }
    };
    let buffered = buffer(response, context.limits().callout_body).await?;
    record.audited.was_answered();
    match buffered {
        Buffered::Whole(head, bytes) => {
            record.upstream_status = Some(head.status);
            record.envelope = read_envelope(&head, &bytes, context.limits().event_body);
            share_if_signed_out(context, record.envelope.retcode.as_deref()).await?;
            Ok(Response::from_parts(head, ResponseBody::Whole(bytes)))
        }
        Buffered::TooLarge(head, beginning, body) => {
            record.upstream_status = Some(head.status);
            Ok(resumed(head, beginning, body))
        }
    }
}
