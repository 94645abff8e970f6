//! Push: events that CC-Gateway posts to the application, relayed by the gateway (docs/protocol.md 6.3 and 6.4).
//!
//! A sign-in that asks for push gets the gateway's address in place of the application's (`session`). Pushes then arrive
//! here: they are checked, recorded, and only then posted to the application, which can act on an event from inside its
//! own push handler.
//!
//! **How it can be abused.** Push addresses are on the listener that applications use, and the gateway believes whatever
//! is posted to one with a valid signature. The signature is sent to CC-Gateway only: the application that asked for the
//! push never sees it, and no log holds it. A person who steals it can show one agent false previews, and post to one address
//! that is still allowed, until the session that the address was issued for ends. A new `push.key` ends it at once.

use std::borrow::Cow;

use http::{Request, Response, request};
use tokio::time::Instant;

use crate::gateway::client_body::{BodyRead, ClientRequest};
use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::event_record::{Arrival, RecordedEvents, record_body};
use crate::gateway::push_client::PushFault;
use crate::gateway::push_quote::{quotes_push_address, remove_quoting_fields};
use crate::gateway::record::Recorder;
use crate::gateway::response_body::ResponseBody;
use crate::preview::{AgentId, Timestamp};
use crate::protocol::push_address::{Claim, PushForm, Target};
use crate::protocol::{content, parse_events};
use crate::telemetry::metrics::PushOutcome;
use crate::upstream::RequestBody;

/// The time of issue for addresses of earlier releases, which have none. Such an address ends with the first session of its
/// agent that the gateway sees end or begin.
const BEFORE_ALL_SESSIONS: Timestamp = Timestamp(0);

/// A push that may be relayed.
struct Admitted {
    agent: Option<AgentId>,
    form: PushForm,
    target: Target,
    head: request::Parts,
    body: RequestBody,
}

/// Relays one push, and returns the application's answer to CC-Gateway.
pub(in crate::gateway) async fn relay(
    context: &RequestContext,
    record: &mut Recorder,
    request: &mut ClientRequest,
) -> Result<Response<ResponseBody>, GatewayError> {
    let outcome = match admit(context, request).await {
        Ok(push) => {
            // CC-Gateway counts the events as delivered or delivers them again, and they are recorded either way. So
            // the application gets them, whether or not CC-Gateway waits for the answer.
            record.must_finish();
            record_and_post(context, record, push).await
        }
        Err(error) => Err(error),
    };
    let word = match &outcome {
        Ok(_) => PushOutcome::Relayed,
        Err(GatewayError::Push(PushFault::Signature)) => PushOutcome::RefusedSignature,
        Err(GatewayError::Push(PushFault::Session)) => PushOutcome::RefusedSession,
        Err(GatewayError::Push(PushFault::Source)) => PushOutcome::RefusedSource,
        Err(GatewayError::Push(PushFault::Target)) => PushOutcome::RefusedTarget,
        Err(_) => PushOutcome::Failed,
    };
    context.services().metrics.pushes.ended(word);
    outcome
}

/// Checks source, signature, target and session before a byte of the body is read. The target is checked against the
/// configuration in force: the allowed targets may have changed since the address was issued.
async fn admit(context: &RequestContext, request: &mut ClientRequest) -> Result<Admitted, GatewayError> {
    let (head, body) = request.take()?.into_parts();
    let relay = context.generation.push.relay().ok_or(PushFault::Signature)?;
    if !relay.accepts(context.client().ip) {
        return Err(PushFault::Source.into());
    }
    let claim = Claim::read(head.uri.path()).ok_or(PushFault::Signature)?;
    let target = relay.key.verify(claim).ok_or(PushFault::Signature)?;
    if !relay.client.allow(&target) {
        log(context, &target, &PushFault::Target);
        return Err(PushFault::Target.into());
    }
    let issued = claim.issued.unwrap_or(BEFORE_ALL_SESSIONS);
    let agent = claim.agent.or_else(|| context.services().account_sign_ins.agent(issued));
    let is_over = |agent: AgentId| context.services().ledger.is_push_session_over(agent, issued);
    if agent.is_some_and(is_over) {
        return Err(PushFault::Session.into());
    }
    let form = claim.form;
    let limits = context.limits();
    let body = match body.read(limits.event_body, limits).await? {
        BodyRead::Whole(bytes) => RequestBody::Whole(bytes),
        // The application needs the event more than the gateway needs the preview in it.
        BodyRead::TooLarge(body) => body,
    };
    let mut push = Admitted { agent, form, target, head, body };
    if push.quotes_push_address(limits.event_body) {
        log(context, &push.target, &PushFault::Quote);
        return Err(PushFault::Quote.into());
    }
    remove_quoting_fields(&mut push.head);
    // After a restart, only the events name the agent of a sign-in by account.
    if agent.is_none() && push.agents(limits.event_body).into_iter().any(is_over) {
        return Err(PushFault::Session.into());
    }
    Ok(push)
}

impl Admitted {
    /// The body without its content coding; `None` if it cannot be read whole.
    fn text(&self, max: usize) -> Option<Cow<'_, [u8]>> {
        match &self.body {
            RequestBody::Whole(bytes) => content::decoded(&self.head.headers, bytes, max).ok(),
            RequestBody::Streamed(_) => None,
        }
    }

    /// Whether the body would show the application the address that it was pushed to.
    fn quotes_push_address(&self, max: usize) -> bool {
        self.text(max).is_some_and(|text| quotes_push_address(&text))
    }

    /// The agents that the events name.
    fn agents(&self, max: usize) -> Vec<AgentId> {
        let events = self.text(max).and_then(|text| parse_events(&text).ok());
        events.map_or_else(Vec::new, |found| found.events.iter().filter_map(|event| event.agent).collect())
    }
}

/// Records first, because the application may call from inside its push handler. The record stays even if the
/// application cannot be reached. The platform gave *this agent* this contact, the application may have received the
/// push although its answer was lost, and the platform may deliver it again or in another way.
async fn record_and_post(
    context: &RequestContext,
    record: &mut Recorder,
    push: Admitted,
) -> Result<Response<ResponseBody>, GatewayError> {
    let Admitted { agent, form, target, head, body } = push;
    let services = context.services();
    let recorded = match &body {
        RequestBody::Whole(bytes) => {
            let arrival = Arrival { meant_for: agent, delivery: form.delivery(), began: services.ledger.moment() };
            record_body(context, &head.headers, bytes, arrival)
        }
        RequestBody::Streamed(_) => {
            services.metrics.events.body_unread();
            context.warn_about_events("push is too large to be looked into: its previews are unknown");
            RecordedEvents::default()
        }
    };
    services.ledger.share(&recorded.agents).await?;
    let relay = context.generation.push.relay().ok_or(PushFault::Signature)?;
    let posted = Instant::now();
    let answer = relay.client.post(&target, Request::from_parts(head, body)).await;
    record.waited(posted.elapsed());
    services.audit.delivered(&recorded.shown, if answer.is_ok() { "written" } else { "unanswered" });
    let answer = answer.inspect_err(|fault| log(context, &target, fault))?;
    Ok(answer.map(ResponseBody::Whole))
}

/// Names the application by its origin only: its path may be its secret.
fn log(context: &RequestContext, target: &Target, fault: &PushFault) {
    if !context.generation.push.warnings.allow() {
        return;
    }
    let agent_id = context.agent().map(AgentId::as_u32);
    let request_id = context.id();
    let cause = std::error::Error::source(fault).map(ToString::to_string).unwrap_or_default();
    let application = target.origin.to_string();
    tracing::warn!(target: "previewgate::push", agent_id, request_id, application, cause, "push not relayed: {fault}");
}
