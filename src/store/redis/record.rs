//! What Redis holds about one agent, and how changes enter it.
//!
//! The rule is `preview::AgentPreviews::apply` and nothing else; here it is only put in the right order. A change that
//! is written at once is applied as it comes. One that comes late, because Redis was away, is put where it belongs by
//! its time: what happened since stays, and what was ended since does not come back.

use serde::{Deserialize, Serialize};

use crate::preview::{AgentPreviews, Announcement, Bounds, Change, ControlId, DialedNumber, Preview, Timestamp};

/// Cancellations that are remembered; one agent has few previews at a time.
const CANCELLATIONS: usize = 16;

/// The previews of one agent, and what is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// What may be called.
    pub(super) previews: AgentPreviews,
    /// When all of the agent's previews were last over.
    ended: Option<Timestamp>,
    /// When a single preview was given back, the oldest first.
    cancelled: Vec<(ControlId, Timestamp)>,
}

/// A change with the time at which this gateway saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dated {
    pub(super) change: Change,
    pub(super) at: Timestamp,
    /// An earlier attempt to write it failed, or nobody knows whether it did.
    pub(super) late: bool,
}

impl Record {
    /// What a gateway remembers by itself, for a Redis that knows nothing.
    pub(super) fn of(previews: AgentPreviews) -> Self {
        Self { previews, ..Self::default() }
    }

    /// Takes changes in; returns how many previews had to make room.
    pub(super) fn absorb(&mut self, changes: &[Dated], bounds: Bounds) -> usize {
        changes.iter().map(|dated| self.take(dated, bounds)).sum()
    }

    fn take(&mut self, dated: &Dated, bounds: Bounds) -> usize {
        let Dated { change, at, late } = dated;
        if *late && self.is_over(change, *at) {
            return 0;
        }
        self.note_end(change, *at);
        if !late {
            return self.previews.apply(change.clone(), *at, bounds);
        }
        let (earlier, later): (Vec<_>, Vec<_>) =
            self.previews.iter().cloned().partition(|preview| preview.announced_at <= *at);
        let mut previews = restored(earlier, AgentPreviews::default(), bounds);
        let crowded_out = previews.apply(change.clone(), *at, bounds);
        self.previews = restored(later, previews, bounds);
        crowded_out
    }

    /// Whether this is a preview that was ended after it was shown.
    fn is_over(&self, change: &Change, at: Timestamp) -> bool {
        let Change::Shown(announcement) = change else { return false };
        let cancelled = self.cancelled.iter().any(|(id, when)| *id == announcement.control_id && at < *when);
        cancelled || self.ended.is_some_and(|when| at < when)
    }

    fn note_end(&mut self, change: &Change, at: Timestamp) {
        match change {
            Change::Shown(_) => {}
            Change::Cancelled(control_id) => {
                self.cancelled.retain(|(id, _)| id != control_id);
                self.cancelled.push((*control_id, at));
                let surplus = self.cancelled.len().saturating_sub(CANCELLATIONS);
                self.cancelled.drain(..surplus);
            }
            Change::Ended => self.ended = self.ended.max(Some(at)),
            Change::EndedBefore(moment) => self.ended = self.ended.max(Some(*moment)),
        }
    }

    /// Whether a preview of `earlier` is gone from this record.
    pub(super) fn lacks_some_of(&self, earlier: &Record) -> bool {
        earlier.previews.iter().any(|preview| self.previews.find(preview.control_id).is_none())
    }

    /// As it is kept in Redis. Another format would need another name of the key: gateways of two versions share one
    /// Redis while they are being replaced.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let written = Written {
            previews: self.previews.iter().map(WrittenPreview::of).collect(),
            ended: self.ended.map(|at| at.0),
            cancelled: self.cancelled.iter().map(|(id, at)| (id.0, at.0)).collect(),
        };
        // Integers and text: this cannot fail, and an empty state would be read as a broken one.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// The other way; never more than `bounds` allows, whatever another gateway has written.
    pub(super) fn from_json(json: &[u8], bounds: Bounds) -> Result<Self, serde_json::Error> {
        let written: Written = serde_json::from_slice(json)?;
        let previews = written.previews.into_iter().map(WrittenPreview::preview);
        Ok(Self {
            previews: restored(previews, AgentPreviews::default(), bounds),
            ended: written.ended.map(Timestamp),
            cancelled: written.cancelled.into_iter().map(|(id, at)| (ControlId(id), Timestamp(at))).collect(),
        })
    }
}

/// Shows each of `previews` again, at the time at which it was shown.
fn restored(previews: impl IntoIterator<Item = Preview>, mut to: AgentPreviews, bounds: Bounds) -> AgentPreviews {
    for Preview { control_id, numbers, announced_at, shown } in previews {
        to.apply(Change::Shown(Announcement { control_id, numbers, shown }), announced_at, bounds);
    }
    to
}

#[derive(Serialize, Deserialize)]
struct Written {
    previews: Vec<WrittenPreview>,
    ended: Option<u64>,
    cancelled: Vec<(i64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPreview {
    id: i64,
    numbers: Vec<String>,
    at: u64,
    /// See [`Preview::shown`]. Gateways without it neither write nor read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<String>,
}

impl WrittenPreview {
    fn of(preview: &Preview) -> Self {
        let numbers = preview.numbers.iter().map(|number| number.reveal().to_owned()).collect();
        let shown = preview.shown.iter().map(ToString::to_string).collect();
        Self { id: preview.control_id.0, numbers, at: preview.announced_at.0, shown }
    }

    fn preview(self) -> Preview {
        Preview {
            control_id: ControlId(self.id),
            numbers: self.numbers.into_iter().map(DialedNumber::new).collect(),
            announced_at: Timestamp(self.at),
            shown: self.shown.iter().filter_map(|reference| reference.parse().ok()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { per_agent: 4 };

    fn shown(control_id: i64, number: &str) -> Change {
        Change::Shown(Announcement {
            control_id: ControlId(control_id),
            numbers: vec![DialedNumber::new(number)],
            shown: Vec::new(),
        })
    }

    fn at(millis: u64, change: Change) -> Dated {
        Dated { change, at: Timestamp(millis), late: false }
    }

    fn late(millis: u64, change: Change) -> Dated {
        Dated { late: true, ..at(millis, change) }
    }

    fn after(changes: &[Dated]) -> Record {
        let mut record = Record::default();
        record.absorb(changes, BOUNDS);
        record
    }

    fn control_ids(changes: &[Dated]) -> Vec<i64> {
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
        let again = changes.map(|dated| Dated { late: true, ..dated });
        let mut twice = once.clone();
        twice.absorb(&again, BOUNDS);
        assert_eq!(twice, once);
    }

    #[test]
    fn numbers_add_up_in_the_order_of_their_times() {
        let record = after(&[at(9, shown(1, "9")), late(5, shown(1, "5"))]);
        let preview = record.previews.find(ControlId(1)).unwrap();
        let numbers: Vec<_> = preview.numbers.iter().map(DialedNumber::reveal).collect();
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

    #[test]
    fn cancellations_are_bounded() {
        let changes: Vec<_> = (0..100).map(|id| at(1, Change::Cancelled(ControlId(id)))).collect();
        assert_eq!(after(&changes).cancelled.len(), CANCELLATIONS);
    }
}
