//! The calls that `previews.calls_per_number` counts: facts like the rest of the record. A call that was given back leaves a
//! tombstone, so that no other record brings it back.

use std::collections::{BTreeMap, BTreeSet};

use crate::preview::{CallCount, ControlId, CountedCall, DialedNumber, MAX_CALLS, RecordId, Timestamp};

/// The calls of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Calls {
    /// By preview, and by place in the order of the facts.
    counted: BTreeMap<ControlId, BTreeSet<(Timestamp, Counted)>>,
    /// Calls that were given back, each with the time of that.
    returned: BTreeMap<RecordId, Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Counted {
    id: RecordId,
    number: DialedNumber,
    /// The time by the clock.
    counted_at: Timestamp,
}

/// Calls of one agent, and calls of it that were given back: more than a person can make while they are remembered.
const MAX_COUNTED: usize = 8192;
const MAX_RETURNED: usize = 1024;

/// A call as it is written: preview, place in the order, name, number, and time by the clock.
pub(super) type WrittenCall = (i64, u64, String, String, u64);

/// A call as it is written with its preview: number, name, and time by the clock.
pub(super) type PreviewCall = (String, String, u64);

/// The form of a call beside its preview.
pub(super) fn of_preview(call: &CountedCall) -> PreviewCall {
    (call.number.reveal().to_owned(), call.id.to_string(), call.at.0)
}

impl Calls {
    /// Adds calls that are written with their preview and not otherwise: a version without tombstones has counted them.
    pub(super) fn add_unknown(&mut self, control_id: ControlId, calls: &[PreviewCall]) {
        for (number, id, at) in calls {
            let Ok(id) = id.parse() else { continue };
            let is_known = self.counted.get(&control_id).into_iter().flatten().any(|(_, known)| known.id == id);
            if !is_known {
                let (number, at) = (DialedNumber::new(number.as_str()), Timestamp(*at));
                self.add(control_id, &CountedCall { number, id, at }, at);
            }
        }
    }

    pub(super) fn add(&mut self, control_id: ControlId, call: &CountedCall, at: Timestamp) {
        let counted = Counted { id: call.id, number: call.number.clone(), counted_at: call.at };
        self.counted.entry(control_id).or_default().insert((at, counted));
    }

    pub(super) fn give_back(&mut self, id: RecordId, at: Timestamp) {
        self.returned.insert(id, at);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (control_id, calls) in &other.counted {
            self.counted.entry(*control_id).or_default().extend(calls.iter().cloned());
        }
        for (id, at) in &other.returned {
            let known = self.returned.entry(*id).or_insert(*at);
            *known = (*known).max(*at);
        }
    }

    /// Drops calls of previews that have ended since (`end` returns the end of a preview), calls that were given back, and
    /// calls that no count has room for.
    pub(super) fn settle(&mut self, end: impl Fn(ControlId) -> Option<Timestamp>) {
        let Self { counted, returned } = self;
        counted.retain(|control_id, calls| {
            let end = end(*control_id);
            calls.retain(|(at, call)| end.is_none_or(|end| *at >= end) && !returned.contains_key(&call.id));
            while calls.len() > MAX_CALLS {
                calls.pop_last();
            }
            !calls.is_empty()
        });
    }

    /// Whether there are more calls than are kept.
    pub(super) fn are_too_many(&self) -> bool {
        self.counted.values().map(BTreeSet::len).sum::<usize>() > MAX_COUNTED
    }

    /// Forgets the oldest calls that were given back, if they are too many: another record that has them counts them again.
    pub(super) fn bound_returned(&mut self) {
        while self.returned.len() > MAX_RETURNED {
            let oldest = self.returned.iter().map(|(id, at)| (*at, *id)).min();
            oldest.and_then(|(_, id)| self.returned.remove(&id));
        }
    }

    pub(super) fn expire(&mut self, oldest: Timestamp) {
        self.returned.retain(|_, at| *at >= oldest);
        self.counted.retain(|_, calls| {
            calls.retain(|(_, call)| call.counted_at >= oldest);
            !calls.is_empty()
        });
    }

    pub(super) fn latest(&self) -> Option<Timestamp> {
        self.counted.values().filter_map(|calls| calls.last()).map(|(at, _)| *at).max()
    }

    /// The calls of one preview. The same call counts once, however often it was reported.
    pub(super) fn of(&self, control_id: ControlId) -> CallCount {
        let calls = self.counted.get(&control_id).into_iter().flatten();
        let call = |(_, call): &(Timestamp, Counted)| CountedCall {
            number: call.number.clone(),
            id: call.id,
            at: call.counted_at,
        };
        calls.map(call).collect()
    }

    pub(super) fn written(&self) -> Vec<WrittenCall> {
        let all = self.counted.iter().flat_map(|(control_id, calls)| calls.iter().map(|call| (*control_id, call)));
        let written = |(control_id, (at, call)): (ControlId, &(Timestamp, Counted))| {
            (control_id.0, at.0, call.id.to_string(), call.number.reveal().to_owned(), call.counted_at.0)
        };
        all.map(written).collect()
    }

    pub(super) fn written_returns(&self) -> Vec<(String, u64)> {
        self.returned.iter().map(|(id, at)| (id.to_string(), at.0)).collect()
    }

    pub(super) fn read(calls: Vec<WrittenCall>, returned: &[(String, u64)]) -> Self {
        let mut read = Self::default();
        for (control_id, at, id, number, counted_at) in calls {
            if let Ok(id) = id.parse() {
                let call = CountedCall { number: DialedNumber::new(number), id, at: Timestamp(counted_at) };
                read.add(ControlId(control_id), &call, Timestamp(at));
            }
        }
        read.returned = returned.iter().filter_map(|(id, at)| Some((id.parse().ok()?, Timestamp(*at)))).collect();
        read
    }
}
