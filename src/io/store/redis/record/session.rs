//! The GUIDs of an agent's session, as hashes under a key that the gateways share: a set of facts, as the rest of the record.

use std::collections::BTreeMap;

use super::super::super::guid_key::{GuidHash, KeyId};
use super::super::super::sessions::{Learnt, MAX_REPLACED, OVERLAP, Session};
use crate::preview::Timestamp;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SharedSession {
    /// When the session began. What was learnt before belongs to an earlier one.
    pub(super) begun: Option<Timestamp>,
    /// When each GUID was learnt last.
    pub(super) guids: BTreeMap<(KeyId, GuidHash), Timestamp>,
}

impl SharedSession {
    /// A session that began at this time, with a GUID that is not known.
    pub(super) fn begun(at: Timestamp) -> Self {
        Self { begun: Some(at), guids: BTreeMap::new() }
    }

    pub(super) fn learn(&mut self, key: KeyId, learnt: Learnt, at: Timestamp) {
        let Learnt { guid: Some(guid), begins } = learnt else { return };
        if begins {
            self.begun = self.begun.max(Some(at));
        }
        let known = self.guids.entry((key, guid)).or_insert(at);
        *known = (*known).max(at);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.begun = self.begun.max(other.begun);
        for (guid, at) in &other.guids {
            let known = self.guids.entry(*guid).or_insert(*at);
            *known = (*known).max(*at);
        }
    }

    /// Drops GUIDs of earlier sessions, and the oldest of those that are too many.
    pub(super) fn settle(&mut self) {
        let begun = self.begun;
        self.guids.retain(|_, at| begun.is_none_or(|begun| *at >= begun));
        while self.guids.len() > 1 + MAX_REPLACED {
            let oldest = self.guids.iter().map(|(guid, at)| (*at, *guid)).min();
            oldest.and_then(|(_, guid)| self.guids.remove(&guid));
        }
    }

    /// The session, as far as its hashes are under this key. A GUID counts for a while after a later one was learnt.
    pub(super) fn session(&self, key: KeyId) -> Option<Session> {
        let of_key = self.guids.iter().filter(|((known, _), _)| *known == key);
        let mut newest_first: Vec<_> = of_key.map(|((_, guid), at)| (*at, *guid)).collect();
        newest_first.sort_unstable_by(|one, other| other.cmp(one));
        let (_, current) = *newest_first.first()?;
        let replaced = newest_first.iter().zip(newest_first.iter().skip(1));
        Some(Session::of(current, replaced.map(|((next, _), (_, guid))| (*guid, next.after(OVERLAP)))))
    }
}
