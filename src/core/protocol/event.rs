//! Events of the platform, and what each changes in the gateway's knowledge of an agent.
//!
//! Events are read forgivingly (docs/protocol.md 5), because the upstream is trusted but its spelling varies. The caller
//! counts an event that cannot be understood, and the client gets the answer in any case. `answer` finds the events in a
//! text.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::call_report::{CallEvent, CallReport};
use crate::bounded_text::BoundedText;
use crate::label_enum;
use crate::preview::{AgentId, Announcement, Change, ControlId, DialedNumber};

/// Maximum count of numbers that are kept for one preview; the newest stay. `dialeddigits` holds at most 60 (docs/protocol.md 5).
pub const MAX_NUMBERS: usize = 128;

/// Maximum length of a number that is kept, in bytes. The longest documented one has 24.
pub const MAX_NUMBER: usize = 64;

/// The parts of one event that the gateway uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The type of the event.
    pub event_type: EventType,
    /// `workNo`, if it is an agent ID.
    pub agent: Option<AgentId>,
    /// `eventGenTime`: milliseconds since the epoch, by the platform's clock. Newer releases only.
    pub generated_at: Option<u64>,
    /// The change for that agent, if there is one. Most events change nothing.
    pub change: Option<Change>,
    /// What it reports on a call, if it names the call.
    pub call: Option<CallReport>,
}

impl Event {
    /// Whether the event ends previews.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.change, Some(Change::Ended | Change::Cancelled(_) | Change::EndedBefore(_)))
    }

    /// The agent whose previews the event changes, if that is beyond doubt. `polled` is the agent whose events the client
    /// asked for, if it asked for one agent. Then `workNo` must name the same agent: an event that names another one proves
    /// nothing about either.
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

/// The events of one answer or push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// In the order of the text: oldest first.
    pub events: Vec<Event>,
    /// Count of events that could not be read. The others are valid.
    pub unreadable: usize,
    /// Count of numbers that are not kept: longer than [`MAX_NUMBER`], or older than the newest [`MAX_NUMBERS`] of a
    /// preview.
    pub dropped_numbers: usize,
    /// `retcode` of the envelope, if it has one. Of two that differ, the one that is not a success.
    pub retcode: Option<Cow<'static, str>>,
}

impl Events {
    /// Whether there is an event, readable or not.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.events.is_empty() || self.unreadable > 0
    }
}

/// An event whose members are still being read.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) event_type: Option<TypeName>,
    pub(super) agent: Option<AgentId>,
    pub(super) generated_at: Option<u64>,
    pub(super) content: Option<Content>,
}

/// The content of a preview event. An ID that is present but unreadable is `Some(None)`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// `controlid`
    pub(super) control_id: Option<Option<ControlId>>,
    /// `controllid`, as the previewCallout page spells it.
    pub(super) controll_id: Option<Option<ControlId>>,
    /// `dialeddigits`
    pub(super) numbers: NumberList,
    /// `callid`
    pub(super) call_id: Option<String>,
}

/// What the type of an event says to the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeName {
    event_type: EventType,
    call: Option<CallEvent>,
}

impl TypeName {
    const NONE: Self = Self { event_type: EventType::Other, call: None };

    pub(super) fn read(name: &str) -> Self {
        match EventType::read(name) {
            EventType::Other => Self { call: CallEvent::read(name), ..Self::NONE },
            event_type => Self { event_type, ..Self::NONE },
        }
    }
}

impl Draft {
    /// Count of its numbers that are not kept.
    pub(super) fn dropped_numbers(&self) -> usize {
        self.content.as_ref().map_or(0, |content| content.numbers.dropped)
    }

    /// The event.
    pub(super) fn event(self) -> Result<Event, EventError> {
        let Self { event_type, agent, generated_at, content } = self;
        let TypeName { event_type, call: call_event } = event_type.unwrap_or(TypeName::NONE);
        let mut call = None;
        let change = match event_type {
            EventType::Preview | EventType::PreviewCallOut | EventType::PreviewCallOutEx => {
                let content = content.unwrap_or_default();
                let control_id = content.control_id().ok_or(EventError::UnreadablePreview)?;
                let numbers = content.numbers.finish();
                Some(Change::Shown(Announcement { control_id, numbers, shown: Vec::new() }))
            }
            // A release that names one preview ends that preview. Any other release ends all previews of the agent.
            EventType::ReleasePreview => {
                let released = content.and_then(|content| content.control_id());
                Some(released.map_or(Change::Ended, Change::Cancelled))
            }
            EventType::ShutdownService => Some(Change::Ended),
            EventType::Other => {
                let call_id = content.and_then(|content| content.call_id);
                call = call_event.zip(call_id).map(|(event, call_id)| CallReport { call_id, event });
                None
            }
        };
        Ok(Event { event_type, agent, generated_at, change, call })
    }
}

impl Content {
    /// The control ID; `None` if two differ, because the client may use either of them.
    fn control_id(&self) -> Option<ControlId> {
        let mut ids = [self.control_id, self.controll_id].into_iter().flatten();
        let id = ids.next()??;
        ids.all(|other| other == Some(id)).then_some(id)
    }
}

/// Reads the numbers in `dialeddigits` piece by piece. Commas separate them; blanks and padding around them are removed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct NumberList {
    numbers: VecDeque<DialedNumber>,
    /// One byte more than the bound shows that it is too long.
    current: BoundedText<{ MAX_NUMBER + 1 }>,
    /// Blanks and padding behind `current`. They belong to the number only if more of it follows.
    padding: BoundedText<{ MAX_NUMBER + 1 }>,
    dropped: usize,
}

impl NumberList {
    /// Reads the next part of the text.
    pub(super) fn text(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(byte) = rest.first() {
            let plain = rest.iter().position(|byte| matches!(byte, 0..=b' ' | b',')).unwrap_or(rest.len());
            let (taken, behind) = rest.split_at_checked(plain.max(1)).unwrap_or((rest, &[]));
            match byte {
                b',' => self.end(),
                0..=b' ' if self.current.is_empty() => {}
                0..=b' ' => self.padding.push(*byte),
                _ => {
                    self.current.extend(self.padding.as_bytes());
                    self.padding.clear();
                    self.current.extend(taken);
                }
            }
            rest = behind;
        }
    }

    /// Ends the current number.
    pub(super) fn end(&mut self) {
        self.padding.clear();
        let current = std::mem::take(&mut self.current);
        if current.len() > MAX_NUMBER {
            self.dropped += 1;
            return;
        }
        let is_odd = |c: char| c.is_control() && c != '\0';
        let mut text = String::from_utf8_lossy(current.as_bytes());
        if text.contains(is_odd) {
            text = text.replace(is_odd, " ").into();
        }
        let number = trim_padding(&text);
        if !number.is_empty() {
            self.numbers.push_back(DialedNumber::new(number));
        }
        if self.numbers.len() > MAX_NUMBERS {
            self.numbers.pop_front();
            self.dropped += 1;
        }
    }

    fn finish(self) -> Vec<DialedNumber> {
        self.numbers.into()
    }
}

/// Strings from the platform can be padded with NUL characters (docs/protocol.md 5).
pub(super) fn trim_padding(text: &str) -> &str {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
}

label_enum! {
    /// The event types that the gateway tells apart (docs/protocol.md 5).
    pub enum EventType {
        /// A preview starts, with or without numbers.
        Preview = "AgentEvent_Preview",
        /// A preview to call, one number.
        PreviewCallOut = "AgentEvent_Preview_CallOut",
        /// A preview to call, several numbers.
        PreviewCallOutEx = "AgentEvent_Preview_CallOut_Ex",
        /// The agent's preview is over.
        ReleasePreview = "AgentEvent_Release_Preview",
        /// The platform signs the agent out.
        ShutdownService = "AgentOther_ShutdownService",
        /// Any other type. It changes nothing here.
        Other = "other",
    }
}

impl EventType {
    fn read(name: &str) -> Self {
        Self::ALL.iter().copied().find(|known| known.as_str().eq_ignore_ascii_case(name)).unwrap_or(Self::Other)
    }
}

label_enum! {
    /// How the platform delivered an event (docs/protocol.md 6).
    pub enum Delivery {
        /// In the answer to a poll of one agent.
        Poll = "poll",
        /// In the answer to a poll of all agents.
        PollAll = "poll_all",
        /// By push, in the `eventList` form.
        Push = "push",
        /// By push, in the older `pushUrl` form.
        PushUrl = "push_url",
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{AnswerReader, parse_events};
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
    fn an_event_is_about_the_agent_that_it_names_or_that_was_polled_unless_they_differ() {
        let agent = |number: u32| AgentId::try_from(number).ok();
        let event = |agent| Event { agent, event_type: EventType::Other, generated_at: None, change: None, call: None };
        for (polled, named, expected) in
            [(101, 101, agent(101)), (101, 102, None), (101, 0, agent(101)), (0, 102, agent(102)), (0, 0, None)]
        {
            assert_eq!(event(agent(named)).whose(agent(polled)), expected, "{polled} {named}");
        }
    }

    #[test]
    fn a_release_that_names_a_preview_ends_that_one() {
        for (content, change) in [
            (r#"{"controlid":"7"}"#, Change::Cancelled(ControlId(7))),
            (r#"{"controllid":7,"x":1}"#, Change::Cancelled(ControlId(7))),
            (r#"{"controlid":7,"controllid":8}"#, Change::Ended),
            (r#"{"controlid":""}"#, Change::Ended),
            (r#"{"controlid":null}"#, Change::Ended),
            ("{}", Change::Ended),
        ] {
            assert_eq!(one(&polled("AGENTEVENT_release_preview", content)).change, Some(change), "{content}");
        }
        let shutdown = one(&polled("AgentOther_ShutdownService", r#"{"controlid":"7"}"#));
        assert_eq!(shutdown.change, Some(Change::Ended));
    }

    #[test]
    fn what_is_kept_of_a_preview_is_bounded() {
        let read = |numbers: &str| {
            let content = format!(r#"{{"controlid":7,"dialeddigits":"{numbers}"}}"#);
            let found = parse_events(polled("AgentEvent_Preview_CallOut_Ex", &content).as_bytes()).unwrap();
            let kept: Vec<_> = shown(&found.events[0]).1.into_iter().map(str::to_owned).collect();
            (kept, found.dropped_numbers)
        };
        let many: Vec<_> = (0..140_000).map(|n| n.to_string()).collect();
        let (kept, dropped) = read(&many.join(","));
        assert_eq!((kept.len(), dropped), (MAX_NUMBERS, 140_000 - MAX_NUMBERS));
        assert_eq!(kept, many[140_000 - MAX_NUMBERS..]);
        let longest = "1".repeat(MAX_NUMBER);
        assert_eq!(read(&longest), (vec![longest.clone()], 0));
        assert_eq!(read(&format!("1,{longest}1,2")), (vec!["1".to_owned(), "2".to_owned()], 1));
        assert_eq!(read(&format!("{},2", "1".repeat(900_000))), (vec!["2".to_owned()], 1));
        let padding = "\\u0000".repeat(500);
        assert_eq!(read(&format!("{padding}100")), (vec!["100".to_owned()], 0));
        assert_eq!(read("1\\u00012,1\\u00002"), (vec!["1 2".to_owned(), "1\u{0}2".to_owned()], 0));
        assert_eq!(read(&format!("100{padding},1 2{padding}")), (vec!["100".to_owned(), "1 2".to_owned()], 0));
    }

    #[test]
    fn text_in_an_undeclared_charset_may_end_in_a_backslash() {
        // In GBK and Big5 the second byte, in Shift_JIS as well; the same bytes with an escaped quote behind a katakana.
        for (text, is_readable) in [
            (&b"\xbf\x5c"[..], true),
            (b"\xa5\x5c", true),
            (b"\x95\x5c", true),
            (b"\xb1\xb2\xb3\x5c\"", true),
            (b"\xff\x5cn", true),
            (b"\xbf\x5c\x5c", true),
            (b"\xbf\x5c\x5c\x5c\xbf", false),
        ] {
            let before = br#"{"retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{"callData":""#;
            let after = br#"","controlid":7,"dialeddigits":"100"}}}"#;
            let body = [&before[..], text, after].concat();
            for pieces in [body.len(), 1, 7] {
                let mut reader = AnswerReader::new();
                body.chunks(pieces).for_each(|piece| reader.feed(piece));
                let found = reader.finish().map(|answer| answer.events());
                let events = found.as_ref().map(|found| found.events.as_slice()).unwrap_or_default();
                let numbers = events.first().map(|event| shown(event).1);
                assert_eq!(numbers.is_some_and(|numbers| numbers == ["100"]), is_readable, "{text:x?} {found:?}");
            }
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
    fn an_answer_has_an_event_whether_it_can_be_read_or_not() {
        for (body, expected) in [
            (r#"{"retcode":"0"}"#, false),
            (r#"{"event":{"eventType":"AgentEvent_Talking","workNo":"101"}}"#, true),
            (r#"{"event":{"eventType":"AgentEvent_Preview","workNo":"101"}}"#, true),
        ] {
            assert_eq!(parse_events(body.as_bytes()).unwrap().has_any(), expected, "{body}");
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
