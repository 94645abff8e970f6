//! Event answers and pushes: what the platform tells an agent's application, and what that changes here.
//!
//! Read forgivingly (protocol.md 5): the upstream is trusted, its spelling is not. What cannot be understood is an
//! error that the caller counts; it never stops the answer on its way to the client.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::trim_bom;
use super::members::each_member;
use crate::label_enum;
use crate::preview::{AgentId, Announcement, Change, ControlId, DialedNumber};

/// One event, as far as the gateway is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What kind of event.
    pub event_type: EventType,
    /// `workNo`, where it is an agent ID.
    pub agent: Option<AgentId>,
    /// `eventGenTime`: milliseconds since the epoch, by the platform's clock. Newer releases only.
    pub generated_at: Option<u64>,
    /// What it changes for that agent; most events change nothing.
    pub change: Option<Change>,
}

impl Event {
    /// Whose previews the event changes, if that is beyond doubt. `polled` is the agent who was asked about, if it was
    /// one: then `workNo` can only say the same. An event that names somebody else was not meant for the one it was
    /// shown to, and proves nothing about either.
    pub fn whose(&self, polled: Option<AgentId>) -> Option<AgentId> {
        match (polled, self.agent) {
            (Some(polled), Some(named)) if polled != named => None,
            (polled, named) => polled.or(named),
        }
    }
}

/// Why events could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The answer is not JSON of a known shape.
    #[error("not JSON of the documented shape")]
    NotAnEnvelope,
    /// A preview event whose content lacks a readable control ID or has unreadable numbers.
    #[error("a preview event without a readable control ID or list of numbers")]
    UnreadablePreview,
}

/// What was found in one answer or push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// In the order in which they stand there: oldest first.
    pub events: Vec<Event>,
    /// Events that could not be read; the others are good all the same.
    pub unreadable: usize,
    /// `retcode` of the envelope, where there is one.
    pub retcode: Option<String>,
}

/// Reads the events in the body of a polling answer or of a push (protocol.md 6): an envelope with `event` (an
/// object, an array, null or absent), a push with `eventList`, or a bare event object.
///
/// The body must be UTF-8 by now; a byte order mark, raw control characters and broken sequences are tolerated.
///
/// # Errors
/// [`EventError::NotAnEnvelope`]; single unreadable events are counted in [`Events::unreadable`].
pub fn parse_events(body: &[u8]) -> Result<Events, EventError> {
    let body = trim_bom(body);
    // The platform's strings may hold anything (protocol.md 5); JSON forbids raw control characters and broken
    // UTF-8. Repair only what did not parse: the clean text is the common case.
    let clean = std::str::from_utf8(body).ok().and_then(read);
    clean.or_else(|| read(&repair(&String::from_utf8_lossy(body)))).ok_or(EventError::NotAnEnvelope)
}

/// Blanks for raw control characters, which are only legal between tokens, where a blank is as good.
fn repair(text: &str) -> String {
    text.trim_end_matches('\0').chars().map(|c| if c < ' ' { ' ' } else { c }).collect()
}

/// The documented shapes in one: polling answers have `event`, pushes `workNo` and `eventList`, and a captured bare
/// event has `eventType` itself.
fn read(text: &str) -> Option<Events> {
    let members = Members::read(text)?;
    let mut found = Events { retcode: members.retcode.and_then(scalar).map(Cow::into_owned), ..Events::default() };
    if members.event_type.is_some() {
        found.add(event(&members, None));
        return Some(found);
    }
    // `workNo` beside an `eventList` is for its events that name nobody.
    let whose = members.work_no.and_then(agent);
    for list in [members.event, members.event_list].into_iter().flatten() {
        for element in one_or_many(list)? {
            match given(element).map(|element| Members::read(element.get())) {
                Some(Some(members)) => found.add(event(&members, whose)),
                Some(None) => found.unreadable += 1,
                None => {}
            }
        }
    }
    Some(found)
}

impl Events {
    fn add(&mut self, event: Result<Event, EventError>) {
        match event {
            Ok(event) => self.events.push(event),
            Err(_) => self.unreadable += 1,
        }
    }
}

/// The elements of an array, or the one value that stands in its place. Kept raw: one event that cannot be read must
/// not hide the others.
fn one_or_many(list: &RawValue) -> Option<Vec<&RawValue>> {
    if list.get().starts_with('[') { serde_json::from_str(list.get()).ok() } else { Some(vec![list]) }
}

fn event(members: &Members<'_>, whose: Option<AgentId>) -> Result<Event, EventError> {
    let event_type = members.event_type.and_then(scalar).map_or(EventType::Other, |name| EventType::read(&name));
    let change = match event_type {
        EventType::Preview | EventType::PreviewCallOut | EventType::PreviewCallOutEx => {
            Some(Change::Shown(announcement(members.content)?))
        }
        EventType::ReleasePreview | EventType::ShutdownService => Some(Change::Ended),
        EventType::Other => None,
    };
    let generated_at = members.event_gen_time.and_then(scalar).and_then(|text| text.parse().ok());
    Ok(Event { event_type, agent: members.work_no.and_then(agent).or(whose), generated_at, change })
}

/// The content of a preview event: `controlid` (or `controllid`, as the previewCallout page spells it) and
/// `dialeddigits`. Two control IDs that differ leave no way to tell which one the client will use.
fn announcement(content: Option<&RawValue>) -> Result<Announcement, EventError> {
    let read = || {
        let members = Members::read(content?.get())?;
        let control_id = |raw: &RawValue| trim_padding(&scalar(raw)?).parse::<ControlId>().ok();
        let spellings = [members.controlid, members.controllid];
        let mut ids = spellings.into_iter().flatten().map(control_id);
        let id = ids.next()??;
        let agreed = ids.all(|other| other == Some(id));
        let numbers = members.dialeddigits.and_then(scalar).unwrap_or_default();
        agreed.then(|| Announcement { control_id: id, numbers: dialed_digits(&numbers), shown: Vec::new() })
    };
    read().ok_or(EventError::UnreadablePreview)
}

/// The numbers in `dialeddigits`: separated by commas, each without blanks and padding around it.
fn dialed_digits(list: &str) -> Vec<DialedNumber> {
    list.split(',').map(trim_padding).filter(|number| !number.is_empty()).map(DialedNumber::new).collect()
}

/// Strings from the platform can be padded with trailing NUL characters (protocol.md 5).
fn trim_padding(text: &str) -> &str {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
}

fn agent(raw: &RawValue) -> Option<AgentId> {
    trim_padding(&scalar(raw)?).parse().ok()
}

/// A string, or the digits of a number; anything else, a string that does not decode included, counts as absent.
fn scalar(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    match raw.get().as_bytes().first()? {
        b'"' => serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(raw.get())),
        _ => None,
    }
}

/// The members that mean something somewhere in an envelope, an event or its content, by name without regard to
/// letter case. Of a repeated name the last counts, as with the mappers of the vendor's clients.
#[derive(Default)]
struct Members<'a> {
    retcode: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    event_list: Option<&'a RawValue>,
    event_type: Option<&'a RawValue>,
    work_no: Option<&'a RawValue>,
    event_gen_time: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    controlid: Option<&'a RawValue>,
    controllid: Option<&'a RawValue>,
    dialeddigits: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut members = Self::default();
        let read = each_member(text, |name, value| {
            if let Some(place) = members.place(name) {
                *place = given(value);
            }
        });
        read.is_ok().then_some(members)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "retcode" => &mut self.retcode,
            "event" => &mut self.event,
            "eventlist" => &mut self.event_list,
            "eventtype" => &mut self.event_type,
            "workno" => &mut self.work_no,
            "eventgentime" => &mut self.event_gen_time,
            "content" => &mut self.content,
            "controlid" => &mut self.controlid,
            "controllid" => &mut self.controllid,
            "dialeddigits" => &mut self.dialeddigits,
            _ => return None,
        })
    }
}

/// `null` is as good as absent.
fn given(value: &RawValue) -> Option<&RawValue> {
    (value.get() != "null").then_some(value)
}

label_enum! {
    /// The event types that matter here (protocol.md 5).
    pub enum EventType {
        /// A preview starts, with or without numbers.
        Preview = "AgentEvent_Preview",
        /// A preview to call, one number.
        PreviewCallOut = "AgentEvent_Preview_CallOut",
        /// A preview to call, several numbers.
        PreviewCallOutEx = "AgentEvent_Preview_CallOut_Ex",
        /// The agent's preview is over.
        ReleasePreview = "AgentEvent_Release_Preview",
        /// The agent is logged out.
        ShutdownService = "AgentOther_ShutdownService",
        /// One of the hundreds that change nothing here.
        Other = "other",
    }
}

impl EventType {
    fn read(name: &str) -> Self {
        let name = trim_padding(name);
        Self::ALL.iter().copied().find(|known| known.as_str() == name).unwrap_or(Self::Other)
    }
}

label_enum! {
    /// How an event reached the application (protocol.md 6).
    pub enum Delivery {
        /// Polling one agent.
        Poll = "poll",
        /// Polling all agents.
        PollAll = "poll_all",
        /// Pushed, `eventList` form.
        Push = "push",
        /// Pushed, older `pushUrl` form.
        PushUrl = "push_url",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{AgentPreviews, Bounds, Callout, Timestamp, decide};
    use proptest::prelude::*;
    use std::time::Duration;

    fn one(body: &str) -> Event {
        let found = parse_events(body.as_bytes()).unwrap();
        assert_eq!((found.events.len(), found.unreadable), (1, 0), "{body}");
        found.events[0].clone()
    }

    fn shown(event: &Event) -> (i64, Vec<&str>) {
        match &event.change {
            Some(Change::Shown(a)) => (a.control_id.0, a.numbers.iter().map(DialedNumber::reveal).collect()),
            other => panic!("{other:?}"),
        }
    }

    fn polled(event_type: &str, content: &str) -> String {
        format!(
            r#"{{"message":"","retcode":"0","event":{{"eventType":"{event_type}","workNo":"101","content":{content}}}}}"#
        )
    }

    #[test]
    fn every_documented_shape_of_a_preview() {
        for (event_type, content, expected) in [
            ("AgentEvent_Preview", r#"{"controlid":"7","dialeddigits":""}"#, (7, vec![])),
            ("AgentEvent_Preview", r#"{"controlid":"7"}"#, (7, vec![])),
            ("AgentEvent_Preview", r#"{"controlid":0,"dialeddigits":null}"#, (0, vec![])),
            (
                "AgentEvent_Preview_CallOut",
                r#"{"controlid":"7","dialeddigits":"100","callData":"x"}"#,
                (7, vec!["100"]),
            ),
            ("AgentEvent_Preview_CallOut", r#"{"controllid":7,"dialeddigits":"100"}"#, (7, vec!["100"])),
            ("AgentEvent_Preview_CallOut", r#"{"controlid":"7","controllid":7,"dialeddigits":100}"#, (7, vec!["100"])),
            ("AgentEvent_Preview_CallOut", r#"{"ControlID":"7","dialedDigits":"100"}"#, (7, vec!["100"])),
            (
                "AgentEvent_Preview_CallOut",
                r#"{"controlid":"7\u0000\u0000","dialeddigits":"100\u0000"}"#,
                (7, vec!["100"]),
            ),
            (
                "AgentEvent_Preview_CallOut_Ex",
                r#"{"controlid":"7","dialeddigits":"100,101,103,105"}"#,
                (7, vec!["100", "101", "103", "105"]),
            ),
            (
                "AgentEvent_Preview_CallOut_Ex",
                r#"{"controlid":"7","dialeddigits":", 100 ,,101\u0000, "}"#,
                (7, vec!["100", "101"]),
            ),
            ("AgentEvent_Preview_CallOut\\u0000", r#"{"controlid":"7","dialeddigits":"100"}"#, (7, vec!["100"])),
        ] {
            let event = one(&polled(event_type, content));
            assert_eq!(shown(&event), expected, "{event_type} {content}");
            assert_eq!(event.agent, AgentId::try_from(101).ok());
        }
    }

    #[test]
    fn ends_and_other_events() {
        for (event_type, change) in [
            ("AgentEvent_Release_Preview", Some(Change::Ended)),
            ("AgentOther_ShutdownService", Some(Change::Ended)),
            ("AgentEvent_Talking", None),
        ] {
            assert_eq!(one(&polled(event_type, "null")).change, change);
            assert_eq!(one(&polled(event_type, r#"{"x":[{}]}"#)).change, change);
        }
    }

    #[test]
    fn every_way_in_which_events_arrive() {
        let event =
            r#"{"eventType":"AgentEvent_Release_Preview","workNo":"101","content":null,"eventGenTime":1700000000123}"#;
        assert_eq!(one(event).generated_at, Some(1_700_000_000_123));
        assert_eq!(one(&format!(r#"{{"retcode":"0","event":[{event}]}}"#)).change, Some(Change::Ended));
        assert_eq!(one(&format!(r#"{{"workNo":"102","eventList":[{event}]}}"#)).agent.unwrap().as_u32(), 101);
        let nameless = r#"{"workNo":"102","eventList":[{"eventType":"AgentEvent_Release_Preview"}]}"#;
        assert_eq!(one(nameless).agent.unwrap().as_u32(), 102);
        for none in [
            r#"{"retcode":"0"}"#,
            r#"{"retcode":"0","event":null}"#,
            r#"{"retcode":"0","event":[]}"#,
            r#"{"event":[null]}"#,
        ] {
            assert_eq!(parse_events(none.as_bytes()).unwrap().events, [], "{none}");
        }
        let signed_out = parse_events(br#"{"message":"x","retcode":"100-006"}"#).unwrap();
        assert_eq!(signed_out.retcode.as_deref(), Some("100-006"));
    }

    #[test]
    fn of_a_repeated_name_the_last_counts() {
        let content = r#"{"controlid":1,"ControlId":"7","dialeddigits":"100","dialedDigits":"200"}"#;
        assert_eq!(shown(&one(&polled("AgentEvent_Preview", content))), (7, vec!["200"]));
        let event = r#"{"eventType":"AgentEvent_Release_Preview","workNo":"101"}"#;
        let withdrawn = format!(r#"{{"event":{event},"EVENT":null}}"#);
        assert_eq!(parse_events(withdrawn.as_bytes()).unwrap().events, []);
    }

    #[test]
    fn text_that_json_forbids_does_not_hide_a_preview() {
        let content = r#"{"controlid":"7","dialeddigits":"100","callData":"?"}"#;
        let clean = polled("AgentEvent_Preview_CallOut", content);
        for data in ["a\u{1}b\tc\nd", "\\ud800", "\u{0}"] {
            assert_eq!(shown(&one(&clean.replace('?', data))), (7, vec!["100"]), "{data:?}");
        }
        assert_eq!(shown(&one(&format!("\u{feff}{clean}"))), (7, vec!["100"]));
        let broken = clean.replace('?', "\u{1}").replace('\u{1}', "#").into_bytes();
        let broken: Vec<u8> = broken.into_iter().map(|b| if b == b'#' { 0xff } else { b }).collect();
        assert_eq!(shown(&parse_events(&broken).unwrap().events[0]), (7, vec!["100"]));
    }

    #[test]
    fn one_unreadable_event_does_not_hide_the_others() {
        let good = r#"{"eventType":"AgentEvent_Preview","workNo":"101","content":{"controlid":1}}"#;
        for bad in [
            r#"{"eventType":"AgentEvent_Preview","content":null}"#,
            r#"{"eventType":"AgentEvent_Preview","content":{"dialeddigits":"1"}}"#,
            r#"{"eventType":"AgentEvent_Preview","content":{"controlid":"x"}}"#,
            r#"{"eventType":"AgentEvent_Preview","content":{"controlid":1,"controllid":2}}"#,
            r#"{"eventType":"AgentEvent_Preview","content":"text"}"#,
            "17",
        ] {
            let found = parse_events(format!(r#"{{"event":[{good},{bad},{good}]}}"#).as_bytes()).unwrap();
            assert_eq!((found.events.len(), found.unreadable), (2, 1), "{bad}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_an_error() {
        for body in ["", "null", "[]", "<html></html>", r#"{"event":"#, "\u{1f4de}"] {
            assert_eq!(parse_events(body.as_bytes()), Err(EventError::NotAnEnvelope), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_events(&body);
        }

        /// What the platform announces, `decide` accepts, number by number and exactly.
        #[test]
        fn announced_numbers_can_be_called(
            id in any::<i64>(), numbers in prop::collection::vec("[0-9+*#]{1,24}", 1..8), quoted in any::<bool>(),
        ) {
            let id_text = if quoted { format!("\"{id}\"") } else { id.to_string() };
            let content = format!(r#"{{"controlid":{id_text},"dialeddigits":"{}"}}"#, numbers.join(","));
            let found = parse_events(polled("AgentEvent_Preview_CallOut_Ex", &content).as_bytes()).unwrap();
            let mut previews = AgentPreviews::default();
            previews.apply(found.events[0].change.clone().unwrap(), Timestamp(0), Bounds { per_agent: 4 });
            for number in &numbers {
                let judged = |called: &str| {
                    let callout = Callout { called: DialedNumber::new(called), control_id: ControlId(id) };
                    decide(&callout, &previews, Timestamp(1), Duration::from_secs(1)).is_ok()
                };
                prop_assert!(judged(number));
                let longer = format!("{number}0");
                prop_assert_eq!(judged(&longer), numbers.contains(&longer));
            }
        }
    }
}
