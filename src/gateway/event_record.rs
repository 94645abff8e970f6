//! Records the events of an answer or a push in the ledger. Polls, pushes and answers that pass in pieces all do it here.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use super::audit_trail::EventSource;
use super::context::RequestContext;
use crate::audit::{Digest, Evidence};
use crate::preview::{AgentId, ControlId, ShownRef};
use crate::protocol::{CallData, Delivery, Events, content, parse_events};
use crate::store::{Moment, Source};

/// How the events were delivered.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    /// The agent who was polled or who signed in for the push, if it is one.
    pub(super) meant_for: Option<AgentId>,
    pub(super) delivery: Delivery,
    /// When the poll began or the push arrived.
    pub(super) began: Moment,
}

/// What was recorded of an answer or push.
#[derive(Default)]
#[must_use]
pub(super) struct RecordedEvents {
    /// The agents whose changes must be shared before the events are passed on.
    pub(super) agents: SmallVec<[AgentId; 1]>,
    /// The audit records of its previews.
    pub(super) shown: Vec<ShownRef>,
}

/// Records the events in a whole body.
pub(super) fn record_body(
    context: &RequestContext,
    headers: &HeaderMap,
    body: &Bytes,
    arrival: Arrival,
) -> RecordedEvents {
    let text = content::decoded(headers, body, context.limits().event_body).ok();
    let found = text.as_deref().and_then(|text| parse_events(text).ok());
    let call_data = OnceCell::new();
    let evidence = |control_id| {
        let members = context.config().audit.as_ref().and_then(|audit| audit.evidence.as_deref()).unwrap_or_default();
        let kept = members.iter().filter_map(|member| {
            let data = call_data.get_or_init(|| CallData::read(text.as_deref().unwrap_or_default()));
            let value = data.member(control_id, &member.pointer)?;
            let value = if member.hashed { Evidence::Hash(value) } else { Evidence::Value(value) };
            Some((member.to_string(), value))
        });
        kept.collect()
    };
    record_events(context, found, arrival, &evidence, || Digest::of(body))
}

/// Records events that were read, or counts that they could not be read. `evidence` is what the audit log keeps of the
/// `callData` of a preview, `body` is the digest of the body. See [`record_body`].
pub(super) fn record_events(
    context: &RequestContext,
    found: Option<Events>,
    arrival: Arrival,
    evidence: &dyn Fn(ControlId) -> BTreeMap<String, Evidence>,
    body: impl FnOnce() -> Digest,
) -> RecordedEvents {
    let services = context.services();
    let Some(mut found) = found else {
        services.metrics.events.parse_failed();
        context.warn_about_events("events cannot be read: their previews are unknown");
        return RecordedEvents::default();
    };
    if found.dropped_numbers > 0 {
        context.warn_about_events("preview shows more or longer numbers than are kept");
    }
    let Arrival { meant_for, delivery, began } = arrival;
    if let (Some(agent), Delivery::Poll, true) = (meant_for, delivery, found.has_any()) {
        services.poll_rate.give_back(context.client().ip, agent, context.limits().polls_per_agent);
    }
    let session = context.guid.as_ref().map(HeaderValue::as_bytes);
    // The records come first: the previews refer to them.
    let at = services.clock.now();
    let source = EventSource { meant_for, delivery, guid: session, at, evidence };
    let shown = services.audit.events(&mut found, &source, body);
    let recorded = services.ledger.record(found, &Source { meant_for, delivery, session, began, at });
    if recorded.unreadable > 0 {
        context.warn_about_events("event cannot be read: its preview is unknown");
    }
    RecordedEvents { agents: recorded.agents, shown }
}
