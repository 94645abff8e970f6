//! The decision log: one line for each request to the previewCallout resource.

use std::fmt::Write as _;
use std::time::Duration;

use super::caller::Caller;
use super::line::{FieldSink, Record};
use super::logging::write_record;
use super::{LineClass, LineKind, Redactor};
use crate::config::Mode;
use crate::preview::{AgentId, ControlId, DialedNumber, Reason, Verdict};
use crate::protocol::OperationName;

/// Maximum length of text that the upstream or a client chose.
const MAX_TEXT: usize = 128;

/// The content of one decision line. A value that is `None` has no field.
#[derive(Clone)]
pub struct DecisionRecord<'a> {
    /// The agent in the path, if its ID is valid.
    pub agent_id: Option<AgentId>,
    /// The verdict on the request.
    pub verdict: Verdict,
    /// The reason for the verdict.
    pub reason: Reason,
    /// The validation mode at the time of the decision.
    pub mode: Mode,
    /// `called`, if it could be read. [`DecisionRecord::emit`] masks it.
    pub called: Option<&'a DialedNumber>,
    /// `callcontrolid`, if it could be read.
    pub control_id: Option<ControlId>,
    /// Time since the matching preview was announced.
    pub preview_age: Option<Duration>,
    /// What the previews were looked up in, if several gateways share them.
    pub judged_by: Option<&'static str>,
    /// The `retcode` that the client received.
    pub retcode: Option<&'a str>,
    /// The `result` of a successful response.
    pub call_id: Option<&'a str>,
    /// The endpoint that answered.
    pub upstream: Option<&'a str>,
    /// The HTTP status that the client received; `None` if the client left before.
    pub status: Option<u16>,
    /// Time from the request head to the end of the response.
    pub duration: Duration,
    /// The time that the upstream took.
    pub upstream_duration: Option<Duration>,
    /// Who sent the request, and under which names.
    pub caller: Caller<'a>,
    /// Its record in the audit log, whose `id` is that of the request.
    pub audit: Option<AuditRef<'a>>,
}

/// Names a record of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditRef<'a> {
    /// Its position in the chain, if it was written before the line.
    pub seq: Option<u64>,
    /// The chain.
    pub instance: &'a str,
}

impl DecisionRecord<'_> {
    /// Whether the callout was refused before it could reach the upstream: no telephone rang.
    pub fn is_refusal(&self) -> bool {
        self.verdict == Verdict::Rejected && self.upstream.is_none()
    }

    /// Writes the line with level INFO. `log.level` does not hide it.
    pub fn emit(&self, redactor: &Redactor) {
        write_record(&Line { record: self, redactor });
    }
}

/// The line of a record.
struct Line<'a> {
    record: &'a DecisionRecord<'a>,
    redactor: &'a Redactor,
}

impl Record for Line<'_> {
    fn kind(&self) -> LineKind {
        LineKind::Decision
    }

    fn class(&self) -> LineClass {
        if self.record.is_refusal() { LineClass::Refusal } else { LineClass::Call }
    }

    fn write(&self, fields: &mut impl FieldSink) {
        let Self { record, redactor } = self;
        fields.text("message", |out| {
            out.write_str("previewCallout ")?;
            out.write_str(record.verdict.as_str())
        });
        fields.string("method", OperationName::PreviewCallout.as_str());
        fields.some_number("agent_id", record.agent_id.map(AgentId::as_u32));
        fields.string("decision", record.verdict.as_str());
        fields.string("reason", record.reason.as_str());
        fields.string("mode", record.mode.as_str());
        if let Some(number) = record.called {
            fields.some_display("called", Some(redactor.shown(number)));
            fields.string("called_hash", redactor.hash(number).text().as_str());
        }
        fields.some_number("control_id", record.control_id.map(|id| id.0));
        fields.some_millis("preview_age_ms", record.preview_age);
        fields.some_string("judged_by", record.judged_by);
        fields.some_chosen("retcode", record.retcode, MAX_TEXT);
        fields.some_chosen("call_id", record.call_id, MAX_TEXT);
        fields.some_string("upstream", record.upstream);
        fields.some_number("status", record.status);
        fields.some_millis("duration_ms", Some(record.duration));
        fields.some_millis("upstream_ms", record.upstream_duration);
        record.caller.write(fields);
        fields.some_number("seq", record.audit.and_then(|audit| audit.seq));
        fields.some_string("instance", record.audit.map(|audit| audit.instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::testing::CapturedLog;
    use crate::telemetry::{HashKey, Logging};
    use serde_json::json;

    fn emitted(format: LogFormat, mask: bool, record: &DecisionRecord<'_>) -> String {
        let captured = CapturedLog::default();
        let log = Logging::start(format, tracing::Level::ERROR, Box::new(captured.clone())).unwrap();
        let redactor = Redactor::new(mask, HashKey::from_bytes(b"sixteen bytes..."));
        tracing::dispatcher::with_default(&log.dispatch, || record.emit(&redactor));
        assert!(log.writer.flush(Duration::from_secs(20)));
        captured.text()
    }

    fn full(called: &DialedNumber) -> DecisionRecord<'_> {
        DecisionRecord {
            agent_id: Some("1001".parse().unwrap()),
            verdict: Verdict::Unverified,
            reason: Reason::NumberNotInPreview,
            mode: Mode::Monitor,
            called: Some(called),
            control_id: Some(ControlId(11_776)),
            preview_age: Some(Duration::from_millis(2500)),
            judged_by: Some("shared"),
            retcode: Some("0"),
            call_id: Some("1455885056-1095"),
            upstream: Some("https://10.0.0.11:8043"),
            status: Some(200),
            duration: Duration::from_nanos(12_345_678),
            upstream_duration: Some(Duration::from_micros(12_000)),
            caller: Caller::sample(),
            audit: Some(AuditRef { seq: Some(12), instance: "1a2b3c4d" }),
        }
    }

    #[test]
    fn every_documented_field_with_its_type() {
        let called = DialedNumber::new("88889039");
        let line = emitted(LogFormat::Json, true, &full(&called));
        let mut line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = line.as_object_mut().unwrap();
        assert!(fields.remove("ts").unwrap().is_string());
        assert_eq!(fields.remove("called_hash").unwrap().as_str().unwrap().len(), 16);
        assert_eq!(
            line,
            json!({
                "level": "INFO", "kind": "decision", "schema": 1, "message": "previewCallout unverified", "method": "previewCallout",
                "agent_id": 1001, "decision": "unverified", "reason": "number_not_in_preview", "mode": "monitor",
                "called": "******39", "control_id": 11776, "preview_age_ms": 2500.0, "judged_by": "shared", "retcode": "0",
                "call_id": "1455885056-1095", "upstream": "https://10.0.0.11:8043", "status": 200,
                "duration_ms": 12.346, "upstream_ms": 12.0, "id": "64fd9ca90e103750-3", "request_id": "0f3c",
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "client": "192.0.2.7:50123",
                "seq": 12, "instance": "1a2b3c4d",
            })
        );
    }

    #[test]
    fn absent_values_leave_no_field() {
        let called = DialedNumber::new("");
        let record = DecisionRecord {
            agent_id: None,
            called: None,
            control_id: None,
            preview_age: None,
            judged_by: None,
            retcode: None,
            call_id: None,
            upstream: None,
            status: None,
            upstream_duration: None,
            caller: Caller { trace_id: None, ..Caller::sample() },
            audit: None,
            ..full(&called)
        };
        let line: serde_json::Map<_, _> = serde_json::from_str(&emitted(LogFormat::Json, true, &record)).unwrap();
        let names: Vec<_> = line.keys().map(String::as_str).collect();
        let mut expected = [
            "ts",
            "level",
            "kind",
            "schema",
            "message",
            "method",
            "decision",
            "reason",
            "mode",
            "duration_ms",
            "id",
            "request_id",
            "client",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_line_for_people_fits_on_a_wide_terminal() {
        let called = DialedNumber::new("88889039");
        let line = emitted(LogFormat::Text, true, &full(&called));
        let (_, line) = line.split_once(' ').unwrap();
        assert_eq!(
            line,
            "INFO  previewCallout unverified agent_id=1001 decision=unverified reason=number_not_in_preview \
             called=******39 control_id=11776 retcode=0 duration_ms=12.346 request_id=0f3c client=192.0.2.7:50123\n"
        );
    }

    #[test]
    fn numbers_appear_in_full_only_without_masking() {
        let called = DialedNumber::new("88889039");
        for format in [LogFormat::Json, LogFormat::Text] {
            assert!(!emitted(format, true, &full(&called)).contains("8888"));
            assert!(emitted(format, false, &full(&called)).contains("88889039"));
        }
    }

    #[test]
    fn hostile_responses_and_ids_stay_in_bounds() {
        let called = DialedNumber::new("1\n2\u{1b}3".repeat(10_000));
        let hostile = "\n{\"decision\":\"forwarded\"} ".repeat(10_000);
        let caller = Caller { request_id: &hostile, subject: Some(&hostile), ..Caller::sample() };
        let record = DecisionRecord { retcode: Some(&hostile), call_id: Some(&hostile), caller, ..full(&called) };
        for mask in [true, false] {
            let line = emitted(LogFormat::Json, mask, &record);
            assert_eq!(line.matches('\n').count(), 1);
            assert!(line.len() < 3000, "{}", line.len());
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["decision"], "unverified");
        }
    }
}
