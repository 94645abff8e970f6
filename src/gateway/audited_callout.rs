//! The audit records of one callout: its decision before its first byte goes upstream, its outcome after the answer.

use std::fmt::Display;

use super::audited::Sent;
use super::context::RequestContext;
use super::error::GatewayError;
use super::record::Recorder;
use crate::audit::{Audit, AuditUnavailable, DecisionFacts, DecisionRef, Digest, OutcomeFacts};
use crate::config::{Mode, OnAuditFailure, OnStoreFailure, OnUnknownPreview};
use crate::preview::{Reason, Verdict};
use crate::telemetry::metrics::UnrecordedCallout;

/// Records the decision on a callout that is about to be sent. From here on it has an outcome.
///
/// # Errors
/// [`GatewayError::AuditUnavailable`], if it cannot be recorded in time and `audit.on_failure` is "refuse".
pub(super) async fn record_decision(context: &RequestContext, record: &mut Recorder) -> Result<(), GatewayError> {
    let services = context.services();
    let (Some(audit), Some(settings)) = (services.audit.log(), &context.config().audit) else { return Ok(()) };
    let pending = audit.decision(&record.decision_facts(), settings.timeout);
    // If the process ends while the callout waits, its record may be written all the same: it needs an outcome.
    record.audited.decision = Some(DecisionRef { id: context.own_id.record(), seq: None });
    // Boxed, so that it does not enlarge the future of a callout without an audit log.
    match (Box::pin(pending).await, settings.on_failure) {
        (Ok(decision), _) => record.audited.decision = Some(decision),
        (Err(AuditUnavailable { id }), OnAuditFailure::Refuse) => {
            services.metrics.audit.unrecorded(UnrecordedCallout::Refused);
            if let Some(id) = id {
                // The record may still be written later, so an outcome must say that the callout was not sent.
                let reason = Some(Reason::AuditUnavailable);
                audit.outcome(id, &OutcomeFacts { result: "not_sent", reason, ..OutcomeFacts::default() });
            }
            record.audited.decision = None;
            record.audited.refused = true;
            return Err(GatewayError::AuditUnavailable);
        }
        (Err(AuditUnavailable { id }), OnAuditFailure::Forward) => {
            services.metrics.audit.unrecorded(UnrecordedCallout::Forwarded);
            record.audited.unconfirmed = true;
            let waiting = id.map(|id| DecisionRef { id, seq: None });
            record.audited.decision = waiting.or_else(|| audit.note_decision(&record.decision_facts()));
        }
    }
    services.audit.calls_soon(context.agent());
    Ok(())
}

impl Recorder {
    /// The callout and the verdict on it.
    pub(super) fn decision_facts(&self) -> DecisionFacts<'_> {
        let context = self.context();
        let (verdict, reason) = self.verdict();
        let certificate = context.connection.certificate.as_ref();
        let basis = self.basis.as_ref();
        let unavailable = (reason == Reason::StoreUnavailable).then_some("unavailable");
        DecisionFacts {
            id: context.own_id.record(),
            agent: context.agent(),
            verdict,
            reason,
            tenant: context.tenant(),
            mode: context.config().validation.mode.as_str(),
            allowed_by: allowed_by(context, verdict, reason),
            called: self.callout.as_ref().map(|callout| &callout.called),
            control_id: self.callout.as_ref().map(|callout| callout.control_id),
            previews: basis.and_then(|basis| basis.previews.as_deref()),
            at: basis.map_or_else(|| context.services().clock.now(), |basis| basis.at),
            rule: context.config().previews.rule(),
            judged_by: basis.map(|basis| basis.judged_by).or(unavailable),
            client: Some(&context.client().text),
            certificate: certificate.and_then(|certificate| Digest::parse(&certificate.sha256)),
            guid: Some(context.guid_bytes()).filter(|guid| !guid.is_empty()),
            session_match: basis.map(|basis| basis.session),
            unconfirmed: self.audited.unconfirmed,
            request_id: context.id(),
            trace_id: context.trace_id.as_ref().map(|id| id as &dyn Display),
        }
    }

    /// The verdict on a callout whose request ends without a response: the process ends. `None` if the one that it has says
    /// what happened.
    pub(super) fn verdict_when_cut(&self) -> Option<(Verdict, Reason)> {
        match (self.audited.sent, self.audited.decision, self.verdict()) {
            // The telephone may ring, and the upstream has not answered.
            (Sent::Maybe, _, (verdict, Reason::Ok)) => Some((verdict, Reason::UpstreamFailure)),
            (Sent::No, Some(DecisionRef { seq: None, .. }), _) => Some((Verdict::Rejected, Reason::AuditUnavailable)),
            (Sent::No, Some(_), _) => Some((Verdict::Rejected, Reason::UpstreamFailure)),
            (Sent::Maybe, ..) | (Sent::No, None, _) | (Sent::Answered, ..) => None,
        }
    }

    /// The response is known: records the outcome of a callout that had a decision, or the refusal of one that had none.
    pub(super) fn audit_response(&mut self) {
        let trail = &self.context().services().audit;
        let Some(audit) = trail.log() else { return };
        match self.audited.decision {
            Some(decision) => self.audit_outcome(audit, decision),
            None if self.audited.refused => trail.refused_unrecorded(&self.decision_facts()),
            // It was sent, and there was no room for its decision.
            None if self.audited.unconfirmed => {}
            None => {
                let refused = trail.refused(&self.decision_facts(), self.context().client().ip);
                self.audited.decision = refused;
            }
        }
    }

    fn audit_outcome(&self, audit: &Audit, decision: DecisionRef) {
        let (_, reason) = self.verdict();
        let (result, answered) = match self.audited.sent {
            Sent::No => ("not_sent", false),
            Sent::Maybe => ("failed", false),
            Sent::Answered => ("answered", true),
        };
        let call_id = self.envelope.result.as_deref().filter(|_| answered);
        audit.outcome(
            decision.id,
            &OutcomeFacts {
                result,
                reason: (!answered).then_some(reason),
                unconfirmed: self.audited.unconfirmed,
                status: self.upstream_status.filter(|_| answered).map(|status| status.as_u16()),
                retcode: self.envelope.retcode.as_deref().filter(|_| answered),
                call_id,
                upstream: self.endpoint(),
                upstream_duration: self.upstream_duration(),
            },
        );
        if let Some(call_id) = call_id {
            self.context().services().audit.called(call_id, decision.id);
        }
    }
}

/// The setting that lets a callout through that is not valid, although the mode is "enforce".
fn allowed_by(context: &RequestContext, verdict: Verdict, reason: Reason) -> Option<&'static str> {
    let policy = &context.config().validation;
    if verdict != Verdict::Unverified || policy.mode != Mode::Enforce {
        return None;
    }
    match reason {
        // This comes first: if the mode of the reason is "monitor", no other setting was needed.
        _ if policy.mode_for(reason) == Mode::Monitor => Some("reasons"),
        Reason::UnknownPreview if policy.on_unknown_preview == OnUnknownPreview::Reject => Some("warm_up"),
        Reason::UnknownPreview | Reason::SignedOut => Some("on_unknown_preview"),
        Reason::StoreUnavailable if context.config().previews.store.on_failure() != Some(OnStoreFailure::Local) => {
            Some("on_store_failure")
        }
        Reason::StoreUnavailable if policy.on_unknown_preview == OnUnknownPreview::Reject => Some("warm_up"),
        Reason::StoreUnavailable => Some("on_unknown_preview"),
        Reason::ForeignSession => Some("session"),
        _ => None,
    }
}
