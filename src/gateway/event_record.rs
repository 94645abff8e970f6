//! Records the events of an answer or a push in the ledger. Polls, pushes and answers that pass in pieces all do it here.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};

use super::context::RequestContext;
use crate::preview::AgentId;
use crate::protocol::{Delivery, Events, content, parse_events};
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

/// Records the events in a whole body. The result names the agents whose changes must be shared before the events are
/// passed on.
#[must_use]
pub(super) fn record_body(
    context: &RequestContext,
    headers: &HeaderMap,
    body: &Bytes,
    arrival: Arrival,
) -> Vec<AgentId> {
    let text = content::decoded(headers, body, context.limits().event_body).ok();
    record_events(context, text.and_then(|text| parse_events(&text).ok()), arrival)
}

/// Records events that were read, or counts that they could not be read. See [`record_body`].
#[must_use]
pub(super) fn record_events(context: &RequestContext, found: Option<Events>, arrival: Arrival) -> Vec<AgentId> {
    let services = context.services();
    let Some(found) = found else {
        services.metrics.events.parse_failed();
        context.warn_about_events("events cannot be read: their previews are unknown");
        return Vec::new();
    };
    if found.dropped_numbers > 0 {
        context.warn_about_events("preview shows more or longer numbers than are kept");
    }
    let Arrival { meant_for, delivery, began } = arrival;
    let session = context.guid.as_ref().map(HeaderValue::as_bytes);
    let recorded = services.ledger.record(found, &Source { meant_for, delivery, session, began });
    if recorded.unreadable > 0 {
        context.warn_about_events("event cannot be read: its preview is unknown");
    }
    recorded.agents
}
