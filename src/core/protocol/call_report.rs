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
    /// The event of this type, if it reports on a call.
    pub(super) fn read(event_type: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str().eq_ignore_ascii_case(event_type))
    }

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
    use super::CallEvent;
    use crate::protocol::parse_events;

    fn reported(event_type: &str, content: &str) -> Option<(String, CallEvent)> {
        let text = format!(r#"{{"event":{{"eventType":"{event_type}","workNo":"101","content":{content}}}}}"#);
        let [event] = &parse_events(text.as_bytes()).unwrap().events[..] else { panic!("{text}") };
        event.call.as_ref().map(|call| (call.call_id.clone(), call.event))
    }

    #[test]
    fn every_event_about_a_call_is_known_in_any_letter_case() {
        let phases = [
            ("AgentOther_PhoneAlerting", "alerting"),
            ("AgentEvent_Customer_Alerting", "alerting"),
            ("AgentEvent_Talking", "talking"),
            ("AgentEvent_Call_Out_Fail", "failed"),
            ("AgentEvent_Call_Release", "released"),
            ("AgentEvent_Customer_Release", "released"),
            ("AgentOther_PhoneRelease", "released"),
        ];
        assert_eq!(phases.len(), CallEvent::ALL.len());
        let mixed = |name: &str| {
            let letters = name.chars().enumerate();
            letters.map(|(n, c)| if n % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() }).collect()
        };
        for (name, phase) in phases {
            let spellings: [String; 5] =
                [name.into(), name.to_lowercase(), name.to_uppercase(), mixed(name), format!("{name}\\u0000")];
            for spelling in spellings {
                for member in ["callid", "callId", "CALLID", "CallID"] {
                    let found = reported(&spelling, &format!(r#"{{"{member}":"1-2"}}"#));
                    let (call_id, event) = found.unwrap_or_else(|| panic!("{spelling} {member}"));
                    assert_eq!((call_id.as_str(), event.as_str(), event.phase()), ("1-2", name, phase), "{spelling}");
                }
            }
            // Without a name of the call, it says nothing about any.
            assert_eq!(reported(name, r#"{"phoneState":3}"#), None, "{name}");
        }
    }

    #[test]
    fn the_description_of_the_protocol_lists_each_event_about_a_call() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, list) = page.split_once("These report on a call").unwrap();
        let (list, _) = list.split_once("\n\n").unwrap();
        let listed: Vec<&str> = list.split('`').filter(|name| name.starts_with("Agent")).collect();
        for event in CallEvent::ALL {
            assert!(listed.contains(&event.as_str()), "{event}");
        }
        assert_eq!(listed.len(), CallEvent::ALL.len(), "{listed:?}");
    }

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
