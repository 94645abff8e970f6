//! Responses that say that an agent has no session (100-006, 100-008; docs/protocol.md 7).

use super::context::RequestContext;
use crate::preview::AgentId;
use crate::protocol::envelope::says_signed_out;
use crate::store::{EndCause, EndsNotStored};

/// Ends the previews of the requesting agent if `retcode` says that the agent is not signed in. Returns the agent whose end
/// must be shared with other gateways.
///
/// The requester counts and not the agent that the request is about: a supervisor may sign another agent out. A request
/// of a foreign session changes nothing: an agent cannot end another agent's previews.
#[must_use]
pub(super) fn end_if_signed_out(context: &RequestContext, retcode: Option<&str>) -> Option<AgentId> {
    let agent = context.classified.operation.requester()?;
    if !retcode.is_some_and(says_signed_out) {
        return None;
    }
    context.services().ledger.end_if_own(agent, context.guid_bytes(), EndCause::NoSession)
}

/// [`end_if_signed_out`], and waits until other gateways can see the end.
///
/// # Errors
/// The answer must not reach the client: see [`Ledger::share`](crate::store::Ledger::share).
pub(super) async fn share_if_signed_out(context: &RequestContext, retcode: Option<&str>) -> Result<(), EndsNotStored> {
    match end_if_signed_out(context, retcode) {
        Some(agent) => context.services().ledger.share(&[agent]).await,
        None => Ok(()),
    }
}
