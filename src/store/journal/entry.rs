//! The lines of a journal.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

use super::super::guid_key::{GuidHash, KeyId};
use super::super::sessions::Learnt;
use crate::preview::{AgentId, Change, ControlId, Timestamp};

/// One line: what happened to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(in crate::store) agent: AgentId,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) event: Event,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Event {
    /// This preview has ended, or all previews, as far as they were shown at or before the time of the entry.
    End(Option<ControlId>),
    /// Something new about the agent's session, as hashes under this key.
    Session(KeyId, Learnt),
}

impl Entry {
    /// The end that `change` is, if it is one.
    pub(in crate::store) fn end(agent: AgentId, change: &Change, now: Timestamp) -> Option<Self> {
        let (control_id, at) = match change {
            Change::Shown(_) => return None,
            Change::Cancelled(control_id) => (Some(*control_id), now),
            Change::Ended => (None, now),
            Change::EndedBefore(moment) => (None, Timestamp(moment.0.saturating_sub(1))),
        };
        Some(Self { agent, at, event: Event::End(control_id) })
    }

    /// With its line feed.
    pub(super) fn line(&self) -> String {
        let what = match self.event {
            Event::End(None) => "*".to_owned(),
            Event::End(Some(control_id)) => control_id.to_string(),
            Event::Session(key, Learnt { guid, begins }) => {
                let mark = if begins { '@' } else { '+' };
                guid.map_or_else(|| mark.to_string(), |guid| format!("{mark}{key}:{guid}"))
            }
        };
        let text = format!("{} {what} {}", self.agent, self.at.0);
        let check = checksum(&text);
        format!("{text} {check}\n")
    }

    /// Reads a line, without its line feed.
    pub(super) fn read(line: &str) -> Option<Self> {
        let (text, check) = line.rsplit_once(' ')?;
        let mut words = text.split(' ');
        let (agent, what, at) = (words.next()?, words.next()?, words.next()?);
        let event = match (what.strip_prefix('@'), what.strip_prefix('+')) {
            _ if what == "*" => Event::End(None),
            (Some(guid), _) => session(guid, true)?,
            (None, Some(guid)) => session(guid, false)?,
            (None, None) => Event::End(Some(what.parse().ok()?)),
        };
        let sound = words.next().is_none() && check == checksum(text);
        sound.then_some(Self { agent: agent.parse().ok()?, at: Timestamp(at.parse().ok()?), event })
    }
}

fn session(guid: &str, begins: bool) -> Option<Event> {
    if guid.is_empty() {
        return Some(Event::Session(KeyId::default(), Learnt { guid: None, begins }));
    }
    let (key, guid) = guid.split_once(':')?;
    let guid: GuidHash = guid.parse().ok()?;
    Some(Event::Session(key.parse().ok()?, Learnt { guid: Some(guid), begins }))
}

fn checksum(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(4).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
