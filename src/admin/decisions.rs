//! `GET /decisions`: the last decisions on callouts, as JSON.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::gateway::{Decision, FlightRecorder, MAX_DECISIONS, SeenEnd, SeenPreview};
use crate::preview::{AgentId, Reason};
use crate::telemetry::millis;

/// Characters of a value that a form shows again.
const MAX_FORM_VALUE: usize = 128;

/// Which decisions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Decisions on callouts of this agent.
    pub(super) agent: Option<AgentId>,
    /// The decision on the request with this ID.
    pub(super) id: Option<String>,
    /// Decisions with this reason.
    pub(super) reason: Option<Reason>,
    /// At most this many, the newest.
    pub(super) limit: Option<usize>,
}

/// A parameter of the query that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFilter {
    #[error("agent: an agent ID is a plain decimal number from 101 to 999999")]
    Agent,
    #[error("reason: not a reason of docs/operating.md; known are {}", words())]
    Reason,
    #[error("limit: a number from 1 to {MAX_DECISIONS}")]
    Limit,
    #[error("a parameter is given twice")]
    Twice,
    #[error("not a parameter; known are agent, id, reason and limit")]
    Unknown,
}

fn words() -> String {
    Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

impl Filter {
    /// Reads the query of the request. A parameter without a value, as an empty field of a form, filters nothing.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, BadFilter> {
        let mut filter = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            let value = value.trim();
            match name {
                "agent" => put(&mut filter.agent, value, |value| value.parse().ok(), BadFilter::Agent)?,
                "id" => put(&mut filter.id, value, |value| Some(value.to_owned()), BadFilter::Twice)?,
                "reason" => put(&mut filter.reason, value, reason, BadFilter::Reason)?,
                "limit" => put(&mut filter.limit, value, limit, BadFilter::Limit)?,
                _ => return Err(BadFilter::Unknown),
            }
        }
        Ok(filter)
    }

    /// The decisions that are wanted, the newest first.
    pub(super) fn apply(&self, recorder: &FlightRecorder) -> Vec<Arc<Decision>> {
        let wanted = |decision: &Arc<Decision>| {
            self.agent.is_none_or(|agent| decision.agent_id == Some(agent))
                && self.id.as_deref().is_none_or(|id| decision.request_id() == id || decision.id.to_string() == id)
                && self.reason.is_none_or(|reason| decision.reason == reason)
        };
        recorder.decisions().into_iter().filter(wanted).take(self.limit.unwrap_or(MAX_DECISIONS)).collect()
    }
}

fn put<T>(
    place: &mut Option<T>,
    value: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    error: BadFilter,
) -> Result<(), BadFilter> {
    if value.is_empty() {
        return Ok(());
    }
    match place.replace(parse(value).ok_or(error)?) {
        None => Ok(()),
        Some(_) => Err(BadFilter::Twice),
    }
}

fn reason(word: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
}

fn limit(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|limit| (1..=MAX_DECISIONS).contains(limit))
}

/// The value of this name in the query of a form, so that the form can show it again; at most 128 characters.
pub(super) fn form_value(query: Option<&str>, name: &str) -> String {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(known, _)| *known == name).map(|(_, value)| decoded(value)).next();
    value.map(|value| value.chars().take(MAX_FORM_VALUE).collect()).unwrap_or_default()
}

/// Decodes a value of a form. Invalid UTF-8 becomes replacement characters.
fn decoded(value: &str) -> String {
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        let hexadecimal = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut escaped = bytes.clone();
        let pair = (escaped.next().and_then(hexadecimal), escaped.next().and_then(hexadecimal));
        decoded.push(match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                bytes = escaped;
                high << 4 | low
            }
            (b'+', _) => b' ',
            _ => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The answer, one decision a line.
pub(super) fn page(decisions: &[Arc<Decision>]) -> String {
    let lines: Vec<_> = decisions.iter().map(|decision| as_json(decision).to_string()).collect();
    format!("{{\"decisions\":[\n{}\n]}}\n", lines.join(",\n"))
}

/// The fields of the decision log under their names there, and what the gateway knew about the agent.
fn as_json(decision: &Decision) -> Value {
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    add("ts", json!(humantime::format_rfc3339_millis(decision.at).to_string()));
    add("id", json!(decision.id.to_string()));
    add("request_id", json!(decision.request_id()));
    add("agent_id", json!(decision.agent_id.map(AgentId::as_u32)));
    add("control_id", json!(decision.control_id.map(|id| id.0)));
    add("called", json!(decision.called.map(|number| number.to_string())));
    add("decision", json!(decision.verdict.as_str()));
    add("reason", json!(decision.reason.as_str()));
    add("mode", json!(decision.mode.as_str()));
    add("preview_age_ms", json!(decision.preview_age.map(millis)));
    if let Some(judged_by) = decision.judged_by {
        add("judged_by", json!(judged_by));
    }
    add("retcode", json!(decision.retcode));
    add("status", json!(decision.status));
    add("call_id", json!(decision.call_id.as_deref()));
    add("upstream", json!(decision.upstream.as_deref()));
    add("upstream_ms", json!(decision.upstream_duration.map(millis)));
    add("duration_ms", json!(millis(decision.duration)));
    add("client", json!(&*decision.client));
    add("previews", decision.previews.iter().map(preview).collect());
    add("more_previews", json!(decision.more_previews));
    add("ended", decision.ended.iter().map(end).collect());
    Value::Object(fields)
}

fn preview(preview: &SeenPreview) -> Value {
    json!({
        "control_id": preview.control_id.0,
        "numbers": preview.numbers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "more_numbers": preview.more_numbers,
        "age_ms": millis(preview.age),
    })
}

fn end(end: &SeenEnd) -> Value {
    json!({ "control_id": end.control_id.map(|id| id.0), "cause": end.cause.as_str(), "age_ms": millis(end.age) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_filters_or_is_refused() {
        let agent = Some(AgentId::try_from(1001).unwrap());
        let id = |id: &str| Some(id.to_owned());
        for (query, expected) in [
            ("", Ok(Filter::default())),
            ("agent=&id=&reason=&limit=", Ok(Filter::default())),
            ("agent=1001&id=a.b-c_9", Ok(Filter { agent, id: id("a.b-c_9"), ..Filter::default() })),
            ("agent=+1001%20", Ok(Filter { agent, ..Filter::default() })),
            ("id=%3cb%3E%ff%", Ok(Filter { id: id("<b>\u{fffd}%"), ..Filter::default() })),
            (
                "reason=number_not_in_preview&limit=5",
                Ok(Filter { reason: Some(Reason::NumberNotInPreview), limit: Some(5), ..Filter::default() }),
            ),
            ("agent=01001", Err(BadFilter::Agent)),
            ("agent=100", Err(BadFilter::Agent)),
            ("reason=OK", Err(BadFilter::Reason)),
            ("limit=0", Err(BadFilter::Limit)),
            ("limit=1001", Err(BadFilter::Limit)),
            ("id=1&id=2", Err(BadFilter::Twice)),
            ("Agent=1001", Err(BadFilter::Unknown)),
            ("agents", Err(BadFilter::Unknown)),
        ] {
            assert_eq!(Filter::parse(Some(query)), expected, "{query}");
        }
        assert_eq!(Filter::parse(None), Ok(Filter::default()));
    }
}
