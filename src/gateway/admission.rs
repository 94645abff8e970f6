//! Load shedding: requests beyond the limits are refused before a body is read or a connection opened.
//!
//! Held polls and all other requests have separate limits, so that polls cannot starve callouts. A delayed poll harms no
//! agent, but without a callout a customer is not called.

use std::time::Duration;

use super::clients::ClientPlace;
use super::context::RequestContext;
use super::error::GatewayError;
use super::load::{Kind, Permit};
use crate::protocol::Operation;
use crate::telemetry::metrics::ShedKind;

/// One place in eight is reserved for callouts, because clients that upload slowly can hold all others.
const RESERVED_FOR_CALLOUTS: usize = 8;

/// How long a poll must wait because its agent polls too often; `None` if it may continue. It waits before it takes a place,
/// so that it does not occupy the places of others.
pub(super) fn wait_of_poll(context: &RequestContext) -> Option<Duration> {
    let Operation::PollEvents { agent } = context.classified.operation else { return None };
    let (services, per_second) = (context.services(), context.limits().polls_per_agent);
    let wait = services.poll_rate.wait(context.client().ip, agent, per_second, context.started);
    if wait.is_zero() {
        return None;
    }
    services.metrics.requests.poll_delayed();
    Some(wait)
}

/// Takes a place for the request, or refuses it if the limit for its kind is reached. Refusals are counted.
pub(super) fn enter(context: &RequestContext) -> Result<Permit, GatewayError> {
    let limits = context.limits();
    let (kind, max, word) = match context.classified.operation {
        operation if operation.is_long_poll() => (Kind::HeldPoll, limits.held_polls, ShedKind::Poll),
        Operation::PreviewCallout { .. } => (Kind::Request, limits.requests, ShedKind::Request),
        _ => (Kind::Request, limits.requests - limits.requests / RESERVED_FOR_CALLOUTS, ShedKind::Request),
    };
    let services = context.services();
    let shed = |word| {
        services.metrics.requests.shed(word);
        GatewayError::Overloaded
    };
    let place = place_of_client(context).ok_or_else(|| shed(ShedKind::ClientConnection))?;
    let permit = services.load.enter(kind, max).ok_or_else(|| shed(word))?;
    Ok(permit.with(place))
}

/// The place that the request takes from the limit of its client. `Some(None)`: the client's own connection holds the place
/// already. `None`: the client has reached its limit.
fn place_of_client(context: &RequestContext) -> Option<Option<ClientPlace>> {
    let max = context.limits().connections_per_client;
    if max == 0 || !context.is_proxied() {
        return Some(None);
    }
    context.services().clients.enter(context.client().ip, max).map(Some)
}
