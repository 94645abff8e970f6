//! `previews.calls_per_number`: a callout that is about to be forwarded is judged once more and counted, in one step.

use std::sync::Arc;

use crate::gateway::context::RequestContext;
use crate::gateway::error::GatewayError;
use crate::gateway::policy::{AgentState, Evaluation, Objection, apply_policy, evaluate};
use crate::gateway::record::Recorder;
use crate::preview::{AgentId, AgentPreviews, Reason, Refusal, Verdict};
use crate::protocol::ParsedCallout;
use crate::store::{Counted, Ownership};

/// Counts the callout in `record`, which may be forwarded with `verdict`. Returns the verdict by the previews that it was
/// counted by.
///
/// # Errors
/// The refusal, if another callout was the last one meanwhile, or the shared store is away.
pub(super) async fn count(
    context: &RequestContext,
    record: &mut Recorder,
    agent: AgentId,
    session: Ownership,
    verdict: (Verdict, Reason),
) -> Result<(Verdict, Reason), GatewayError> {
    // What cannot be read names no number that could be counted.
    let Some(callout) = record.callout.clone() else { return Ok(verdict) };
    // A client that leaves now must not leave a call that counts and is not sent.
    record.must_finish();
    let services = context.services();
    let (ledger, control_id) = (&services.ledger, callout.control_id);
    let now = services.clock.now();
    let id = context.own_id.record();
    record.counted = Some((agent, control_id));
    if verdict.1 == Reason::StoreUnavailable {
        ledger.count_unjudged(agent, &callout, id).await;
        return Ok(verdict);
    }
    let policy = |outcome| apply_policy(outcome, &context.config().validation, services.is_warming_up());
    let mut judged = None;
    let mut judge = |previews: &Arc<AgentPreviews>| {
        let state = AgentState { previews, signed_out: ledger.is_signed_out(agent), session, away: false };
        let parsed = ParsedCallout { callout: callout.clone(), rewritten: None };
        let Evaluation { preview_age, outcome, .. } = evaluate(parsed, state, now, context.config().previews.rule());
        let verdict = policy(outcome);
        let forwards = verdict.is_ok();
        judged = Some((verdict, preview_age, Arc::clone(previews)));
        forwards
    };
    let counted = ledger.count_call(agent, &callout, id, &mut judge).await;
    if let Some((_, age, previews)) = &judged {
        record.preview_age = *age;
        if let Some(basis) = &mut record.basis {
            (basis.previews, basis.at) = (Some(Arc::clone(previews)), now);
        }
    }
    match counted {
        Ok(Counted::Yes) => judged.map_or(Ok(verdict), |(verdict, ..)| verdict),
        Ok(Counted::Refused) => {
            record.counted = None;
            judged.map_or(Ok(verdict), |(verdict, ..)| verdict)
        }
        Ok(Counted::UsedElsewhere) => {
            record.counted = None;
            let preview_age = record.preview_age.unwrap_or_default();
            policy(Err(Refusal::NumberUsed { preview_age }.into()))
        }
        Err(unavailable) => {
            let verdict = policy(Err(Objection::Unknowable(unavailable)));
            match &verdict {
                Ok(_) => ledger.count_unjudged(agent, &callout, id).await,
                Err(_) => give_back(context, record).await,
            }
            verdict
        }
    }
}

/// The callout in `record` was certainly not sent: it does not count.
pub(super) async fn give_back(context: &RequestContext, record: &mut Recorder) {
    if let Some((agent, control_id)) = record.counted.take() {
        Box::pin(context.services().ledger.return_call(agent, control_id, context.own_id.record())).await;
    }
}
