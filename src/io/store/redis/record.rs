//! What several gateways know of one agent, and how their knowledge becomes one: pure functions without I/O.
//!
//! A [`Record`] is a set of facts: what was shown, what has ended, which GUIDs the session has. [`Record::merge`] unites two
//! records. It is commutative, associative and idempotent, so gateways can exchange records in any order and any number of
//! times, and all of them come to the same result. Nothing that has ended comes back, because an end stays in the record for
//! longer than a preview can live: a *tombstone*.
//!
//! Only the latest announcement of a number is kept. That is enough as long as the later of two announcements is one of the
//! later poll or push. If clocks are so far apart that it is not, a sign-in can end the announcement that was kept, and the
//! number counts again when a record comes that has the other one.
//!
//! A change becomes facts with a time ([`Record::apply`]). A change that is written at once gets a time that is not before
//! anything in the record: what arrives later is later, whatever the clocks say. A change that is *late*, because Redis was
//! away, keeps its own time: previews shown since then stay, and previews ended since then do not come back. If another
//! gateway has ended something meanwhile, a late preview counts only if it is later by more than clocks can differ.

mod calls;
mod form;
#[cfg(test)]
mod hostile;
mod lateness;
mod session;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::calls::Calls;
pub(super) use self::lateness::AtOnce;
use self::session::SharedSession;
use super::super::common_clock::moved;
use super::super::guid_key::KeyId;
use super::super::sessions::{Learnt, Session};
use crate::preview::{
    AgentPreviews, Bounds, CallCount, Change, ControlId, DialedNumber, MAX_NUMBER_BYTES, MAX_NUMBERS, Preview,
    ShownNumber, ShownRef, Timestamp,
};

/// Ends of single previews that are remembered, each for itself. One agent has few previews at a time. If there are more, the
/// older ones become one end of everything that was shown before them: nothing comes back.
const MAX_SINGLE_ENDS: usize = 64;

/// Clocks of gateways differ by less. An end elsewhere and a late preview that are closer than this have no known order, and the
/// preview is over.
const MARGIN: Duration = Duration::from_secs(2);

/// The facts about one agent. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Record {
    /// What was shown and is not over.
    shown: BTreeMap<ControlId, Shown>,
    ends: Ends,
    session: SharedSession,
    calls: Calls,
}

/// One preview.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Shown {
    /// The latest announcement, if that is not over.
    announced: Option<Sighting>,
    /// The latest announcement of each number.
    numbers: BTreeMap<DialedNumber, Sighting>,
    /// See [`Preview::shown`]. No decision depends on it.
    references: Vec<ShownRef>,
}

/// When something was announced, and by what. Of two announcements, the later one counts; of two at the same place, the one
/// that belongs to the later session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sighting {
    /// Its place in the order of the facts.
    at: Timestamp,
    origin: Origin,
    /// The time by the clock: its age counts from here.
    seen: Timestamp,
}

/// How an announcement arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Origin {
    /// In the answer to a poll that began at this time.
    Polled(Timestamp),
    /// In a push that arrived at this time.
    Pushed(Timestamp),
    Unknown,
}

impl Sighting {
    fn rank(&self) -> (Timestamp, Timestamp, Origin, Timestamp) {
        let session = match self.origin {
            Origin::Polled(at) | Origin::Pushed(at) => at,
            // It belongs to whatever session there is.
            Origin::Unknown => Timestamp(u64::MAX),
        };
        (self.at, session, self.origin, self.seen)
    }
}

impl Ord for Sighting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Sighting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The tombstones. Each time is exclusive: what was announced *before* it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ends {
    /// Of everything.
    all: Option<Timestamp>,
    /// Of single previews.
    single: BTreeSet<(Timestamp, ControlId)>,
    fence: Fence,
}

/// What belongs to a session that is over: answers to polls that began before `polls`, and pushes that arrived before `pushes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fence {
    pub(crate) polls: Option<Timestamp>,
    pub(crate) pushes: Option<Timestamp>,
}

/// Something new about an agent's session, as hashes under the key that the gateways share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SharedLearnt {
    pub(super) key: KeyId,
    pub(super) learnt: Learnt,
}

/// A change with the time at which this gateway saw it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimedChange {
    /// What it does to the agent's previews.
    pub change: Option<Change>,
    /// What it says about the agent's session.
    pub(crate) learnt: Option<SharedLearnt>,
    /// Its place in the order of the agent's changes: the time, or later.
    pub at: Timestamp,
    /// The time by the clock.
    pub(crate) seen: Timestamp,
    /// How the change relates to sessions of the agent.
    pub(crate) session: SessionRelation,
    /// An earlier attempt to write it failed, or its outcome is unknown.
    pub(crate) late: bool,
    /// Of a preview: the latest end that may include it and that this gateway knew when it was shown.
    pub(crate) known_end: Option<Timestamp>,
}

/// How a change relates to the agent's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SessionRelation {
    /// It counts in whatever session the agent is.
    Any,
    /// It was shown by a poll that began at this time.
    PolledSince(Timestamp),
    /// It was shown by a push that arrived at this time.
    PushedAt(Timestamp),
    /// It is a sign-in: what belongs to the session before is over.
    Begins(Fence),
    /// The session is over, or may be.
    Over(Fence),
}

impl TimedChange {
    /// A change of previews at this time, not late.
    pub(crate) fn new(change: Change, at: Timestamp, session: SessionRelation) -> Self {
        Self { change: Some(change), learnt: None, at, seen: at, session, late: false, known_end: None }
    }

    /// The same by a clock that was wrong by so many milliseconds.
    pub(super) fn redate(&mut self, by: i64) {
        let today = |time: Timestamp| moved(time, by);
        let fence = |fence: Fence| Fence { polls: fence.polls.map(today), pushes: fence.pushes.map(today) };
        self.change = self.change.take().map(|change| change.redated(today));
        (self.at, self.seen, self.known_end) = (today(self.at), today(self.seen), self.known_end.map(today));
        self.session = match self.session {
            SessionRelation::Any => SessionRelation::Any,
            SessionRelation::PolledSince(began) => SessionRelation::PolledSince(today(began)),
            SessionRelation::PushedAt(arrived) => SessionRelation::PushedAt(today(arrived)),
            SessionRelation::Begins(over) => SessionRelation::Begins(fence(over)),
            SessionRelation::Over(over) => SessionRelation::Over(fence(over)),
        };
    }

    /// Whether it ends previews.
    pub(super) fn is_end(&self) -> bool {
        self.change.as_ref().is_some_and(Change::is_end)
    }

    /// The preview that it shows.
    pub(super) fn shows(&self) -> Option<ControlId> {
        match &self.change {
            Some(Change::Shown(announcement)) => Some(announcement.control_id),
            _ => None,
        }
    }

    /// Everything that was shown before this is over, if it may include this preview.
    pub(super) fn end_of(&self, control_id: ControlId) -> Option<Timestamp> {
        facts(self, self.at).end_of(control_id)
    }
}

impl Record {
    /// The previews in a gateway's own memory, for an agent of whom no record is known.
    pub(super) fn of(previews: &AgentPreviews) -> Self {
        let mut record = Self::default();
        for preview in previews.iter() {
            let sighting = |at| Sighting { at, origin: Origin::Unknown, seen: at };
            let numbers = preview.numbers.iter().map(|shown| (shown.number.clone(), sighting(shown.shown_at)));
            let announced = Some(sighting(preview.announced_at));
            let shown = Shown { announced, numbers: numbers.collect(), references: preview.shown.clone() };
            record.shown.entry(preview.control_id).or_default().merge(&shown);
            preview.calls.iter().for_each(|call| record.calls.add(preview.control_id, call, call.at));
        }
        record
    }

    /// Unites the facts of two records.
    pub(super) fn merge(&mut self, other: &Record) {
        self.ends.merge(&other.ends);
        self.session.merge(&other.session);
        self.calls.merge(&other.calls);
        self.settle();
        // What is over in either record must not take the place of what is not.
        let mut shown = other.shown.clone();
        keep_sightings(&mut shown, |control_id, sighting| !self.ends.includes(control_id, sighting));
        for (control_id, shown) in &shown {
            let known = self.shown.entry(*control_id).or_default();
            known.merge(shown);
            known.retain_references();
        }
    }

    /// Applies changes in order, and keeps no more than `bounds` allows.
    pub(super) fn apply_all(&mut self, changes: &[TimedChange], bounds: Bounds) {
        let before = self.ends.clone();
        // An end of the same gateway that counts from now: its own time, and the place after it.
        let mut own_end: Option<(Timestamp, Timestamp)> = None;
        for timed in changes {
            let latest = self.latest();
            let at = match timed.shows() {
                _ if !timed.late => latest.map_or(timed.at, |latest| timed.at.max(latest)),
                Some(control_id) => match before.place(control_id, timed) {
                    Some(at) => own_end.filter(|(end, _)| *end <= at).map_or(at, |(_, next)| at.max(next)),
                    None => continue,
                },
                None => timed.at,
            };
            self.merge(&facts(timed, at));
            if timed.is_end() && !timed.late {
                own_end = self.latest().map(|latest| (timed.at, latest));
            }
        }
        self.bound(bounds);
    }

    /// The end that a preview which is alive has outlived.
    pub(super) fn outlived_by(&self, control_id: ControlId) -> Option<Timestamp> {
        self.end_of(control_id).filter(|_| self.shown.contains_key(&control_id))
    }

    /// Everything of this preview that was shown before this is over.
    pub(super) fn end_of(&self, control_id: ControlId) -> Option<Timestamp> {
        self.ends.of(control_id)
    }

    /// The latest time of an announcement or end.
    pub(super) fn latest(&self) -> Option<Timestamp> {
        let announced = self.shown.values().flat_map(Shown::sightings).map(|sighting| sighting.at);
        let single = self.ends.single.last().map(|(at, _)| *at);
        announced.chain(single).chain(self.ends.all).chain(self.calls.latest()).max()
    }

    /// Drops what is over.
    fn settle(&mut self) {
        let Self { shown, ends, session, calls } = self;
        ends.settle();
        keep_sightings(shown, |control_id, sighting| !ends.includes(control_id, sighting));
        session.settle();
        calls.settle(|control_id| ends.of(control_id));
    }

    /// Drops what is older than `lifetime`: no preview lives that long, so no end is needed for longer.
    pub(super) fn expire(&mut self, now: Timestamp, lifetime: Duration) {
        let oldest = now.before(lifetime);
        self.ends.single.retain(|(at, _)| *at >= oldest);
        self.calls.expire(oldest);
        self.only_shown_since(oldest);
    }

    /// Keeps the newest, whatever another gateway has written.
    pub(super) fn bound(&mut self, bounds: Bounds) {
        for shown in self.shown.values_mut() {
            shown.bound();
        }
        if self.calls.are_too_many() {
            // What cannot be counted is over.
            self.ends.all = self.latest().map(|latest| Timestamp(latest.0.saturating_add(1)));
            self.settle();
        }
        self.calls.bound_returned();
        let mut by_age: Vec<_> = self.shown.iter().map(|(id, shown)| (shown.latest(), *id, shown.bytes())).collect();
        by_age.sort_unstable_by(|one, other| other.cmp(one));
        let mut bytes = 0_usize;
        for (position, (_, control_id, size)) in by_age.into_iter().enumerate() {
            bytes = bytes.saturating_add(size);
            if position >= bounds.per_agent || (position > 0 && bytes > bounds.max_bytes()) {
                self.shown.remove(&control_id);
            }
        }
    }

    /// What the agent may call.
    pub(super) fn previews(&self, bounds: Bounds) -> AgentPreviews {
        let mut previews: Vec<_> = self.shown.iter().collect();
        previews.sort_by_key(|(_, shown)| shown.latest());
        let mut restored = AgentPreviews::default();
        for (control_id, shown) in previews {
            let calls = self.calls.of(*control_id);
            restored.restore(Preview { calls, ..shown.preview(*control_id) }, bounds);
        }
        restored
    }

    /// The session, if its hashes are under this key.
    pub(super) fn session(&self, key: KeyId) -> Option<Session> {
        self.session.session(key)
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Forgets what was shown before `since`.
    pub(super) fn only_shown_since(&mut self, since: Timestamp) {
        keep_sightings(&mut self.shown, |_, sighting| sighting.seen >= since);
    }

    /// Forgets what was shown, and nothing else.
    pub(super) fn forget_shown(&mut self) {
        self.shown.clear();
    }

    /// Whether a preview or number of `earlier` is gone from this record.
    pub(super) fn has_lost_previews(&self, earlier: &Record) -> bool {
        !self.lost(earlier).is_empty()
    }

    /// The previews of `earlier` that are gone from this record, wholly or in part.
    pub(super) fn lost(&self, earlier: &Record) -> Vec<ControlId> {
        let is_lost = |(id, shown): &(&ControlId, &Shown)| match self.shown.get(id) {
            Some(kept) => shown.numbers.keys().any(|number| !kept.numbers.contains_key(number)),
            None => true,
        };
        earlier.shown.iter().filter(is_lost).map(|(id, _)| *id).collect()
    }
}

/// Drops the other announcements, and previews without any.
fn keep_sightings(shown: &mut BTreeMap<ControlId, Shown>, keep: impl Fn(ControlId, Sighting) -> bool) {
    shown.retain(|control_id, shown| {
        shown.retain(|sighting| keep(*control_id, sighting));
        !shown.is_empty()
    });
}

/// The facts that a change is, if it happened at `at`.
fn facts(timed: &TimedChange, at: Timestamp) -> Record {
    let mut facts = Record::default();
    let (origin, learnt_at) = match timed.session {
        SessionRelation::PolledSince(began) => (Origin::Polled(began), began),
        SessionRelation::PushedAt(arrived) => (Origin::Pushed(arrived), arrived),
        SessionRelation::Any | SessionRelation::Begins(_) | SessionRelation::Over(_) => (Origin::Unknown, timed.at),
    };
    match timed.session {
        SessionRelation::Begins(fence) => {
            facts.ends.fence = fence;
            facts.session = SharedSession::begun(fence.polls.unwrap_or(timed.at));
        }
        SessionRelation::Over(fence) => facts.ends.fence = fence,
        SessionRelation::Any | SessionRelation::PolledSince(_) | SessionRelation::PushedAt(_) => {}
    }
    if let Some(SharedLearnt { key, learnt }) = timed.learnt {
        facts.session.learn(key, learnt, learnt_at);
    }
    // Of one millisecond, an end is later than what its gateway has seen before.
    let over = Timestamp(at.0.saturating_add(1));
    match &timed.change {
        None => {}
        Some(Change::Shown(announcement)) => {
            let sighting = Sighting { at, origin, seen: timed.seen };
            let short = announcement.numbers.iter().filter(|number| number.reveal().len() <= MAX_NUMBER_BYTES);
            let numbers = short.map(|number| (number.clone(), sighting));
            let named = |reference: &ShownRef| ShownRef { at: Some(timed.seen), ..*reference };
            let references = announcement.shown.iter().map(named).collect();
            let shown = Shown { announced: Some(sighting), numbers: numbers.collect(), references };
            facts.shown.insert(announcement.control_id, shown);
        }
        Some(Change::Called(control_id, call)) => facts.calls.add(*control_id, call, at),
        Some(Change::CallReturned(_, id)) => facts.calls.give_back(*id, at),
        Some(Change::Cancelled(control_id)) => _ = facts.ends.single.insert((over, *control_id)),
        Some(Change::Ended) => facts.ends.all = Some(over),
        Some(Change::EndedBefore(moment)) => facts.ends.all = Some(*moment),
    }
    facts
}

impl Ends {
    fn merge(&mut self, other: &Ends) {
        self.all = self.all.max(other.all);
        self.single.extend(&other.single);
        self.fence.polls = self.fence.polls.max(other.fence.polls);
        self.fence.pushes = self.fence.pushes.max(other.fence.pushes);
    }

    /// Drops what an end of everything includes, and makes one of those that are too many.
    fn settle(&mut self) {
        let all = self.all;
        self.single.retain(|(at, _)| all.is_none_or(|all| *at > all));
        while self.single.len() > MAX_SINGLE_ENDS {
            if let Some((at, _)) = self.single.pop_first() {
                self.all = self.all.max(Some(at));
            }
        }
        let all = self.all;
        self.single.retain(|(at, _)| all.is_none_or(|all| *at > all));
    }

    /// The end of this preview.
    fn of(&self, control_id: ControlId) -> Option<Timestamp> {
        let single = self.single.iter().filter(|(_, id)| *id == control_id).map(|(at, _)| *at).max();
        self.all.max(single)
    }

    /// The place of a late announcement; none if it has no known order with an end that its gateway did not know.
    fn place(&self, control_id: ControlId, timed: &TimedChange) -> Option<Timestamp> {
        let end = self.of(control_id).filter(|end| Some(*end) > timed.known_end);
        let is_later = end.is_none_or(|end| timed.at >= end.after(MARGIN));
        is_later.then_some(timed.at)
    }

    /// Whether an announcement of this preview is over.
    fn includes(&self, control_id: ControlId, sighting: Sighting) -> bool {
        let Sighting { at, origin, .. } = sighting;
        let earlier_session = match origin {
            Origin::Unknown => false,
            Origin::Polled(began) => self.fence.polls.is_some_and(|fence| began < fence),
            Origin::Pushed(arrived) => self.fence.pushes.is_some_and(|fence| arrived < fence),
        };
        let single = || self.single.iter().any(|(end, id)| *id == control_id && at < *end);
        earlier_session || self.all.is_some_and(|end| at < end) || single()
    }
}

impl Shown {
    fn merge(&mut self, other: &Shown) {
        self.announced = self.announced.max(other.announced);
        for (number, sighting) in &other.numbers {
            let known = self.numbers.entry(number.clone()).or_insert(*sighting);
            *known = (*known).max(*sighting);
        }
        for reference in &other.references {
            if self.references.iter().all(|known| known.record != reference.record) {
                self.references.push(*reference);
            }
        }
        self.references.sort_unstable_by_key(|reference| (reference.at, reference.record));
    }

    /// Keeps the references to announcements that count: what is over explains no callout.
    fn retain_references(&mut self) {
        let times: Vec<_> = self.sightings().map(|sighting| sighting.seen).collect();
        self.references.retain(|reference| reference.at.is_none_or(|at| times.contains(&at)));
        let surplus = self.references.len().saturating_sub(MAX_NUMBERS + 1);
        self.references.drain(..surplus);
    }

    fn retain(&mut self, keep: impl Fn(Sighting) -> bool) {
        self.numbers.retain(|_, sighting| keep(*sighting));
        let latest = self.numbers.values().max().copied();
        self.announced = self.announced.filter(|sighting| keep(*sighting)).or(latest);
        self.retain_references();
    }

    fn is_empty(&self) -> bool {
        self.announced.is_none() && self.numbers.is_empty()
    }

    fn sightings(&self) -> impl Iterator<Item = Sighting> {
        self.numbers.values().copied().chain(self.announced)
    }

    fn latest(&self) -> Option<Timestamp> {
        self.sightings().map(|sighting| sighting.at).max()
    }

    fn bytes(&self) -> usize {
        self.preview(ControlId(0)).bytes()
    }

    /// Keeps the newest numbers.
    fn bound(&mut self) {
        let surplus = self.numbers.len().saturating_sub(MAX_NUMBERS);
        if surplus > 0 {
            let mut by_age: Vec<_> =
                self.numbers.iter().map(|(number, sighting)| (*sighting, number.clone())).collect();
            by_age.sort_unstable();
            for (_, number) in by_age.into_iter().take(surplus) {
                self.numbers.remove(&number);
            }
        }
    }

    fn preview(&self, control_id: ControlId) -> Preview {
        let mut numbers: Vec<_> = self.numbers.iter().collect();
        numbers.sort_by_key(|(_, sighting)| sighting.at);
        let shown = |(number, sighting): (&DialedNumber, &Sighting)| ShownNumber {
            number: number.clone(),
            shown_at: sighting.seen,
        };
        let numbers = numbers.into_iter().map(shown).collect();
        let announced_at = self.sightings().max().map_or(Timestamp(0), |latest| latest.seen);
        let calls = CallCount::default();
        Preview { control_id, numbers, announced_at, shown: self.references.clone(), calls }
    }
}
