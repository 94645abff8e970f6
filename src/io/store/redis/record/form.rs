//! The form of a record in Redis: JSON.
//!
//! Gateways of two versions share one Redis while they are being replaced, so each version must read the other's form: new
//! members are optional, and unknown ones are ignored. `tests/data/records` has records as earlier versions wrote them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use super::super::super::guid_key::{GuidHash, KeyId};
use super::super::super::sessions::OVERLAP;
use super::calls::{Calls, PreviewCall, WrittenCall, of_preview};
use super::session::SharedSession;
use super::{Ends, Fence, Origin, Record, Shown, Sighting};
use crate::preview::{Bounds, CallCount, ControlId, DialedNumber, Timestamp};

/// No gateway writes a longer state: what the bounds permit takes about a third of this.
fn max_json(bounds: Bounds) -> usize {
    bounds.per_agent.saturating_mul(64 * 1024).saturating_add(4 * 1024 * 1024)
}

/// The end of the year 9999. A later time has no successor that could end it.
const LAST: Timestamp = Timestamp(253_402_300_799_999);

impl Record {
    /// The form in Redis.
    pub(in crate::store::redis) fn to_json(&self) -> Vec<u8> {
        let written = |(id, shown): (&ControlId, &Shown)| WrittenPreview::of(*id, shown, &self.calls.of(*id));
        let mut previews: Vec<_> = self.shown.iter().map(written).collect();
        // Earlier versions take the order of the file for that of the announcements.
        previews.sort_by_key(|preview| preview.at);
        let Ends { all, single, fence } = &self.ends;
        let written = Written {
            previews,
            ended: all.map(|at| at.0),
            cancelled: single.iter().map(|(at, id)| (id.0, at.0)).collect(),
            signed_in: fence.polls.map(|at| at.0),
            pushes: fence.pushes.map(|at| at.0),
            begun: self.session.begun.map(|at| at.0).or(fence.polls.map(|_| 0)),
            session: WrittenSession::of(&self.session),
            calls: self.calls.written(),
            returned: self.calls.written_returns(),
        };
        // Integers and text: this cannot fail, and an empty state would be read as a broken one.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Reads that form; keeps never more than `bounds` allows, whatever another gateway has written.
    ///
    /// # Errors
    /// When no gateway can have written that: it has another form, is too long, or has times after the year 9999.
    pub(in crate::store::redis) fn from_json(json: &[u8], bounds: Bounds) -> Result<Self, serde_json::Error> {
        if json.len() > max_json(bounds) {
            return Err(serde_json::Error::custom("it is too long"));
        }
        let written: Written = serde_json::from_slice(json)?;
        let mut calls = Calls::read(written.calls, &written.returned);
        let mut shown: BTreeMap<ControlId, Shown> = BTreeMap::new();
        for preview in written.previews {
            calls.add_unknown(ControlId(preview.id), &preview.calls);
            let (control_id, preview) = preview.shown();
            shown.entry(control_id).or_default().merge(&preview);
        }
        let polls = written.signed_in.map(Timestamp);
        let ends = Ends {
            all: written.ended.map(Timestamp),
            single: written.cancelled.into_iter().map(|(id, at)| (Timestamp(at), ControlId(id))).collect(),
            fence: Fence { polls, pushes: written.pushes.map(Timestamp) },
        };
        // In records of earlier versions each fence is a sign-in.
        let begun = written.begun.map_or(polls, |at| (at > 0).then_some(Timestamp(at)));
        // What cannot be read is not known.
        let guids = written.session.map(WrittenSession::guids).unwrap_or_default();
        let session = SharedSession { begun, guids };
        let mut record = Self { shown, ends, session, calls };
        if record.has_time_after(LAST) {
            return Err(serde_json::Error::custom("it has a time after the year 9999"));
        }
        record.settle();
        record.bound(bounds);
        Ok(record)
    }
}

impl Record {
    fn has_time_after(&self, last: Timestamp) -> bool {
        let Ends { fence: Fence { polls, pushes }, .. } = self.ends;
        let session =
            [polls, pushes, self.session.begun].into_iter().chain(self.session.guids.values().copied().map(Some));
        session.chain([self.latest()]).flatten().any(|time| time > last)
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    previews: Vec<WrittenPreview>,
    /// What was shown before this is over.
    ended: Option<u64>,
    cancelled: Vec<(i64, u64)>,
    /// [`Fence::polls`], by its earlier name.
    #[serde(default)]
    signed_in: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pushes: Option<u64>,
    /// When the session began; 0 if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<WrittenSession>,
    /// What `previews.calls_per_number` counts. Versions without tombstones drop it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<WrittenCall>,
    /// Calls that were given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    returned: Vec<(String, u64)>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPreview {
    id: i64,
    numbers: Vec<String>,
    at: u64,
    /// See [`Preview::shown`](crate::preview::Preview::shown).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<String>,
    /// One time for each number; the first version has none, and all numbers have the time `at`.
    #[serde(default)]
    times: Vec<u64>,
    /// How the announcement arrived, and each number: 0 is not known, a poll has the time when it began, a push the negative of
    /// the time when it arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    began: Vec<i64>,
    /// The same for the time by the clock, where it differs from the place in the order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seen: Vec<u64>,
    /// What `previews.calls_per_number` counts, for versions without tombstones, and as they write it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<PreviewCall>,
}

impl WrittenPreview {
    fn of(control_id: ControlId, shown: &Shown, calls: &CallCount) -> Self {
        let mut numbers: Vec<_> = shown.numbers.iter().collect();
        numbers.sort_by_key(|(_, sighting)| sighting.at);
        let latest = shown.sightings().max();
        let sightings: Vec<_> = latest.into_iter().chain(numbers.iter().map(|(_, sighting)| **sighting)).collect();
        let began: Vec<_> = sightings.iter().map(|sighting| sighting.origin.to_number()).collect();
        let is_seen_elsewhen = sightings.iter().any(|sighting| sighting.seen != sighting.at);
        let seen =
            if is_seen_elsewhen { sightings.iter().map(|sighting| sighting.seen.0).collect() } else { Vec::new() };
        Self {
            id: control_id.0,
            numbers: numbers.iter().map(|(number, _)| number.reveal().to_owned()).collect(),
            at: latest.map_or(0, |sighting| sighting.at.0),
            shown: shown.references.iter().map(ToString::to_string).collect(),
            times: numbers.iter().map(|(_, sighting)| sighting.at.0).collect(),
            began: if began.iter().all(|origin| *origin == 0) { Vec::new() } else { began },
            seen,
            calls: calls.iter().map(of_preview).collect(),
        }
    }

    fn shown(self) -> (ControlId, Shown) {
        let mut origins = self.began.into_iter().chain(std::iter::repeat(0)).map(Origin::from_number);
        let mut seen = self.seen.into_iter().map(|at| Some(Timestamp(at))).chain(std::iter::repeat(None));
        let mut sighting = |at: u64| {
            let at = Timestamp(at);
            let origin = origins.next().unwrap_or(Origin::Unknown);
            Sighting { at, origin, seen: seen.next().flatten().unwrap_or(at) }
        };
        let announced = Some(sighting(self.at));
        let times = self.times.into_iter().chain(std::iter::repeat(self.at));
        let sightings: Vec<_> = times.take(self.numbers.len()).map(sighting).collect();
        let numbers = self.numbers.into_iter().map(DialedNumber::new).zip(sightings).collect();
        let references = self.shown.iter().filter_map(|reference| reference.parse().ok()).collect();
        (ControlId(self.id), Shown { announced, numbers, references })
    }
}

impl Origin {
    fn to_number(self) -> i64 {
        let number = |time: Timestamp| i64::try_from(time.0).unwrap_or(i64::MAX);
        match self {
            Self::Unknown => 0,
            Self::Polled(began) => number(began),
            Self::Pushed(arrived) => number(arrived).saturating_neg(),
        }
    }

    fn from_number(number: i64) -> Self {
        let time = Timestamp(number.unsigned_abs());
        match number {
            0 => Self::Unknown,
            1.. => Self::Polled(time),
            _ => Self::Pushed(time),
        }
    }
}

/// See [`SharedSession`].
#[derive(Serialize, Deserialize)]
struct WrittenSession {
    key: String,
    at: u64,
    current: String,
    /// GUIDs that were replaced, the latest first, each with the time up to which it counts. Earlier versions read these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<(String, u64)>,
    /// Every GUID: key, hash, and when it was learnt. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    guids: Vec<(String, String, u64)>,
}

impl WrittenSession {
    fn of(session: &SharedSession) -> Option<Self> {
        let ((key, _), at) = session.guids.iter().max_by_key(|(guid, at)| (**at, **guid))?;
        let known = session.session(*key)?;
        Some(Self {
            key: key.to_string(),
            at: at.0,
            current: known.current().to_string(),
            replaced: known.replaced().map(|(guid, until)| (guid.to_string(), until.0)).collect(),
            guids: session.guids.iter().map(|((key, guid), at)| (key.to_string(), guid.to_string(), at.0)).collect(),
        })
    }

    fn guids(self) -> BTreeMap<(KeyId, GuidHash), Timestamp> {
        let guid =
            |(key, guid, at): &(String, String, u64)| Some(((key.parse().ok()?, guid.parse().ok()?), Timestamp(*at)));
        let mut guids: BTreeMap<_, _> = self.guids.iter().filter_map(guid).collect();
        // An earlier version has written since: it knows a later GUID, and drops `guids`.
        if let (Ok(key), Ok(current)) = (self.key.parse::<KeyId>(), self.current.parse::<GuidHash>()) {
            guids.entry((key, current)).or_insert(Timestamp(self.at));
            if self.guids.is_empty() {
                for (guid, at) in self.replaced.iter().filter_map(|(guid, until)| replaced_guid(guid, *until)) {
                    guids.entry((key, guid)).or_insert(at);
                }
            }
        }
        guids
    }
}

/// A GUID that counts up to `until`, and the latest time at which it can have been learnt.
fn replaced_guid(guid: &str, until: u64) -> Option<(GuidHash, Timestamp)> {
    let overlap = u64::try_from(OVERLAP.saturating_add(Duration::from_millis(1)).as_millis()).ok()?;
    Some((guid.parse().ok()?, Timestamp(until.saturating_sub(overlap))))
}
