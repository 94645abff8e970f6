//! The record of one agent in Redis, and how changes enter it.
//!
//! The rule is `preview::AgentPreviews::apply`; this file only puts the changes in the right order. A change that is
//! written at once is applied as it comes. A change that is late, because Redis was away, takes the place that its time
//! gives it: previews shown since then stay, and previews ended since then do not come back.

use serde::{Deserialize, Serialize};

use super::super::guid_key::{GuidHash, KeyId};
use super::super::sessions::{Learnt, Session};
use crate::preview::{
    AgentPreviews, Bounds, CallCount, Change, ControlId, CountedCall, DialedNumber, Preview, ShownNumber, Timestamp,
};

/// Cancellations that are remembered; one agent has few previews at a time.
const MAX_CANCELLATIONS: usize = 16;

/// The previews of one agent, and the ends that late changes are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The numbers that the agent may call.
    pub(super) previews: AgentPreviews,
    /// When all of the agent's previews last ended.
    ended: Option<Timestamp>,
    /// When single previews ended, the oldest first.
    cancelled: Vec<(ControlId, Timestamp)>,
    /// When the agent last signed in. A preview shown by a poll that began earlier was shown to the session before.
    signed_in: Option<Timestamp>,
    /// The GUIDs of the agent's session, if they are known.
    session: Option<SharedSession>,
}

/// A session, as hashes under a key that the gateways share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SharedSession {
    key: KeyId,
    session: Session,
    /// When the current GUID was learnt.
    at: Timestamp,
}

/// Something new about an agent's session, as hashes under the key that the gateways share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedLearnt {
    pub(super) key: KeyId,
    pub(super) learnt: Learnt,
}

/// A change with the time at which this gateway saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimedChange {
    /// What it does to the agent's previews.
    pub(crate) change: Option<Change>,
    /// What it says about the agent's session.
    pub(crate) learnt: Option<SharedLearnt>,
    pub(crate) at: Timestamp,
    /// How the change relates to sign-ins.
    pub(crate) session: SessionRelation,
    /// An earlier attempt to write it failed, or its outcome is unknown.
    pub(crate) late: bool,
}

/// How a change relates to the agent's sign-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionRelation {
    /// It counts in whatever session the agent is.
    Any,
    /// It was shown by a poll that began at this time.
    PolledSince(Timestamp),
    /// It is a sign-in.
    Begins,
}

impl Record {
    /// The previews in a gateway's own memory, for a Redis that knows nothing.
    pub(super) fn of(previews: AgentPreviews) -> Self {
        Self { previews, ..Self::default() }
    }

    /// Applies changes in order.
    pub(super) fn apply_all(&mut self, changes: &[TimedChange], bounds: Bounds) {
        for change in changes {
            self.apply(change, bounds);
        }
    }

    fn apply(&mut self, timed: &TimedChange, bounds: Bounds) {
        let TimedChange { change, learnt, at, session, late } = timed;
        let earlier_session = match session {
            SessionRelation::Any => false,
            SessionRelation::PolledSince(began) => self.signed_in.is_some_and(|signed_in| *began < signed_in),
            SessionRelation::Begins => {
                if self.signed_in.is_none_or(|signed_in| signed_in <= *at) {
                    self.session = None;
                }
                self.signed_in = self.signed_in.max(Some(*at));
                false
            }
        };
        if earlier_session {
            return;
        }
        if let Some(learnt) = learnt {
            self.learn(*learnt, *at, *late);
        }
        if let Some(change) = change {
            self.apply_change(change, *at, *late, bounds);
        }
    }

    fn apply_change(&mut self, change: &Change, at: Timestamp, late: bool, bounds: Bounds) {
        if late && self.is_over(change, at) {
            return;
        }
        self.note_end(change, at);
        // A call that comes late does not change what was shown since.
        if !late || matches!(change, Change::Called(..) | Change::CallReturned(..)) {
            self.previews.apply(change.clone(), at, bounds);
            return;
        }
        let (earlier, later) = split(&self.previews, at);
        let mut previews = restored(earlier, AgentPreviews::default(), bounds);
        previews.apply(change.clone(), at, bounds);
        self.previews = restored(later, previews, bounds);
    }

    /// A GUID that comes late is not the current one if a later one is known.
    fn learn(&mut self, SharedLearnt { key, learnt }: SharedLearnt, at: Timestamp, late: bool) {
        let Learnt { guid: Some(guid), begins } = learnt else { return };
        if late && self.signed_in.is_some_and(|signed_in| at < signed_in) {
            return;
        }
        let known = self.session.filter(|known| known.key == key && !begins);
        self.session = Some(match known {
            None => SharedSession { key, session: Session::begin(guid), at },
            Some(known) if late && at < known.at => {
                let session = known.session.renew(guid, known.session.current(), at);
                SharedSession { session, ..known }
            }
            Some(known) if known.session.current() == guid => known,
            Some(known) => {
                let session = known.session.renew(known.session.current(), guid, at);
                SharedSession { key, session, at }
            }
        });
    }

    /// The session, if its hashes are under this key.
    pub(super) fn session(&self, key: KeyId) -> Option<Session> {
        self.session.filter(|known| known.key == key).map(|known| known.session)
    }

    /// Whether `change` shows or calls a preview that ended after it.
    fn is_over(&self, change: &Change, at: Timestamp) -> bool {
        let control_id = match change {
            Change::Shown(announcement) => announcement.control_id,
            Change::Called(control_id, _) => *control_id,
            Change::Cancelled(_) | Change::Ended | Change::EndedBefore(_) | Change::CallReturned(..) => return false,
        };
        let cancelled = self.cancelled.iter().any(|(id, when)| *id == control_id && at < *when);
        cancelled || self.ended.is_some_and(|when| at < when)
    }

    fn note_end(&mut self, change: &Change, at: Timestamp) {
        match change {
            Change::Shown(_) | Change::Called(..) | Change::CallReturned(..) => {}
            Change::Cancelled(control_id) => {
                self.cancelled.retain(|(id, _)| id != control_id);
                self.cancelled.push((*control_id, at));
                let surplus = self.cancelled.len().saturating_sub(MAX_CANCELLATIONS);
                self.cancelled.drain(..surplus);
            }
            Change::Ended => self.ended = self.ended.max(Some(at)),
            Change::EndedBefore(moment) => self.ended = self.ended.max(Some(*moment)),
        }
    }

    /// Whether a preview or number of `earlier` is gone from this record.
    pub(super) fn has_lost_previews(&self, earlier: &Record) -> bool {
        earlier.previews.iter().any(|preview| match self.previews.find(preview.control_id) {
            Some(kept) => preview.numbers().any(|number| kept.find(number).is_none()),
            None => true,
        })
    }

    /// The form in Redis. Gateways of two versions share one Redis while they are being replaced, so each version must read
    /// the other's form: new members are optional, and unknown ones are ignored.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let written = Written {
            previews: self.previews.iter().map(WrittenPreview::of).collect(),
            ended: self.ended.map(|at| at.0),
            cancelled: self.cancelled.iter().map(|(id, at)| (id.0, at.0)).collect(),
            signed_in: self.signed_in.map(|at| at.0),
            session: self.session.as_ref().map(WrittenSession::of),
        };
        // Integers and text: this cannot fail, and an empty state would be read as a broken one.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Reads that form; keeps never more than `bounds` allows, whatever another gateway has written.
    pub(super) fn from_json(json: &[u8], bounds: Bounds) -> Result<Self, serde_json::Error> {
        let written: Written = serde_json::from_slice(json)?;
        let previews = written.previews.into_iter().map(WrittenPreview::preview);
        Ok(Self {
            previews: restored(previews, AgentPreviews::default(), bounds),
            ended: written.ended.map(Timestamp),
            cancelled: written.cancelled.into_iter().map(|(id, at)| (ControlId(id), Timestamp(at))).collect(),
            signed_in: written.signed_in.map(Timestamp),
            // What cannot be read is not known.
            session: written.session.and_then(|session| session.session()),
        })
    }
}

/// Puts each of `previews` back, with its times.
fn restored(previews: impl IntoIterator<Item = Preview>, mut to: AgentPreviews, bounds: Bounds) -> AgentPreviews {
    for preview in previews {
        to.restore(preview, bounds);
    }
    to
}

/// The previews as they were at `at`, and what was announced since.
fn split(previews: &AgentPreviews, at: Timestamp) -> (Vec<Preview>, Vec<Preview>) {
    let (mut earlier, mut later) = (Vec::new(), Vec::new());
    for preview in previews.iter().cloned() {
        if preview.announced_at <= at {
            earlier.push(preview);
            continue;
        }
        let (mut old, mut new) = (preview.clone(), preview);
        old.retain_shown(|shown_at| shown_at <= at);
        new.retain_shown(|shown_at| shown_at > at);
        (old.calls, new.calls) = std::mem::take(&mut new.calls).split(at);
        if let Some(announced_at) = old.numbers.iter().map(|shown| shown.shown_at).max() {
            earlier.push(Preview { announced_at, ..old });
        }
        later.push(new);
    }
    (earlier, later)
}

#[derive(Serialize, Deserialize)]
struct Written {
    previews: Vec<WrittenPreview>,
    ended: Option<u64>,
    cancelled: Vec<(i64, u64)>,
    #[serde(default)]
    signed_in: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<WrittenSession>,
}

/// See [`SharedSession`]. Gateways of earlier versions neither write nor read it.
#[derive(Serialize, Deserialize)]
struct WrittenSession {
    key: String,
    at: u64,
    current: String,
    /// GUIDs that were replaced, each with the time up to which it counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<(String, u64)>,
}

impl WrittenSession {
    fn of(SharedSession { key, session, at }: &SharedSession) -> Self {
        let replaced = session.replaced().map(|(guid, until)| (guid.to_string(), until.0)).collect();
        Self { key: key.to_string(), at: at.0, current: session.current().to_string(), replaced }
    }

    fn session(self) -> Option<SharedSession> {
        let Self { key, at, current, replaced } = self;
        let known = |(guid, until): (String, u64)| Some((guid.parse::<GuidHash>().ok()?, Timestamp(until)));
        let replaced: Vec<_> = replaced.into_iter().filter_map(known).collect();
        let session = Session::of(current.parse().ok()?, replaced);
        Some(SharedSession { key: key.parse().ok()?, session, at: Timestamp(at) })
    }
}

#[derive(Serialize, Deserialize)]
struct WrittenPreview {
    id: i64,
    numbers: Vec<String>,
    at: u64,
    /// See [`Preview::shown`]. Gateways without it neither write nor read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<String>,
    /// One time for each number; earlier versions have none, and all numbers have the time `at`.
    #[serde(default)]
    times: Vec<u64>,
    /// Number, name and time of each call that counts. Gateways without it drop it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<(String, String, u64)>,
}

impl WrittenPreview {
    fn of(preview: &Preview) -> Self {
        Self {
            id: preview.control_id.0,
            numbers: preview.numbers().map(|number| number.reveal().to_owned()).collect(),
            at: preview.announced_at.0,
            shown: preview.shown.iter().map(ToString::to_string).collect(),
            times: preview.numbers.iter().map(|shown| shown.shown_at.0).collect(),
            calls: preview.calls.iter().map(written_call).collect(),
        }
    }

    fn preview(self) -> Preview {
        let times = self.times.into_iter().chain(std::iter::repeat(self.at)).map(Timestamp);
        let numbers = self.numbers.into_iter().map(DialedNumber::new).zip(times);
        Preview {
            control_id: ControlId(self.id),
            numbers: numbers.map(|(number, shown_at)| ShownNumber { number, shown_at }).collect(),
            announced_at: Timestamp(self.at),
            shown: self.shown.iter().filter_map(|reference| reference.parse().ok()).collect(),
            calls: self.calls.into_iter().filter_map(read_call).collect::<CallCount>(),
        }
    }
}

fn written_call(call: &CountedCall) -> (String, String, u64) {
    (call.number.reveal().to_owned(), call.id.to_string(), call.at.0)
}

fn read_call((number, id, at): (String, String, u64)) -> Option<CountedCall> {
    Some(CountedCall { number: DialedNumber::new(number), id: id.parse().ok()?, at: Timestamp(at) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::Announcement;

    const BOUNDS: Bounds = Bounds { per_agent: 4 };

    fn shown(control_id: i64, number: &str) -> Change {
        Change::Shown(Announcement {
            control_id: ControlId(control_id),
            numbers: vec![DialedNumber::new(number)],
            shown: Vec::new(),
        })
    }

    fn at(millis: u64, change: Change) -> TimedChange {
        let change = Some(change);
        TimedChange { change, learnt: None, at: Timestamp(millis), session: SessionRelation::Any, late: false }
    }

    fn late(millis: u64, change: Change) -> TimedChange {
        TimedChange { late: true, ..at(millis, change) }
    }

    fn after(changes: &[TimedChange]) -> Record {
        let mut record = Record::default();
        record.apply_all(changes, BOUNDS);
        record
    }

    fn control_ids(changes: &[TimedChange]) -> Vec<i64> {
        after(changes).previews.iter().map(|preview| preview.control_id.0).collect()
    }

    const CANCEL_1: Change = Change::Cancelled(ControlId(1));

    #[test]
    fn what_was_shown_since_the_moment_of_an_end_stays_whenever_the_end_comes() {
        let ended_before_5 = || Change::EndedBefore(Timestamp(5));
        for (changes, expected) in [
            (vec![at(4, shown(1, "1")), at(5, shown(2, "2")), at(9, ended_before_5())], vec![2]),
            (
                vec![at(4, shown(1, "1")), at(5, shown(2, "2")), at(9, shown(3, "3")), late(8, ended_before_5())],
                vec![2, 3],
            ),
            // Shown to the session before, and written when that was over; and shown to the new one.
            (vec![at(9, ended_before_5()), late(4, shown(1, "1")), late(5, shown(2, "2"))], vec![2]),
        ] {
            assert_eq!(control_ids(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn what_comes_in_time_is_applied_as_it_comes_whatever_the_clocks_say() {
        assert_eq!(control_ids(&[at(9, shown(1, "1")), at(5, Change::Ended)]), [] as [i64; 0]);
        assert_eq!(control_ids(&[at(9, Change::Ended), at(5, shown(1, "1"))]), [1]);
    }

    #[test]
    fn what_comes_late_takes_the_place_that_its_time_gives_it() {
        for (changes, expected) in [
            // An end undoes what was before it, and nothing else.
            (vec![at(1, shown(1, "1")), at(9, shown(2, "2")), late(5, Change::Ended)], vec![2]),
            (vec![at(1, shown(1, "1")), at(9, shown(2, "2")), late(5, CANCEL_1)], vec![2]),
            (vec![at(9, shown(1, "1")), late(5, CANCEL_1)], vec![1]),
            // What was ended in the meantime does not come back.
            (vec![at(9, Change::Ended), late(5, shown(1, "1"))], vec![]),
            (vec![at(9, CANCEL_1), late(5, shown(1, "1")), late(5, shown(2, "2"))], vec![2]),
            // One answer that ends a preview and shows the next.
            (vec![at(1, shown(1, "1")), late(5, Change::Ended), late(5, shown(2, "2"))], vec![2]),
            (vec![at(9, shown(2, "2")), late(5, shown(1, "1"))], vec![1, 2]),
        ] {
            assert_eq!(control_ids(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn what_is_applied_twice_is_applied_once() {
        let changes = [at(1, shown(1, "1")), at(2, Change::Ended), at(2, shown(2, "2")), at(3, shown(3, "3"))];
        let once = after(&changes);
        let again = changes.map(|dated| TimedChange { late: true, ..dated });
        let mut twice = once.clone();
        twice.apply_all(&again, BOUNDS);
        assert_eq!(twice, once);
    }

    #[test]
    fn numbers_add_up_in_the_order_of_their_times() {
        let record = after(&[at(9, shown(1, "9")), late(5, shown(1, "5"))]);
        let preview = record.previews.find(ControlId(1)).unwrap();
        let numbers: Vec<_> = preview.numbers().map(DialedNumber::reveal).collect();
        assert_eq!((numbers, preview.announced_at), (vec!["5", "9"], Timestamp(9)));
    }

    #[test]
    fn survives_redis() {
        let record = after(&[at(1, shown(1, "1")), at(2, shown(-7, "00 49,#")), at(3, CANCEL_1), at(0, Change::Ended)]);
        let record = Record { previews: after(&[at(1, shown(5, "5"))]).previews, ..record };
        assert_eq!(Record::from_json(&record.to_json(), BOUNDS).unwrap(), record);
        for broken in ["", "{}", "[]", "{\"previews\":[{\"id\":1}],\"ended\":null,\"cancelled\":[]}"] {
            assert!(Record::from_json(broken.as_bytes(), BOUNDS).is_err(), "{broken}");
        }
    }

    /// Announces the number of this name under control ID 1, in the record of this name.
    fn recorded(name: u64) -> Change {
        let Change::Shown(announcement) = shown(1, &name.to_string()) else { panic!() };
        let reference = format!("{name:016x}-1@2026-11:00000001").parse().unwrap();
        Change::Shown(Announcement { shown: vec![reference], ..announcement })
    }

    #[test]
    fn a_late_announcement_takes_its_place_with_its_record() {
        let record = after(&[at(1, recorded(1)), at(9, recorded(9)), late(5, recorded(5))]);
        let preview = record.previews.find(ControlId(1)).unwrap();
        let names: Vec<_> = preview.shown.iter().map(|shown| shown.record.run).collect();
        assert_eq!((names, preview.announced_at), (vec![1, 5, 9], Timestamp(9)));
    }

    #[test]
    fn a_late_end_ends_the_numbers_shown_before_it_and_leaves_those_shown_since() {
        for end in [Change::Ended, CANCEL_1, Change::EndedBefore(Timestamp(5))] {
            let record = after(&[at(1, recorded(1)), at(9, recorded(9)), late(5, end.clone())]);
            let record = Record::from_json(&record.to_json(), BOUNDS).unwrap();
            let numbers: Vec<_> = record.previews.find(ControlId(1)).unwrap().numbers().cloned().collect();
            assert_eq!(numbers, [DialedNumber::new("9")], "{end:?}");
            let names: Vec<_> =
                record.previews.iter().flat_map(|preview| &preview.shown).map(|r| r.record.run).collect();
            assert_eq!(names, [9], "the records of what is over explain nothing any more");
            assert!(record.has_lost_previews(&after(&[at(1, shown(1, "1"))])));
        }
    }

    #[test]
    fn what_a_poll_shows_that_began_before_a_sign_in_is_dropped_whichever_gateway_saw_the_sign_in() {
        let polled = |began: u64, change| TimedChange {
            session: SessionRelation::PolledSince(Timestamp(began)),
            ..at(9, change)
        };
        let sign_in = TimedChange { session: SessionRelation::Begins, ..at(5, Change::Ended) };
        let record = after(&[sign_in, polled(4, shown(1, "1")), polled(5, shown(2, "2")), at(9, shown(3, "3"))]);
        let record = Record::from_json(&record.to_json(), BOUNDS).unwrap();
        let ids: Vec<_> = record.previews.iter().map(|preview| preview.control_id.0).collect();
        assert_eq!(ids, [2, 3]);
    }

    #[test]
    fn the_form_of_earlier_versions_is_read() {
        let json = br#"{"previews":[{"id":1,"numbers":["5","6"],"at":9}],"ended":3,"cancelled":[]}"#;
        let record = Record::from_json(json, BOUNDS).unwrap();
        let numbers = &record.previews.find(ControlId(1)).unwrap().numbers;
        assert!(numbers.len() == 2 && numbers.iter().all(|shown| shown.shown_at == Timestamp(9)), "{record:?}");
    }

    #[test]
    fn cancellations_are_bounded() {
        let changes: Vec<_> = (0..100).map(|id| at(1, Change::Cancelled(ControlId(id)))).collect();
        assert_eq!(after(&changes).cancelled.len(), MAX_CANCELLATIONS);
    }

    fn guid(number: u32) -> GuidHash {
        format!("{number:032x}").parse().unwrap()
    }

    fn key(number: u32) -> KeyId {
        format!("{number:08x}").parse().unwrap()
    }

    fn learnt(millis: u64, number: u32, begins: bool) -> TimedChange {
        let learnt = SharedLearnt { key: key(1), learnt: Learnt { guid: Some(guid(number)), begins } };
        TimedChange { change: None, learnt: Some(learnt), ..at(millis, Change::Ended) }
    }

    /// Whether each of the GUIDs 1, 2 and 3 is one of the session's, under key 1.
    fn known(changes: &[TimedChange]) -> Option<[bool; 3]> {
        let record = Record::from_json(&after(changes).to_json(), BOUNDS).unwrap();
        assert_eq!(record, after(changes));
        assert_eq!(record.session(key(2)), None);
        record.session(key(1)).map(|session| [1, 2, 3].map(|number| session.has(guid(number), Timestamp(100))))
    }

    #[test]
    fn gateways_learn_guids_from_each_other() {
        let begins = |millis| TimedChange { session: SessionRelation::Begins, ..at(millis, Change::Ended) };
        let polled = |began, change| TimedChange { session: SessionRelation::PolledSince(Timestamp(began)), ..change };
        let late = |change| TimedChange { late: true, ..change };
        for (changes, expected) in [
            (vec![], None),
            (vec![at(1, shown(1, "1"))], None),
            (vec![begins(5), learnt(5, 1, true)], Some([true, false, false])),
            (vec![learnt(5, 1, false), learnt(6, 2, false)], Some([true, true, false])),
            (vec![learnt(5, 1, false), begins(6), learnt(6, 2, true)], Some([false, true, false])),
            // The answer to the sign-in named no GUID.
            (vec![learnt(5, 1, false), begins(6)], None),
            (vec![learnt(5, 1, false), at(6, Change::Ended)], Some([true, false, false])),
            // Of the session before: a poll that began earlier, and what is written when a new session has begun.
            (vec![begins(6), learnt(6, 2, true), polled(5, learnt(7, 1, false))], Some([false, true, false])),
            (vec![begins(6), learnt(6, 2, true), late(learnt(5, 1, false))], Some([false, true, false])),
            (
                vec![begins(6), learnt(6, 2, true), late(begins(5)), late(learnt(5, 1, true))],
                Some([false, true, false]),
            ),
            (vec![learnt(6, 2, false), late(learnt(5, 1, false))], Some([true, true, false])),
        ] {
            assert_eq!(known(&changes), expected, "{changes:?}");
        }
        let late = after(&[learnt(900_000, 2, false), late(learnt(5, 1, false))]).session(key(1)).unwrap();
        assert!(late.current() == guid(2) && !late.has(guid(1), Timestamp(900_000)));
    }
}
