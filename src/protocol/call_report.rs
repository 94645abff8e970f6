//! Events by which the platform reports on a call (docs/protocol.md 4). They change nothing; the audit log keeps them.

use crate::label_enum;

/// A report of the platform on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallReport {
    /// The platform's name for the call, as the answer to the callout has it.
    pub call_id: String,
    /// The event.
    pub event: CallEvent,
}

impl CallReport {
    /// The report in an event of this type, if it is one.
    pub(super) fn read(event_type: &str, call_id: String) -> Option<Self> {
        let event = CallEvent::ALL.iter().copied().find(|known| known.as_str().eq_ignore_ascii_case(event_type))?;
        Some(Self { call_id, event })
    }
}

label_enum! {
    /// The event types that report on a call.
    pub enum CallEvent {
        /// The agent's telephone rings.
        PhoneAlerting = "AgentOther_PhoneAlerting",
        /// The customer's telephone rings.
        CustomerAlerting = "AgentEvent_Customer_Alerting",
        /// The two are connected.
        Talking = "AgentEvent_Talking",
        /// The call was not answered, or could not be made.
        CallOutFail = "AgentEvent_Call_Out_Fail",
        /// The agent ended the call.
        CallRelease = "AgentEvent_Call_Release",
        /// The customer ended the call.
        CustomerRelease = "AgentEvent_Customer_Release",
        /// The agent's telephone hung up.
        PhoneRelease = "AgentOther_PhoneRelease",
    }
}

impl CallEvent {
    /// The phase of the call that it begins.
    pub fn phase(self) -> &'static str {
        match self {
            Self::PhoneAlerting | Self::CustomerAlerting => "alerting",
            Self::Talking => "talking",
            Self::CallOutFail => "failed",
            Self::CallRelease | Self::CustomerRelease | Self::PhoneRelease => "released",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::parse_events;

    #[test]
    fn events_about_a_call_name_it() {
        for (event_type, content, expected) in [
            ("AgentEvent_Talking", r#"{"callid":"1-2","otherPhone":"100"}"#, Some(("1-2", "talking"))),
            ("agentevent_TALKING", r#"{"callId":12}"#, Some(("12", "talking"))),
            ("AgentOther_PhoneAlerting", r#"{"callid":"1-2\u0000"}"#, Some(("1-2", "alerting"))),
            ("AgentEvent_Call_Out_Fail", r#"{"callid":"1-2"}"#, Some(("1-2", "failed"))),
            ("AgentEvent_Customer_Release", r#"{"callid":"1-2"}"#, Some(("1-2", "released"))),
            ("AgentEvent_Talking", r#"{"callid":""}"#, None),
            ("AgentEvent_Talking", "null", None),
            ("AgentEvent_Hold", r#"{"callid":"1-2"}"#, None),
            ("AgentEvent_Preview_CallOut", r#"{"callid":"1-2","controlid":7,"dialeddigits":"100"}"#, None),
        ] {
            let text = format!(r#"{{"event":{{"eventType":"{event_type}","workNo":"101","content":{content}}}}}"#);
            let [event] = &parse_events(text.as_bytes()).unwrap().events[..] else { panic!("{text}") };
            let call = &event.call;
            let found = call.as_ref().map(|call| (call.call_id.as_str(), call.event.phase()));
            assert_eq!(found, expected, "{event_type} {content}");
        }
    }
}
