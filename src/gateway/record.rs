//! The facts that are learnt about a request on its way, and the lines that are written from them at its end.
//!
//! Each request owns one [`Recorder`]. It writes the decision line as soon as the response to the client is known. It
//! writes the metrics and the access line when it is dropped: with the last byte of the response, or when the client
//! leaves.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::audited::{Audited, Basis};
use super::context::RequestContext;
use super::flight_recorder::{Decision, Evidence, Names};
use super::load::Permit;
use crate::config::AccessLog;
use crate::downstream::Serving;
use crate::failure::Blame;
use crate::preview::{AgentId, Callout, ControlId, Reason, ShownRef, Timestamp, Verdict};
use crate::protocol::Envelope;
use crate::telemetry::{AccessRecord, AuditRef, Caller, DecisionRecord};

/// The record of one request.
pub(super) struct Recorder {
    context: Arc<RequestContext>,
    /// The number and the control ID in the body, once it was parsed.
    pub(super) callout: Option<Callout>,
    /// The age of the preview that the callout names.
    pub(super) preview_age: Option<Duration>,
    /// The preview for which the callout counts (`previews.calls_per_number`).
    pub(super) counted: Option<(AgentId, ControlId)>,
    /// The previews against which the callout was evaluated.
    pub(super) basis: Option<Basis>,
    /// `retcode` and `result` that the client gets.
    pub(super) envelope: Envelope,
    /// The status of the upstream's response, if it could be read whole.
    pub(super) upstream_status: Option<StatusCode>,
    /// The audit records of a callout.
    pub(super) audited: Audited,
    /// The audit records of the previews in the response.
    pub(super) shown: Vec<ShownRef>,
    /// Who caused a failure, and the word for the cause.
    pub(super) blame: Option<(Blame, &'static str)>,
    decision: Option<(Verdict, Reason)>,
    decision_written: bool,
    /// This refusal exceeds `log.refusals_per_minute` of the client: it gets no access line either.
    line_suppressed: bool,
    upstream_duration: Option<Duration>,
    /// The time in which the gateway waited for the upstream or for an application.
    waited: Duration,
    endpoint: Option<Arc<str>>,
    status: Option<StatusCode>,
    bytes_out: u64,
    permit: Option<Permit>,
    _serving: Serving,
}

impl Recorder {
    /// Begins the record.
    pub(super) fn start(context: &Arc<RequestContext>) -> Self {
        Self {
            context: Arc::clone(context),
            callout: None,
            preview_age: None,
            counted: None,
            basis: None,
            envelope: Envelope::default(),
            upstream_status: None,
            audited: Audited::default(),
            shown: Vec::new(),
            blame: None,
            decision: None,
            decision_written: false,
            line_suppressed: false,
            upstream_duration: None,
            waited: Duration::ZERO,
            endpoint: None,
            status: None,
            bytes_out: 0,
            permit: None,
            _serving: context.connection.serving(),
        }
    }

    pub(super) fn context(&self) -> &Arc<RequestContext> {
        &self.context
    }

    /// The endpoint that answered, or may have received the request.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// The time that the upstream took.
    pub(super) fn upstream_duration(&self) -> Option<Duration> {
        self.upstream_duration
    }

    /// Keeps a place among the requests in flight until the request ends.
    pub(super) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// From now on the request continues for a short time after its client has left.
    pub(super) fn keep(&self) {
        self.context.commitment.keep();
    }

    /// From now on the request is finished even if its client leaves.
    pub(super) fn must_finish(&self) {
        self.context.commitment.must_finish();
    }

    /// The verdict on a callout, if there is one yet.
    pub(super) fn decision(&self) -> Option<(Verdict, Reason)> {
        self.decision
    }

    /// The verdict on a callout. Without one, the client left before its request was complete.
    pub(super) fn verdict(&self) -> (Verdict, Reason) {
        self.decision.unwrap_or((Verdict::Rejected, Reason::ClientGone))
    }

    /// Records the verdict on a callout. The first one stays: in monitor mode a callout is evaluated further after an
    /// objection, and the log shows the objection that would have refused it.
    pub(super) fn decide(&mut self, decision: (Verdict, Reason)) {
        self.decision.get_or_insert(decision);
    }

    /// Replaces the verdict, because the request failed on its way.
    pub(super) fn overrule(&mut self, decision: (Verdict, Reason)) {
        self.decision = Some(decision);
    }

    /// An endpoint has answered after `duration`.
    pub(super) fn upstream_answered(&mut self, name: &Arc<str>, duration: Duration) {
        self.context.services().metrics.upstream.answered(self.context.classified.name(), duration);
        self.endpoint = Some(Arc::clone(name));
        self.upstream_duration = Some(duration);
    }

    /// An endpoint may have received the request: an investigation needs its name.
    pub(super) fn upstream_unclear(&mut self, name: &Arc<str>) {
        self.endpoint = Some(Arc::clone(name));
    }

    /// The response body is complete, or was abandoned: records whether its previews reached the client.
    pub(super) fn delivered(&mut self, complete: bool) {
        let shown = std::mem::take(&mut self.shown);
        if shown.is_empty() {
            return;
        }
        let generation = Arc::clone(&self.context.generation);
        let record = move |reached: bool| {
            generation.services.audit.delivered(&shown, if reached { "written" } else { "client_gone" });
        };
        // hyper has the last byte; the client gets it with the next flush.
        if complete { self.context.connection.when_flushed(record) } else { record(false) }
    }

    /// The gateway has waited for the upstream or for an application.
    pub(super) fn waited(&mut self, duration: Duration) {
        self.waited += duration;
    }

    /// Counts bytes of the response body.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// The response is known: writes the decision line. A client that has left gets no status.
    pub(super) fn respond(&mut self, status: StatusCode) {
        if !self.context.commitment.is_detached() {
            self.status = Some(status);
        }
        let now = Instant::now();
        let own = now.duration_since(self.context.started).saturating_sub(self.waited);
        self.context.services().metrics.requests.own_part(self.context.classified.name(), own);
        self.write_decision(now);
    }

    fn write_decision(&mut self, now: Instant) {
        if !self.context.classified.is_guarded() || std::mem::replace(&mut self.decision_written, true) {
            return;
        }
        self.audit_response();
        let context = &*self.context;
        let (verdict, reason) = self.verdict();
        let services = context.services();
        let callouts = &services.metrics.callouts;
        callouts.decided(verdict, reason);
        if let Some(tenant) = context.tenant() {
            context.services().metrics.tenants.decided(tenant, verdict);
        }
        if let Some(age) = self.preview_age {
            callouts.preview_age(age);
        }
        let record = self.decision_record(verdict, reason, now);
        let suppressed = record.is_refusal() && !self.may_log_refusal();
        if !suppressed {
            record.emit(&services.redactor);
        }
        services.flight_recorder.keep(context.client().ip, self.explained(&record), now);
        self.line_suppressed = suppressed;
    }

    fn decision_record(&self, verdict: Verdict, reason: Reason, now: Instant) -> DecisionRecord<'_> {
        let context = &*self.context;
        DecisionRecord {
            agent_id: context.agent(),
            verdict,
            reason,
            mode: context.config().validation.mode_for(reason),
            called: self.callout.as_ref().map(|callout| &callout.called),
            control_id: self.callout.as_ref().map(|callout| callout.control_id),
            preview_age: self.preview_age,
            judged_by: self.judged_by(reason),
            retcode: self.envelope.retcode.as_deref(),
            call_id: self.envelope.result.as_deref(),
            upstream: self.endpoint.as_deref(),
            status: self.status.map(|status| status.as_u16()),
            duration: now.duration_since(context.started),
            upstream_duration: self.upstream_duration,
            caller: caller(context),
            audit: self
                .audited
                .decision
                .zip(context.services().audit.log())
                .map(|(decision, log)| AuditRef { seq: decision.seq, instance: log.instance() }),
        }
    }

    /// What the previews were looked up in. A gateway alone has nothing but its memory.
    fn judged_by(&self, reason: Reason) -> Option<&'static str> {
        let unavailable = (reason == Reason::StoreUnavailable).then_some("unavailable");
        let judged_by = self.basis.as_ref().map(|basis| basis.judged_by).or(unavailable);
        judged_by.filter(|_| self.context.services().ledger.is_shared())
    }

    /// The decision with what was known of the agent. A callout that was refused before its previews were looked up is
    /// shown with the previews of this moment.
    fn explained(&self, record: &DecisionRecord<'_>) -> Decision {
        let services = self.context.services();
        let ledger = &services.ledger;
        let present = || Basis {
            previews: record.agent_id.and_then(|agent| ledger.local().previews(agent)),
            at: services.clock.now(),
            judged_by: "memory",
            session: "unknown",
        };
        // After a panic nothing is looked up: the same lookup could panic again.
        let nothing = || Basis { previews: None, at: Timestamp(0), judged_by: "memory", session: "unknown" };
        let after_defect = record.reason == Reason::InternalError;
        let otherwise;
        let basis = match &self.basis {
            Some(basis) => basis,
            None => {
                otherwise = if after_defect { nothing() } else { present() };
                &otherwise
            }
        };
        let ended = record.agent_id.map(|agent| ledger.recent_ends(agent)).unwrap_or_default();
        let (id, client) = (self.context.own_id, &self.context.client().text);
        let call_id = self.envelope.result.as_ref();
        let names = Names { id, client, upstream: self.endpoint.as_ref(), call_id };
        Decision::new(record, &names, &Evidence { previews: basis.previews.as_deref(), ended: &ended, at: basis.at })
    }

    /// Limits the lines for one client, so that repeated refusals do not fill the log.
    fn may_log_refusal(&self) -> bool {
        let client = self.context.client().ip;
        self.context.services().refusal_lines.allow(client, self.context.config().log.refusals_per_minute)
    }

    fn write_access(&self, duration: Duration) {
        let context = &*self.context;
        let (blame, cause) = match (self.blame, self.status) {
            (Some((blame, cause)), _) => (blame, Some(cause)),
            (None, None) => (Blame::Client, Some(Reason::ClientGone.as_str())),
            (None, Some(_)) => (Blame::None, None),
        };
        let record = AccessRecord {
            operation: context.classified.name(),
            method: context.method.as_str(),
            agent_id: context.agent(),
            status: self.status.map(|status| status.as_u16()),
            bytes_in: context.received.load(Ordering::Relaxed),
            bytes_out: self.bytes_out,
            duration,
            upstream_duration: self.upstream_duration,
            caller: caller(context),
            upstream: self.endpoint.as_deref(),
            blame,
            cause,
        };
        record.emit();
    }
}

/// The sender of the request, and the IDs of the request.
fn caller(context: &RequestContext) -> Caller<'_> {
    let certificate = context.connection.certificate.as_ref();
    Caller {
        id: context.own_id(),
        request_id: context.id(),
        trace_id: context.trace_id.as_ref().map(|id| id as &dyn Display),
        client: &context.client().text,
        tenant: context.tenant(),
        subject: certificate.map(|certificate| &*certificate.subject),
        sha256: certificate.map(|certificate| &*certificate.sha256),
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let now = Instant::now();
        if !self.decision_written
            && let Some(cut) = self.verdict_when_cut()
        {
            self.overrule(cut);
        }
        self.write_decision(now);
        let context = &*self.context;
        let duration = now.duration_since(context.started);
        let status = self.status.map(|status| status.as_u16());
        context.services().metrics.requests.finished(context.classified.name(), status, duration);
        let wanted = match context.config().log.access {
            AccessLog::None => false,
            AccessLog::Callouts => context.classified.is_guarded(),
            AccessLog::All => true,
        };
        if wanted && !self.line_suppressed {
            self.write_access(duration);
        }
    }
}
