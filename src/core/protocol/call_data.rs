//! Members of `callData`, for the audit log (`audit.evidence`). No decision depends on them.
//!
//! `callData` is free text (docs/protocol.md 5). Where it is a JSON object, or the text of one, its members can be named.

use serde_json::Value;

use crate::preview::ControlId;

/// The `callData` of the previews in one answer or push.
pub struct CallData(Vec<(ControlId, Value)>);

impl CallData {
    /// Reads a whole answer or push. What cannot be read has no `callData`.
    pub fn read(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let Ok(answer) = serde_json::from_slice::<Value>(text) else { return Self(Vec::new()) };
        let mut found = Vec::new();
        let members = [member(&answer, "event"), member(&answer, "eventList"), Some(&answer)];
        for events in members.into_iter().flatten() {
            match events {
                Value::Array(events) => found.extend(events.iter().filter_map(of_event)),
                event => found.extend(of_event(event)),
            }
        }
        Self(found)
    }

    /// The member of the preview's `callData` at this JSON pointer, if it is a scalar.
    pub fn member(&self, control_id: ControlId, pointer: &str) -> Option<String> {
        // Of a repeated control ID the last one counts.
        let (_, data) = self.0.iter().rev().find(|(of, _)| *of == control_id)?;
        match data.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Some(scalar.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

fn of_event(event: &Value) -> Option<(ControlId, Value)> {
    let content = member(event, "content")?;
    let control_id = member(content, "controlid").or_else(|| member(content, "controllid"))?;
    let control_id = match control_id {
        Value::String(text) => super::event::trim_padding(text).parse().ok()?,
        number => number.to_string().parse().ok()?,
    };
    let data = match member(content, "callData")? {
        Value::String(text) => serde_json::from_str(super::event::trim_padding(text)).ok()?,
        data => data.clone(),
    };
    Some((control_id, data))
}

/// The member of an object, in any case of letters; the last one if it is repeated in another.
fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.as_object()?.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(call_data: &str) -> String {
        format!(r#"{{"eventType":"AgentEvent_Preview","content":{{"controlid":"7","callData":{call_data}}}}}"#)
    }

    #[test]
    fn members_are_found_in_each_form_of_an_answer() {
        let data = r#""{\"consentId\":\"c-1\",\"a\":{\"b\":[true,2]}}\u0000""#;
        let event = event(data);
        for text in [
            format!(r#"{{"retcode":"0","event":{event}}}"#),
            format!("\u{feff}{{\"event\":[null,{event}]}}"),
            format!(r#"{{"workNo":"101","EventList":[{event}]}}"#),
            event,
        ] {
            let found = CallData::read(text.as_bytes());
            let member = |pointer| found.member(ControlId(7), pointer);
            assert_eq!(member("/consentId").as_deref(), Some("c-1"), "{text}");
            assert_eq!((member("/a/b/0").as_deref(), member("/a/b/1").as_deref()), (Some("true"), Some("2")));
            assert_eq!((member("/a"), member("/x"), found.member(ControlId(8), "/consentId")), (None, None, None));
        }
    }

    #[test]
    fn call_data_may_be_an_object_or_anything_else() {
        let read = |data: &str| CallData::read(event(data).as_bytes()).member(ControlId(7), "/consentId");
        assert_eq!(read(r#"{"consentId":"c-1"}"#).as_deref(), Some("c-1"));
        for other in [r#""consentId=c-1""#, "null", "17", r#""""#, r#"["consentId"]"#] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(CallData::read(b"<html>").member(ControlId(7), "/consentId"), None);
    }
}
