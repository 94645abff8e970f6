//! An answer or push of the platform, read in one pass as it arrives: the envelope, and the events in it.
//!
//! The reader keeps only the members that matter, and bounds each: short scalars, [`MAX_NUMBERS`] numbers for a preview,
//! each of at most [`MAX_NUMBER`] bytes. So an answer may have any size and depth. See `event` for what the events mean.

use std::borrow::Cow;
use std::sync::Arc;

use super::event::{Content, Draft, Event, EventError, Events, NumberList, TypeName, trim_padding};
use super::json_lexer::{Container, Handler, LeadBytes, Lexer, trim_bom};
use crate::bounded_text::BoundedText;
use crate::preview::AgentId;

/// The `retcode` of a success.
pub(super) const SUCCESS: &str = "0";

/// Maximum length in bytes of a scalar that matters: types, codes, IDs.
const MAX_SCALAR: usize = 128;

/// A text counts as UTF-8 if this many bytes are valid UTF-8, counted from the first byte that is not ASCII.
const MAX_UNDECIDED: usize = 64 * 1024;

/// Reads the events in the body of a polling answer or of a push (docs/protocol.md 6): an envelope with `event` (an
/// object, an array, null or absent), a push with `eventList`, or a bare event object.
///
/// A byte order mark, raw control characters and broken sequences are tolerated. Text that is not UTF-8 is read as GBK,
/// Big5 or Shift_JIS as well: the second byte of a character may be a backslash there.
///
/// # Errors
/// [`EventError::NotAnEnvelope`]; single unreadable events are counted in [`Events::unreadable`].
pub fn parse_events(body: &[u8]) -> Result<Events, EventError> {
    let mut reader = AnswerReader::new();
    reader.feed(body);
    reader.finish().map(|answer| answer.events()).ok_or(EventError::NotAnEnvelope)
}

/// Reads one text in UTF-8, or in a charset that was not declared, piece by piece.
#[derive(Clone)]
pub(super) struct AnswerReader {
    begun: bool,
    main: Reading,
    charset: Charset,
}

/// The state of knowledge about the charset.
#[derive(Clone)]
enum Charset {
    /// All bytes so far are ASCII.
    Ascii,
    /// All bytes so far are UTF-8. Holds the state before the first byte that is not ASCII, and the text since.
    Undecided { before: Box<Reading>, since: Vec<u8> },
    /// The text is UTF-8.
    Utf8,
    /// The text is not UTF-8. It has further readings, with the lead bytes of other charsets.
    Other(Vec<Reading>),
}

#[derive(Clone)]
struct Reading {
    lexer: Lexer,
    answer: Answer,
}

impl Reading {
    fn feed(&mut self, piece: &[u8]) {
        self.lexer.feed(piece, &mut self.answer);
    }

    fn with_lead_bytes(&self, lead_bytes: LeadBytes) -> Self {
        Self { lexer: self.lexer.with_lead_bytes(lead_bytes), answer: self.answer.clone() }
    }

    fn is_complete(&self) -> bool {
        self.lexer.is_complete() && self.answer.is_object
    }
}

impl AnswerReader {
    /// A reader at the beginning of a text.
    pub(super) fn new() -> Self {
        let main = Reading { lexer: Lexer::new(), answer: Answer::default() };
        Self { begun: false, main, charset: Charset::Ascii }
    }

    /// Reads the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let piece = if self.begun { piece } else { trim_bom(piece) };
        self.begun |= !piece.is_empty();
        match &mut self.charset {
            Charset::Ascii => self.feed_first(piece),
            Charset::Undecided { since, .. } => {
                since.extend_from_slice(piece);
                self.main.feed(piece);
                self.decide();
            }
            Charset::Utf8 => self.main.feed(piece),
            Charset::Other(others) => {
                self.main.feed(piece);
                others.iter_mut().for_each(|other| other.feed(piece));
            }
        }
    }

    fn feed_first(&mut self, piece: &[u8]) {
        if piece.is_ascii() {
            return self.main.feed(piece);
        }
        let ascii = piece.iter().position(|byte| !byte.is_ascii()).unwrap_or(piece.len());
        let (ascii, since) = piece.split_at_checked(ascii).unwrap_or((piece, &[]));
        self.main.feed(ascii);
        if !since.is_empty() {
            self.charset = Charset::Undecided { before: Box::new(self.main.clone()), since: since.to_vec() };
            self.main.feed(since);
            self.decide();
        }
    }

    fn decide(&mut self) {
        let Charset::Undecided { before, since } = &self.charset else { return };
        match std::str::from_utf8(since) {
            Err(error) if error.error_len().is_some() => {
                let read = |lead_bytes| {
                    let mut other = before.with_lead_bytes(lead_bytes);
                    other.feed(since);
                    other
                };
                self.charset = Charset::Other([LeadBytes::Chinese, LeadBytes::ShiftJis].map(read).into());
            }
            _ if since.len() > MAX_UNDECIDED => self.charset = Charset::Utf8,
            _ => {}
        }
    }

    /// The result. If several readings of a text in an unknown charset are complete and differ, only the ends of previews
    /// count.
    pub(super) fn finish(self) -> Option<Answer> {
        let others = match self.charset {
            Charset::Other(others) => others,
            // The common case: one reading, which is not moved about.
            Charset::Ascii | Charset::Undecided { .. } | Charset::Utf8 => {
                return self.main.is_complete().then_some(self.main.answer);
            }
        };
        let complete = std::iter::once(self.main).chain(others).filter(Reading::is_complete);
        complete
            .map(|reading| reading.answer)
            .reduce(|one, other| if one == other { one } else { one.or_ends_of(other) })
    }
}

/// The content of an envelope.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    is_object: bool,
    retcode: Retcode,
    result: Option<Arc<str>>,
    work_no: OneAgent,
    /// The members of the outermost object, which may be an event itself.
    top: Draft,
    event: Draft,
    content: Content,
    single: Found,
    list: Found,
    /// The position of the next value.
    path: Path,
    /// Count of open containers whose content does not matter.
    ignored: usize,
    member: Member,
    /// Whether events go to `list`, and not to `single`.
    in_event_list: bool,
    /// One byte more than the bound shows that it is too long.
    scalar: BoundedText<{ MAX_SCALAR + 1 }>,
}

#[derive(Clone, Default, PartialEq, Eq)]
enum Retcode {
    #[default]
    Absent,
    Is(Cow<'static, str>),
    /// The member occurs twice with different values.
    Differs(Cow<'static, str>),
}

/// The agent, if the text names exactly one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum OneAgent {
    #[default]
    Unnamed,
    Is(AgentId),
    Unclear,
}

/// A scalar as text: control characters become spaces, NUL excepted, and bytes that are not UTF-8 are replaced.
fn readable(scalar: &[u8]) -> Cow<'_, str> {
    // The common case. Without an early end, the compiler takes many bytes at a time.
    let is_plain = scalar.iter().fold(true, |plain, byte| plain & (b' '..=b'~').contains(byte));
    if is_plain && let Ok(text) = str::from_utf8(scalar) {
        return Cow::Borrowed(text);
    }
    let is_odd = |c: char| c.is_control() && c != '\0';
    match String::from_utf8_lossy(scalar) {
        text if text.contains(is_odd) => Cow::Owned(text.replace(is_odd, " ")),
        text => text,
    }
}

/// The events of one member.
#[derive(Clone, Default, PartialEq, Eq)]
struct Found {
    events: Vec<Event>,
    unreadable: usize,
    dropped_numbers: usize,
}

/// An object or array whose content matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Result,
    /// The array in `event` or `eventList`.
    List,
    Event,
    Content,
}

/// The open containers whose content matters: at most an envelope, its list, an event and its content.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Path {
    places: [Option<Place>; 4],
    depth: usize,
}

impl Path {
    fn push(&mut self, place: Place) {
        if let Some(free) = self.places.get_mut(self.depth) {
            *free = Some(place);
            self.depth += 1;
        }
    }

    fn pop(&mut self) -> Option<Place> {
        self.depth = self.depth.checked_sub(1)?;
        self.places.get_mut(self.depth)?.take()
    }

    fn last(&self) -> Option<Place> {
        *self.places.get(self.depth.checked_sub(1)?)?
    }
}

/// The members that matter, anywhere in the text.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    Retcode,
    Result,
    Event,
    EventList,
    EventType,
    WorkNo,
    EventGenTime,
    Content,
    ControlId,
    ControllId,
    DialedDigits,
    CallId,
}

impl Member {
    fn named(name: &str) -> Self {
        match name {
            "retcode" => Self::Retcode,
            "result" => Self::Result,
            "event" => Self::Event,
            "eventlist" => Self::EventList,
            "eventtype" => Self::EventType,
            "workno" => Self::WorkNo,
            "eventgentime" => Self::EventGenTime,
            "content" => Self::Content,
            "controlid" => Self::ControlId,
            "controllid" => Self::ControllId,
            "dialeddigits" => Self::DialedDigits,
            "callid" => Self::CallId,
            _ => Self::Other,
        }
    }
}

impl Handler for Answer {
    fn begin(&mut self, container: Container) {
        if self.ignored > 0 {
            self.ignored += 1;
            return;
        }
        self.forget_value();
        match (self.path.last(), container, self.member) {
            (None, Container::Object, _) => {
                self.is_object = true;
                self.path.push(Place::Top);
            }
            (Some(Place::Top), Container::Object, Member::Result) => self.path.push(Place::Result),
            (Some(Place::Top), Container::Array, Member::Event | Member::EventList) => self.path.push(Place::List),
            (Some(Place::Top), Container::Object, Member::Event | Member::EventList)
            | (Some(Place::List), Container::Object, _) => {
                self.event = Draft::default();
                self.path.push(Place::Event);
            }
            (Some(Place::Top | Place::Event), Container::Object, Member::Content) => {
                self.content = Content::default();
                self.path.push(Place::Content);
            }
            _ => {
                self.misplaced();
                self.ignored = 1;
            }
        }
    }

    fn end(&mut self) {
        if self.ignored > 0 {
            self.ignored -= 1;
            return;
        }
        match self.path.pop() {
            Some(Place::Event) => {
                let draft = std::mem::take(&mut self.event);
                self.found().add(draft);
            }
            Some(Place::Content) => {
                let content = std::mem::take(&mut self.content);
                if let Some(draft) = self.draft() {
                    draft.content = Some(content);
                }
            }
            Some(Place::Top | Place::Result | Place::List) | None => {}
        }
    }

    fn name(&mut self, name: &str) {
        if self.ignored > 0 {
            return;
        }
        self.member = Member::named(name);
        if self.path.last() == Some(Place::Top) && matches!(self.member, Member::Event | Member::EventList) {
            self.in_event_list = self.member == Member::EventList;
            *self.found() = Found::default();
        }
    }

    fn begin_text(&mut self) -> bool {
        if self.ignored > 0 {
            return false;
        }
        self.forget_value();
        self.scalar.clear();
        self.matters()
    }

    fn text(&mut self, piece: &[u8]) {
        if self.is_number_list() {
            self.content.numbers.text(piece);
        } else {
            self.scalar.extend(piece);
        }
    }

    fn end_text(&mut self) {
        if self.ignored > 0 || !self.matters() {
            return;
        }
        if self.is_number_list() {
            self.content.numbers.end();
            return;
        }
        let scalar = std::mem::take(&mut self.scalar);
        if scalar.len() <= MAX_SCALAR {
            self.scalar(&readable(scalar.as_bytes()));
        } else {
            self.scalar("");
        }
    }

    fn literal(&mut self, literal: &str) {
        if self.ignored > 0 {
            return;
        }
        self.forget_value();
        if literal.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            if self.is_number_list() {
                self.content.numbers.text(literal.as_bytes());
                self.content.numbers.end();
            } else {
                self.scalar(literal);
            }
        } else if literal != "null" {
            self.misplaced();
        }
    }
}

impl Answer {
    /// `retcode`, unless the text has two that differ, and `result`, if it is a scalar.
    pub(super) fn retcode_and_result(self) -> (Option<Cow<'static, str>>, Option<Arc<str>>) {
        let retcode = match self.retcode {
            Retcode::Is(retcode) => Some(retcode),
            Retcode::Absent | Retcode::Differs(_) => None,
        };
        (retcode, self.result)
    }

    /// The agent in `result.workno`.
    pub(super) fn signed_in_agent(&self) -> Option<AgentId> {
        match self.work_no {
            OneAgent::Is(agent) => Some(agent),
            OneAgent::Unnamed | OneAgent::Unclear => None,
        }
    }

    /// The events, oldest first.
    pub(super) fn events(self) -> Events {
        let retcode = match self.retcode {
            Retcode::Is(retcode) | Retcode::Differs(retcode) => Some(retcode),
            Retcode::Absent => None,
        };
        let mut all = Found::default();
        // `workNo` beside an `eventList` applies to those of its events that name no agent.
        let whose = self.top.agent;
        if self.top.event_type.is_some() {
            all.add(self.top);
        } else {
            all = self.single;
            all.events.extend(self.list.events);
            all.unreadable += self.list.unreadable;
            all.dropped_numbers += self.list.dropped_numbers;
            all.events.iter_mut().for_each(|event| event.agent = event.agent.or(whose));
        }
        Events { events: all.events, unreadable: all.unreadable, dropped_numbers: all.dropped_numbers, retcode }
    }

    /// The ends of previews in either of two readings; the rest is unreadable.
    fn or_ends_of(mut self, other: Self) -> Self {
        self.single.events.extend(other.single.events);
        self.list.events.extend(other.list.events);
        for found in [&mut self.single, &mut self.list] {
            found.events.retain(Event::is_end);
            found.unreadable += 1;
        }
        // A bare event keeps its type, and loses the content that could show a preview.
        self.top.content = None;
        self
    }

    fn found(&mut self) -> &mut Found {
        if self.in_event_list { &mut self.list } else { &mut self.single }
    }

    /// The event that members of the current object belong to.
    fn draft(&mut self) -> Option<&mut Draft> {
        match self.path.last()? {
            Place::Top => Some(&mut self.top),
            Place::Event => Some(&mut self.event),
            Place::Result | Place::List | Place::Content => None,
        }
    }

    /// Whether the value of the present member, or the present item of a list, changes anything.
    fn matters(&self) -> bool {
        self.member != Member::Other || self.path.last() == Some(Place::List)
    }

    fn is_number_list(&self) -> bool {
        self.path.last() == Some(Place::Content) && self.member == Member::DialedDigits
    }

    /// Notes that a member gets a value. It replaces an earlier one of the same name, as in the mappers of the vendor's
    /// clients.
    fn forget_value(&mut self) {
        let member = self.member;
        if self.path.last() == Some(Place::Content) {
            match member {
                Member::ControlId => self.content.control_id = Default::default(),
                Member::ControllId => self.content.controll_id = Default::default(),
                Member::DialedDigits => self.content.numbers = NumberList::default(),
                Member::CallId => self.content.call_id = None,
                _ => {}
            }
        } else if let Some(draft) = self.draft() {
            match member {
                Member::EventType => draft.event_type = None,
                Member::WorkNo => draft.agent = None,
                Member::EventGenTime => draft.generated_at = None,
                Member::Content => draft.content = None,
                _ => {}
            }
        }
    }

    /// Notes a value that is not an event, where an event is expected.
    fn misplaced(&mut self) {
        let is_event = matches!(self.member, Member::Event | Member::EventList);
        match self.path.last() {
            Some(Place::List) => self.found().unreadable += 1,
            Some(Place::Top) if is_event => self.found().unreadable += 1,
            _ => {}
        }
    }

    /// Takes a string or number.
    fn scalar(&mut self, text: &str) {
        let text = trim_padding(text);
        match (self.path.last(), self.member) {
            (Some(Place::Top), Member::Retcode) => self.retcode.note(text),
            (Some(Place::Top), Member::Result) => self.result = Some(text.into()),
            (Some(Place::Result), Member::WorkNo) => self.work_no.note(text),
            (Some(Place::Content), Member::ControlId) => self.content.control_id = Some(text.parse().ok()),
            (Some(Place::Content), Member::ControllId) => self.content.controll_id = Some(text.parse().ok()),
            (Some(Place::Content), Member::CallId) => {
                self.content.call_id = Some(text.to_owned()).filter(|id| !id.is_empty());
            }
            (Some(Place::Top | Place::Event), member) => {
                if let Some(draft) = self.draft() {
                    match member {
                        Member::EventType => draft.event_type = Some(TypeName::read(text)),
                        Member::WorkNo => draft.agent = text.parse().ok(),
                        Member::EventGenTime => draft.generated_at = text.parse().ok(),
                        _ => {}
                    }
                }
                self.misplaced();
            }
            _ => self.misplaced(),
        }
    }
}

impl Found {
    fn add(&mut self, draft: Draft) {
        self.dropped_numbers += draft.dropped_numbers();
        match draft.event() {
            Ok(event) => self.events.push(event),
            Err(EventError::UnreadablePreview | EventError::NotAnEnvelope) => self.unreadable += 1,
        }
    }
}

impl Retcode {
    fn note(&mut self, text: &str) {
        // Nearly every answer is a success: its code is not copied.
        let code = || if text == SUCCESS { Cow::Borrowed(SUCCESS) } else { Cow::Owned(text.to_owned()) };
        *self = match std::mem::take(self) {
            Self::Absent => Self::Is(code()),
            Self::Is(same) if same == text => Self::Is(same),
            // The code that is not a success matters more.
            Self::Is(other) | Self::Differs(other) if other != SUCCESS => Self::Differs(other),
            Self::Is(_) | Self::Differs(_) => Self::Differs(code()),
        };
    }
}

impl OneAgent {
    fn note(&mut self, text: &str) {
        *self = match (*self, text.parse().ok()) {
            (Self::Unnamed, Some(agent)) => Self::Is(agent),
            (Self::Is(same), Some(agent)) if same == agent => Self::Is(agent),
            _ => Self::Unclear,
        };
    }
}

#[cfg(test)]
mod tests;
