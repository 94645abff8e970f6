//! The lines of a journal.

use aws_lc_rs::digest::{SHA256, digest};

use super::super::common_clock::moved;
use super::super::guid_key::{GuidHash, KeyId};
use super::super::hex::{bytes, hex};
use super::super::sessions::Learnt;
use crate::preview::{AgentId, Change, ControlId, CountedCall, DialedNumber, RecordId, Timestamp};

/// One line: what happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(in crate::store) agent: AgentId,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) event: Event,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Event {
    /// This preview has ended, or all previews, as far as they were shown at or before the time of the entry.
    End(Option<ControlId>),
    /// A number of this preview is about to be called.
    Called(ControlId, CountedCall),
    /// That call was not sent.
    CallReturned(ControlId, RecordId),
    /// Something new about the agent's session, as hashes under this key.
    Session(KeyId, Learnt),
}

impl Entry {
    /// What of `change` a crash must not undo: everything but an announcement.
    pub(in crate::store) fn of(agent: AgentId, change: &Change, now: Timestamp) -> Option<Self> {
        let (event, at) = match change {
            Change::Shown(_) => return None,
            Change::Cancelled(control_id) => (Event::End(Some(*control_id)), now),
            Change::Ended => (Event::End(None), now),
            Change::EndedBefore(moment) => (Event::End(None), Timestamp(moment.0.saturating_sub(1))),
            Change::Called(control_id, call) => (Event::Called(*control_id, call.clone()), call.at),
            Change::CallReturned(control_id, id) => (Event::CallReturned(*control_id, *id), now),
        };
        Some(Self { agent, at, event })
    }

    /// With its line feed. The wall clock is `wall_ahead` milliseconds ahead of the entry's clock.
    pub(super) fn line(&self, wall_ahead: i64) -> String {
        let what = match &self.event {
            Event::End(None) => "*".to_owned(),
            Event::End(Some(control_id)) => control_id.to_string(),
            // A number can have any character, and an entry is words with blanks between them.
            Event::Called(control_id, call) => {
                format!("!{control_id}:{}:{}", call.id, hex(call.number.reveal().as_bytes()))
            }
            Event::CallReturned(control_id, id) => format!("~{control_id}:{id}"),
            Event::Session(key, Learnt { guid, begins }) => {
                let mark = if *begins { '@' } else { '+' };
                guid.map_or_else(|| mark.to_string(), |guid| format!("{mark}{key}:{guid}"))
            }
        };
        let text = format!("{} {what} {}", self.agent, moved(self.at, wall_ahead).0);
        let check = checksum(&text);
        format!("{text} {check}\n")
    }

    /// Reads a line, without its line feed.
    pub(super) fn read(line: &str) -> Option<Self> {
        let (text, check) = line.rsplit_once(' ')?;
        let mut words = text.split(' ');
        let (agent, what, at) = (words.next()?, words.next()?, words.next()?);
        let at = Timestamp(at.parse().ok()?);
        let event = match (what.get(..1)?, what.get(1..)?) {
            ("*", "") => Event::End(None),
            ("@", guid) => session(guid, true)?,
            ("+", guid) => session(guid, false)?,
            ("!", call) => called(call, at)?,
            ("~", call) => {
                let (control_id, id) = call.split_once(':')?;
                Event::CallReturned(control_id.parse().ok()?, id.parse().ok()?)
            }
            _ => Event::End(Some(what.parse().ok()?)),
        };
        let sound = words.next().is_none() && check == checksum(text);
        sound.then_some(Self { agent: agent.parse().ok()?, at, event })
    }
}

fn called(call: &str, at: Timestamp) -> Option<Event> {
    let mut parts = call.split(':');
    let (control_id, id, number) = (parts.next()?, parts.next()?, parts.next()?);
    let number = DialedNumber::new(String::from_utf8(bytes(number)?).ok()?);
    let call = CountedCall { number, id: id.parse().ok()?, at };
    parts.next().is_none().then_some(Event::Called(control_id.parse().ok()?, call))
}

fn session(guid: &str, begins: bool) -> Option<Event> {
    if guid.is_empty() {
        return Some(Event::Session(KeyId::default(), Learnt { guid: None, begins }));
    }
    let (key, guid) = guid.split_once(':')?;
    let guid: GuidHash = guid.parse().ok()?;
    Some(Event::Session(key.parse().ok()?, Learnt { guid: Some(guid), begins }))
}

pub(super) fn checksum(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref().get(..4).unwrap_or_default())
}
