//! A plain reader of polling answers and pushes (docs/protocol.md 5 and 6), for strict JSON without repeated members.

use std::collections::HashSet;
use std::fmt;

use previewgate::preview::{AgentId, Announcement, Change, ControlId, DialedNumber};
use previewgate::protocol::EventType;
use serde_json::Value;
use serde_json::map::Map;

/// Longer texts are cut by the gateway, or dropped.
const MAX_TEXT: usize = 60;

/// What a plain reader finds.
#[derive(Default)]
pub struct Found {
    pub events: Vec<(EventType, Option<AgentId>, Option<Change>)>,
    pub unreadable: usize,
}

/// The events of an answer that every reader reads in the same way; nothing if it is no such answer.
pub fn of(body: &[u8]) -> Option<Found> {
    let Unique(Value::Object(top)) = serde_json::from_slice(body).ok()? else { return None };
    // A bare event is read by other rules.
    if top.contains_key("eventtype") || !(top.contains_key("event") || top.contains_key("eventlist")) {
        return None;
    }
    let whose = text(&top, "workno")?.and_then(|agent| agent.parse().ok());
    let mut found = Found::default();
    for name in ["event", "eventlist"] {
        match top.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Object(event)) => found.add(event, whose)?,
            Some(Value::Array(events)) => {
                for event in events {
                    match event {
                        Value::Object(event) => found.add(event, whose)?,
                        Value::Null => {}
                        _ => found.unreadable += 1,
                    }
                }
            }
            Some(_) => found.unreadable += 1,
        }
    }
    Some(found)
}

impl Found {
    fn add(&mut self, event: &Map<String, Value>, whose: Option<AgentId>) -> Option<()> {
        let name = text(event, "eventtype")?.unwrap_or_default();
        let agent = text(event, "workno")?.and_then(|agent| agent.parse().ok()).or(whose);
        let known = EventType::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(&name));
        let event_type = known.copied().unwrap_or(EventType::Other);
        let empty = Map::new();
        let content = event.get("content").and_then(Value::as_object).unwrap_or(&empty);
        let control_id = control_id(content)?;
        let change = match event_type {
            EventType::Other => None,
            EventType::ShutdownService => Some(Change::Ended),
            EventType::ReleasePreview => Some(control_id.map_or(Change::Ended, Change::Cancelled)),
            EventType::Preview | EventType::PreviewCallOut | EventType::PreviewCallOutEx => {
                let Some(control_id) = control_id else {
                    self.unreadable += 1;
                    return Some(());
                };
                let digits = text(content, "dialeddigits")?.unwrap_or_default();
                let numbers = digits.split(',').map(trimmed).filter(|number| !number.is_empty());
                let numbers = numbers.map(DialedNumber::new).collect();
                Some(Change::Shown(Announcement { control_id, numbers, shown: Vec::new() }))
            }
        };
        self.events.push((event_type, agent, change));
        Some(())
    }
}

/// The control ID, if its two spellings do not differ.
fn control_id(content: &Map<String, Value>) -> Option<Option<ControlId>> {
    let mut ids = Vec::new();
    for name in ["controlid", "controllid"] {
        ids.extend(text(content, name)?.map(|id| id.parse::<ControlId>().ok()));
    }
    let first = ids.first().copied().flatten();
    Some(first.filter(|_| ids.iter().all(|id| *id == first)))
}

/// The text of a member: `Some(None)` if it has none, nothing if the gateway and a plain reader may differ about it.
fn text(object: &Map<String, Value>, name: &str) -> Option<Option<String>> {
    match object.get(name) {
        Some(Value::String(text)) => {
            let is_plain = text.len() <= MAX_TEXT && !text.chars().any(|c| c.is_control() && c != '\0');
            is_plain.then(|| Some(trimmed(text).to_owned()))
        }
        Some(Value::Number(number)) => {
            let is_plain = number.is_i64() || number.is_u64();
            is_plain.then(|| Some(number.to_string()))
        }
        None | Some(Value::Null | Value::Bool(_) | Value::Object(_) | Value::Array(_)) => Some(None),
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
}

/// A value none of whose objects has two members with one name, up to the letter case. Names are in lower case.
struct Unique(Value);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> serde::de::Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut members, mut names) = (Map::new(), HashSet::new());
        while let Some((name, Unique(value))) = map.next_entry::<String, Unique>()? {
            let name = name.to_ascii_lowercase();
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom("a member is repeated"));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}
