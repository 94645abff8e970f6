//! The request's way through the gateway, in words.

use http::header::{HeaderValue, TRANSFER_ENCODING};

use super::history::{History, Shown};
use super::report::{Report, Show};
use super::request::{Arrived, Asked, arrive};
use crate::config::Config;
use crate::downstream::framing::Fault;
use crate::gateway::GatewayError;
use crate::gateway::policy::{
    AgentState, Evaluation, Objection, admit, apply_policy, evaluate, is_refused_as_foreign, parse_request,
};
use crate::preview::{AgentId, Callout, Preview, Reason, Timestamp, Verdict};
use crate::protocol::{ClassifyRules, Guard, Operation, RequestHead, classify, envelope};

/// How it ends.
enum Outcome {
    /// The gateway does not judge such a request.
    Passes,
    /// A callout that goes to the upstream.
    Forwarded(Verdict, Reason),
    /// The gateway answers.
    Answered(GatewayError),
    /// The connection is closed.
    Closed,
}

/// Follows the request and tells each step, then what the client gets.
pub(super) fn tell(asked: &Asked, history: &History, config: &Config, show: Show, report: &mut Report) {
    for assumption in &asked.assumptions {
        report.line(assumption);
    }
    let outcome = match arrive(&asked.bytes, config) {
        Ok(request) => {
            Walk { request, history, config, show, report: &mut *report }.outcome().unwrap_or_else(Outcome::Answered)
        }
        Err(Fault::Head(fault)) => Outcome::Answered(GatewayError::Head(fault)),
        Err(Fault::Body(fault)) => {
            report.line(&fault.to_string());
            Outcome::Closed
        }
    };
    conclude(&outcome, config, report);
}

struct Walk<'a> {
    request: Arrived,
    history: &'a History,
    config: &'a Config,
    show: Show,
    report: &'a mut Report,
}

impl Walk<'_> {
    /// The order is that of the live path: head, classification, checks, body, judgement, policy.
    fn outcome(mut self) -> Result<Outcome, GatewayError> {
        let Arrived { method, uri, headers, body, left_over } = &self.request;
        let path = uri.path();
        self.report.line(&format!("{method} {path}"));
        if *left_over > 0 {
            self.report
                .line(&format!("{left_over} bytes at the end of the file are beyond its Content-Length: not read"));
        }
        let has_body = headers.contains_key(TRANSFER_ENCODING) || body.as_ref().is_none_or(|body| !body.is_empty());
        let path_prefixes = &self.config.upstream.path_prefixes;
        let rules = ClassifyRules { path_prefixes, push: self.config.push.is_some() };
        let classified = classify(&RequestHead { method, uri, headers, has_body }, rules);
        match (classified.operation, classified.objection) {
            (Operation::Unroutable, Some(objection)) => self.report.line(&format!("no operation: {objection}")),
            (operation, _) => self.report.line(&format!("operation: {}{}", operation.name(), of_agent(operation))),
        }
        if let Some((verdict, reason)) = admit(&classified, &self.config.validation)? {
            return Ok(Outcome::Forwarded(verdict, reason));
        }
        let Guard::Callout(agent) = classified.guard else { return Ok(Outcome::Passes) };
        let evaluation = self.evaluation(agent)?;
        // Only a running gateway can be warming up.
        apply_policy(evaluation.outcome, &self.config.validation, false)
            .map(|(verdict, reason)| Outcome::Forwarded(verdict, reason))
    }

    fn evaluation(&mut self, agent: AgentId) -> Result<Evaluation, GatewayError> {
        let Some(body) = &self.request.body else {
            self.report.line(
                "the body is shorter than its Content-Length (or lacks its last chunk): the gateway waits until limits.callout_body_timeout",
            );
            return Err(GatewayError::BodyTimeout);
        };
        if body.len() > self.config.limits.callout_body {
            self.report.line(&format!("body: {} bytes, longer than limits.callout_body", body.len()));
            return Ok(Evaluation::too_large());
        }
        let Arrived { uri, headers, .. } = &self.request;
        let parsed = match parse_request(uri.query(), headers, body) {
            Ok(parsed) => parsed,
            Err(objection) => {
                self.report.line(&format!("not a callout: {objection}"));
                return Ok(Evaluation::malformed(objection));
            }
        };
        let shown = self.history.of(agent);
        let session =
            self.history.session_of(headers.get("guid").map(HeaderValue::as_bytes).unwrap_or_default(), agent);
        if is_refused_as_foreign(session, &self.config.validation) {
            self.report.line("the Guid is known not to be that of this agent's session");
            return Ok(Evaluation::refused(parsed, Objection::ForeignSession));
        }
        self.tell_match(agent, &parsed.callout, &shown);
        let state = AgentState {
            previews: &shown.previews,
            signed_out: self.history.is_signed_out(agent),
            session,
            away: false,
        };
        Ok(evaluate(parsed, state, self.history.now, self.config.previews.rule()))
    }

    fn tell_match(&mut self, agent: AgentId, callout: &Callout, shown: &Shown) {
        let called = self.show.number(&callout.called);
        self.report.line("head and body are as documented");
        self.report.line(&format!("called {called}, callcontrolid {}", callout.control_id));
        self.report.title(&format!("previews of agent {agent}"));
        for preview in shown.previews.iter() {
            let (id, line, numbers) =
                (preview.control_id, shown.line(preview.control_id), self.show.list(preview.numbers()));
            self.report.line(&format!(
                "control ID {id} with {numbers}, shown {} ago (line {line})",
                self.age(preview.announced_at)
            ));
        }
        match shown.previews.find(callout.control_id) {
            Some(preview) => self.tell_preview(callout, preview, shown),
            None if shown.previews.is_empty() => self.tell_none(agent, shown),
            None => self.report.line(&format!("callcontrolid {}: none of them has it", callout.control_id)),
        }
    }

    fn tell_preview(&mut self, callout: &Callout, preview: &Preview, shown: &Shown) {
        let (id, line) = (preview.control_id, shown.line(preview.control_id));
        self.report.line(&format!("callcontrolid {id}: matches the preview of line {line}"));
        let called = self.show.number(&callout.called);
        if let Some(number) = preview.find(&callout.called) {
            self.report.line(&format!("called {called}: is one of its {} number(s)", preview.numbers.len()));
            if self.history.now.since(number.shown_at) > self.config.previews.ttl {
                let ttl = humantime::format_duration(self.config.previews.ttl);
                let age = self.age(number.shown_at);
                self.report.line(&format!("age: shown {age} ago, longer than previews.ttl {ttl}"));
            }
            let (calls, most) = (preview.calls.of(&callout.called).count(), self.config.previews.calls_per_number);
            if most > 0 {
                self.report.line(&format!("calls: called {calls} time(s) before, previews.calls_per_number is {most}"));
            }
            return;
        }
        self.report.line(&format!("called {called}: is none of its {} number(s)", preview.numbers.len()));
        for other in shown.previews.iter().filter(|other| other.find(&callout.called).is_some()) {
            let (id, line) = (other.control_id, shown.line(other.control_id));
            self.report.line(&format!(
                "it stands in the preview with control ID {id} (line {line}), which does not count here"
            ));
        }
    }

    fn tell_none(&mut self, agent: AgentId, shown: &Shown) {
        match shown.ended() {
            Some((line, why)) => self.report.line(&format!("none any more: they were over at line {line} ({why})")),
            None => self.report.line(&format!("none: no event shows agent {agent} a preview")),
        }
        let others = self.history.agents_with_previews();
        if !others.is_empty() {
            self.report.line(&format!("agents that have previews: {}", others.join(", ")));
        }
    }

    fn age(&self, shown_at: Timestamp) -> String {
        humantime::format_duration(self.history.now.since(shown_at)).to_string()
    }
}

fn of_agent(operation: Operation) -> String {
    operation.agent().map(|agent| format!(" of agent {agent}")).unwrap_or_default()
}

fn conclude(outcome: &Outcome, config: &Config, report: &mut Report) {
    report.title("verdict");
    match outcome {
        Outcome::Passes => report.line("passes: only previewCallout is judged; the client gets CC-Gateway's answer"),
        Outcome::Forwarded(verdict, reason) => {
            report.line(&format!("{verdict}, reason {reason}"));
            if *verdict == Verdict::Unverified {
                report.line("the policy forwards it although it would be refused otherwise");
            }
            report.line("the client gets CC-Gateway's answer");
        }
        Outcome::Answered(error) => tell_answer(error, config, report),
        Outcome::Closed => report.line("rejected: the client gets no answer, the connection is closed"),
    }
}

fn tell_answer(error: &GatewayError, config: &Config, report: &mut Report) {
    let answer = error.response(config.validation.reject_status);
    let reason = answer.reason.map_or("none", Reason::as_str);
    report.line(&format!("rejected, reason {reason}"));
    report.title("the client gets");
    report.line(&format!("status {}", answer.status));
    match answer.reason {
        Some(reason) => report.line(&format!("X-Previewgate-Reason: {reason}")),
        None => report.line("no X-Previewgate-Reason: it was not even understood to be a callout"),
    }
    if answer.close {
        report.line("Connection: close");
    }
    let body = envelope::refusal(&answer.message, answer.retcode);
    report.line(&String::from_utf8_lossy(&body));
}
