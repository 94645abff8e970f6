//! Event objects as the platform makes them, and their effect on its own state (docs/protocol.md 5).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::PreviewEvent;
use crate::preview::{AgentId, ControlId, millis};
use crate::protocol::EventType;

/// How preview events are spelled. All these spellings occur in production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventShape {
    /// The member that holds the control ID: `controlid`, or `controllid`.
    pub control_id_member: String,
    /// Whether the control ID is a JSON string rather than a number.
    pub control_id_as_string: bool,
    /// The number of NUL characters after each string of a preview.
    pub nul_padding: usize,
    /// Whether events carry `eventGenTime`, as in newer releases.
    pub generation_time: bool,
    /// The `callData` of previews.
    pub call_data: String,
}

impl Default for EventShape {
    fn default() -> Self {
        Self {
            control_id_member: "controlid".to_owned(),
            control_id_as_string: false,
            nul_padding: 0,
            generation_time: true,
            call_data: String::new(),
        }
    }
}

impl EventShape {
    /// A preview to call: `…_CallOut` for one number, `…_CallOut_Ex` for several with commas.
    pub fn preview(&self, agent: AgentId, control_id: ControlId, numbers: &str) -> Value {
        self.preview_of(agent, control_id, numbers, None, &self.call_data)
    }

    /// A preview with this `callData`, as the given event or as the one for its numbers.
    pub fn preview_of(
        &self,
        agent: AgentId,
        control_id: ControlId,
        numbers: &str,
        event: Option<PreviewEvent>,
        call_data: &str,
    ) -> Value {
        let by_numbers = if numbers.contains(',') { PreviewEvent::CallOutEx } else { PreviewEvent::CallOut };
        let id = if self.control_id_as_string { self.padded(&control_id.to_string()) } else { json!(control_id.0) };
        let mut content = json!({"dialeddigits": self.padded(numbers), "callData": self.padded(call_data)});
        if let Some(object) = content.as_object_mut() {
            object.insert(self.control_id_member.clone(), id);
        }
        self.event(agent, event.unwrap_or(by_numbers).as_str(), &content)
    }

    /// The agent's preview is over.
    pub fn release(&self, agent: AgentId) -> Value {
        self.event(agent, EventType::ReleasePreview.as_str(), &Value::Null)
    }

    /// Any event of this agent.
    pub fn event(&self, agent: AgentId, event_type: &str, content: &Value) -> Value {
        let mut event = json!({"eventType": event_type, "workNo": agent.to_string(), "content": content});
        if let Some(object) = event.as_object_mut().filter(|_| self.generation_time) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            object.insert("eventGenTime".into(), json!(millis(now)));
        }
        event
    }

    fn padded(&self, text: &str) -> Value {
        Value::String(text.to_owned() + &"\0".repeat(self.nul_padding))
    }
}

/// What a delivered event means for the calls that the agent may ask for.
pub(super) enum Meaning {
    Shown { control_id: String, numbers: Vec<String> },
    Released,
    SignedOut,
    Nothing,
}

impl Meaning {
    pub(super) fn of(event: &Value) -> Self {
        match event.get("eventType").and_then(Value::as_str).map(trimmed) {
            Some("AgentEvent_Preview" | "AgentEvent_Preview_CallOut" | "AgentEvent_Preview_CallOut_Ex") => {
                event.get("content").and_then(shown).unwrap_or(Self::Nothing)
            }
            Some("AgentEvent_Release_Preview") => Self::Released,
            Some("AgentOther_ShutdownService") => Self::SignedOut,
            _ => Self::Nothing,
        }
    }
}

fn shown(content: &Value) -> Option<Meaning> {
    let control_id = content.get("controlid").or_else(|| content.get("controllid")).and_then(text)?;
    let digits = content.get("dialeddigits").and_then(text).unwrap_or_default();
    let numbers = digits.split(',').map(str::trim).filter(|number| !number.is_empty()).map(str::to_owned).collect();
    Some(Meaning::Shown { control_id, numbers })
}

/// A string without its NUL padding, or a number as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(trimmed(text).to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_end_matches('\0')
}
