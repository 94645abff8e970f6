//! The access log: one line for a request, when `log.access` asks for it.

use std::time::Duration;

use super::caller::Caller;
use super::line::{FieldSink, Record};
use super::logging::write_record;
use super::{LineClass, LineKind};
use crate::failure::Blame;
use crate::preview::AgentId;
use crate::protocol::OperationName;

/// The client chooses the method. The longest registered one has 17 characters.
const MAX_METHOD: usize = 20;

/// The content of one access line. It has no path, query or header.
#[derive(Clone)]
pub struct AccessRecord<'a> {
    /// The operation that the request asks for.
    pub operation: OperationName,
    /// The HTTP method.
    pub method: &'a str,
    /// The agent in the path, if its ID is valid.
    pub agent_id: Option<AgentId>,
    /// The HTTP status that the client received; `None` if the client left before.
    pub status: Option<u16>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body that were written to the client's connection.
    pub bytes_out: u64,
    /// Time from the request head to the end of the response.
    pub duration: Duration,
    /// The time that the upstream took.
    pub upstream_duration: Option<Duration>,
    /// Who sent the request, and under which names.
    pub caller: Caller<'a>,
    /// The endpoint that answered.
    pub upstream: Option<&'a str>,
    /// Who caused the failure, if the request failed.
    pub blame: Blame,
    /// The cause of the failure, as one of the gateway's own words.
    pub cause: Option<&'static str>,
}

impl AccessRecord<'_> {
    /// Writes the line. `log.level` does not hide it; `log.access` decides which requests have a line.
    pub fn emit(&self) {
        write_record(self);
    }
}

impl Record for AccessRecord<'_> {
    fn kind(&self) -> LineKind {
        LineKind::Access
    }

    fn class(&self) -> LineClass {
        LineClass::Access
    }

    fn write(&self, fields: &mut impl FieldSink) {
        fields.string("message", "request");
        fields.string("operation", self.operation.as_str());
        fields.some_chosen("method", Some(self.method), MAX_METHOD);
        fields.some_number("agent_id", self.agent_id.map(AgentId::as_u32));
        fields.some_number("status", self.status);
        fields.number("bytes_in", self.bytes_in);
        fields.number("bytes_out", self.bytes_out);
        fields.some_millis("duration_ms", Some(self.duration));
        fields.some_millis("upstream_ms", self.upstream_duration);
        self.caller.write(fields);
        fields.some_string("upstream", self.upstream);
        fields.string("blame", self.blame.as_str());
        fields.some_string("cause", self.cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::Logging;
    use crate::telemetry::testing::CapturedLog;

    #[test]
    fn one_line_at_every_level() {
        let captured = CapturedLog::default();
        let log = Logging::start(LogFormat::Text, tracing::Level::ERROR, Box::new(captured.clone())).unwrap();
        let record = AccessRecord {
            operation: OperationName::Other,
            method: "BREW COFFEE\n",
            agent_id: Some("101".parse().unwrap()),
            status: Some(502),
            bytes_in: 17,
            bytes_out: 0,
            duration: Duration::from_millis(3),
            upstream_duration: None,
            caller: Caller { client: "[2001:db8::1]:443", trace_id: None, ..Caller::sample() },
            upstream: Some("https://10.0.0.11:8043"),
            blame: Blame::Upstream,
            cause: Some("connect_timeout"),
        };
        tracing::dispatcher::with_default(&log.dispatch, || record.emit());
        assert!(log.writer.flush(Duration::from_secs(20)));
        let line = captured.text();
        let (_, line) = line.split_once(' ').unwrap();
        assert_eq!(
            line,
            "INFO  request operation=other method=\"BREW COFFEE\\\\n\" agent_id=101 status=502 duration_ms=3.0 \
             request_id=0f3c client=[2001:db8::1]:443 upstream=https://10.0.0.11:8043 cause=connect_timeout\n"
        );
    }
}
